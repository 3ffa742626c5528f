//! Two network namespaces joined by veth pairs: `p0 p1 …` where the test runs (the engine's side),
//! `c0 c1 …` in the other one (the containers' side), where plain packet sockets speak and listen.

use std::fs::{self, File};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use pontoon_engine::PortId;
use pontoon_engine::io::netlink::{Netlink, Watch};
use pontoon_engine::io::packet_socket::{Binding, Protocol, RingSize};
use pontoon_engine::io::shared_rings::{Hearing, SOCKETS};
use pontoon_engine::io::wire::{Outbox, SocketCounters, SocketId, Wire};
use pontoon_packet::{Frame, Offload};

const INSIDE: &str = "PONTOON_TEST_INSIDE";
/// How long a frame may take from one end to the other, in milliseconds.
const PATIENCE: i64 = 10_000;

/// Runs `body` in a user and network namespace of its own: the test `name` starts this program again
/// there, because a process with threads cannot enter a user namespace.
pub(crate) fn isolated(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let program = std::env::current_exe().expect("own path");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(program)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare (util-linux) is needed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(
        stdout.contains("1 passed"),
        "{name} is no test of this program: {stdout}"
    );
}

/// Runs `ip` with arguments separated by blanks.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(
        status.expect("ip (iproute2) is needed").success(),
        "ip {arguments}"
    );
}

/// A network namespace.
pub(crate) struct Namespace(File);

impl Namespace {
    /// Makes one.
    pub(crate) fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            silence();
            File::open("/proc/thread-self/ns/net").expect("own namespace")
        });
        Self(made.join().expect("namespace thread"))
    }

    /// Runs `f` on a thread inside.
    pub(crate) fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("enter");
                f()
            });
            inside.join().expect("thread inside")
        })
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// No IPv6, so that the kernel says nothing on new interfaces.
fn silence() {
    for which in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
        fs::write(path, "1").expect("IPv6 can be switched off");
    }
}

/// The engine's side, which hears every port, and the containers' ends.
pub(crate) struct Bench {
    pub(crate) wire: Wire,
    pub(crate) socket: SocketId,
    pub(crate) peers: Vec<Peer>,
    pub(crate) outside: Namespace,
}

impl Bench {
    /// Makes `ports` veth pairs, heard as a sandbox's are; port n is `PortId(n)`.
    pub(crate) fn new(ports: u32) -> Self {
        Self::hearing(ports, |wire| {
            let sockets = (0..SOCKETS).map(|_| packet_socket()).collect();
            wire.add_shared(sockets, Hearing::Everything)
        })
    }

    /// The same, heard by one socket with one ring.
    pub(crate) fn with_one_ring(ports: u32, size: RingSize) -> Self {
        Self::hearing(ports, |wire| {
            wire.add_socket(
                packet_socket(),
                Binding::AllInterfaces(Protocol::Everything),
                size,
            )
        })
    }

    fn hearing(ports: u32, hear: impl FnOnce(&mut Wire) -> io::Result<SocketId>) -> Self {
        silence();
        let outside = Namespace::new();
        let mut wire = Wire::new();
        for n in 0..ports {
            ip(&format!(
                "link add p{n} mtu 65535 type veth peer name c{n} mtu 65535"
            ));
            ip(&format!("link set c{n} netns {}", outside.path()));
            ip(&format!("link set p{n} up"));
        }
        let peers = outside.enter(|| (0..ports).map(|n| Peer::new(&format!("c{n}"))).collect());
        (0..ports).for_each(|n| await_carrier(&format!("p{n}")));
        outside.enter(|| (0..ports).for_each(|n| await_carrier(&format!("c{n}"))));
        let socket = hear(&mut wire).expect("rings");
        for n in 0..ports {
            wire.add_port(PortId(n), socket, index(&format!("p{n}")));
        }
        Self {
            wire,
            socket,
            peers,
            outside,
        }
    }

    /// Sends every frame that comes in by port 0 out of port 1, until `frames` have come.
    pub(crate) fn cross(&mut self, frames: usize) {
        use pontoon_engine::Transmit;
        self.pump(frames, |_, frame, out| out.forward(PortId(1), frame));
    }

