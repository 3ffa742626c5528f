//! What is measured on each way.

use crate::error::Result;
use crate::measure::{Iperf, Measure, Reading, measure_connections};
use crate::system::Endpoints;
use clap::ValueEnum;
use serde::Serialize;
use std::time::Duration;

/// Connections that are being made at the same time in [`Probe::Connect16`].
const PARALLEL: usize = 16;

/// One kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Probe {
    /// One TCP stream by iperf3.
    #[value(name = "tcp-1")]
    #[serde(rename = "tcp-1")]
    Tcp1,
    /// Four TCP streams by iperf3.
    #[value(name = "tcp-4")]
    #[serde(rename = "tcp-4")]
    Tcp4,
    /// Datagrams of 64 bytes, as fast as one sender can.
    #[value(name = "udp-64")]
    #[serde(rename = "udp-64")]
    Udp64,
    /// Datagrams of 1400 bytes, as fast as one sender can.
    #[value(name = "udp-1400")]
    #[serde(rename = "udp-1400")]
    Udp1400,
    /// Ping-pong of one byte on a TCP connection.
    TcpRr,
    /// New connections, one at a time.
    #[value(name = "connect-1")]
    #[serde(rename = "connect-1")]
    Connect1,
    /// New connections, sixteen at a time.
    #[value(name = "connect-16")]
    #[serde(rename = "connect-16")]
    Connect16,
}

impl Probe {
    /// Every measurement, in the order of a round.
    pub(crate) const ALL: [Self; 7] = [
        Self::Tcp1,
        Self::Tcp4,
        Self::Udp64,
        Self::Udp1400,
        Self::TcpRr,
        Self::Connect1,
        Self::Connect16,
    ];

    /// The name on the command line and in reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Tcp1 => "tcp-1",
            Self::Tcp4 => "tcp-4",
            Self::Udp64 => "udp-64",
            Self::Udp1400 => "udp-1400",
            Self::TcpRr => "tcp-rr",
            Self::Connect1 => "connect-1",
            Self::Connect16 => "connect-16",
        }
    }

    /// Measures for `duration`.
    ///
    /// # Errors
    /// When the ends do not reach each other or traffic stops.
    pub(crate) fn run(
        self,
        iperf: &Iperf,
        ends: Endpoints<'_>,
        duration: Duration,
    ) -> Result<Vec<Reading>> {
        let like_a_bridge = |measure: Measure| measure.run(iperf, ends, duration);
        match self {
            Self::Tcp1 => like_a_bridge(Measure::Tcp1),
            Self::Tcp4 => like_a_bridge(Measure::Tcp4),
            Self::Udp64 => like_a_bridge(Measure::Udp64),
            Self::Udp1400 => like_a_bridge(Measure::Udp1400),
            Self::TcpRr => like_a_bridge(Measure::TcpRr),
            Self::Connect1 => measure_connections(ends, 1, duration),
            Self::Connect16 => measure_connections(ends, PARALLEL, duration),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_the_word_of_the_command_line_and_of_the_json() {
        for probe in Probe::ALL {
            let word = probe.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(probe.label(), word);
            assert_eq!(serde_json::to_value(probe).unwrap(), word);
        }
    }
}
