//! A TAP interface, for a host port where no veth can be had.
//!
//! The descriptor was opened through the crate `tun-tap` (`Mode::Tap`, without packet information),
//! which cannot ask for `IFF_VNET_HDR`: the kernel finishes what it hands out, and what goes in is
//! finished here ([`segment`]). Linux `drivers/net/tun.c`.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use pontoon_packet::{Frame, Offload, segment};

use super::packet_socket::Received;
use super::wire::TAP_INDEX;

/// Largest frame: the largest MTU (65 535), Ethernet header and two VLAN tags.
const LARGEST: usize = 65_535 + 14 + 8;
/// Bytes of frames that are held at a time: more than a batch of full Ethernet frames, or three of
/// the largest.
const BUFFER: usize = 256 << 10;
/// Frames begin at multiples of this.
const ALIGNMENT: usize = 64;

/// A TAP interface and the frames read from it.
#[derive(Debug)]
pub(super) struct Tap {
    fd: OwnedFd,
    buffer: Box<[u8]>,
    /// Bytes of the buffer that are in use until [`release`](Self::release).
    used: usize,
    /// The last read found nothing: there is nothing to do before the next event.
    empty: bool,
    /// Where segments are built.
    room: Vec<u8>,
}

impl Tap {
    /// Takes over a descriptor of `/dev/net/tun` that has its interface.
    ///
    /// # Errors
    /// The descriptor cannot be made non-blocking.
    pub(super) fn open(fd: OwnedFd) -> io::Result<Self> {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Ok(Self {
            fd,
            buffer,
            used: 0,
            empty: true,
            room: Vec::new(),
        })
    }

    /// Whether the last read found a frame, so that there may be more.
    pub(super) const fn is_ready(&self) -> bool {
        !self.empty
    }

    /// Reads the next frame. It may be used until [`release`](Self::release).
    pub(super) fn next(&mut self) -> Option<Received<'_>> {
        let free = &mut self.buffer[self.used..];
        if free.len() < LARGEST {
            return None;
        }
        // Whatever goes wrong, down included, is over when the interface speaks again.
        let len = nix::unistd::read(&self.fd, free).unwrap_or(0);
        self.empty = len == 0;
        if self.empty {
            return None;
        }
        self.used += len.next_multiple_of(ALIGNMENT);
        let frame = Frame {
            bytes: &mut free[..len],
            offload: Offload::NONE,
        };
        Some(Received {
            ifindex: TAP_INDEX,
            frame,
        })
    }

    /// Makes room for the next batch.
    pub(super) fn release(&mut self) {
        self.used = 0;
    }

    /// The memory that frames lie in.
    pub(super) fn frame_range(&self) -> Range<*const u8> {
        self.buffer.as_ptr_range()
    }

    /// Memory that frames are received in, in bytes.
    pub(super) const fn buffer_bytes(&self) -> usize {
        BUFFER
    }

    /// Writes a frame as often as its segments ask for.
    ///
    /// # Errors
    /// The first refusal; `EINVAL` for a super-frame that cannot be cut.
    pub(super) fn send(&mut self, bytes: &[u8], offload: Offload) -> Result<(), Errno> {
        let Self { fd, room, .. } = self;
        let mut result = Ok(());
        let cut = segment::segments(bytes, offload, room, |bytes| {
            if result.is_ok() {
                result = nix::unistd::write(&*fd, bytes).map(|_| ());
            }
        });
        cut.map_err(|_| Errno::EINVAL).and(result)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use pontoon_packet::build::Packet;
    use pontoon_packet::{MacAddr, Segments};

    use super::*;

    /// A datagram socket keeps the limits of messages as a TAP does, and needs no right.
    fn pair() -> (Tap, UnixDatagram) {
        let (tap, kernel) = UnixDatagram::pair().expect("sockets");
        kernel.set_nonblocking(true).expect("non-blocking");
        (Tap::open(tap.into()).expect("tap"), kernel)
    }

    fn tcp(payload: &[u8]) -> Packet {
        let (a, b) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO)
            .ipv4(a, b)
            .tcp(1, 2, 16, 0, 0)
            .payload(payload)
    }

    fn written(kernel: &UnixDatagram) -> Vec<Vec<u8>> {
        let mut bytes = [0; 4096];
        std::iter::from_fn(|| {
            kernel
                .recv(&mut bytes)
                .ok()
                .map(|len| bytes[..len].to_vec())
        })
        .collect()
    }

    #[test]
    fn frames_of_a_batch_lie_side_by_side() {
        let (mut tap, kernel) = pair();
        let sent = [vec![1; 60], vec![2; 1514]];
        sent.iter()
            .for_each(|frame| assert_eq!(kernel.send(frame).ok(), Some(frame.len())));
        let range = tap.frame_range();
        for expected in &sent {
            let received = tap.next().expect("a frame");
            assert_eq!(received.frame.bytes, expected);
            assert!(range.contains(&received.frame.bytes.as_ptr()));
        }
        assert!(tap.is_ready());
        assert!(tap.next().is_none());
        assert!(!tap.is_ready());
        assert_eq!(
            (&tap.buffer[..60], &tap.buffer[64..1578]),
            (&sent[0][..], &sent[1][..])
        );
    }

    #[test]
    fn full_buffer_ends_the_batch_and_loses_nothing() {
        let (mut tap, kernel) = pair();
        let mut taken = 0;
        for _ in 0..6 {
            kernel.send(&[7; 60_000]).expect("sent");
            taken += usize::from(tap.next().is_some());
        }
        assert_eq!(taken, 4);
        assert!(tap.is_ready());
        tap.release();
        while tap.next().is_some() {
            taken += 1;
        }
        assert_eq!(taken, 6);
    }

    #[test]
    fn super_frame_is_written_as_segments_with_whole_checksums() {
        let (mut tap, kernel) = pair();
        let (bytes, offload) = tcp(&[5; 1500]).half_done();
        assert_eq!(
            tap.send(&bytes, offload.with_segments(Segments::Tcp4, 54, 1000)),
            Ok(())
        );
        let written = written(&kernel);
        assert_eq!(written[0], tcp(&[5; 1000]).build());
        assert_eq!(
            written.iter().map(Vec::len).collect::<Vec<_>>(),
            [1054, 554]
        );
    }

    #[test]
    fn refusal_and_nonsense_are_errors() {
        let (mut tap, kernel) = pair();
        let nonsense = Offload::NONE.with_segments(Segments::Tcp6, 54, 1000);
        assert_eq!(tap.send(&tcp(&[]).build(), nonsense), Err(Errno::EINVAL));
        drop(kernel);
        assert_eq!(
            tap.send(&tcp(&[]).build(), Offload::NONE),
            Err(Errno::ECONNREFUSED)
        );
    }
}
