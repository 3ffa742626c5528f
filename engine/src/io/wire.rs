//! Ports and sockets: who hears whom.
//!
//! A port is a pair of a socket and an interface index. One batch goes like this:
//!
//! ```text
//! take up to BATCH slots of one socket → process each → flush the queues of all sockets → give the slots back
//! ```
//!
//! A frame that was heard by one socket may be queued at any other, by reference to the ring it lies
//! in; that is why all queues are flushed before the slots are given back, and why both live here.
#![allow(
    unsafe_code,
    reason = "promises the send queues that ring memory outlives the flush"
)]

use std::io;
use std::ops::Range;
use std::os::fd::{OwnedFd, RawFd};

use ahash::RandomState;
use hashbrown::HashMap;
use pontoon_nat::{AHEAD, ConnId};
use pontoon_packet::{Facts, Frame, Offload};
use pontoon_relay::Arena;

use super::device::Device;
use super::packet_socket::{Binding, PacketSocket, RingSize};
use super::shared_rings::{Hearing, SharedRings};
use super::tap::Tap;
use super::transmit::SendQueue;
use super::uplink_sockets::UplinkSockets;
use crate::{PortId, Transmit};

/// Frames taken from one socket before everything they caused is sent. Our choice: enough that a batch
/// costs few system calls, little enough that the first frame of it does not wait for long.
pub const BATCH: usize = 64;

/// The interface index of a TAP's port, which needs none: a descriptor is one interface.
pub const TAP_INDEX: u32 = 0;

/// Names a socket as long as it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub usize);

#[derive(Clone, Copy, Debug)]
struct Place {
    socket: SocketId,
    ifindex: u32,
}

struct Endpoint {
    device: Device,
    ports: HashMap<u32, PortId, RandomState>,
    /// Frames that came in by an interface that is no port, or did not fit into a slot.
    unheard: u64,
    truncated: u64,
    lost: u64,
}

/// Where frames are put while a batch is under way.
#[derive(Debug)]
pub struct Outbox {
    queues: Vec<SendQueue>,
    places: Vec<Option<Place>>,
    /// Where the frames of the batch under way lie until it is flushed.
    stable: Vec<Range<*const u8>>,
}

// SAFETY: the pointers of the range are only compared, never followed.
unsafe impl Send for Outbox {}

impl Outbox {
    fn place(&self, port: PortId) -> Option<Place> {
        self.places.get(port.0 as usize).copied().flatten()
    }
}

impl Transmit for Outbox {
    fn forward(&mut self, port: PortId, frame: &Frame<'_>) {
        let start = frame.bytes.as_ptr();
        if !self.stable.iter().any(|range| range.contains(&start)) {
            self.emit(port, frame.bytes, frame.offload);
        } else if let Some(place) = self.place(port) {
            self.queues[place.socket.0].push_ring(place.ifindex, frame.bytes, frame.offload);
        }
    }

    fn emit(&mut self, port: PortId, bytes: &[u8], offload: Offload) {
        if let Some(place) = self.place(port) {
            self.queues[place.socket.0].push_copy(place.ifindex, bytes, offload);
        }
    }

    /// Does nothing: a wire has no host sockets. Whoever has them passes frames through a value that
    /// knows both.
    fn deliver(&mut self, _: ConnId, _: PortId, _: &Frame<'_>, _: &Facts) {}
}

/// Who handles frames, one at a time, in the order in which they came.
pub trait Consumer {
    /// Handles one.
    fn take(&mut self, port: PortId, frame: &mut Frame<'_>, out: &mut Outbox);

    /// Sees the bytes of those that come next, before every [`AHEAD`] frames.
    fn anticipate<'a>(&mut self, _upcoming: impl Iterator<Item = &'a [u8]>) {}
}

impl<F: FnMut(PortId, &mut Frame<'_>, &mut Outbox)> Consumer for F {
    fn take(&mut self, port: PortId, frame: &mut Frame<'_>, out: &mut Outbox) {
        self(port, frame, out);
    }
}

/// Counters of one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketCounters {
    /// Frames lost because the ring was full.
    pub lost: u64,
    /// Frames that did not fit into a slot.
    pub truncated: u64,
    /// Frames from interfaces that are no ports.
    pub unheard: u64,
    /// Messages that the kernel did not take, by errno.
    pub refused: Vec<(i32, u64)>,
    /// Memory of the ring, in bytes.
    pub ring_bytes: usize,
}

/// All sockets and ports of an engine.
pub struct Wire {
    endpoints: Vec<Option<Endpoint>>,
    outbox: Outbox,
    /// Interfaces of the sandbox by which the kernel reaches ports that lie elsewhere.
    reached: Vec<(PortId, u32)>,
}

impl Default for Wire {
    fn default() -> Self {
        Self::new()
    }
}

