//! Carries established flows from interface to interface inside the kernel.
//!
//! A table of nf_tables in the sandbox, at the *ingress* hook of the family *netdev*: in front of every stack,
//! and behind the packet sockets that hear every protocol. Its maps hold exact flows, and say what becomes of their
//! frames; whatever is not found, or is not plain, goes on to the engine:
//!
//! ```text
//! VLAN tag                                 → drop  (who hears every protocol has it; IPv4's sockets would
//!                                                   hear it again without its tag)
//! not IPv4, options, fragments             → the engine
//! TCP with anything but ACK and PSH, DHCP  → the engine
//! bridged[interface, MACs, protocol, addresses]          → out of an interface
//! routed[interface, MACs, TTL, addresses, ports]         → MACs, TTL, addresses and ports replaced, and out
//! ```
//!
//! What comes by an uplink, and what leaves by one, passes a macvlan (`uplinks`).
//!
//! One lookup each, however many flows there are. The kernel updates the checksums, half-done ones too;
//! a datagram without one (UDP's 0) is left to the engine, since the kernel would write one that is wrong.
//! Measured with 6.18: everything below is allowed to a user over a network namespace whose user namespace is
//! his own, from outside of it, by a socket that was opened inside.

mod keys;
mod rules;
#[cfg(test)]
mod tests;
mod uplinks;

use std::collections::HashSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::protocol::UplinkFacts;
use crate::io::namespace::Sandbox;
use crate::io::nftables::expression::{Verdict, verdict};
use crate::io::nftables::{Batch, ChainHook, Element, Family, Map, Tables};
use rules::{BRIDGED, ROUTED, arriving, rules};
use uplinks::Uplinks;

const TABLE: &str = "pontoon";
/// The rules of all interfaces.
const CHAIN: &str = "carry";
/// The rules of uplinks' macvlans.
const ARRIVING: &str = "arrive";
/// Most elements of a map. Ours: what the connection table holds, twice.
const SIZE: u32 = 131_072;

/// A hardware address.
type Mac = [u8; 6];

/// What frames of a flow look like, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seen {
    /// Index of the interface by which they come.
    pub ingress: u32,
    /// To whom.
    pub dst_mac: Mac,
    /// From whom.
    pub src_mac: Mac,
    /// TCP or UDP.
    pub protocol: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// What else is compared of routed ones.
    pub routed: Option<Numbers>,
}

/// What is compared of a datagram that is routed, or written into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Numbers {
    /// Time to live.
    pub ttl: u8,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

/// What becomes of the frames of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carriage {
    /// Index of the interface by which they leave.
    pub egress: u32,
    /// What is written into those that are routed.
    pub rewritten: Option<Rewritten>,
}

/// The new head of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewritten {
    /// The next hop.
    pub dst_mac: Mac,
    /// The leaving interface.
    pub src_mac: Mac,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Time to live and ports.
    pub numbers: Numbers,
}

/// How much of a flow was carried since it was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Which.
    pub seen: Seen,
    /// Frames; a super-frame is one.
    pub packets: u64,
    /// Bytes of IP datagrams.
    pub bytes: u64,
}

/// The table of the sandbox, and what belongs to uplinks.
pub(super) struct Carrier {
    tables: Tables,
    uplinks: Uplinks,
    /// What is in the maps: nobody else changes them.
    carried: HashSet<Seen>,
    /// The plan that has left everything last.
    plan: u64,
    /// What was carried, as it was read last.
    read: Vec<Carried>,
    /// What was carried of flows that were left, until somebody asks.
    ended: Vec<Carried>,
}

/// Flows of a page: what a message has room for, each at its longest.
const PAGE: usize = 128;

/// Name of the chain at which an interface's frames begin.
fn chain_of(ifindex: u32) -> String {
    format!("port{ifindex}")
}

