//! Sending: messages collected during a batch, then as few system calls as possible.
#![allow(
    unsafe_code,
    reason = "sendmmsg over memory that stays in a receive ring"
)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use pontoon_packet::Offload;

use super::packet_socket::link_address;

/// Where the bytes of a message lie.
#[derive(Clone, Copy, Debug)]
pub(super) enum Memory {
    /// In the receive ring of the batch under way: its slots are given back after the flush.
    Ring(*const u8),
    /// In the queue's own arena, at this offset.
    Arena(usize),
}

#[derive(Clone, Copy, Debug)]
struct Message {
    ifindex: u32,
    header: [u8; Offload::LEN],
    memory: Memory,
    len: usize,
}

/// What one socket is to send.
///
/// Grows to the largest batch it has seen and allocates nothing more.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    messages: Vec<Message>,
    arena: Vec<u8>,
    parts: Vec<libc::iovec>,
    addresses: Vec<libc::sockaddr_ll>,
    headers: Vec<libc::mmsghdr>,
    /// Messages that the kernel refused, by errno.
    refused: BTreeMap<i32, u64>,
}

// SAFETY: the pointers inside are only followed during a flush, when their targets are alive; none of
// them depends on the thread.
unsafe impl Send for SendQueue {}

impl SendQueue {
    /// Queues bytes that lie in the ring of the batch under way.
    pub(super) fn push_ring(&mut self, ifindex: u32, bytes: &[u8], offload: Offload) {
        self.push(ifindex, Memory::Ring(bytes.as_ptr()), bytes.len(), offload);
    }

    /// Queues a copy of `bytes`.
    pub(super) fn push_copy(&mut self, ifindex: u32, bytes: &[u8], offload: Offload) {
        let at = self.arena.len();
        self.arena.extend_from_slice(bytes);
        self.push(ifindex, Memory::Arena(at), bytes.len(), offload);
    }

    fn push(&mut self, ifindex: u32, memory: Memory, len: usize, offload: Offload) {
        let header = offload.encode();
        self.messages.push(Message {
            ifindex,
            header,
            memory,
            len,
        });
    }

    /// Messages refused by the kernel so far, by errno.
    pub(super) fn refused(&self) -> impl Iterator<Item = (i32, u64)> {
        self.refused.iter().map(|(errno, count)| (*errno, *count))
    }

    /// Sends everything that was queued. A message that the kernel refuses is counted and skipped.
    ///
    /// # Safety
    /// The ring memory of every queued message must still be the engine's.
    pub(super) unsafe fn flush(&mut self, socket: BorrowedFd<'_>) {
        if self.messages.is_empty() {
            return;
        }
        self.lay_out();
        let mut sent = 0;
        while sent < self.headers.len() {
            let rest = &mut self.headers[sent..];
            // SAFETY: the headers point to parts, addresses and frames that live until this function
            // returns (the frames by the caller's promise); their number is the slice's length.
            let count = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as u32,
                    libc::MSG_DONTWAIT,
                )
            };
            sent += match usize::try_from(count) {
                Ok(count) => count.max(1),
                Err(_) => self.skip_refused(),
            };
        }
        self.messages.clear();
        self.arena.clear();
    }

    /// Hands everything that was queued to `send`, one frame at a time. What it refuses is counted.
    ///
    /// # Safety
    /// The ring memory of every queued message must still be the engine's.
    pub(super) unsafe fn flush_with(
        &mut self,
        mut send: impl FnMut(&[u8], Offload) -> Result<(), Errno>,
    ) {
        for message in &self.messages {
            let frame = self.frame(message);
            // SAFETY: the frame lives in the arena or, by the caller's promise, in a ring.
            let bytes = unsafe { std::slice::from_raw_parts(frame, message.len) };
            if let Err(errno) = send(bytes, Offload::decode(message.header)) {
                *self.refused.entry(errno as i32).or_insert(0) += 1;
            }
        }
        self.messages.clear();
        self.arena.clear();
    }

    /// How many messages to go past after an error: none when the call was only interrupted.
    fn skip_refused(&mut self) -> usize {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        if errno == libc::EINTR {
            return 0;
        }
        *self.refused.entry(errno).or_insert(0) += 1;
        1
    }

    fn frame(&self, message: &Message) -> *const u8 {
        match message.memory {
            Memory::Ring(pointer) => pointer,
            Memory::Arena(at) => self.arena[at..].as_ptr(),
        }
    }

    fn lay_out(&mut self) {
        self.parts.clear();
        self.addresses.clear();
        self.headers.clear();
        for message in &self.messages {
            let frame = self.frame(message);
            self.parts.push(part(message.header.as_ptr(), Offload::LEN));
            self.parts.push(part(frame, message.len));
            self.addresses.push(link_address(message.ifindex, 0));
        }
        for at in 0..self.messages.len() {
            // SAFETY: all-zero is a valid message header.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_name = (&raw mut self.addresses[at]).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as u32;
            header.msg_hdr.msg_iov = &raw mut self.parts[at * 2];
            header.msg_hdr.msg_iovlen = 2;
            self.headers.push(header);
        }
    }
}

const fn part(pointer: *const u8, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: pointer.cast_mut().cast(),
        iov_len: len,
    }
}
