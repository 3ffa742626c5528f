//! A connection: bytes and descriptors, with limits of time.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, shutdown};

use super::{READ, STALL};
use crate::io::fdpass::{receive_piece, send_piece};

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// Most descriptors of a message.
pub(crate) const MAX_FDS: usize = 8;
/// What is thrown away of a client that is not heard any more, in bytes.
const MAX_UNHEARD: usize = 4 << 20;

/// Why a message does not arrive.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The other side has ended.
    Ended,
    /// It takes too long.
    Late,
    /// It is not what RFC 9112 says, or too much: with the status that says so.
    Wrong(u16, &'static str),
    /// The kernel refuses.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Arc<OwnedFd>,
    unread: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Wire {
    /// A connection on this stream socket.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self {
            socket: Arc::new(socket),
            unread: Vec::new(),
            fds: Vec::new(),
        })
    }

    /// The socket itself, to end the conversation with.
    pub(crate) const fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// What has come and was not consumed.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Takes the first `count` unread bytes.
    pub(crate) fn consume(&mut self, count: usize) -> Vec<u8> {
        let rest = self.unread.split_off(count.min(self.unread.len()));
        std::mem::replace(&mut self.unread, rest)
    }

    /// Takes the descriptors that came since this was asked last.
    pub(crate) fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// Waits for more bytes.
    pub(crate) fn fill(&mut self, until: Instant) -> Result<(), Fault> {
        let had = self.unread.len();
        self.unread.resize(had + PIECE, 0);
        let arrived = loop {
            match receive_piece(self.socket.as_fd(), &mut self.unread[had..], MAX_FDS) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(fault) = self.wait(PollFlags::POLLIN, until) {
                        break Err(fault);
                    }
                }
                other => break other.map_err(Fault::from),
            }
        };
        let length = arrived.as_ref().map_or(0, |arrived| arrived.length);
        self.unread.truncate(had + length);
        let arrived = arrived?;
        self.fds.extend(arrived.fds);
        if arrived.flags.contains(MsgFlags::MSG_CTRUNC) || self.fds.len() > MAX_FDS {
            let what = "too many files are open, or came along";
            return Err(Fault::Wrong(503, what));
        }
        match length {
            0 => Err(Fault::Ended),
            _ => Ok(()),
        }
    }

    /// Sends bytes, and descriptors with the first of them.
    pub(crate) fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Fault> {
        let end = Instant::now() + READ;
        let (mut left, mut fds) = (bytes, fds);
        while !left.is_empty() {
            match send_piece(self.socket.as_fd(), &[IoSlice::new(left)], fds) {
                Ok(sent) => {
                    left = &left[sent..];
                    fds = &[];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::POLLOUT, end.min(Instant::now() + STALL))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Ends the conversation after what was sent. What the other side says yet is not heard: it may say
    /// it for as long as `patience` lasts, and so be free to read. Closing a socket with something
    /// unread would take away from it what it was sent (`ECONNRESET`).
    pub(crate) fn turn_away(mut self, patience: Duration) {
        let how = if patience.is_zero() {
            Shutdown::Both
        } else {
            Shutdown::Write
        };
        // The other side may have gone already.
        let _ = shutdown(self.socket.as_raw_fd(), how);
        let until = Instant::now() + patience;
        let mut heard = 0;
        while heard < MAX_UNHEARD && self.fill(until).is_ok() {
            heard += self.consume(usize::MAX).len();
            self.fds.clear();
        }
    }

    /// Waits until there is something to read of `other`, or the other side has ended. Whether it has not.
    pub(crate) fn outlasts(&self, other: BorrowedFd<'_>) -> bool {
        // That it has ended is always told; what it says is not heard.
        let mut fds = [
            PollFd::new(self.socket.as_fd(), PollFlags::empty()),
            PollFd::new(other, PollFlags::POLLIN),
        ];
        let polled = poll(&mut fds, PollTimeout::NONE);
        let ended = fds[0].any().unwrap_or_default();
        matches!(polled, Ok(_) | Err(nix::Error::EINTR)) && !ended
    }

    fn wait(&self, flags: PollFlags, until: Instant) -> Result<(), Fault> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Fault::Late);
        }
        // Rounded up: what is less than a millisecond would not be waited for.
        let millis = i32::try_from(left.as_millis()).map_or(i32::MAX, |ms| ms.saturating_add(1));
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), flags)], timeout) {
            Ok(0) => Err(Fault::Late),
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(error) => Err(Fault::Io(error.into())),
        }
    }
}
