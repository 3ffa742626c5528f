//! A client's side of a conversation.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{connect, getsockopt, sockopt};

use super::MAX_REPLY;
use super::body;
use super::head::{Fields, parse_reply};
use super::wire::{Fault, Wire};
use crate::control::Invalid;
use crate::control::api::{Answer, Request};
use crate::io::control::routes::{self, Asked};
use crate::io::control::transport::{SOCKET, address, stream};

/// A client's connection to the engine.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
}

impl Connection {
    /// Connects to the engine whose runtime directory this is.
    ///
    /// # Errors
    /// None listens there, or one of another user: anybody can make a directory under `/tmp` first.
    pub fn open(directory: &Path) -> io::Result<Self> {
        Self::open_as(directory, nix::unistd::getuid().as_raw())
    }

    pub(super) fn open_as(directory: &Path, user: u32) -> io::Result<Self> {
        let fd = stream()?;
        connect(fd.as_raw_fd(), &address(&directory.join(SOCKET))?)?;
        match getsockopt(&fd, sockopt::PeerCredentials)?.uid() {
            owner if owner == user => Ok(Self {
                wire: Wire::new(fd)?,
            }),
            owner => {
                let what = format!(
                    "user {owner} listens there and would be told everything; set XDG_RUNTIME_DIR to \
                     a directory of your own"
                );
                Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
            }
        }
    }

    /// Asks for something, with descriptors both ways; `None` when the engine has ended.
    ///
    /// # Errors
    /// The engine does not answer in time, or answers something malformed.
    pub fn ask(
        &mut self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> io::Result<Option<(Answer, Vec<OwnedFd>)>> {
        let asked = routes::ask(request);
        let answer = self.exchange(&asked, fds, Instant::now() + patience);
        let (status, body, fds) = match answer {
            Err(Fault::Ended) => return Ok(None),
            answer => answer.map_err(io_error)?,
        };
        let answer = match status {
            200..300 => Ok(routes::reply_to(&asked, &body)?),
            _ => Err(serde_json::from_slice::<Invalid>(&body)?),
        };
        Ok(Some((answer, fds)))
    }

    /// Watches what happens from now on; `None` when the engine has ended.
    ///
    /// # Errors
    /// The engine does not answer in time, or answers something malformed.
    pub fn watch(mut self, patience: Duration) -> io::Result<Option<Result<Lines, Invalid>>> {
        let until = Instant::now() + patience;
        let head = self
            .send(&routes::watch(), &[])
            .and_then(|()| self.head(until));
        let (status, fields) = match head {
            Err(Fault::Ended) => return Ok(None),
            head => head.map_err(io_error)?,
        };
        if status == 200 {
            return Ok(Some(Ok(Lines(self.wire))));
        }
        let body = body::read(&mut self.wire, fields.framing(), MAX_REPLY, until);
        let why = serde_json::from_slice(&body.map_err(io_error)?)?;
        Ok(Some(Err(why)))
    }

    fn exchange(
        &mut self,
        asked: &Asked,
        fds: &[BorrowedFd<'_>],
        until: Instant,
    ) -> Result<(u16, Vec<u8>, Vec<OwnedFd>), Fault> {
        self.send(asked, fds)?;
        let (status, fields) = self.head(until)?;
        let body = match status {
            204 => Vec::new(),
            _ => body::read(&mut self.wire, fields.framing(), MAX_REPLY, until)?,
        };
        Ok((status, body, self.wire.take_fds()))
    }

    fn send(&self, asked: &Asked, fds: &[BorrowedFd<'_>]) -> Result<(), Fault> {
        let mut message = format!(
            "{} {} HTTP/1.1\r\nHost: pontoon\r\n",
            asked.method, asked.target
        );
        if let Some(body) = &asked.body {
            let length = body.len();
            message.push_str("Content-Type: application/json\r\nContent-Length: ");
            message.push_str(&length.to_string());
            message.push_str("\r\n");
        }
        message.push_str("\r\n");
        let mut message = message.into_bytes();
        message.extend(asked.body.iter().flatten());
        match self.wire.send(&message, fds) {
            // It may have said why it does not listen.
            Err(Fault::Io(error)) if is_gone(&error) => Ok(()),
            sent => sent,
        }
    }

    fn head(&mut self, until: Instant) -> Result<(u16, Fields), Fault> {
        loop {
            if let Some((status, fields, length)) = parse_reply(self.wire.unread())? {
                self.wire.consume(length);
                return Ok((status, fields));
            }
            self.wire.fill(until)?;
        }
    }
}

/// Events as they happen.
#[derive(Debug)]
pub struct Lines(Wire);

impl Lines {
    /// Waits for events: some lines of JSON; `None` when the engine has ended.
    ///
    /// # Errors
    /// What comes is malformed.
    pub fn next_lines(&mut self) -> io::Result<Option<String>> {
        /// However long nothing happens.
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        loop {
            match body::read_chunk(&mut self.0, MAX_REPLY, Instant::now() + YEAR) {
                Err(Fault::Late) => {}
                Err(Fault::Ended) | Ok(None) => return Ok(None),
                Err(fault) => return Err(io_error(fault)),
                Ok(Some(chunk)) => {
                    return String::from_utf8(chunk).map(Some).map_err(io::Error::other);
                }
            }
        }
    }
}

/// The other side reads no more.
fn is_gone(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
    kinds.contains(&error.kind())
}

fn io_error(fault: Fault) -> io::Error {
    match fault {
        Fault::Io(error) => error,
        Fault::Ended => io::ErrorKind::UnexpectedEof.into(),
        Fault::Late => io::ErrorKind::TimedOut.into(),
        Fault::Wrong(_, what) => io::Error::new(io::ErrorKind::InvalidData, what),
    }
}
