//! Bulk TCP by iperf3.

use super::{Direction, Metric, Reading};
use crate::error::{Context, Error, Result};
use crate::process::{finish, locate, spawn, succeed};
use crate::system::Endpoints;
use serde::Deserialize;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

/// How TCP behaves in every measurement: what most hosts use, whatever this one does.
pub(crate) const CONGESTION_CONTROL: &str = "cubic";

/// Port of the server: iperf3's own.
pub(super) const PORT: u16 = 5201;

/// How long connecting and reporting may take on top of the measured time.
const SLACK: Duration = Duration::from_secs(15);

/// What the server writes once clients may connect.
const LISTENING: &str = "Server listening";

/// iperf3 as it is installed here.
pub(crate) struct Iperf {
    program: PathBuf,
}

impl Iperf {
    /// Finds iperf3.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub(crate) fn locate() -> Result<Self> {
        Ok(Self {
            program: locate("iperf3", "iperf3")?,
        })
    }

    /// Sends over `streams` connections for `duration`.
    pub(super) fn measure(
        &self,
        ends: Endpoints<'_>,
        streams: u8,
        direction: Direction,
        duration: Duration,
    ) -> Result<Vec<Reading>> {
        let mut server = self.start_server(ends)?;
        let report = self.run_client(ends, streams, direction, duration);
        let _ended_by_itself = server.kill();
        server.wait().context("waiting for the iperf3 server")?;
        parse(&report?)
    }

    fn start_server(&self, ends: Endpoints<'_>) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(["--server", "--one-off", "--forceflush"]);
        let mut server = ends.server.run(|| spawn(&mut command))?;
        await_listening(&mut server)?;
        Ok(server)
    }

    fn run_client(
        &self,
        ends: Endpoints<'_>,
        streams: u8,
        direction: Direction,
        duration: Duration,
    ) -> Result<String> {
        let mut command = Command::new(&self.program);
        command
            .args(["--client", &ends.address.to_string()])
            .args(["--port", &ends.port(PORT).to_string()])
            .args(["--time", &duration.as_secs().max(1).to_string()])
            .args(["--parallel", &streams.to_string()])
            .args(["--congestion", CONGESTION_CONTROL])
            .args(["--connect-timeout", "5000", "--interval", "0", "--json"]);
        if direction == Direction::ToClient {
            command.arg("--reverse");
        }
        let client = ends.client.run(|| spawn(&mut command))?;
        succeed(&command, finish(&command, client, duration + SLACK)?)
    }
}

/// Reads the server's output up to the line that says it listens.
fn await_listening(server: &mut Child) -> Result<()> {
    let mut text = Vec::new();
    let mut chunk = [0; 256];
    while let Some(stdout) = &mut server.stdout {
        let count = stdout
            .read(&mut chunk)
            .context("reading from the iperf3 server")?;
        text.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&text);
        if text.contains(LISTENING) {
            return Ok(());
        }
        if count == 0 {
            let reason = format!("ended before it listened: {text}");
            return Err(Error::Unreadable {
                what: "iperf3 --server".to_owned(),
                reason,
            });
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Report {
    error: Option<String>,
    end: Option<End>,
}

#[derive(Deserialize)]
struct End {
    sum_sent: Option<Sum>,
    sum_received: Option<Sum>,
}

#[derive(Deserialize)]
struct Sum {
    bits_per_second: f64,
    #[serde(default)]
    retransmits: f64,
}

/// Reads the report of `iperf3 --json`.
fn parse(report: &str) -> Result<Vec<Reading>> {
    let unreadable = |reason: String| Error::Unreadable {
        what: "iperf3 --json".into(),
        reason,
    };
    let report: Report =
        serde_json::from_str(report).map_err(|error| unreadable(error.to_string()))?;
    if let Some(error) = report.error {
        return Err(unreadable(error));
    }
    let sums = report
        .end
        .and_then(|end| end.sum_sent.zip(end.sum_received));
    let (sent, received) = sums.ok_or_else(|| unreadable("no sums at its end".to_owned()))?;
    Ok(vec![
        Reading {
            metric: Metric::Throughput,
            value: received.bits_per_second / 1e9,
        },
        Reading {
            metric: Metric::Retransmits,
            value: sent.retransmits,
        },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_is_the_receivers_and_retransmits_the_senders() {
        let report = r#"{"start":{},"intervals":[],"end":{
            "sum_sent":{"bits_per_second":41e9,"retransmits":7,"sender":true},
            "sum_received":{"bits_per_second":40e9,"sender":true}}}"#;
        let expected = [
            Reading {
                metric: Metric::Throughput,
                value: 40.0,
            },
            Reading {
                metric: Metric::Retransmits,
                value: 7.0,
            },
        ];
        assert_eq!(parse(report).unwrap(), expected);
    }

    #[test]
    fn error_in_the_report_is_an_error() {
        let report = r#"{"start":{},"end":{},"error":"unable to connect to server"}"#;
        let error = parse(report).unwrap_err().to_string();
        assert_eq!(
            error,
            "output of iperf3 --json: unable to connect to server"
        );
    }

    #[test]
    fn report_without_sums_is_refused() {
        let error = parse(r#"{"end":{}}"#).unwrap_err().to_string();
        assert_eq!(error, "output of iperf3 --json: no sums at its end");
    }

    #[test]
    fn half_a_report_is_refused() {
        assert!(matches!(parse("{\"end\":"), Err(Error::Unreadable { .. })));
    }
}
