//! The engine's side of a conversation.

use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::wire::{Fault, Wire};
use super::{MAX_REQUEST, REQUEST, body, phrase};
use crate::io::control::http::body::Framing;
use crate::io::control::http::head::RequestHead;

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Received {
    /// `GET`, `POST`, ….
    pub(crate) method: String,
    /// What it is for: path and query.
    pub(crate) target: String,
    /// Type of the body.
    pub(crate) media_type: Option<String>,
    /// The body.
    pub(crate) body: Vec<u8>,
    /// Descriptors that came along.
    pub(crate) fds: Vec<OwnedFd>,
    /// Nothing comes after it.
    pub(crate) closes: bool,
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Response {
    /// Status code.
    pub(crate) status: u16,
    /// Methods that would do, of one that does not.
    pub(crate) allow: Option<String>,
    /// JSON; nothing where there is nothing to say.
    pub(crate) body: Option<Vec<u8>>,
    /// Descriptors that go along.
    pub(crate) fds: Vec<OwnedFd>,
}

impl Response {
    /// Sends it. Nothing comes after it if it `closes`.
    pub(crate) fn send(&self, wire: &Wire, closes: bool) -> Result<(), Fault> {
        let mut message = head(self.status);
        if let Some(methods) = &self.allow {
            // Writing to a string never fails.
            let _ = write!(message, "Allow: {methods}\r\n");
        }
        if closes {
            message.push_str("Connection: close\r\n");
        }
        if let Some(body) = &self.body {
            let length = body.len();
            let _ = write!(
                message,
                "Content-Type: application/json\r\nContent-Length: {length}\r\n"
            );
        }
        message.push_str("\r\n");
        let mut message = message.into_bytes();
        message.extend(self.body.iter().flatten());
        let fds: Vec<_> = self.fds.iter().map(AsFd::as_fd).collect();
        wire.send(&message, &fds)
    }
}

/// A response that goes on: chunks as they come (RFC 9112 §7.1).
pub(crate) struct Chunks<'a>(&'a Wire);

impl<'a> Chunks<'a> {
    /// Begins it.
    pub(crate) fn begin(wire: &'a Wire, media_type: &str) -> Result<Self, Fault> {
        let fields = format!("Content-Type: {media_type}\r\nTransfer-Encoding: chunked\r\n\r\n");
        wire.send((head(200) + &fields).as_bytes(), &[])?;
        Ok(Self(wire))
    }

    /// Sends one more.
    pub(crate) fn send(&self, bytes: &[u8]) -> Result<Self, Fault> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend(bytes);
        chunk.extend(b"\r\n");
        self.0.send(&chunk, &[])?;
        Ok(Self(self.0))
    }
}

/// The first lines of every response.
pub(super) fn head(status: u16) -> String {
    format!(
        "HTTP/1.1 {status} {}\r\nCache-Control: no-store\r\n",
        phrase(status)
    )
}

/// Waits for a request, `idle` for its first byte.
pub(crate) fn receive(wire: &mut Wire, idle: Duration) -> Result<Received, Fault> {
    if wire.unread().is_empty() {
        wire.fill(Instant::now() + idle)?;
    }
    receive_rest(wire).map_err(|fault| match fault {
        Fault::Ended => Fault::Wrong(400, "the request ends in the middle"),
        Fault::Late => Fault::Wrong(408, "the request takes too long"),
        other => other,
    })
}

fn receive_rest(wire: &mut Wire) -> Result<Received, Fault> {
    let until = Instant::now() + REQUEST;
    let head = loop {
        if let Some((head, length)) = RequestHead::parse(wire.unread())? {
            wire.consume(length);
            break head;
        }
        wire.fill(until)?;
    };
    let framing = head.fields.framing();
    let waits = match framing {
        Framing::Length(length) => wire.unread().len() < length && length <= MAX_REQUEST,
        Framing::Chunked => wire.unread().is_empty(),
    };
    if head.fields.expects && waits {
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n", &[])?;
    }
    let body = body::read(wire, framing, MAX_REQUEST, until)?;
    Ok(Received {
        method: head.method,
        target: head.target,
        media_type: head.fields.media_type,
        body,
        fds: wire.take_fds(),
        closes: head.fields.closes,
    })
}
