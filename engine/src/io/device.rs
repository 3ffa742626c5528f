//! What frames come from and go to: packet sockets or a TAP.
#![allow(unsafe_code, reason = "hands on a promise about ring memory")]

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use super::packet_socket::{PacketSocket, Received, Unusable};
use super::shared_rings::SharedRings;
use super::tap::Tap;
use super::transmit::SendQueue;
use super::uplink_sockets::UplinkSockets;

/// A source and sink of frames. Frames taken from it lie in its own memory until they are released.
#[derive(Debug)]
pub(super) enum Device {
    /// A packet socket with a ring.
    Packet(PacketSocket),
    /// Packet sockets that are one.
    Shared(SharedRings),
    /// Packet sockets of an uplink.
    Uplink(UplinkSockets),
    /// A TAP interface.
    Tap(Tap),
}

impl Device {
    /// Whether there may be a frame. Costs no system call.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Packet(socket) => socket.is_ready(),
            Self::Shared(rings) => rings.is_ready(),
            Self::Uplink(sockets) => sockets.is_ready(),
            Self::Tap(tap) => tap.is_ready(),
        }
    }

    /// Takes the next frame.
    pub(super) fn next(&mut self) -> Option<Result<Received<'_>, Unusable>> {
        match self {
            Self::Packet(socket) => socket.next(),
            Self::Shared(rings) => rings.next(),
            Self::Uplink(sockets) => sockets.next(),
            Self::Tap(tap) => tap.next().map(Ok),
        }
    }

    /// The bytes of frames that `next` will give, as far as they are there. Of a TAP, which is read
    /// frame by frame, none.
    pub(super) fn upcoming(&self) -> impl Iterator<Item = &[u8]> {
        let (alone, shared, uplink) = match self {
            Self::Packet(socket) => (Some(socket.upcoming()), None, None),
            Self::Shared(rings) => (None, Some(rings.upcoming()), None),
            Self::Uplink(sockets) => (None, None, Some(sockets.upcoming())),
            Self::Tap(_) => (None, None, None),
        };
        let alone = alone.into_iter().flatten();
        let shared = shared.into_iter().flatten();
        alone.chain(shared).chain(uplink.into_iter().flatten())
    }

    /// Gives the memory of all frames that were taken back.
    pub(super) fn release(&mut self) {
        match self {
            Self::Packet(socket) => socket.release(),
            Self::Shared(rings) => rings.release(),
            Self::Uplink(sockets) => sockets.release(),
            Self::Tap(tap) => tap.release(),
        }
    }

    /// Hears another interface from now on.
    ///
    /// # Errors
    /// There is none with this index, or the device is not one interface of many.
    pub(super) fn rebind(&self, ifindex: u32) -> io::Result<()> {
        match self {
            Self::Uplink(sockets) => sockets.rebind(ifindex),
            Self::Packet(_) | Self::Shared(_) | Self::Tap(_) => {
                Err(io::ErrorKind::Unsupported.into())
            }
        }
    }

    /// The memory that frames lie in.
    pub(super) fn frame_ranges(&self) -> impl Iterator<Item = Range<*const u8>> {
        let tap = self.tap().map(Tap::frame_range);
        self.sockets().map(PacketSocket::ring_range).chain(tap)
    }

    /// Sends everything in `queue`.
    ///
    /// # Safety
    /// As for [`SendQueue::flush`].
    pub(super) unsafe fn flush(&mut self, queue: &mut SendQueue) {
        // SAFETY: the caller's promise is passed on.
        unsafe {
            match self {
                Self::Packet(socket) => queue.flush(socket.as_fd()),
                Self::Shared(rings) => rings.flush(queue),
                Self::Uplink(sockets) => sockets.flush(queue),
                Self::Tap(tap) => queue.flush_with(|bytes, offload| tap.send(bytes, offload)),
            }
        }
    }

    /// Frames lost since the last call because a ring was full. A TAP keeps no such count.
    pub(super) fn lost(&self) -> u64 {
        self.sockets().map(PacketSocket::lost).sum()
    }

    /// Memory that frames are received in, in bytes.
    pub(super) fn ring_bytes(&self) -> usize {
        let tap = self.tap().map(Tap::buffer_bytes);
        self.sockets()
            .map(PacketSocket::ring_bytes)
            .chain(tap)
            .sum()
    }

    /// File descriptors to wait for.
    pub(super) fn raw_fds(&self) -> impl Iterator<Item = RawFd> {
        let tap = self.tap().map(AsRawFd::as_raw_fd);
        self.sockets().map(AsRawFd::as_raw_fd).chain(tap)
    }

    fn sockets(&self) -> impl Iterator<Item = &PacketSocket> {
        let (alone, shared, uplink) = match self {
            Self::Packet(socket) => (Some(socket), None, None),
            Self::Shared(rings) => (None, Some(rings.sockets()), None),
            Self::Uplink(sockets) => (None, None, Some(sockets.sockets())),
            Self::Tap(_) => (None, None, None),
        };
        let shared = shared.into_iter().flatten();
        let uplink = uplink.into_iter().flatten();
        alone.into_iter().chain(shared).chain(uplink)
    }

    const fn tap(&self) -> Option<&Tap> {
        match self {
            Self::Tap(tap) => Some(tap),
            _ => None,
        }
    }
}
