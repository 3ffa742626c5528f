//! `AF_PACKET` sockets with a receive ring.
//!
//! Before working on this file read packet(7) and Linux `net/packet/af_packet.c` (`tpacket_rcv`,
//! `packet_snd`). A slot of the ring looks like this, all offsets from its start:
//!
//! ```text
//! 0         32             …            tp_mac−10        tp_mac
//! tpacket2  sockaddr_ll    headroom     virtio_net_hdr   frame (tp_snaplen bytes)
//! ```
//!
//! The kernel takes the outer VLAN tag out of the frame and reports it beside it; it is put back here,
//! into the headroom. Slots are used in order; a slot belongs to the engine from the moment its status
//! says so until `PacketSocket::release`.
//!
//! A socket may outlive the engine that made its ring, and be taken over by another one with everything
//! that it has heard meanwhile. What that one has to know lies in the ring itself: how many slots were
//! taken in all, in the first slot behind the address, where nobody writes; and in each slot whether it
//! was taken, in the padding of its header, which the kernel clears. A frame that was taken is never
//! looked at again: it may have been edited, and it may have been what the engine has died of.
#![allow(
    unsafe_code,
    reason = "packet rings have no safe interface: set-up, mapping, status words"
)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use pontoon_packet::{Frame, Offload};

/// Bytes of one block, which the kernel allocates in one piece (or by vmalloc); holds whole slots.
const BLOCK: usize = 1 << 20;
/// Room in front of a frame to put a VLAN tag back (4 bytes, rounded to the ring's alignment).
const HEADROOM: c_int = 16;
/// Send buffer asked for, in bytes; the kernel gives at most `net.core.wmem_max`. Super-frames count
/// in it until their receiver has taken them.
const SEND_BUFFER: c_int = 4 << 20;

/// How much a socket can hold before frames are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize {
    /// Bytes of one slot, with the kernel's headers and headroom.
    slot: usize,
    /// Blocks of 1 MiB.
    blocks: usize,
}

impl RingSize {
    /// A super-frame of 64 KiB with Ethernet header and tags, in whole pages.
    const SUPER_FRAME: usize = 68 << 10;
    /// 240 slots for super-frames in 16 MiB.
    pub const LARGE: Self = Self {
        slot: Self::SUPER_FRAME,
        blocks: 16,
    };
    /// 1024 slots for frames of common size in 2 MiB.
    pub const SMALL: Self = Self {
        slot: 2 << 10,
        blocks: 2,
    };
    /// 30 slots for super-frames of other protocols than IPv4 in 2 MiB.
    pub const REST_LARGE: Self = Self {
        slot: Self::SUPER_FRAME,
        blocks: 2,
    };
    /// 512 slots for other frames of theirs in 1 MiB.
    pub const REST_SMALL: Self = Self {
        slot: 2 << 10,
        blocks: 1,
    };
    /// 60 slots for super-frames in 4 MiB, for a socket of a single port.
    pub const SINGLE: Self = Self {
        slot: Self::SUPER_FRAME,
        blocks: 4,
    };

    /// Kernel memory of the ring, in bytes.
    pub const fn bytes(self) -> usize {
        self.blocks * BLOCK
    }

    /// Frames that it can hold.
    pub const fn slots(self) -> usize {
        self.blocks * self.slots_per_block()
    }

    const fn slots_per_block(self) -> usize {
        BLOCK / self.slot
    }

    /// Where a slot begins, in bytes from the start of the ring.
    const fn offset(self, number: usize) -> usize {
        let at = number % self.slots();
        at / self.slots_per_block() * BLOCK + at % self.slots_per_block() * self.slot
    }
}

/// Which interfaces a socket hears, and what of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// All of its namespace.
    AllInterfaces(Protocol),
    /// The one with this index.
    Interface(u32, Protocol),
    /// None yet: the one that it is to hear is gone.
    Nothing,
}

/// Which frames of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// All, before the kernel does anything with them.
    Everything,
    /// IPv4, what is left of it once the kernel has had a look. Tags are taken out of it.
    Ipv4,
    /// ARP, in the same place.
    Arp,
}

impl Protocol {
    const fn number(self) -> u16 {
        match self {
            Self::Everything => libc::ETH_P_ALL as u16,
            Self::Ipv4 => libc::ETH_P_IP as u16,
            Self::Arp => libc::ETH_P_ARP as u16,
        }
    }
}

