//! Messages with file descriptors, over a `SOCK_SEQPACKET` pair.
//!
//! One message is one JSON value and up to [`MAX_FDS`] descriptors. Descriptors are close-on-exec from
//! the moment they arrive; those of a message that is refused are closed. A message whose descriptors
//! find no room in the receiver arrives without any: who needs them refuses that one message.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest message, in bytes. Nothing that is said between the processes comes near it.
pub const MAX_MESSAGE: usize = 64 << 10;
/// Most descriptors of one message: what the kernel takes (`SCM_MAX_FD` of Linux
/// `include/net/scm.h`), so that a thousand sockets are a few messages.
pub const MAX_FDS: usize = 253;

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
        send_piece(self.fd.as_fd(), &[IoSlice::new(&bytes)], fds).map(drop)
    }

    /// Receives a message; `None` when the other end is gone.
    ///
    /// # Errors
    /// It is malformed or too large, or the kernel refuses.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let Arrived {
            length,
            mut fds,
            flags,
        } = receive_piece(self.fd.as_fd(), &mut buffer, MAX_FDS)?;
        if length == 0 {
            return Ok(None);
        }
        if flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "message was cut",
            ));
        }
        if flags.contains(MsgFlags::MSG_CTRUNC) {
            fds.clear();
        }
        Ok(Some((serde_json::from_slice(&buffer[..length])?, fds)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sends one piece of a message into a unix socket, and descriptors with it. Returns how many bytes a
/// stream has taken.
///
/// # Errors
/// The other end is gone, does not take it in time, or the kernel refuses.
pub(super) fn send_piece(
    socket: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    Ok(sendmsg::<()>(
        socket.as_raw_fd(),
        parts,
        control,
        flags,
        None,
    )?)
}

/// What one `recvmsg(2)` brings.
pub(super) struct Arrived {
    /// Bytes.
    pub(super) length: usize,
    /// Descriptors, which are close-on-exec. When some found no room, `MSG_CTRUNC` is set.
    pub(super) fds: Vec<OwnedFd>,
    /// `MSG_TRUNC`, `MSG_CTRUNC`.
    pub(super) flags: MsgFlags,
}

/// Length of the control data that so many descriptors come in, in bytes.
#[allow(unsafe_code, reason = "CMSG_LEN is declared so, but only counts")]
const fn control_length(fds: usize) -> usize {
    // SAFETY: the call takes no pointers.
    unsafe { libc::CMSG_LEN((fds * size_of::<RawFd>()) as u32) as usize }
}

/// Room for the descriptors of one message.
#[repr(C)]
union Control {
    /// What the kernel writes begins with it.
    _header: libc::cmsghdr,
    room: [u8; control_length(MAX_FDS)],
}

/// Receives one piece of a message from a unix socket, and at most `max_fds` descriptors with it.
///
/// # Errors
/// The kernel refuses.
#[allow(
    unsafe_code,
    reason = "nix keeps the descriptors of a message that lost some, and they would stay open"
)]
pub(super) fn receive_piece(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    max_fds: usize,
) -> io::Result<Arrived> {
    let mut control = Control {
        room: [0; control_length(MAX_FDS)],
    };
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: zeros are an empty header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = control_length(max_fds.min(MAX_FDS));
    // SAFETY: the header names a buffer and room that live until the end of this function.
    let length =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok(Arrived {
        length,
        // SAFETY: the kernel has just filled the header in.
        fds: unsafe { descriptors(&header) },
        flags: MsgFlags::from_bits_truncate(header.msg_flags),
    })
}

/// The descriptors that came with a message (`cmsg(3)`).
///
/// # Safety
/// The header is one that `recvmsg` has filled in, and its descriptors are not taken twice.
#[allow(unsafe_code, reason = "walks what the kernel has written")]
unsafe fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: see above; each message lies within the room that the header names.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let found = message.read();
            if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let bytes = found.cmsg_len - libc::CMSG_LEN(0) as usize;
                let first: *const RawFd = libc::CMSG_DATA(message).cast();
                for at in 0..bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(first.add(at).read_unaligned()));
                }
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    fds
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

    #[test]
    fn as_many_descriptors_as_are_allowed_arrive_with_one_message() {
        let (a, b) = Channel::pair().unwrap();
        let (x, _y) = Channel::pair().unwrap();
        a.send(&5, &[x.as_fd(); MAX_FDS]).unwrap();
        let (number, fds) = b.receive::<u8>().unwrap().unwrap();
        assert_eq!((number, fds.len()), (5, MAX_FDS));
        assert!(a.send(&5, &[x.as_fd(); MAX_FDS + 1]).is_err());
    }

    #[test]
    fn descriptors_that_find_no_room_are_noticed_and_none_stays_open() {
        let (a, b) = Channel::pair().unwrap();
        let (x, y) = Channel::pair().unwrap();
        a.send(&5, &[x.as_fd(); 4]).unwrap();
        drop(x);
        let arrived = receive_piece(b.as_fd(), &mut [0], 3).unwrap();
        assert!(arrived.flags.contains(MsgFlags::MSG_CTRUNC));
        assert_eq!(arrived.fds.len(), 3);
        drop(arrived);
        assert!(y.receive::<String>().unwrap().is_none(), "all were closed");
    }
}