impl Wire {
    /// No sockets.
    pub fn new() -> Self {
        let outbox = Outbox {
            queues: Vec::new(),
            places: Vec::new(),
            stable: Vec::new(),
        };
        Self {
            endpoints: Vec::new(),
            outbox,
            reached: Vec::new(),
        }
    }

    /// Starts to hear a packet socket.
    ///
    /// # Errors
    /// The kernel refuses the ring or the binding.
    pub fn add_socket(
        &mut self,
        fd: OwnedFd,
        binding: Binding,
        size: RingSize,
    ) -> io::Result<SocketId> {
        Ok(self.add(Device::Packet(PacketSocket::open(fd, binding, size)?)))
    }

    /// Starts to hear all interfaces of a namespace by packet sockets that are one.
    ///
    /// # Errors
    /// There are not [`super::shared_rings::SOCKETS`] of them, or the kernel refuses a ring, a binding or the group.
    pub fn add_shared(&mut self, fds: Vec<OwnedFd>, hearing: Hearing) -> io::Result<SocketId> {
        Ok(self.add(Device::Shared(SharedRings::open(fds, hearing)?)))
    }

    /// Starts to hear an uplink by packet sockets that are one; without an interface it waits for one.
    ///
    /// # Errors
    /// There are not [`super::uplink_sockets::SOCKETS`] of them, or the kernel refuses a ring or a binding.
    pub fn add_uplink(&mut self, fds: Vec<OwnedFd>, ifindex: Option<u32>) -> io::Result<SocketId> {
        Ok(self.add(Device::Uplink(UplinkSockets::open(fds, ifindex)?)))
    }

    /// Starts to hear a TAP interface. Its one port has the interface index [`TAP_INDEX`].
    ///
    /// # Errors
    /// The descriptor cannot be made non-blocking.
    pub fn add_tap(&mut self, fd: OwnedFd) -> io::Result<SocketId> {
        Ok(self.add(Device::Tap(Tap::open(fd)?)))
    }

    fn add(&mut self, device: Device) -> SocketId {
        let endpoint = Endpoint {
            device,
            // Interface indices are the kernel's to choose: nobody can aim at the table.
            ports: HashMap::with_hasher(RandomState::with_seeds(0, 0, 0, 0)),
            unheard: 0,
            truncated: 0,
            lost: 0,
        };
        let free = self.endpoints.iter().position(Option::is_none);
        let at = free.unwrap_or(self.endpoints.len());
        if at == self.endpoints.len() {
            self.endpoints.push(None);
            self.outbox.queues.push(SendQueue::default());
        }
        self.endpoints[at] = Some(endpoint);
        self.outbox.queues[at] = SendQueue::default();
        SocketId(at)
    }

    /// Closes a socket and forgets its ports.
    pub fn remove_socket(&mut self, id: SocketId) {
        if let Some(place) = self.endpoints.get_mut(id.0) {
            *place = None;
        }
        for place in &mut self.outbox.places {
            *place = place.filter(|place| place.socket != id);
        }
    }

    /// Lets a port be another interface, heard by the same socket.
    ///
    /// # Errors
    /// There is no interface with this index; the port is none then.
    pub fn rebind(&mut self, port: PortId, socket: SocketId, ifindex: u32) -> io::Result<()> {
        self.remove_port(port);
        if let Some(endpoint) = self.endpoint_mut(socket) {
            endpoint.device.rebind(ifindex)?;
            self.add_port(port, socket, ifindex);
        }
        Ok(())
    }

    /// Notes that a port is the interface `ifindex`, heard by `socket`.
    pub fn add_port(&mut self, port: PortId, socket: SocketId, ifindex: u32) {
        let at = port.0 as usize;
        if self.outbox.places.len() <= at {
            self.outbox.places.resize(at + 1, None);
        }
        self.outbox.places[at] = Some(Place { socket, ifindex });
        if let Some(endpoint) = self.endpoint_mut(socket) {
            endpoint.ports.insert(ifindex, port);
        }
    }

    /// Forgets a port.
    pub fn remove_port(&mut self, port: PortId) {
        let Some(place) = self
            .outbox
            .places
            .get_mut(port.0 as usize)
            .and_then(Option::take)
        else {
            return;
        };
        if let Some(endpoint) = self.endpoint_mut(place.socket) {
            endpoint.ports.remove(&place.ifindex);
        }
    }

    /// Notes by which interface of the sandbox the kernel reaches a port that lies elsewhere; `None`: by none.
    pub(super) fn reach(&mut self, port: PortId, ifindex: Option<u32>) {
        self.reached.retain(|(other, _)| *other != port);
        self.reached.extend(ifindex.map(|ifindex| (port, ifindex)));
    }

