//! What stands in for the kernel in tests: the other end of a socket, and what is said there.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use super::NLMSG_ERROR;

/// The socket of who asks, and of who answers.
pub(in crate::io) fn sockets() -> (OwnedFd, OwnedFd) {
    let (family, kind) = (AddressFamily::Unix, SockType::SeqPacket);
    socketpair(family, kind, None, SockFlag::SOCK_CLOEXEC).unwrap()
}

/// What comes next; `None` once nobody asks any more.
pub(in crate::io) fn hear(socket: &OwnedFd) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 1 << 17];
    let length = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()).ok()?;
    bytes.truncate(length);
    (length > 0).then_some(bytes)
}

/// Says something. Whoever has heard of a refusal may have gone.
pub(in crate::io) fn say(socket: &OwnedFd, bytes: &[u8]) {
    let _ = send(socket.as_raw_fd(), bytes, MsgFlags::empty());
}

/// `NLMSG_ERROR` of the request of that number; 0 acknowledges.
pub(in crate::io) fn answer(number: u32, error: i32) -> Vec<u8> {
    let words = [20, u32::from(NLMSG_ERROR), number, 0, (-error) as u32];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
