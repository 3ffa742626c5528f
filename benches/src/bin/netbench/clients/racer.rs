//! One client of the API, which asks as fast as it is answered.

use crate::error::{Context, Error, Result};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// First port of the host's that clients publish, each its own.
const FIRST_PORT: usize = 20_000;

/// A connection to an engine.
pub(super) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects, and asks for nothing.
    ///
    /// # Errors
    /// When there is no engine.
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("connecting to the engine")?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .context("limiting a read")?;
        let stream = BufReader::new(stream);
        Ok(Self { stream })
    }

    /// Asks for one thing, and reads the answer.
    ///
    /// # Errors
    /// When it is refused, or there is no answer.
    fn ask(&mut self, method: &str, target: &str, body: &str) -> Result<()> {
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let stream = self.stream.get_mut();
        stream.write_all(request.as_bytes()).context("asking")?;
        let (status, answer) = self.answer().context("waiting for an answer")?;
        if (200..300).contains(&status) {
            return Ok(());
        }
        Err(Error::Failed {
            command: format!("{method} {target}"),
            output: format!("{status} {answer}"),
        })
    }

    /// Status and body of an answer (RFC 9112).
    fn answer(&mut self) -> std::io::Result<(u16, String)> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let field = line.to_ascii_lowercase();
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let text = String::from_utf8_lossy(&body).into_owned();
        Ok((status.unwrap_or(0), text))
    }
}

/// Publishes, creates, inspects, lists and takes back until `done`. `number` tells clients apart.
/// Answers how often it was answered.
///
/// # Errors
/// When something is refused.
pub(super) fn race(socket: &Path, number: usize, done: &AtomicBool) -> Result<u64> {
    let mut client = Client::connect(socket)?;
    let port = format!("{}:80", FIRST_PORT + number);
    let ports = format!("{{\"ports\": [\"{port}\"]}}");
    let unpublish = format!("/v1/containers/c1/ports?port={port}");
    let network = format!("/v1/networks/race-{number}");
    let create = format!("{{\"name\": \"race-{number}\"}}");
    let turn = [
        ("POST", "/v1/containers/c1/ports", ports.as_str()),
        ("GET", "/v1/containers/c1", ""),
        ("POST", "/v1/networks", create.as_str()),
        ("GET", network.as_str(), ""),
        ("GET", "/v1/containers", ""),
        ("DELETE", network.as_str(), ""),
        ("DELETE", unpublish.as_str(), ""),
    ];
    let mut answered = 0;
    // A turn that was begun is ended, so that the next measurement finds nothing of it.
    while !done.load(Ordering::Relaxed) {
        for (method, target, body) in turn {
            client.ask(method, target, body)?;
            answered += 1;
        }
    }
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;

    fn asked(answers: &'static [u8]) -> (Result<()>, Result<()>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(answers).unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        let mut client = Client {
            stream: BufReader::new(ours),
        };
        let mut ask = || client.ask("GET", "/v1/status", "");
        (ask(), ask())
    }

    #[test]
    fn answers_are_told_apart() {
        let answers =
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 204 No Content\r\n\r\n";
        let (first, second) = asked(answers);
        first.unwrap();
        second.unwrap();
    }

    #[test]
    fn what_is_refused_is_an_error_with_the_reason() {
        let (first, second) = asked(b"HTTP/1.1 409 Conflict\r\nContent-Length: 5\r\n\r\ntaken");
        let error = first.unwrap_err().to_string();
        assert!(
            error.contains("GET /v1/status") && error.contains("409 taken"),
            "{error}"
        );
        assert!(second.is_err(), "there is no other answer");
    }
}