/// What the kernel says of a part that it lacks is only that something is not there.
fn lacking(error: io::Error) -> io::Error {
    let what = "the kernel refuses nf_tables of the family netdev, with maps and fwd";
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

impl Carrier {
    /// Makes the table. `socket` speaks to the sandbox's nf_tables.
    ///
    /// # Errors
    /// The kernel lacks nf_tables or a part of it, or there is no right to it.
    pub(super) fn raise(socket: OwnedFd) -> io::Result<Self> {
        let mut tables = Tables::from_fd(socket);
        let mut batch = Batch::begin(Family::Netdev);
        batch.owned_table(TABLE);
        for (id, (name, key, data)) in (1..).zip([(BRIDGED, 32, 4), (ROUTED, 36, 32)]) {
            let map = Map {
                name,
                key,
                data,
                size: SIZE,
                id,
            };
            batch.map(TABLE, map);
        }
        for (chain, rules) in [(CHAIN, rules()), (ARRIVING, arriving())] {
            batch.chain(TABLE, chain, None);
            for rule in rules {
                batch.rule(TABLE, chain, &rule);
            }
        }
        tables.commit(batch).map_err(lacking)?;
        Ok(Self {
            tables,
            uplinks: Uplinks::default(),
            carried: HashSet::new(),
            plan: 0,
            read: Vec::new(),
            ended: Vec::new(),
        })
    }

    /// Has the frames of an interface looked at. Another one may have its name before it is known to have gone,
    /// but never its index.
    ///
    /// # Errors
    /// There is no such interface.
    pub(super) fn watch(&mut self, interface: &str, ifindex: u32) -> io::Result<()> {
        let chain = chain_of(ifindex);
        self.tables.commit(watched(
            &chain,
            interface,
            [Verdict::Jump(CHAIN), Verdict::Accept],
        ))
    }

    /// An interface has gone.
    pub(super) fn unwatch(&mut self, ifindex: u32) {
        // Kernels before 6.16 have done that with the interface, and not every one was looked at.
        let mut batch = Batch::begin(Family::Netdev);
        batch.delete_chain(TABLE, &chain_of(ifindex));
        let _ = self.tables.commit(batch);
    }

    /// Reaches an uplink, wherever it is now. Gives back the index of the interface of the sandbox that does;
    /// none while the uplink is gone or down.
    ///
    /// # Errors
    /// There is no macvlan of it, or nf_tables are missing where it lies.
    pub(super) fn reach(
        &mut self,
        sandbox: &Sandbox,
        facts: &UplinkFacts,
    ) -> io::Result<Option<u32>> {
        let Self {
            tables, uplinks, ..
        } = self;
        uplinks.reach(sandbox, facts, |macvlan, ifindex| {
            // Nobody but who sends by the uplink is to be heard here.
            let rules = [Verdict::Jump(ARRIVING), Verdict::Drop];
            tables.commit(watched(&chain_of(ifindex), macvlan, rules))
        })
    }

    /// Reaches an uplink no more.
    pub(super) fn lose(&mut self, sandbox: &Sandbox, interface: &str) {
        self.uplinks.lose(sandbox, interface);
    }

    /// Leaves some flows to the engine again, and carries others.
    ///
    /// # Errors
    /// There are too many of the others, or an interface is gone: none of them is carried. What is to be left
    /// is in any case.
    pub(super) fn change(
        &mut self,
        plan: u64,
        leave: &[Seen],
        carry: &[(Seen, Carriage)],
    ) -> io::Result<()> {
        if plan < self.plan {
            return Err(io::Error::other("a later plan has left everything"));
        }
        let leave: Vec<_> = leave.iter().filter(|s| self.carried.contains(s)).collect();
        self.leave_in_any_case(&leave)?;
        let new = |(seen, _): &&(Seen, Carriage)| !self.carried.contains(seen);
        let carry: Vec<_> = carry.iter().filter(new).collect();
        self.carry(&carry)
    }

    fn leave_in_any_case(&mut self, leave: &[&Seen]) -> io::Result<()> {
        self.leave(leave).or_else(|_| self.empty())
    }

    /// What comes by an uplink is turned aside before the map that it is looked up in changes, and after.
    fn leave(&mut self, leave: &[&Seen]) -> io::Result<()> {
        self.uplinks.leave(leave)?;
        let mut batch = Batch::begin(Family::Netdev);
        let mut ended = Vec::new();
        for map in [BRIDGED, ROUTED] {
            let here = leave.iter().filter(|seen| seen.map() == map);
            let keys: Vec<_> = here.map(|seen| self.uplinks.inside(seen).key()).collect();
            // What cannot be counted is left all the same.
            let counted = self
                .tables
                .some_elements(Family::Netdev, TABLE, map, &keys)
                .unwrap_or_default();
            ended.extend(counted.iter().filter_map(|one| self.carried_by(one)));
            batch.remove(TABLE, map, keys.iter().map(|key| &key[..]));
        }
        self.tables.commit(batch)?;
        self.note_ended(ended);
        leave.iter().for_each(|seen| {
            self.carried.remove(seen);
        });
        Ok(())
    }

    fn carry(&mut self, carry: &[&(Seen, Carriage)]) -> io::Result<()> {
        let mut batch = Batch::begin(Family::Netdev);
        for map in [BRIDGED, ROUTED] {
            let here = carry.iter().filter(|(seen, _)| seen.map() == map);
            let new = here.map(|(seen, then)| (self.uplinks.inside(seen).key(), then.data()));
            let new: Vec<_> = new.collect();
            let new = new.iter().map(|(key, data)| (&key[..], &data[..]));
            batch.add(TABLE, map, new);
        }
        self.tables.commit(batch)?;
        let seen: Vec<_> = carry.iter().map(|(seen, _)| seen).collect();
        self.carried.extend(seen.iter().copied());
        self.uplinks.carry(&seen).or_else(|error| {
            // Not even those that need no uplink: nobody would leave them.
            self.leave_in_any_case(&seen)?;
            Err(error)
        })
    }

    /// Leaves all flows to the engine again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn leave_all(&mut self, plan: u64) -> io::Result<()> {
        if plan <= self.plan {
            // Who has left everything first may have had something carried since.
            return Ok(());
        }
        self.empty()?;
        self.plan = plan;
        Ok(())
    }

    /// Another engine is there: nothing is carried, and plans count from the beginning.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn begin_anew(&mut self) -> io::Result<()> {
        self.empty()?;
        self.plan = 0;
        // Nobody knows any more whose it was.
        self.ended.clear();
        Ok(())
    }

    fn empty(&mut self) -> io::Result<()> {
        if self.carried.is_empty() {
            return Ok(());
        }
        self.uplinks.leave_all()?;
        let ended = self.read_all().unwrap_or_default();
        let mut batch = Batch::begin(Family::Netdev);
        batch.empty(TABLE, BRIDGED);
        batch.empty(TABLE, ROUTED);
        self.tables.commit(batch)?;
        self.note_ended(ended);
        self.carried.clear();
        Ok(())
    }

    /// A page of what was carried of each flow, and whether there is another one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn carried(&mut self, page: usize) -> io::Result<(Vec<Carried>, bool)> {
        if page == 0 {
            self.read = self.read_all()?;
        }
        let from = page.saturating_mul(PAGE).min(self.read.len());
        let to = (from + PAGE).min(self.read.len());
        Ok((self.read[from..to].to_vec(), to < self.read.len()))
    }

    fn read_all(&mut self) -> io::Result<Vec<Carried>> {
        let mut all = Vec::new();
        for map in [BRIDGED, ROUTED] {
            let elements = self.tables.elements(Family::Netdev, TABLE, map)?;
            all.extend(elements.iter().filter_map(|one| self.carried_by(one)));
        }
        Ok(all)
    }

    fn carried_by(&self, element: &Element) -> Option<Carried> {
        Some(Carried {
            seen: self.uplinks.outside(Seen::of(&element.key)?),
            packets: element.packets,
            bytes: element.bytes,
        })
    }

    fn note_ended(&mut self, ended: Vec<Carried>) {
        let room = SIZE as usize - self.ended.len().min(SIZE as usize);
        self.ended.extend(ended.into_iter().take(room));
    }

    /// A page of what was carried of flows that were left since the last call, and whether there is another one.
    pub(super) fn ended(&mut self) -> (Vec<Carried>, bool) {
        let from = self.ended.len().saturating_sub(PAGE);
        let page = self.ended.split_off(from);
        (page, !self.ended.is_empty())
    }
}

impl Seen {
    const fn map(&self) -> &'static str {
        match self.routed {
            None => BRIDGED,
            Some(_) => ROUTED,
        }
    }
}

/// The chain of that name, for the frames of an interface: where they go, and what becomes of those that return.
fn watched(chain: &str, interface: &str, rules: [Verdict<'_>; 2]) -> Batch {
    let hook = ChainHook {
        number: 0,
        priority: 0,
        interface: Some(interface),
    };
    let mut batch = Batch::begin(Family::Netdev);
    batch.chain(TABLE, chain, Some(hook));
    for rule in rules {
        batch.rule(TABLE, chain, &[verdict(rule)]);
    }
    batch
}
