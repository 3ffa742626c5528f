//! Messages with file descriptors, over a `SOCK_SEQPACKET` pair.
//!
//! One message is one JSON value and up to [`MAX_FDS`] descriptors. Descriptors are close-on-exec from
//! the moment they arrive; those of a message that is refused are closed.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest message, in bytes. Nothing that is said between the processes comes near it.
pub const MAX_MESSAGE: usize = 64 << 10;
/// Most descriptors of one message.
pub const MAX_FDS: usize = 8;

/// One end of a pair.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
}

impl Channel {
    /// Two connected ends.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Self { fd: a }, Self { fd: b }))
    }

    /// Takes over an end that was inherited.
    pub const fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Another handle on the same end.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
        })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// It is too large, or the other end is gone.
    pub fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "message too large",
            ));
        }
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let control = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() {
            &control[..0]
        } else {
            &control[..]
        };
        let parts = [IoSlice::new(&bytes)];
        sendmsg::<()>(
            self.fd.as_raw_fd(),
            &parts,
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        Ok(())
    }

    /// Receives a message; `None` when the other end is gone.
    ///
    /// # Errors
    /// It is malformed or cut, or the kernel refuses.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
        let (length, fds, flags) = {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let received =
                recvmsg::<()>(self.fd.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
            let fds: Vec<OwnedFd> = received
                .cmsgs()?
                .filter_map(|message| match message {
                    ControlMessageOwned::ScmRights(fds) => Some(fds),
                    _ => None,
                })
                .flatten()
                .map(owned)
                .collect();
            (received.bytes, fds, received.flags)
        };
        if length == 0 {
            return Ok(None);
        }
        if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "message was cut",
            ));
        }
        Ok(Some((serde_json::from_slice(&buffer[..length])?, fds)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[allow(unsafe_code, reason = "descriptors arrive as numbers")]
fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just installed this descriptor for the message; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_with_its_descriptors_closed_on_exec() {
        let (a, b) = Channel::pair().unwrap();
        let (x, _y) = Channel::pair().unwrap();
        a.send(&"hello", &[x.as_fd()]).unwrap();
        let (text, fds): (String, _) = b.receive().unwrap().unwrap();
        assert_eq!((text.as_str(), fds.len()), ("hello", 1));
        let flags = nix::fcntl::fcntl(&fds[0], nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }

    #[test]
    fn the_end_of_the_other_side_is_not_an_error() {
        let (a, b) = Channel::pair().unwrap();
        drop(a);
        assert!(b.receive::<String>().unwrap().is_none());
    }

    #[test]
    fn what_is_not_expected_is_an_error_and_leaks_nothing() {
        let (a, b) = Channel::pair().unwrap();
        let (x, y) = Channel::pair().unwrap();
        a.send(&5, &[x.as_fd()]).unwrap();
        drop(x);
        assert!(b.receive::<String>().is_err());
        assert!(
            y.receive::<String>().unwrap().is_none(),
            "the descriptor was closed"
        );
    }

    #[test]
    fn a_message_beyond_the_limit_is_refused() {
        let (a, _b) = Channel::pair().unwrap();
        assert!(a.send(&"x".repeat(MAX_MESSAGE), &[]).is_err());
    }
}
