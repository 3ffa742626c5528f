//! Namespaces: making the sandbox, and doing things inside namespaces.
//!
//! Entering a user namespace is one-way and asks for a single-threaded process, so everything that
//! has to happen inside happens in a forked child ([`in_child`]) that reports and ends.
#![allow(unsafe_code, reason = "fork, and the namespace ioctls")]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, getegid, geteuid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fdpass::Channel;
use super::nftables::Tables;
use super::shared_rings::SOCKETS;

/// What the process may do where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// It may make and change namespaces and interfaces here: root, or root of a user namespace.
    Administrator,
    /// It may not; a user namespace gives it that right elsewhere.
    Ordinary,
}

/// `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_SYS_ADMIN` (`include/uapi/linux/capability.h`).
const NEEDED_CAPABILITIES: u64 = 1 << 12 | 1 << 13 | 1 << 21;

impl Privilege {
    /// What this process may do, from its effective capabilities.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn of_this_process() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let effective = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        let all = effective & NEEDED_CAPABILITIES == NEEDED_CAPABILITIES;
        Ok(if all {
            Self::Administrator
        } else {
            Self::Ordinary
        })
    }
}

/// Which namespaces a child enters, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inside<'a> {
    /// A user namespace, to have rights in the others.
    pub user: Option<BorrowedFd<'a>>,
    /// A network namespace.
    pub net: Option<BorrowedFd<'a>>,
}

/// Enters namespaces. One-way for the calling thread.
///
/// # Errors
/// There is no right to enter, or the process has several threads.
pub fn enter(inside: Inside<'_>) -> io::Result<()> {
    if let Some(user) = inside.user {
        setns(user, CloneFlags::CLONE_NEWUSER)
            .map_err(|e| context("enter the user namespace", e))?;
    }
    if let Some(net) = inside.net {
        setns(net, CloneFlags::CLONE_NEWNET)
            .map_err(|e| context("enter the network namespace", e))?;
    }
    Ok(())
}

/// Runs `work` in a forked child and returns what it returns, with the descriptors it hands over.
/// The calling process must be single-threaded.
///
/// # Errors
/// The child's error, as text; or that it could not be made, died, or took longer than
/// [`CHILD_TIME`] and was killed.
pub fn in_child<T: Serialize + DeserializeOwned>(
    work: impl FnOnce() -> io::Result<(T, Vec<OwnedFd>)>,
) -> io::Result<(T, Vec<OwnedFd>)> {
    let (ours, theirs) = Channel::pair()?;
    // SAFETY: the process is single-threaded, so the child may do whatever the parent could.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(ours);
            let code = report(&theirs, work());
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            let answer = wait_for(&ours).and_then(|()| ours.receive::<Result<T, String>>());
            if answer.is_err() {
                // It may have ended already.
                let _ = kill(child, Signal::SIGKILL);
            }
            let _ = waitpid(child, None);
            match answer? {
                Some((Ok(value), fds)) => Ok((value, fds)),
                Some((Err(text), _)) => Err(io::Error::other(text)),
                None => Err(io::Error::other("the child process died")),
            }
        }
    }
}

/// Longest that a child may take, in milliseconds: a thousand times what it takes.
pub const CHILD_TIME: u16 = 10_000;

fn wait_for(child: &Channel) -> io::Result<()> {
    let mut fds = [PollFd::new(child.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::from(CHILD_TIME)) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the child process hung",
                ));
            }
            Ok(_) => return Ok(()),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn report<T: Serialize>(to: &Channel, outcome: io::Result<(T, Vec<OwnedFd>)>) -> i32 {
    let sent = match outcome {
        Ok((value, fds)) => {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            to.send(&Ok::<_, String>(value), &fds)
        }
        Err(error) => to.send(&Err::<(), _>(error.to_string()), &[]),
    };
    i32::from(sent.is_err())
}

/// The namespaces that hold the engine's ends of all containers' interfaces.
#[derive(Debug)]
pub struct Sandbox {
    /// The user namespace, when one had to be made.
    pub user: Option<OwnedFd>,
    /// The network namespace of the engine's ends.
    pub net: OwnedFd,
    /// The network namespace of an ordinary user's host port, apart from the engine's ends so that
    /// the kernel does not answer ARP there for an address that it has here.
    pub host_net: Option<OwnedFd>,
    /// Packet sockets of `net`, created with protocol 0: they hear nothing until they are bound. The
    /// interfaces are shared out among them.
    pub packets: Vec<OwnedFd>,
    /// A netlink socket of `net` that watches its links.
    pub watch: OwnedFd,
    /// A socket that speaks to the nf_tables of `net`, or why there is none.
    pub tables: Result<OwnedFd, String>,
}

