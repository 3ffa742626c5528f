//! The packet sockets of a sandbox, which share out among themselves what they hear.
//!
//! One ring for all containers would be simple, and unfair: its slots have to hold super-frames, so there
//! are few of them, and a container that sends small frames faster than the engine takes them overruns it
//! for everybody. So the sockets are a group (`packet(7)`, `PACKET_FANOUT`), each with a ring of its own,
//! and a filter says who hears a frame:
//!
//! ```text
//! longer than SMALL ──► large: 240 slots for super-frames, of all interfaces
//! others ─────────────► small[interface mod SHARES]: 1024 slots each
//! ```
//!
//! Rings are served in turn. Frames of one interface keep their order: the kernel finishes with one before
//! it takes the next and stamps each, so of the two rings that an interface can be heard by, the one with
//! the older frame is next.
#![allow(unsafe_code, reason = "hands on a promise about ring memory")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::packet_socket::{
    Binding, PacketSocket, Protocol, Received, RingSize, Unusable, attach_filter, is_shared_out,
    set_option,
};
use super::transmit::SendQueue;

/// Rings for small frames. A flood overruns the ring of a quarter of the containers.
const SHARES: usize = 4;
/// Sockets of a group.
const GROUP: usize = 1 + SHARES;
/// Sockets of a sandbox: two groups.
pub const SOCKETS: usize = 2 * GROUP;
/// Frames from one ring before another has its turn.
const TURN: usize = 16;
/// Longest datagram, in bytes, that a small slot holds with the kernel's headers, tags and headroom.
const SMALL: u32 = 1856;
/// Not in every libc; `include/uapi/linux/if_packet.h`. A group hears outgoing frames unless it is told
/// not to, whatever its members were told.
const PACKET_FANOUT_FLAG_IGNORE_OUTGOING: c_int = 0x4000;

/// What the sockets of a namespace hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// Everything, by the first group of sockets.
    Everything,
    /// IPv4 by the first group, which is asked after the kernel has carried what it can; everything else, and
    /// what has a tag, by the second, which is asked before.
    Apart,
}

/// Sockets of one namespace that are one source of frames.
#[derive(Debug)]
pub(super) struct SharedRings {
    first: Group,
    second: Option<Group>,
    /// Which of them has its turn.
    is_second_s: bool,
}

impl SharedRings {
    /// Starts to hear all interfaces of the namespace by these sockets, which were created with protocol 0,
    /// or goes on with what an engine before this one has made of them.
    ///
    /// # Errors
    /// There are not [`SOCKETS`] of them, or the kernel refuses a ring, a filter, a binding or a group.
    pub(super) fn open(mut fds: Vec<OwnedFd>, hearing: Hearing) -> io::Result<Self> {
        if fds.len() != SOCKETS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let second = fds.split_off(GROUP);
        let (first, second) = match hearing {
            Hearing::Everything => (Group::open(fds, Share::EVERYTHING)?, None),
            Hearing::Apart => (
                Group::open(fds, Share::IPV4)?,
                Some(Group::open(second, Share::REST)?),
            ),
        };
        Ok(Self {
            first,
            second,
            is_second_s: false,
        })
    }

    /// Whether there is a frame. Costs no system call.
    pub(super) fn is_ready(&self) -> bool {
        self.groups().any(Group::is_ready)
    }

    /// Takes the next frame: of either group in turn.
    pub(super) fn next(&mut self) -> Option<Result<Received<'_>, Unusable>> {
        let second = self.second.as_ref().is_some_and(Group::is_ready);
        self.is_second_s = second && (!self.is_second_s || !self.first.is_ready());
        match &mut self.second {
            Some(second) if self.is_second_s => second.next(),
            _ => self.first.next(),
        }
    }

    /// The bytes of the small frames that come next.
    pub(super) fn upcoming(&self) -> impl Iterator<Item = &[u8]> {
        self.first.upcoming()
    }

    /// Gives all slots that were taken back to the kernel.
    pub(super) fn release(&mut self) {
        self.first.release();
        self.second.iter_mut().for_each(Group::release);
    }

    /// Sends everything in `queue`.
    ///
    /// # Safety
    /// As for [`SendQueue::flush`].
    pub(super) unsafe fn flush(&self, queue: &mut SendQueue) {
        // SAFETY: the caller's promise is passed on.
        unsafe { queue.flush(self.first.large.as_fd()) };
    }

    /// All of them.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &PacketSocket> {
        self.groups().flat_map(Group::rings)
    }

    fn groups(&self) -> impl Iterator<Item = &Group> {
        std::iter::once(&self.first).chain(&self.second)
    }
}

/// What a group of sockets hears, and how.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// Tells groups of one namespace apart.
    number: c_int,
    binding: Binding,
    large: RingSize,
    small: RingSize,
    /// Leaves untagged IPv4 to the other group.
    is_rest: bool,
}

impl Share {
    const EVERYTHING: Self = Self {
        number: 1,
        binding: Binding::AllInterfaces(Protocol::Everything),
        large: RingSize::LARGE,
        small: RingSize::SMALL,
        is_rest: false,
    };
    const IPV4: Self = Self {
        binding: Binding::AllInterfaces(Protocol::Ipv4),
        ..Self::EVERYTHING
    };
    const REST: Self = Self {
        number: 2,
        large: RingSize::REST_LARGE,
        small: RingSize::REST_SMALL,
        is_rest: true,
        ..Self::EVERYTHING
    };
}

