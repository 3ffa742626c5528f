//! The device that smoltcp sees: one datagram in, any number out.

use core::num::{NonZeroU16, NonZeroUsize};

use pontoon_packet::Timestamp;
use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, PacketMeta, RxToken,
    SegmentationCapabilities, TxToken,
};
use smoltcp::time::Instant;

use crate::recovery::Recovery;
use crate::segment::Segment;

/// Largest IP datagram that is made, headers included. With its Ethernet header it must stay below
/// Linux' `GSO_LEGACY_MAX_SIZE` of 65 536 bytes: a longer one would be cut into small frames before
/// it has left, and overflow its receiver's queue.
const LARGEST: usize = 65_535 - 14;

/// Where datagrams go.
pub trait Emit {
    /// Whether a datagram of the largest size can be taken. What cannot be sent waits for the next
    /// [`transmit`](crate::Connection::transmit).
    fn has_room(&self) -> bool;

    /// Sends an IP datagram of `len` bytes, which `fill` writes into a zeroed or a dirty buffer. With
    /// `gso` it stands for segments of so many payload bytes each. The transport checksum is left out.
    fn emit<R>(&mut self, len: usize, gso: Option<u16>, fill: impl FnOnce(&mut [u8]) -> R) -> R;
}

/// What both sides agree on.
pub(crate) fn capabilities(mtu: u16) -> DeviceCapabilities {
    let mut segmentation = SegmentationCapabilities::default();
    segmentation.tcpv4 = NonZeroUsize::new(LARGEST);
    let mut checksum = ChecksumCapabilities::ignored();
    checksum.ipv4 = Checksum::Tx;
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = usize::from(mtu);
    capabilities.checksum = checksum;
    capabilities.segmentation = segmentation;
    capabilities
}

/// One visit to the wire.
pub(crate) struct Wire<'a, E> {
    pub(crate) now: Timestamp,
    pub(crate) incoming: Option<&'a [u8]>,
    pub(crate) out: &'a mut E,
    pub(crate) recovery: &'a mut Recovery,
    pub(crate) mtu: u16,
}

impl<E> Wire<'_, E> {
    fn outgoing(&mut self) -> Outgoing<'_, E> {
        Outgoing {
            now: self.now,
            out: self.out,
            recovery: self.recovery,
            gso: None,
        }
    }
}

impl<E: Emit> Device for Wire<'_, E> {
    type RxToken<'b>
        = Incoming<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Outgoing<'b, E>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_, E>)> {
        let datagram = self.incoming.take()?;
        Some((Incoming(datagram), self.outgoing()))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_, E>> {
        self.out.has_room().then(|| self.outgoing())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}

pub(crate) struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(crate) struct Outgoing<'a, E> {
    now: Timestamp,
    out: &'a mut E,
    recovery: &'a mut Recovery,
    gso: Option<NonZeroU16>,
}

impl<E: Emit> Outgoing<'_, E> {
    /// Sends what of a datagram the container lacks. What there is no room for is as good as lost.
    fn sift(&mut self, datagram: &[u8]) {
        let Some(segment) = Segment::read(datagram) else {
            return;
        };
        let gso = self.gso.map(NonZeroU16::get);
        for part in self.recovery.sift(self.now, &segment) {
            if !self.out.has_room() {
                break;
            }
            let (headers, payload) = segment.size_of(&part);
            let gso = gso.filter(|size| payload > usize::from(*size));
            (self.out).emit(headers + payload, gso, |into| {
                segment.cut(datagram, &part, into);
            });
        }
    }
}

impl<E: Emit> TxToken for Outgoing<'_, E> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, len: usize, f: F) -> R {
        if self.recovery.goes_back() {
            let mut datagram = vec![0; len];
            let result = f(&mut datagram);
            self.sift(&datagram);
            return result;
        }
        let gso = self.gso.map(NonZeroU16::get);
        self.out.emit(len, gso, |datagram| {
            let result = f(datagram);
            if let Some(segment) = Segment::read(datagram) {
                self.recovery.note(self.now, &segment, gso);
            }
            result
        })
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.gso = meta.segmentation_offload_size;
    }
}

/// A place where nothing may be sent to, for making an interface.
pub(crate) struct Nowhere;

impl Emit for Nowhere {
    fn has_room(&self) -> bool {
        true
    }

    fn emit<R>(&mut self, len: usize, _: Option<u16>, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        fill(&mut vec![0; len])
    }
}