impl Sandbox {
    /// Makes a sandbox.
    ///
    /// # Errors
    /// User namespaces are not allowed, or the kernel refuses one of the sockets.
    pub fn make(privilege: Privilege) -> io::Result<Self> {
        let (no_tables, fds) = in_child(|| {
            let mut fds = Vec::new();
            if privilege == Privilege::Ordinary {
                become_root_of_new_user_namespace()?;
                fds.push(File::open("/proc/self/ns/user")?.into());
            }
            new_network_namespace()?;
            fds.push(File::open("/proc/self/ns/net")?.into());
            for _ in 0..SOCKETS {
                fds.push(packet_socket()?);
            }
            fds.push(watch_links()?);
            let tables = Tables::open().map(Tables::into_fd);
            let no_tables = tables
                .as_ref()
                .err()
                .map(|e| format!("open a socket to nf_tables: {e}"));
            fds.extend(tables);
            if privilege == Privilege::Ordinary {
                new_network_namespace()?;
                bring_loopback_up()?;
                fds.push(File::open("/proc/self/ns/net")?.into());
            }
            Ok((no_tables, fds))
        })?;
        let mut fds = fds.into_iter();
        let mut next = || {
            fds.next()
                .ok_or_else(|| io::Error::other("a descriptor is missing"))
        };
        let user = if privilege == Privilege::Ordinary {
            Some(next()?)
        } else {
            None
        };
        let net = next()?;
        let packets = (0..SOCKETS).map(|_| next()).collect::<Result<_, _>>()?;
        let watch = next()?;
        let tables = match no_tables {
            None => Ok(next()?),
            Some(why) => Err(why),
        };
        let host_net = if privilege == Privilege::Ordinary {
            Some(next()?)
        } else {
            None
        };
        Ok(Self {
            user,
            net,
            host_net,
            packets,
            watch,
            tables,
        })
    }

    /// What to enter to be among the engine's ends.
    pub fn inside(&self) -> Inside<'_> {
        Inside {
            user: self.user.as_ref().map(AsFd::as_fd),
            net: Some(self.net.as_fd()),
        }
    }
}

/// Makes a user namespace in which the caller is root and nobody else exists (user_namespaces(7):
/// the one mapping that needs no help), and enters it.
///
/// # Errors
/// User namespaces are not allowed on this system, or the process has several threads.
pub fn become_root_of_new_user_namespace() -> io::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| {
        context(
            "make a user namespace (are unprivileged user namespaces allowed?)",
            e,
        )
    })?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Makes a network namespace and enters it.
///
/// # Errors
/// There is no right to.
pub fn new_network_namespace() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| context("make a network namespace", e))
}

/// A packet socket of the current network namespace that hears nothing yet.
///
/// # Errors
/// There is no right to (`CAP_NET_RAW`), or the kernel has no packet sockets.
pub fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are involved.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        let what = "open a packet socket (are they in the kernel, and allowed?)";
        return Err(context(what, nix::Error::last()));
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A netlink socket of the current network namespace that watches its links.
///
/// # Errors
/// The kernel refuses.
pub fn watch_links() -> io::Result<OwnedFd> {
    use super::netlink::{Netlink, Watch};
    Netlink::open(Watch::Links)
        .map(Netlink::into_fd)
        .map_err(io::Error::other)
}

/// Brings `lo` of the current network namespace up.
///
/// # Errors
/// There is no right to.
pub fn bring_loopback_up() -> io::Result<()> {
    use super::netlink::{Netlink, Watch};
    const LOOPBACK_INDEX: u32 = 1;
    let mut netlink = Netlink::open(Watch::Nothing).map_err(io::Error::other)?;
    netlink.set_up(LOOPBACK_INDEX).map_err(io::Error::other)
}

/// ioctl_ns(2).
mod ioctl {
    #![allow(missing_docs, reason = "generated by the macro")]
    nix::ioctl_none_bad!(ns_get_userns, nix::request_code_none!(0xb7, 0x1));
    nix::ioctl_none_bad!(ns_get_parent, nix::request_code_none!(0xb7, 0x2));
}

/// The user namespace that owns a namespace.
///
/// # Errors
/// It lies outside of the caller's own.
pub fn owner_of(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open; the call takes no pointer.
    let fd = unsafe { ioctl::ns_get_userns(namespace.as_raw_fd()) }
        .map_err(|e| context("find the owner of the network namespace", e))?;
    // SAFETY: the kernel has just made the descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the user namespace `inner` is `outer` or lies inside of it.
///
/// # Errors
/// A descriptor is not a namespace.
pub fn is_within(inner: BorrowedFd<'_>, outer: BorrowedFd<'_>) -> io::Result<bool> {
    let wanted = identity(outer)?;
    let mut current = inner.try_clone_to_owned()?;
    loop {
        if identity(current.as_fd())? == wanted {
            return Ok(true);
        }
        // SAFETY: the descriptor is open; the call takes no pointer.
        match unsafe { ioctl::ns_get_parent(current.as_raw_fd()) } {
            // SAFETY: the kernel has just made the descriptor for us.
            Ok(fd) => current = unsafe { OwnedFd::from_raw_fd(fd) },
            Err(_) => return Ok(false),
        }
    }
}

fn identity(namespace: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = nix::sys::stat::fstat(namespace)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn context(what: &str, error: nix::Error) -> io::Error {
    io::Error::new(
        io::Error::from(error).kind(),
        format!("{what}: {}", error.desc()),
    )
}