/// A frame in the ring, and where it came from.
#[derive(Debug)]
pub struct Received<'a> {
    /// Index of the interface it came in by.
    pub ifindex: u32,
    /// The frame.
    pub frame: Frame<'a>,
}

/// What is known of a frame before it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// When the kernel put it there: seconds and nanoseconds of its clock.
    pub(super) at: (u32, u32),
    /// Index of the interface it came in by.
    pub(super) ifindex: u32,
}

/// Why a slot holds no frame that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The kernel cut the frame to fit into the slot.
    Truncated,
}

/// A packet socket with its ring.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    ring: NonNull<u8>,
    size: RingSize,
    /// Slots taken in all; the next slot is this modulo their number.
    taken: usize,
    /// Slots given back in all.
    released: usize,
}

// SAFETY: the ring is memory that this value alone uses; nothing in it depends on the thread.
unsafe impl Send for PacketSocket {}

impl PacketSocket {
    /// Makes a ring on `fd`, a packet socket that was created with protocol 0 (so that nothing is
    /// queued yet), and starts to hear. A ring that an engine before this one has made is taken over.
    ///
    /// # Errors
    /// The kernel refuses an option, the ring's memory, or the binding.
    pub fn open(fd: OwnedFd, binding: Binding, size: RingSize) -> io::Result<Self> {
        let version = libc::tpacket_versions::TPACKET_V2 as c_int;
        match set_option(fd.as_fd(), libc::PACKET_VERSION, &version) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                return Self::take_over(fd, binding, size);
            }
            other => other?,
        }
        set_option(fd.as_fd(), libc::PACKET_RESERVE, &HEADROOM)?;
        set_option(fd.as_fd(), libc::PACKET_VNET_HDR, &1)?;
        set_option(fd.as_fd(), PACKET_IGNORE_OUTGOING, &1)?;
        set_option(fd.as_fd(), libc::PACKET_QDISC_BYPASS, &1)?;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: size.blocks as u32,
            tp_frame_size: size.slot as u32,
            tp_frame_nr: size.slots() as u32,
        };
        set_option(fd.as_fd(), libc::PACKET_RX_RING, &request)?;
        setsockopt(&fd, sockopt::SndBuf, &(SEND_BUFFER as usize))?;
        let socket = Self::map(fd, size)?;
        bind(&socket.fd, binding)?;
        Ok(socket)
    }

    /// Goes on where an engine before this one has ended, with a ring of this size.
    fn take_over(fd: OwnedFd, binding: Binding, size: RingSize) -> io::Result<Self> {
        let mut socket = Self::map(fd, size)?;
        if !is_shared_out(&socket.fd) {
            match bind(&socket.fd, binding) {
                // Gone since it was looked for, which whoever watches it is told of.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                bound => bound?,
            }
        }
        socket.taken = socket.position().load(Ordering::Relaxed) as usize;
        while socket.was_taken(socket.taken) {
            socket.taken += 1;
        }
        socket.released = socket.taken;
        while socket.released > 0
            && socket.taken - socket.released < size.slots()
            && socket.was_taken(socket.released - 1)
        {
            socket.released -= 1;
        }
        socket.release();
        Ok(socket)
    }

    /// Hears another interface from now on: one that has come in the place of the one before, or the same
    /// after it was away. Does nothing when it is heard already.
    ///
    /// # Errors
    /// There is no interface with this index.
    pub fn rebind(&self, ifindex: u32, protocol: Protocol) -> io::Result<()> {
        if bound_to(&self.fd)? == ifindex {
            return Ok(());
        }
        // That the one before is gone is known; the next message that is sent would fail of it.
        let _ = getsockopt(&self.fd, sockopt::SocketError);
        bind(&self.fd, Binding::Interface(ifindex, protocol))
    }

    fn map(fd: OwnedFd, size: RingSize) -> io::Result<Self> {
        let ring = map(&fd, size.bytes())?;
        Ok(Self {
            fd,
            ring,
            size,
            taken: 0,
            released: 0,
        })
    }

    /// Whether the next slot holds a frame. Costs no system call.
    pub fn is_ready(&self) -> bool {
        self.holds_frame(self.taken)
    }

    fn holds_frame(&self, number: usize) -> bool {
        number - self.released < self.size.slots()
            && self.status(number).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// The next frame, if there is one.
    pub(super) fn head(&self) -> Option<Head> {
        if !self.is_ready() {
            return None;
        }
        let (header, ifindex) = self.described(self.taken);
        Some(Head {
            at: (header.tp_sec, header.tp_nsec),
            ifindex,
        })
    }

    /// What the kernel says of a slot, which must hold a frame, and the interface that this came in by.
    fn described(&self, number: usize) -> (libc::tpacket2_hdr, u32) {
        let slot = self.slot(number);
        // SAFETY: the status said that the slot is the engine's, and `Acquire` ordered its contents
        // before; the header is at its start and the slot is aligned to its size.
        let header = unsafe { slot.cast::<libc::tpacket2_hdr>().read() };
        // SAFETY: the kernel writes the address behind the header, aligned to 16 bytes.
        let address = unsafe { slot.add(ADDRESS).cast::<libc::sockaddr_ll>().read() };
        (header, address.sll_ifindex as u32)
    }

    /// How many slots were taken in all: what the next engine is to know.
    fn position(&self) -> &AtomicU64 {
        // SAFETY: it lies in the first slot between address and frame, aligned, where the kernel writes
        // nothing and no frame is put.
        unsafe { AtomicU64::from_ptr(self.ring.add(POSITION).cast().as_ptr()) }
    }

    fn mark(&self, number: usize) -> &AtomicU32 {
        // SAFETY: the padding lies in the header of a slot, aligned; the kernel clears it with the rest of
        // the header, before it hands the slot over.
        unsafe { AtomicU32::from_ptr(self.slot(number).add(MARK).cast().as_ptr()) }
    }

    /// Whether a frame that is not given back yet was taken from a slot.
    fn was_taken(&self, number: usize) -> bool {
        let status = self.status(number).load(Ordering::Acquire);
        status & libc::TP_STATUS_USER != 0 && self.mark(number).load(Ordering::Relaxed) != 0
    }

    /// The bytes of the frames in the next slots, as the kernel put them there (without a tag).
    pub(super) fn upcoming(&self) -> impl Iterator<Item = &[u8]> {
        (self.taken..)
            .take_while(|number| self.holds_frame(*number))
            .map(|number| {
                let (slot, (header, _)) = (self.slot(number), self.described(number));
                let (start, len) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
                assert!(start + len <= self.size.slot, "slot header out of range");
                // SAFETY: the range lies in the slot, which stays the engine's until it is released,
                // for which `self` must be borrowed mutably.
                unsafe { std::slice::from_raw_parts(slot.add(start).as_ptr(), len) }
            })
    }

    /// Takes the next slot. The frame may be used until `release`.
    pub(super) fn next(&mut self) -> Option<Result<Received<'_>, Unusable>> {
        if !self.is_ready() {
            return None;
        }
        let (slot, size) = (self.slot(self.taken), self.size.slot);
        let (header, ifindex) = self.described(self.taken);
        self.mark(self.taken).store(1, Ordering::Relaxed);
        self.taken += 1;
        self.position().store(self.taken as u64, Ordering::Relaxed);
        // Whatever is done with the frame is done after that, as an engine after this one will see it.
        compiler_fence(Ordering::SeqCst);
        if header.tp_snaplen < header.tp_len {
            return Some(Err(Unusable::Truncated));
        }
        let (start, len) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
        assert!(
            start >= ADDRESS + Offload::LEN && start + len <= size,
            "slot header out of range"
        );
        // SAFETY: the range lies in the slot, which is the engine's until it is released, and `self`
        // is borrowed as long as the frame is.
        let room = unsafe {
            std::slice::from_raw_parts_mut(slot.add(ADDRESS + 20).as_ptr(), size - ADDRESS - 20)
        };
        let start = start - ADDRESS - 20;
        let frame = unpack(room, start, len, &header);
        Some(Ok(Received { ifindex, frame }))
    }

    /// Gives all slots that were taken back to the kernel.
    pub(super) fn release(&mut self) {
        while self.released < self.taken {
            self.status(self.released)
                .store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.released += 1;
        }
    }

    /// The memory that frames lie in.
    pub(super) fn ring_range(&self) -> std::ops::Range<*const u8> {
        let start = self.ring.as_ptr().cast_const();
        start..start.wrapping_add(self.size.bytes())
    }

    /// Frames lost since the last call because the ring was full.
    pub fn lost(&self) -> u64 {
        let mut stats = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: pointer and length describe `stats`, which the kernel fills.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut len,
            )
        };
        if result == 0 {
            u64::from(stats.tp_drops)
        } else {
            0
        }
    }

    /// Kernel memory of the ring, in bytes.
    pub const fn ring_bytes(&self) -> usize {
        self.size.bytes()
    }

    fn slot(&self, number: usize) -> NonNull<u8> {
        // SAFETY: the offset of a slot lies inside the mapping.
        unsafe { self.ring.add(self.size.offset(number)) }
    }

    fn status(&self, number: usize) -> &AtomicU32 {
        // SAFETY: the status is the first word of a slot, aligned, and shared with the kernel, which
        // accesses it as a whole word too.
        unsafe { AtomicU32::from_ptr(self.slot(number).cast().as_ptr()) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for PacketSocket {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length and nobody else unmaps it.
        unsafe { libc::munmap(self.ring.as_ptr().cast(), self.size.bytes()) };
    }
}

/// Where the kernel puts the address: behind the header, aligned to `TPACKET_ALIGNMENT`.
const ADDRESS: usize = size_of::<libc::tpacket2_hdr>().next_multiple_of(16);
/// Where the first slot says how many were taken: behind the address, before the offload header.
const POSITION: usize = (ADDRESS + size_of::<libc::sockaddr_ll>()).next_multiple_of(8);
/// Where each slot's header has its padding.
const MARK: usize = std::mem::offset_of!(libc::tpacket2_hdr, tp_padding);
/// Not in every libc; `include/uapi/linux/if_packet.h`.
const PACKET_IGNORE_OUTGOING: c_int = 23;
const VLAN_TAG: usize = 4;

/// The frame at `start` of `room`, with its tag put back and its offload header decoded.
fn unpack<'a>(
    room: &'a mut [u8],
    start: usize,
    len: usize,
    header: &libc::tpacket2_hdr,
) -> Frame<'a> {
    let mut vnet = [0; Offload::LEN];
    vnet.copy_from_slice(&room[start - Offload::LEN..start]);
    let offload = Offload::decode(vnet);
    if header.tp_status & libc::TP_STATUS_VLAN_VALID == 0 || len < 12 {
        return Frame {
            bytes: &mut room[start..start + len],
            offload,
        };
    }
    let known = header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let tpid: u16 = if known { header.tp_vlan_tpid } else { 0x8100 };
    room.copy_within(start..start + 12, start - VLAN_TAG);
    room[start + 8..start + 10].copy_from_slice(&tpid.to_be_bytes());
    room[start + 10..start + 12].copy_from_slice(&header.tp_vlan_tci.to_be_bytes());
    Frame {
        bytes: &mut room[start - VLAN_TAG..start + len],
        offload: offload.shifted(VLAN_TAG as u16),
    }
}