/// Sockets that share what they hear.
#[derive(Debug)]
struct Group {
    large: PacketSocket,
    small: Vec<PacketSocket>,
    /// Whose turn it is, and for how many frames more.
    turn: usize,
    left: usize,
}

/// One of the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ring {
    Large,
    Small(usize),
}

impl Group {
    fn open(fds: Vec<OwnedFd>, share: Share) -> io::Result<Self> {
        let sizes = std::iter::once(share.large).chain(std::iter::repeat(share.small));
        let open = |(fd, size): (OwnedFd, RingSize)| {
            if share.is_rest {
                attach_filter(fd.as_fd(), &mut leave_ipv4())?;
            }
            PacketSocket::open(fd, share.binding, size)
        };
        let sockets = fds.into_iter().zip(sizes).map(open);
        let mut sockets = sockets.collect::<io::Result<Vec<_>>>()?;
        join(&sockets, share.number)?;
        Ok(Self {
            large: sockets.remove(0),
            small: sockets,
            turn: 0,
            left: TURN,
        })
    }

    /// Whether there is a frame. Costs no system call.
    fn is_ready(&self) -> bool {
        self.rings().any(PacketSocket::is_ready)
    }

    /// Takes the next frame.
    fn next(&mut self) -> Option<Result<Received<'_>, Unusable>> {
        self.pass_turn();
        match self.choose()? {
            Ring::Large => self.large.next(),
            Ring::Small(at) => {
                self.left = self.left.saturating_sub(1);
                self.small[at].next()
            }
        }
    }

    /// The bytes of the small frames that come next.
    fn upcoming(&self) -> impl Iterator<Item = &[u8]> {
        self.small[self.turn].upcoming()
    }

    /// Gives all slots that were taken back to the kernel.
    fn release(&mut self) {
        self.large.release();
        self.small.iter_mut().for_each(PacketSocket::release);
    }

    fn rings(&self) -> impl Iterator<Item = &PacketSocket> {
        std::iter::once(&self.large).chain(&self.small)
    }

    /// Goes on to a ring that holds a frame when this one is empty or has had its turn.
    fn pass_turn(&mut self) {
        if self.left > 0 && self.small[self.turn].is_ready() {
            return;
        }
        let others = (1..=SHARES).map(|step| (self.turn + step) % SHARES);
        if let Some(next) = others.into_iter().find(|at| self.small[*at].is_ready()) {
            (self.turn, self.left) = (next, TURN);
        }
    }

    /// The ring with the next frame. A large frame is looked for after a small one, and what may stand
    /// before it after that: in each case, what was there before the other is seen.
    fn choose(&self) -> Option<Ring> {
        let small = self.small[self.turn].head();
        let Some(large) = self.large.head() else {
            return small.map(|_| Ring::Small(self.turn));
        };
        if small.is_some_and(|small| small.at <= large.at) {
            return Some(Ring::Small(self.turn));
        }
        let share = large.ifindex as usize % SHARES;
        match self.small[share].head() {
            Some(before) if before.at <= large.at => Some(Ring::Small(share)),
            _ => Some(Ring::Large),
        }
    }
}

/// Lets sockets share what they hear: long frames go to the first, others to the rest by interface.
fn join(sockets: &[PacketSocket], number: c_int) -> io::Result<()> {
    let kind = libc::PACKET_FANOUT_CBPF as c_int | PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
    for socket in sockets.iter().filter(|socket| !is_shared_out(*socket)) {
        set_option(socket.as_fd(), libc::PACKET_FANOUT, &(number | kind << 16))?;
    }
    let mut program = share_out();
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    set_option(sockets[0].as_fd(), libc::PACKET_FANOUT_DATA, &program)
}

/// Passes by what has no tag and is IPv4.
fn leave_ipv4() -> [libc::sock_filter; 6] {
    const HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    const EQUALS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    /// `SKF_AD_OFF` and what lies there (`include/uapi/linux/filter.h`).
    const PROTOCOL: u32 = 0xffff_f000;
    const HAS_TAG: u32 = 0xffff_f000 + 48;
    [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, HAS_TAG),
        step(EQUALS, 2, 0),
        step(HALF, 0, PROTOCOL),
        jump(EQUALS, 1, libc::ETH_P_IP as u32),
        step(RETURN, 0, u32::MAX),
        step(RETURN, 0, 0),
    ]
}

/// Returns the place of the socket in the group (`net/packet/af_packet.c`, `fanout_demux_bpf`).
fn share_out() -> [libc::sock_filter; 7] {
    const LD: u32 = libc::BPF_LD | libc::BPF_W;
    /// `SKF_AD_OFF + SKF_AD_IFINDEX` (`include/uapi/linux/filter.h`).
    const INTERFACE: u32 = 0xffff_f000 + 8;
    [
        step(LD | libc::BPF_LEN, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, SMALL),
        step(libc::BPF_RET | libc::BPF_K, 0, 0),
        step(LD | libc::BPF_ABS, 0, INTERFACE),
        step(
            libc::BPF_ALU | libc::BPF_AND | libc::BPF_K,
            0,
            SHARES as u32 - 1,
        ),
        step(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, 0, 1),
        step(libc::BPF_RET | libc::BPF_A, 0, 0),
    ]
}

/// An instruction, which passes over `jf` others when it compares in vain.
pub(super) const fn step(code: u32, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    }
}

/// The same, which passes over `jt` others when it does not.
const fn jump(code: u32, jt: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf: 0,
        k,
    }
}
