//! The packet sockets of an uplink, which the host uses too.
//!
//! ```text
//! IPv4 ─► one ring: what the kernel has not carried, and had no tag
//! ARP ──► another: what neighbours say of themselves
//! ```
//!
//! Nothing else of the host's traffic is heard.
#![allow(unsafe_code, reason = "hands on a promise about ring memory")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::packet_socket::{
    Binding, PacketSocket, Protocol, Received, RingSize, Unusable, attach_filter,
};
use super::shared_rings::step;
use super::transmit::SendQueue;

/// Sockets of an uplink.
pub const SOCKETS: usize = 2;

/// Sockets of one interface that are one source of frames.
#[derive(Debug)]
pub(super) struct UplinkSockets {
    ipv4: PacketSocket,
    arp: PacketSocket,
    /// Whether the last frame was the latter's: they take turns.
    was_arp: bool,
}

impl UplinkSockets {
    /// Starts to hear an interface by these sockets, which were created with protocol 0, or goes on with what
    /// an engine before this one has made of them. Without an interface they wait for one.
    ///
    /// # Errors
    /// There are not [`SOCKETS`] of them, or the kernel refuses a ring, the filter or a binding.
    pub(super) fn open(fds: Vec<OwnedFd>, ifindex: Option<u32>) -> io::Result<Self> {
        let wrong = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let [ipv4, arp] = <[OwnedFd; SOCKETS]>::try_from(fds).map_err(wrong)?;
        let binding = |protocol| {
            ifindex.map_or(Binding::Nothing, |index| {
                Binding::Interface(index, protocol)
            })
        };
        for socket in [&ipv4, &arp] {
            attach_filter(socket.as_fd(), &mut ours())?;
        }
        Ok(Self {
            ipv4: PacketSocket::open(ipv4, binding(Protocol::Ipv4), RingSize::LARGE)?,
            arp: PacketSocket::open(arp, binding(Protocol::Arp), RingSize::REST_SMALL)?,
            was_arp: false,
        })
    }

    /// Hears another interface from now on.
    ///
    /// # Errors
    /// As for [`PacketSocket::rebind`].
    pub(super) fn rebind(&self, ifindex: u32) -> io::Result<()> {
        self.arp.rebind(ifindex, Protocol::Arp)?;
        self.ipv4.rebind(ifindex, Protocol::Ipv4)
    }

    /// Whether there is a frame. Costs no system call.
    pub(super) fn is_ready(&self) -> bool {
        self.sockets().any(PacketSocket::is_ready)
    }

    /// Takes the next frame.
    pub(super) fn next(&mut self) -> Option<Result<Received<'_>, Unusable>> {
        self.was_arp = self.arp.is_ready() && !(self.was_arp && self.ipv4.is_ready());
        if self.was_arp {
            self.arp.next()
        } else {
            self.ipv4.next()
        }
    }

    /// The bytes of the datagrams that come next.
    pub(super) fn upcoming(&self) -> impl Iterator<Item = &[u8]> {
        self.ipv4.upcoming()
    }

    /// Gives all slots that were taken back to the kernel.
    pub(super) fn release(&mut self) {
        self.ipv4.release();
        self.arp.release();
    }

    /// Sends everything in `queue`.
    ///
    /// # Safety
    /// As for [`SendQueue::flush`].
    pub(super) unsafe fn flush(&self, queue: &mut SendQueue) {
        // SAFETY: the caller's promise is passed on.
        unsafe { queue.flush(self.ipv4.as_fd()) };
    }

    /// Both of them.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &PacketSocket> {
        [&self.ipv4, &self.arp].into_iter()
    }
}

/// Passes by what is for somebody else: so the kernel marks what had a tag when it takes that out.
fn ours() -> [libc::sock_filter; 4] {
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    /// `SKF_AD_OFF + SKF_AD_PKTTYPE` (`include/uapi/linux/filter.h`).
    const KIND: u32 = 0xffff_f000 + 4;
    [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, KIND),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            libc::PACKET_OTHERHOST as u32,
        ),
        step(RETURN, 0, 0),
        step(RETURN, 0, u32::MAX),
    ]
}
