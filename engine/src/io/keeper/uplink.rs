//! Uplinks: interfaces of the namespace in which the keeper was started.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ipnet::IpNet;
use nix::sys::socket::{NetlinkAddr, getsockname};

use super::protocol::UplinkFacts;
use crate::io::namespace::{Privilege, packet_socket};
use crate::io::netlink::{Netlink, NetlinkError, Watch};
use crate::io::shield::Shield;
use crate::io::uplink_sockets::SOCKETS;

struct Open {
    claimed: bool,
    packets: Vec<OwnedFd>,
    last: UplinkFacts,
    /// Subnets whose addresses leave as they are.
    untranslated: Vec<IpNet>,
    /// Keeps the kernel quiet as long as it is held.
    shield: Option<Shield>,
    unreached: Unreached,
}

/// Why the kernel does not reach an uplink, as it was said last.
#[derive(Default)]
struct Unreached(Option<String>);

impl Unreached {
    /// Gives back what is to be said. An uplink changes often, and the reason seldom.
    fn note(&mut self, why: Option<String>) -> Option<&str> {
        if self.0 == why {
            return None;
        }
        self.0 = why;
        self.0.as_deref()
    }
}

impl Open {
    /// Looks how it stands. Says whether that has changed. `number` is of a shield to come.
    ///
    /// # Errors
    /// It cannot be seen now: files are short.
    fn look(&mut self, number: &str) -> Result<Looked, NetlinkError> {
        let mut now = match facts(&self.last.interface) {
            Err(error) if error.source.raw_os_error() == Some(libc::ENODEV) => UplinkFacts {
                ifindex: None,
                running: false,
                ..self.last.clone()
            },
            seen => seen?,
        };
        now.unshielded.clone_from(&self.last.unshielded);
        now.reached_by = self.last.reached_by;
        if now == self.last {
            return Ok(Looked::Same);
        }
        // The shield's rules name both. What has the index now may be somebody else's.
        if (now.ifindex, &now.addresses) != (self.last.ifindex, &self.last.addresses) {
            self.shield = shield(&mut now, &self.untranslated, number);
        }
        self.last = now;
        Ok(Looked::Changed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    Same,
    Changed,
}

/// The uplinks that are open, and what is heard of them.
pub(super) struct Uplinks {
    open: BTreeMap<String, Open>,
    /// Shields that were raised: the next one is there before the last one goes.
    raised: u32,
    watch: Netlink,
}

impl Uplinks {
    pub(super) fn new() -> io::Result<Self> {
        let watch = Netlink::open(Watch::Everything).map_err(io::Error::other)?;
        Ok(Self {
            open: BTreeMap::new(),
            raised: 0,
            watch,
        })
    }

    /// Opens an interface and shields its addresses. One that an engine before has had is handed out
    /// again, with what it has heard meanwhile.
    ///
    /// # Errors
    /// There is no such interface, it has no IPv4 address, or there is no right to open it.
    pub(super) fn open(
        &mut self,
        interface: &str,
        privilege: Privilege,
    ) -> io::Result<(UplinkFacts, Vec<OwnedFd>)> {
        let number = self.next_shield()?;
        if let Some(open) = self.open.get_mut(interface) {
            open.look(&number).map_err(io::Error::other)?;
            open.claimed = true;
            return Ok((open.last.clone(), duplicates(&open.packets)?));
        }
        if privilege == Privilege::Ordinary {
            let what = format!(
                "uplink dev:{interface}: opening an interface of this namespace needs CAP_NET_RAW and \
                 CAP_NET_ADMIN in it; run as root, or inside a namespace of your own (unshare -Urn)"
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        let mut facts = facts(interface).map_err(io::Error::other)?;
        if facts.addresses.is_empty() {
            let what = format!("uplink dev:{interface}: the interface has no IPv4 address");
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, what));
        }
        let shield = shield(&mut facts, &[], &number);
        let packets = (0..SOCKETS).map(|_| packet_socket());
        let packets = packets.collect::<io::Result<Vec<_>>>()?;
        let handed_out = duplicates(&packets)?;
        self.open.insert(
            interface.to_owned(),
            Open {
                claimed: true,
                packets,
                last: facts.clone(),
                untranslated: Vec::new(),
                shield,
                unreached: Unreached::default(),
            },
        );
        Ok((facts, handed_out))
    }

    /// Shields subnets whose addresses leave an interface as they are.
    ///
    /// # Errors
    /// The shield cannot be raised.
    pub(super) fn leave_untranslated(
        &mut self,
        interface: &str,
        subnets: Vec<IpNet>,
    ) -> io::Result<()> {
        let number = self.next_shield()?;
        let Some(open) = self.open.get_mut(interface) else {
            return Ok(());
        };
        if open.untranslated == subnets {
            return Ok(());
        }
        open.shield = shield(&mut open.last, &subnets, &number);
        open.untranslated = subnets;
        let why = open.last.unshielded.clone();
        why.map_or(Ok(()), |why| Err(io::Error::other(why)))
    }

    pub(super) fn close(&mut self, interface: &str) {
        self.open.remove(interface);
    }

    /// The engine that had all of them is gone.
    pub(super) fn disown(&mut self) {
        for open in self.open.values_mut() {
            open.claimed = false;
        }
    }

    /// Those that the engine that runs does not have.
    pub(super) fn unclaimed(&self) -> Vec<String> {
        let unclaimed = self.open.iter().filter(|(_, open)| !open.claimed);
        unclaimed.map(|(interface, _)| interface.clone()).collect()
    }

    /// Notes by which interface of the sandbox the kernel reaches one of them, or says why it does not. Gives back
    /// how it stands.
    pub(super) fn reached_by(
        &mut self,
        interface: &str,
        reached: io::Result<Option<u32>>,
    ) -> Option<UplinkFacts> {
        let open = self.open.get_mut(interface)?;
        let why = reached.as_ref().err().map(ToString::to_string);
        if let Some(why) = open.unreached.note(why) {
            log!("flows through dev:{interface} are not carried by the kernel: {why}");
        }
        open.last.reached_by = reached.unwrap_or_default();
        Some(open.last.clone())
    }

    /// What tells a shield from all others on its interface: a keeper has the address of a netlink socket.
    fn next_shield(&mut self) -> io::Result<String> {
        let keeper = getsockname::<NetlinkAddr>(self.watch.as_fd().as_raw_fd())?.pid();
        self.raised += 1;
        Ok(format!("{keeper}-{}", self.raised))
    }

    /// What has changed of the open uplinks.
    pub(super) fn changes(&mut self) -> Vec<UplinkFacts> {
        if self.watch.changes().is_empty() {
            return Vec::new();
        }
        let Ok(number) = self.next_shield() else {
            return Vec::new();
        };
        let looked = self.open.values_mut().filter_map(|open| {
            // What cannot be seen now is shown by the next change.
            let looked = open.look(&number).ok()?;
            (looked == Looked::Changed).then(|| open.last.clone())
        });
        looked.collect()
    }
}

impl AsFd for Uplinks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

/// `number` tells the shields on one interface apart.
fn shield(facts: &mut UplinkFacts, subnets: &[IpNet], number: &str) -> Option<Shield> {
    let ifindex = facts.ifindex?;
    let name = format!("{}-{number}", facts.interface);
    match Shield::raise(&name, ifindex, &facts.addresses, subnets) {
        Ok(shield) => {
            facts.unshielded = None;
            Some(shield)
        }
        Err(error) => {
            facts.unshielded = Some(error.to_string());
            None
        }
    }
}

fn duplicates(fds: &[OwnedFd]) -> io::Result<Vec<OwnedFd>> {
    fds.iter().map(OwnedFd::try_clone).collect()
}

fn facts(interface: &str) -> Result<UplinkFacts, NetlinkError> {
    let mut netlink = Netlink::open(Watch::Nothing)?;
    let link = netlink.link(interface)?;
    let addresses = netlink
        .addresses(link.index)?
        .into_iter()
        .filter(|net| net.addr().is_ipv4())
        .collect();
    let gateway = netlink.routes()?.into_iter().find_map(|route| {
        let default = route.prefix.prefix_len() == 0 && route.prefix.addr().is_ipv4();
        route
            .gateway
            .filter(|_| default && route.link == Some(link.index))
    });
    Ok(UplinkFacts {
        interface: interface.to_owned(),
        ifindex: Some(link.index),
        mac: link.mac.to_string(),
        mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
        running: link.running,
        addresses,
        gateway,
        unshielded: None,
        reached_by: None,
    })
}

/// All prefixes that the keeper's namespace has routes for, but the default ones.
///
/// # Errors
/// The kernel refuses to tell.
pub(super) fn host_routes() -> io::Result<Vec<IpNet>> {
    let mut netlink = Netlink::open(Watch::Nothing).map_err(io::Error::other)?;
    let routes = netlink.routes().map_err(io::Error::other)?;
    let mut prefixes: Vec<_> = routes
        .into_iter()
        .map(|route| route.prefix)
        .filter(|p| p.prefix_len() > 0)
        .collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    Ok(prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_an_uplink_is_not_reached_is_said_once() {
        let mut unreached = Unreached::default();
        let mut note =
            |why: Option<&str>| unreached.note(why.map(str::to_owned)).map(str::to_owned);
        let (busy, none) = (Some("busy"), Some("no Ethernet"));
        let reasons = [None, busy, busy, none, none, None, none];
        let said = reasons.map(&mut note);
        let expected = [None, busy, None, none, None, None, none];
        assert_eq!(said, expected.map(|why| why.map(str::to_owned)));
    }
}