    /// Hands `frames` frames to `each`.
    pub(crate) fn pump(
        &mut self,
        frames: usize,
        mut each: impl FnMut(PortId, &mut Frame<'_>, &mut Outbox),
    ) {
        let end = std::time::Instant::now() + std::time::Duration::from_millis(PATIENCE as u64);
        let mut count = 0;
        while count < frames {
            assert!(
                std::time::Instant::now() < end,
                "{count} of {frames} frames came"
            );
            count += self.wire.pump(self.socket, &mut each);
        }
        assert_eq!(count, frames);
    }

    /// Takes what has come. Says how many frames of each port were heard.
    pub(crate) fn drain(&mut self) -> Vec<usize> {
        let mut heard = vec![0; self.peers.len()];
        let mut each = |PortId(port), _: &mut Frame<'_>, _: &mut Outbox| heard[port as usize] += 1;
        while self.wire.pump(self.socket, &mut each) > 0 {}
        heard
    }

    /// Counters of the socket that hears every port.
    pub(crate) fn counters(&mut self) -> SocketCounters {
        self.wire.counters().swap_remove(self.socket.0)
    }
}

/// Waits until the kernel sends what it is given for an interface. Of a pair, the end that was set up
/// first gets a carrier with the other one, and drops everything until the kernel has looked after that.
pub(crate) fn await_carrier(name: &str) {
    let mut netlink = Netlink::open(Watch::Nothing).expect("a socket");
    let end = std::time::Instant::now() + std::time::Duration::from_millis(PATIENCE as u64);
    while !netlink.link(name).expect("an interface").running {
        assert!(std::time::Instant::now() < end, "{name} has no carrier");
        thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Index of an interface of the calling thread's namespace.
pub(crate) fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).expect("interface")
}

/// A packet socket that hears nothing yet.
pub(crate) fn packet_socket() -> OwnedFd {
    // SAFETY: no pointers; the descriptor is checked and owned by nobody else.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "packet socket: {}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    }
}

/// A container's end: a packet socket without ring, read one message at a time.
pub(crate) struct Peer(OwnedFd);

impl Peer {
    /// Brings `name` up and listens there.
    pub(crate) fn new(name: &str) -> Self {
        ip(&format!("link set {name} up"));
        let fd = packet_socket();
        for option in [libc::PACKET_VNET_HDR, libc::PACKET_AUXDATA, 23] {
            set_option(&fd, libc::SOL_PACKET, option, &1_i32);
        }
        let patience = libc::timeval {
            tv_sec: PATIENCE / 1000,
            tv_usec: 0,
        };
        set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &patience);
        // SAFETY: all-zero is a valid address; pointer and length describe it.
        let bound = unsafe {
            let mut address: libc::sockaddr_ll = zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            address.sll_ifindex = index(name) as i32;
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        assert_eq!(bound, 0, "bind: {}", io::Error::last_os_error());
        Self(fd)
    }

    /// Sends a frame.
    pub(crate) fn send(&self, bytes: &[u8], offload: Offload) {
        let message = [&offload.encode()[..], bytes].concat();
        let sent = nix::unistd::write(&self.0, &message);
        assert_eq!(sent, Ok(message.len()));
    }

    /// The next frame, with the tag that the kernel has taken out put back.
    pub(crate) fn receive(&self) -> Option<(Vec<u8>, Offload)> {
        let mut bytes = vec![0_u8; 1 << 18];
        let mut control = [0_u64; 16];
        // SAFETY: all-zero is a valid header; its pointers describe `bytes` and `control`, and the
        // kernel's control messages are walked as cmsg(3) says.
        let (len, aux) = unsafe {
            let mut part = libc::iovec {
                iov_base: bytes.as_mut_ptr().cast(),
                iov_len: bytes.len(),
            };
            let mut header: libc::msghdr = zeroed();
            header.msg_iov = &raw mut part;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&control);
            let len = libc::recvmsg(self.0.as_raw_fd(), &raw mut header, 0);
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            let len = usize::try_from(len).ok()?;
            (
                len,
                libc::CMSG_DATA(first)
                    .cast::<libc::tpacket_auxdata>()
                    .read_unaligned(),
            )
        };
        bytes.truncate(len);
        let mut frame = bytes.split_off(Offload::LEN);
        let mut offload = Offload::decode(bytes.try_into().expect("header"));
        if aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
            let tag = [
                aux.tp_vlan_tpid.to_be_bytes(),
                aux.tp_vlan_tci.to_be_bytes(),
            ]
            .concat();
            frame.splice(12..12, tag);
            offload = offload.shifted(4);
        }
        Some((frame, offload))
    }

    /// Asserts that nothing comes for a while.
    pub(crate) fn hears_nothing(&self) {
        let wait = libc::timeval {
            tv_sec: 0,
            tv_usec: 100_000,
        };
        set_option(&self.0, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &wait);
        let heard = self.receive();
        assert!(heard.is_none(), "heard {heard:02x?}");
    }
}

fn set_option<T>(fd: &OwnedFd, level: i32, option: i32, value: &T) {
    let (value, len) = (std::ptr::from_ref(value).cast(), size_of::<T>() as u32);
    // SAFETY: pointer and length describe `value`, which the kernel only reads.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value, len) };
    assert_eq!(result, 0, "option {option}: {}", io::Error::last_os_error());
}