    /// Index of the interface of the sandbox that a port is, or is reached by.
    pub(super) fn carriage_ifindex(&self, port: PortId) -> Option<u32> {
        let reached = self.reached.iter().find(|(other, _)| *other == port);
        reached
            .map(|(_, ifindex)| *ifindex)
            .or_else(|| self.shared_ifindex(port))
    }

    /// The port that an interface of the sandbox is, or leads to.
    pub(super) fn carriage_port(&self, ifindex: u32) -> Option<PortId> {
        let reached = self.reached.iter().find(|(_, other)| *other == ifindex);
        let shared = |endpoint: &&Endpoint| matches!(endpoint.device, Device::Shared(_));
        reached.map(|(port, _)| *port).or_else(|| {
            let endpoint = self.endpoints.iter().flatten().find(shared)?;
            endpoint.ports.get(&ifindex).copied()
        })
    }

    /// Index of the interface of the sandbox that a port is, if it is one.
    fn shared_ifindex(&self, port: PortId) -> Option<u32> {
        let place = self.outbox.place(port)?;
        let endpoint = self.endpoints.get(place.socket.0)?.as_ref()?;
        matches!(endpoint.device, Device::Shared(_)).then_some(place.ifindex)
    }

    /// File descriptors of a socket, to wait for.
    pub fn raw_fds(&self, id: SocketId) -> Vec<RawFd> {
        let endpoint = self.endpoints.get(id.0).and_then(Option::as_ref);
        let fds = endpoint.map(|endpoint| endpoint.device.raw_fds());
        fds.into_iter().flatten().collect()
    }

    /// Numbers of sockets are below this.
    pub fn places(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether any socket has a frame waiting. Costs no system call.
    pub fn is_ready(&self) -> bool {
        self.endpoints
            .iter()
            .flatten()
            .any(|endpoint| endpoint.device.is_ready())
    }

    /// Takes one batch from one socket. Says how many frames it held.
    pub fn pump(&mut self, id: SocketId, consumer: &mut impl Consumer) -> usize {
        let Some(endpoint) = self.endpoints.get_mut(id.0).and_then(Option::as_mut) else {
            return 0;
        };
        self.outbox.stable.clear();
        self.outbox.stable.extend(endpoint.device.frame_ranges());
        let mut count = 0;
        while count < BATCH {
            if count.is_multiple_of(AHEAD) {
                consumer.anticipate(endpoint.device.upcoming());
            }
            let Some(received) = endpoint.device.next() else {
                break;
            };
            count += 1;
            let Ok(mut received) = received else {
                endpoint.truncated += 1;
                continue;
            };
            match endpoint.ports.get(&received.ifindex) {
                Some(port) => consumer.take(*port, &mut received.frame, &mut self.outbox),
                None => endpoint.unheard += 1,
            }
        }
        self.flush();
        if let Some(endpoint) = self.endpoint_mut(id) {
            endpoint.device.release();
        }
        count
    }

    /// Lets the engine send on its own account.
    pub fn send(&mut self, with: impl FnOnce(&mut Outbox)) {
        self.outbox.stable.clear();
        with(&mut self.outbox);
        self.flush();
    }

    /// Sends frames that lie in `arena`, which does not move, each after `each` has passed it.
    pub(super) fn send_arena(
        &mut self,
        arena: &mut Arena,
        mut each: impl FnMut(&mut Frame<'_>, &mut Outbox),
    ) {
        self.outbox.stable.clear();
        self.outbox.stable.push(arena.range());
        for mut frame in arena.frames() {
            each(&mut frame, &mut self.outbox);
        }
        self.flush();
        arena.clear();
    }

    /// Counters of every open socket.
    pub fn counters(&mut self) -> Vec<SocketCounters> {
        let queues = &self.outbox.queues;
        let endpoints = self.endpoints.iter_mut().zip(queues);
        endpoints
            .filter_map(|(endpoint, queue)| {
                let endpoint = endpoint.as_mut()?;
                endpoint.lost += endpoint.device.lost();
                Some(SocketCounters {
                    lost: endpoint.lost,
                    truncated: endpoint.truncated,
                    unheard: endpoint.unheard,
                    refused: queue.refused().collect(),
                    ring_bytes: endpoint.device.ring_bytes(),
                })
            })
            .collect()
    }

    fn flush(&mut self) {
        for (endpoint, queue) in self.endpoints.iter_mut().zip(&mut self.outbox.queues) {
            if let Some(endpoint) = endpoint {
                // SAFETY: queued memory belongs to the batch under way: the slots of a ring, which `pump`
                // gives back only after this, or an arena, which `send_arena` borrows until after this.
                unsafe { endpoint.device.flush(queue) };
            }
        }
    }

    fn endpoint_mut(&mut self, id: SocketId) -> Option<&mut Endpoint> {
        self.endpoints.get_mut(id.0)?.as_mut()
    }
}
