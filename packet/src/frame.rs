//! A frame and what the kernel said about it.

/// What `struct virtio_net_hdr` carries beside a frame (`include/uapi/linux/virtio_net.h`): whether
/// its transport checksum is only half done, and whether it stands for many segments.
///
/// A *half-done* checksum field holds the folded pseudo-header sum, **not** complemented; the
/// receiver's kernel (or device) completes it over the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    flags: u8,
    gso_type: u8,
    /// Bytes of headers before the payload that is to be cut into segments; a hint.
    pub hdr_len: u16,
    /// Payload bytes per segment; zero when the frame is not a super-frame.
    pub gso_size: u16,
    /// Where summing starts, as an offset into the frame. Only meaningful when half-done.
    pub csum_start: u16,
    /// Where the checksum field lies, relative to `csum_start`.
    pub csum_offset: u16,
}

/// How a super-frame is cut into segments (`VIRTIO_NET_HDR_GSO_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// One UDP datagram per segment (`UDP_SEGMENT`).
    UdpDatagrams,
    /// One large UDP datagram to be fragmented (UFO), which old kernels produce.
    UdpFragments,
}

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_ECN: u8 = 0x80;

impl Offload {
    /// Size of the header on the wire between kernel and engine, in bytes.
    pub const LEN: usize = 10;

    /// A plain frame whose checksums are all in place.
    pub const NONE: Self = Self {
        flags: 0,
        gso_type: 0,
        hdr_len: 0,
        gso_size: 0,
        csum_start: 0,
        csum_offset: 0,
    };

    /// A frame whose transport checksum at `start + offset` is half done.
    pub const fn partial(start: u16, offset: u16) -> Self {
        Self {
            flags: NEEDS_CSUM,
            csum_start: start,
            csum_offset: offset,
            ..Self::NONE
        }
    }

    /// The same, standing for segments of `gso_size` payload bytes.
    pub const fn with_segments(self, kind: Segments, hdr_len: u16, gso_size: u16) -> Self {
        let gso_type = match kind {
            Segments::Tcp4 => 1,
            Segments::UdpFragments => 3,
            Segments::Tcp6 => 4,
            Segments::UdpDatagrams => 5,
        };
        Self {
            gso_type,
            hdr_len,
            gso_size,
            ..self
        }
    }

    /// Decodes the header as the kernel writes it (native byte order).
    pub fn decode(bytes: [u8; Self::LEN]) -> Self {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = bytes;
        Self {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            csum_start: u16::from_ne_bytes([s0, s1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        }
    }

    /// Encodes the header for sending. `DATA_VALID` is a receive-side remark and is left out.
    pub fn encode(self) -> [u8; Self::LEN] {
        let [h0, h1] = self.hdr_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.csum_start.to_ne_bytes();
        let [o0, o1] = self.csum_offset.to_ne_bytes();
        [
            self.flags & NEEDS_CSUM,
            self.gso_type,
            h0,
            h1,
            g0,
            g1,
            s0,
            s1,
            o0,
            o1,
        ]
    }

    /// The transport checksum is half done.
    pub const fn is_partial(self) -> bool {
        self.flags & NEEDS_CSUM != 0
    }

    /// The kernel or device has verified the transport checksum.
    pub const fn is_verified(self) -> bool {
        self.flags & DATA_VALID != 0
    }

    /// The same frame once its checksum has been completed in place.
    pub const fn completed(self) -> Self {
        Self {
            flags: self.flags & !NEEDS_CSUM,
            csum_start: 0,
            csum_offset: 0,
            ..self
        }
    }

    /// How the frame is to be cut, or `None` for a plain frame or a kind unknown to Pontoon.
    pub const fn segments(self) -> Option<Segments> {
        match self.gso_type & !GSO_ECN {
            1 => Some(Segments::Tcp4),
            3 => Some(Segments::UdpFragments),
            4 => Some(Segments::Tcp6),
            5 => Some(Segments::UdpDatagrams),
            _ => None,
        }
    }

    /// Stands for more than one segment.
    pub const fn is_super_frame(self) -> bool {
        self.gso_type != 0
    }

    /// Moves the checksum start by `bytes`, after a tag of that length was put into the frame.
    pub const fn shifted(self, bytes: u16) -> Self {
        let hdr_len = if self.hdr_len == 0 {
            0
        } else {
            self.hdr_len.saturating_add(bytes)
        };
        if self.is_partial() {
            Self {
                csum_start: self.csum_start.saturating_add(bytes),
                hdr_len,
                ..self
            }
        } else {
            Self { hdr_len, ..self }
        }
    }
}

/// A frame in memory: Ethernet header first, no frame check sequence.
#[derive(Debug)]
pub struct Frame<'a> {
    /// The bytes, from the destination MAC address on.
    pub bytes: &'a mut [u8],
    /// What came beside them.
    pub offload: Offload,
}

impl<'a> Frame<'a> {
    /// A plain frame whose checksums are all in place.
    pub fn plain(bytes: &'a mut [u8]) -> Self {
        Self {
            bytes,
            offload: Offload::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_survives_the_round_trip_but_for_the_receive_remark() {
        let offload = Offload::partial(34, 16).with_segments(Segments::Tcp4, 54, 1448);
        assert_eq!(Offload::decode(offload.encode()), offload);
        let verified = Offload::decode([2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(verified.is_verified());
        assert_eq!(verified.encode(), [0; 10]);
    }

    #[test]
    fn a_tag_moves_the_checksum_start() {
        let tagged = Offload::partial(34, 6).shifted(4);
        assert_eq!(tagged.csum_start, 38);
        assert_eq!(Offload::NONE.shifted(4), Offload::NONE);
    }
}
