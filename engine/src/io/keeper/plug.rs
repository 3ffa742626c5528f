//! Making interfaces: what runs in the keeper's children.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use pontoon_packet::MacAddr;

use super::protocol::Plug;
use crate::io::namespace::{
    Inside, Privilege, Sandbox, enter, in_child, is_within, new_network_namespace, owner_of,
    packet_socket, watch_links,
};
use crate::io::netlink::{Link, Netlink, NetlinkError, VethEnd, Watch};

/// An interface that was made.
#[derive(Debug)]
pub(super) struct Plugged {
    /// Index of the engine's end.
    pub(super) ifindex: u32,
    /// Set when the engine's end lies in a namespace of its own.
    pub(super) foreign: Option<Foreign>,
}

/// A little namespace inside somebody else's user namespace.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) packet: OwnedFd,
    pub(super) watch: OwnedFd,
    pub(super) user: OwnedFd,
    pub(super) net: OwnedFd,
}

/// Connects `target` with the sandbox.
///
/// # Errors
/// A name or an address is taken there, or there is no right to the namespace. Nothing is left behind.
pub(super) fn plug(
    sandbox: &Sandbox,
    privilege: Privilege,
    target: BorrowedFd<'_>,
    spec: &Plug,
) -> io::Result<Plugged> {
    match foreign_owner(sandbox, privilege, target)? {
        None => {
            let (ifindex, _) = in_child(|| {
                enter(sandbox.inside())?;
                Ok((connect(target, spec)?, Vec::new()))
            })?;
            Ok(Plugged {
                ifindex,
                foreign: None,
            })
        }
        Some(owner) => plug_foreign(owner, target, spec),
    }
}

fn plug_foreign(owner: OwnedFd, target: BorrowedFd<'_>, spec: &Plug) -> io::Result<Plugged> {
    let (ifindex, fds) = in_child(|| {
        enter(Inside {
            user: Some(owner.as_fd()),
            net: None,
        })?;
        new_network_namespace()?;
        let net = std::fs::File::open("/proc/self/ns/net")?.into();
        let (packet, watch) = (packet_socket()?, watch_links()?);
        Ok((connect(target, spec)?, vec![packet, watch, net]))
    })?;
    let [packet, watch, net] =
        <[OwnedFd; 3]>::try_from(fds).map_err(|_| io::Error::other("a descriptor is missing"))?;
    Ok(Plugged {
        ifindex,
        foreign: Some(Foreign {
            packet,
            watch,
            user: owner,
            net,
        }),
    })
}

/// The owner of a namespace over which the sandbox's user namespace has no power.
///
/// # Errors
/// The keeper has none over it either.
fn foreign_owner(
    sandbox: &Sandbox,
    privilege: Privilege,
    target: BorrowedFd<'_>,
) -> io::Result<Option<OwnedFd>> {
    let (Privilege::Ordinary, Some(user)) = (privilege, &sandbox.user) else {
        return Ok(None);
    };
    let owner = owner_of(target)?;
    if is_within(owner.as_fd(), user.as_fd())? {
        return Ok(None);
    }
    let own = std::fs::File::open("/proc/self/ns/user")?;
    if is_within(own.as_fd(), owner.as_fd())? {
        let what = "the network namespace belongs to where Pontoon was started, and there it has no \
                    rights; make one of your own (unshare -Urn), or run Pontoon as root";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    Ok(Some(owner))
}

/// Makes the pair, with one end in the current namespace, and sets both up. Leaves the child in
/// `target`.
fn connect(target: BorrowedFd<'_>, spec: &Plug) -> io::Result<u32> {
    let mut here = Netlink::open(Watch::Nothing).map_err(io::Error::other)?;
    let mac: MacAddr = spec.mac.parse().map_err(io::Error::other)?;
    here.add_veth(
        VethEnd {
            name: &spec.host_ifname,
            mac: None,
        },
        VethEnd {
            name: &spec.ifname,
            mac: Some(mac),
        },
        target,
        spec.mtu,
    )
    .map_err(explain)?;
    let ifindex = here
        .link(&spec.host_ifname)
        .map_err(io::Error::other)?
        .index;
    let configured = here
        .suppress_link_local(ifindex)
        .and_then(|()| here.set_up(ifindex))
        .map_err(io::Error::other)
        .and_then(|()| {
            enter(Inside {
                user: None,
                net: Some(target),
            })
        })
        .and_then(|()| configure(spec).map_err(io::Error::other));
    if let Err(error) = configured {
        // The first error is the one to tell; the pair must go in any case.
        let _ = here.delete(ifindex);
        return Err(error);
    }
    Ok(ifindex)
}

fn explain(error: NetlinkError) -> io::Error {
    match error.source.raw_os_error() {
        Some(libc::EEXIST) => io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!(
                "{}: an interface of that name exists already",
                error.operation
            ),
        ),
        Some(libc::EPERM) => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{}: no right to the namespace (it must belong to you)",
                error.operation
            ),
        ),
        _ => io::Error::other(error),
    }
}

fn configure(spec: &Plug) -> Result<(), NetlinkError> {
    const LOOPBACK_INDEX: u32 = 1;
    let mut there = Netlink::open(Watch::Nothing)?;
    there.set_up(LOOPBACK_INDEX)?;
    let link = there.link(&spec.ifname)?;
    there.suppress_link_local(link.index)?;
    for address in &spec.addresses {
        there.add_address(link.index, *address)?;
    }
    there.set_up(link.index)?;
    if let Some(gateway) = spec.gateway {
        there.add_default_route(link.index, gateway)?;
    }
    Ok(())
}

