//! How clients and the engine reach each other: a `SOCK_SEQPACKET` unix socket in a private directory.
//!
//! A value of any size is sent in pieces of at most `PIECE` bytes, each with a first byte that says
//! whether more follow; descriptors come with the first. What one side accepts of the other is bounded.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, accept4, bind,
    connect, getsockopt, listen, setsockopt, shutdown, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::io::fdpass::{receive_piece, send_piece};

const PIECE: usize = 60 << 10;
/// Largest request, in bytes.
pub const MAX_REQUEST: usize = 64 << 10;
/// Largest reply, in bytes: a full connection table as JSON.
pub const MAX_REPLY: usize = 64 << 20;
/// Most descriptors of a request or a reply.
const MAX_FDS: usize = 8;
/// How long one side waits for the other to send or take a piece.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Where the engine of this user keeps its socket and files: `$XDG_RUNTIME_DIR/pontoon`, or a private
/// directory under `/tmp` for users without one. A relative path counts as none (XDG Base Directory
/// Specification), since the engine works elsewhere.
pub fn runtime_directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(base) if base.is_absolute() => base.join("pontoon"),
        _ => PathBuf::from(format!("/tmp/pontoon-{}", nix::unistd::getuid())),
    }
}

/// Name of the socket in the runtime directory.
pub const SOCKET: &str = "api.sock";

/// One end of a connection.
#[derive(Debug)]
pub struct Connection {
    fd: OwnedFd,
}

impl Connection {
    /// Connects to the engine whose runtime directory this is.
    ///
    /// # Errors
    /// None listens there, or one of another user: anybody can make a directory under `/tmp` first.
    pub fn open(directory: &Path) -> io::Result<Self> {
        Self::open_as(directory, nix::unistd::getuid().as_raw())
    }

    fn open_as(directory: &Path, user: u32) -> io::Result<Self> {
        let fd = seqpacket()?;
        connect(fd.as_raw_fd(), &address(&directory.join(SOCKET))?)?;
        let connection = Self { fd };
        match connection.peer()? {
            owner if owner == user => Ok(connection),
            owner => {
                let what = format!(
                    "user {owner} listens there and would be told everything; set XDG_RUNTIME_DIR to \
                     a directory of your own"
                );
                Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
            }
        }
    }

    /// Ends the conversation: both sides read its end.
    pub fn shut_down(&self) {
        // The other side may have gone already.
        let _ = shutdown(self.fd.as_raw_fd(), Shutdown::Both);
    }

    /// Says why the other side is not served, and hears it no more. What it has said unheard, or says
    /// yet, does not keep it from reading that once the connection is closed.
    pub fn refuse(&self, answer: &impl Serialize) {
        // The other side may have gone already.
        let _ = self.send(answer, &[]);
        let _ = shutdown(self.fd.as_raw_fd(), Shutdown::Read);
        // Closing a socket with something unread would take the answer away (`ECONNRESET`).
        let mut unread = Vec::new();
        while let Ok(Some(_)) = self.receive_piece(&mut unread) {}
    }

    /// Sends a request and receives the answer to it; `None` when the other side is gone.
    ///
    /// # Errors
    /// The other side does not take it or does not answer in time, or answers something malformed.
    pub fn ask<T: DeserializeOwned>(
        &self,
        request: &impl Serialize,
        fds: &[BorrowedFd<'_>],
        limit: usize,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        match self.send(request, fds) {
            // It may have said why it does not listen.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            sent => sent?,
        }
        self.receive(limit)
    }

    /// Limits how long sending and receiving may take.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_patience(&self, receive: Duration) -> io::Result<()> {
        let patience = |d: Duration| TimeVal::milliseconds(d.as_millis() as i64);
        setsockopt(&self.fd, sockopt::SendTimeout, &patience(PATIENCE))?;
        setsockopt(&self.fd, sockopt::ReceiveTimeout, &patience(receive))?;
        Ok(())
    }

    /// User id of the other side.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn peer(&self) -> io::Result<u32> {
        Ok(getsockopt(&self.fd, sockopt::PeerCredentials)?.uid())
    }

    /// Sends a value.
    ///
    /// # Errors
    /// The other side is gone or does not take it in time.
    pub fn send(&self, value: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(value)?;
        let mut pieces = bytes.chunks(PIECE).peekable();
        // Descriptors go with the first piece.
        let mut fds = fds;
        while let Some(piece) = pieces.next() {
            let more = [u8::from(pieces.peek().is_some())];
            let parts = [IoSlice::new(&more), IoSlice::new(piece)];
            send_piece(self.fd.as_fd(), &parts, std::mem::take(&mut fds))?;
        }
        Ok(())
    }

    /// Receives a value of at most `limit` bytes; `None` when the other side is gone.
    ///
    /// # Errors
    /// It is too large, malformed, or does not come in time.
    pub fn receive<T: DeserializeOwned>(
        &self,
        limit: usize,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let (mut bytes, mut fds) = (Vec::new(), Vec::new());
        loop {
            let Some((piece, more)) = self.receive_piece(&mut fds)? else {
                return Ok(None);
            };
            bytes.extend_from_slice(&piece);
            if bytes.len() > limit {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the message is too large",
                ));
            }
            if !more {
                return Ok(Some((serde_json::from_slice(&bytes)?, fds)));
            }
        }
    }

    fn receive_piece(&self, fds: &mut Vec<OwnedFd>) -> io::Result<Option<(Vec<u8>, bool)>> {
        let mut buffer = vec![0; PIECE + 1];
        let arrived = receive_piece(self.fd.as_fd(), &mut buffer, MAX_FDS)?;
        fds.extend(arrived.fds);
        if arrived.flags.contains(MsgFlags::MSG_CTRUNC) || fds.len() > MAX_FDS {
            let what = "too many files are open, or came along";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let length = arrived.length;
        if length == 0 {
            return Ok(None);
        }
        buffer.truncate(length);
        let more = buffer.remove(0) != 0;
        Ok(Some((buffer, more)))
    }
}

/// The socket on which the engine listens.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Listens in `directory`, for this user only. The caller holds the directory's lock, so a socket
    /// that is there was left behind.
    ///
    /// # Errors
    /// The path is too long, or the kernel refuses.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let fd = seqpacket()?;
        bind(fd.as_raw_fd(), &address(&path)?)?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private)?;
        listen(&fd, Backlog::new(BACKLOG)?)?;
        Ok(Self { fd, path })
    }

    /// Waits for a client.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn accept(&self) -> io::Result<Connection> {
        let fd = accept4(self.fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
        Ok(Connection { fd: owned(fd) })
    }

    /// The socket's path, to be removed at the end.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn seqpacket() -> io::Result<OwnedFd> {
    Ok(socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

fn address(path: &Path) -> io::Result<UnixAddr> {
    UnixAddr::new(path).map_err(|_| {
        let what = format!(
            "{}: the path is too long for a socket; set XDG_RUNTIME_DIR",
            path.display()
        );
        io::Error::new(io::ErrorKind::InvalidInput, what)
    })
}

#[allow(unsafe_code, reason = "descriptors arrive as numbers")]
fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests;