pub(super) fn set_option<T>(fd: BorrowedFd<'_>, option: c_int, value: &T) -> io::Result<()> {
    set_option_at(fd, libc::SOL_PACKET, option, value)
}

/// Has the kernel pass by what a filter returns 0 for.
pub(super) fn attach_filter(
    fd: BorrowedFd<'_>,
    filter: &mut [libc::sock_filter],
) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    set_option_at(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn set_option_at<T>(fd: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether the socket is one of a group ([`super::shared_rings`]) already. Such a one stays bound.
pub(super) fn is_shared_out(fd: &impl AsFd) -> bool {
    let mut group: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: pointer and length describe `group`, which the kernel fills.
    let result = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_FANOUT,
            (&raw mut group).cast(),
            &raw mut len,
        )
    };
    result == 0 && group != 0
}

fn map(fd: &OwnedFd, len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a fresh shared mapping of the socket's ring; no existing memory is replaced.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd.as_raw_fd(),
            0,
        )
    };
    match NonNull::new(address.cast()) {
        Some(ring) if address != libc::MAP_FAILED => Ok(ring),
        _ => Err(io::Error::last_os_error()),
    }
}

fn bind(fd: &OwnedFd, binding: Binding) -> io::Result<()> {
    let (index, protocol) = match binding {
        Binding::AllInterfaces(protocol) => (0, protocol),
        Binding::Interface(index, protocol) => (index, protocol),
        Binding::Nothing => return Ok(()),
    };
    let address = link_address(index, protocol.number());
    // SAFETY: pointer and length describe `address`, which the kernel only reads.
    let result = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Index of the interface that a socket hears: 0 for all, and no interface's when that one is gone.
fn bound_to(fd: &OwnedFd) -> io::Result<u32> {
    let mut address = link_address(0, 0);
    let mut len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: pointer and length describe `address`, which the kernel fills as far as it has an address.
    let result =
        unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut len) };
    if result == 0 {
        Ok(address.sll_ifindex as u32)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The address of an interface, as packet sockets use it.
pub(super) const fn link_address(index: u32, protocol: u16) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}