/// Lets the default route of `target` lead by one of its interfaces, whichever way it led before.
///
/// # Errors
/// There is no such interface, or the gateway is not on it.
pub(super) fn route(
    sandbox: Inside<'_>,
    target: BorrowedFd<'_>,
    ifname: &str,
    gateway: IpAddr,
) -> io::Result<()> {
    let ((), _) = in_child(|| {
        enter(sandbox)?;
        enter(Inside {
            user: None,
            net: Some(target),
        })?;
        let mut netlink = Netlink::open(Watch::Nothing).map_err(io::Error::other)?;
        let link = netlink.link(ifname).map_err(io::Error::other)?;
        netlink
            .replace_default_route(link.index, gateway)
            .map_err(io::Error::other)?;
        Ok(((), Vec::new()))
    })?;
    Ok(())
}

/// Makes a TAP interface inside a namespace, and sets it up.
///
/// # Errors
/// `/dev/net/tun` is closed to the user, or the name or the address is taken.
pub(super) fn plug_tap(inside: Inside<'_>, spec: &Plug) -> io::Result<OwnedFd> {
    let ((), fds) = in_child(|| {
        enter(inside)?;
        let tap = tun_tap::Iface::without_packet_info(&spec.ifname, tun_tap::Mode::Tap).map_err(
            |error| {
                let what = format!(
                    "open /dev/net/tun for {}: {error}; --host-port veth needs no device node",
                    spec.ifname
                );
                io::Error::new(error.kind(), what)
            },
        )?;
        let mut netlink = Netlink::open(Watch::Nothing).map_err(io::Error::other)?;
        let link = netlink.link(&spec.ifname).map_err(io::Error::other)?;
        let mac: MacAddr = spec.mac.parse().map_err(io::Error::other)?;
        netlink
            .shape(link.index, mac, spec.mtu)
            .map_err(io::Error::other)?;
        configure(spec).map_err(io::Error::other)?;
        Ok(((), vec![duplicate(&tap)?]))
    })?;
    fds.into_iter()
        .next()
        .ok_or_else(|| io::Error::other("a descriptor is missing"))
}

#[allow(unsafe_code, reason = "the crate offers only a raw descriptor")]
fn duplicate(tap: &tun_tap::Iface) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open as long as the interface it is borrowed from.
    unsafe { BorrowedFd::borrow_raw(tap.as_raw_fd()) }.try_clone_to_owned()
}

/// Makes a macvlan of a link of the current namespace inside the sandbox, in place of what has its name there, and
/// sets it up. Gives back its index and address.
///
/// # Errors
/// As for [`Netlink::add_macvlan`], or what carries it is another link. Nothing is left behind, unless the child hung.
pub(super) fn macvlan(sandbox: &Sandbox, name: &str, lower: u32) -> io::Result<(u32, [u8; 6])> {
    // By the child altogether: where there can be none, nobody would find what was made.
    let (made, _) = in_child(|| {
        let mut here = Netlink::open(Watch::Nothing).map_err(io::Error::other)?;
        enter(sandbox.inside())?;
        let mut there = Netlink::open(Watch::Nothing).map_err(io::Error::other)?;
        if let Ok(old) = there.link(name) {
            there.delete(old.index).map_err(io::Error::other)?;
        }
        here.add_macvlan(name, lower, sandbox.net.as_fd())
            .map_err(io::Error::other)?;
        let link = there.link(name).map_err(io::Error::other)?;
        let prepared = prepare_macvlan(&mut there, &link, lower);
        if prepared.is_err() {
            // The first error is the one to tell; it must go in any case.
            let _ = there.delete(link.index);
        }
        prepared.map(|()| ((link.index, link.mac.0), Vec::new()))
    })?;
    Ok(made)
}

fn prepare_macvlan(there: &mut Netlink, link: &Link, lower: u32) -> io::Result<()> {
    if link.lower != Some(lower) {
        return Err(io::Error::other("it is a macvlan itself"));
    }
    let quiet = there.suppress_link_local(link.index);
    let up = quiet.and_then(|()| there.set_up(link.index));
    up.map_err(io::Error::other)
}

/// Deletes the engine's end of a pair.
///
/// # Errors
/// The namespace cannot be entered any more.
pub(super) fn unplug(inside: Inside<'_>, ifindex: u32) -> io::Result<()> {
    delete(inside, |netlink| netlink.delete(ifindex))
}

/// Deletes the engine's ends of all pairs that were made there.
///
/// # Errors
/// The namespace cannot be entered any more.
pub(super) fn unplug_all(inside: Inside<'_>) -> io::Result<()> {
    delete(inside, Netlink::delete_own)
}

fn delete(
    inside: Inside<'_>,
    what: impl FnOnce(&mut Netlink) -> Result<(), NetlinkError>,
) -> io::Result<()> {
    let ((), _) = in_child(|| {
        enter(inside)?;
        let mut netlink = Netlink::open(Watch::Nothing).map_err(io::Error::other)?;
        what(&mut netlink).map_err(io::Error::other)?;
        Ok(((), Vec::new()))
    })?;
    Ok(())
}

/// The links of a namespace, without their names and hardware addresses.
///
/// # Errors
/// The namespace cannot be entered any more, or the kernel refuses to tell.
pub(super) fn links(inside: Inside<'_>) -> io::Result<Vec<Link>> {
    let (links, _) = in_child(|| {
        enter(inside)?;
        let mut netlink = Netlink::open(Watch::Nothing).map_err(io::Error::other)?;
        let links = netlink.links().map_err(io::Error::other)?;
        let facts = links.into_iter().map(|l| (l.index, l.mtu, l.running));
        Ok((facts.collect::<Vec<_>>(), Vec::new()))
    })?;
    let link = |(index, mtu, running)| Link {
        index,
        name: String::new(),
        mac: MacAddr::ZERO,
        mtu,
        running,
        lower: None,
    };
    Ok(links.into_iter().map(link).collect())
}
