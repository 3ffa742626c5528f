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
/// Most elements of a map.
const SIZE: u32 = crate::carried::CARRIED as u32;

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
    /// An attempt to leave everything has failed: until one succeeds, what is in the maps is of no plan that holds.
    unsettled: bool,
    /// The flows whose counters are read page by page.
    asked: Vec<Seen>,
    /// What was carried of flows that were left, until somebody asks.
    ended: Vec<Carried>,
}

/// Flows of a page: what a message has room for, each at its longest.
const PAGE: usize = 128;
/// Most flows that are counted when all are left, which somebody waits for: 16 ms of look-ups with 6.18. What others
/// have carried since they were read last is never known.
const COUNTED: usize = 4096;

/// Name of the chain at which an interface's frames begin.
fn chain_of(ifindex: u32) -> String {
    format!("port{ifindex}")
}

/// The kernel has said nothing, or what it has said is lost.
fn is_no_answer(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
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
            uplinks: Uplinks::new(),
            carried: HashSet::new(),
            plan: 0,
            unsettled: false,
            asked: Vec::new(),
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

    /// Reaches an uplink, wherever it is now. Gives back the index of the interface of the sandbox that does; none
    /// while the uplink is gone, and until it is up for the first time.
    ///
    /// # Errors
    /// There can be no macvlan of it, or nf_tables are missing where it lies.
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
    /// is in any case; where the kernel refuses even that, everything is before anything else is done.
    pub(super) fn change(
        &mut self,
        plan: u64,
        leave: &[Seen],
        carry: &[(Seen, Carriage)],
    ) -> io::Result<()> {
        if plan < self.plan {
            return Err(io::Error::other("a later plan has left everything"));
        }
        self.turn_to(plan)?;
        let leave: Vec<_> = leave.iter().filter(|s| self.carried.contains(s)).collect();
        self.leave(&leave).or_else(|_| self.empty())?;
        let new = |(seen, _): &&(Seen, Carriage)| !self.carried.contains(seen);
        let carry: Vec<_> = carry.iter().filter(new).collect();
        self.carry(&carry)
    }

    /// What comes by an uplink is turned aside before the map that it is looked up in changes, and after.
    fn leave(&mut self, leave: &[&Seen]) -> io::Result<()> {
        self.uplinks.leave(leave)?;
        self.leave_inside(leave)
    }

    fn leave_inside(&mut self, leave: &[&Seen]) -> io::Result<()> {
        // What cannot be counted is left all the same.
        let ended = self.count(leave).unwrap_or_default();
        let mut batch = Batch::begin(Family::Netdev);
        for map in [BRIDGED, ROUTED] {
            let keys = self.keys(map, leave);
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
            let new = here
                .map(|(seen, then)| (self.uplinks.inside(seen).key(), then.data(seen.protocol)));
            let new: Vec<_> = new.collect();
            let new = new.iter().map(|(key, data)| (&key[..], &data[..]));
            batch.add(TABLE, map, new);
        }
        if let Err(error) = self.tables.commit(batch) {
            // Without an answer they may be in the maps all the same.
            self.unsettled |= is_no_answer(&error);
            return Err(error);
        }
        let seen: Vec<_> = carry.iter().map(|(seen, _)| seen).collect();
        self.carried.extend(seen.iter().copied());
        self.uplinks.carry(&seen).or_else(|error| {
            // Not even those that need no uplink: nobody would leave them.
            self.take_back(&seen)?;
            Err(error)
        })
    }

    /// Leaves flows of which the uplinks' table may have all or none.
    fn take_back(&mut self, carry: &[&Seen]) -> io::Result<()> {
        match self.uplinks.leave(carry) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.empty(),
            _ => self.leave_inside(carry).or_else(|_| self.empty()),
        }
    }

    /// Leaves all flows to the engine again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn leave_all(&mut self, plan: u64) -> io::Result<()> {
        // Who has left everything first may have had something carried since.
        self.turn_to(plan)
    }

    /// Another engine is there: nothing is carried, and plans count from the beginning.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn begin_anew(&mut self) -> io::Result<()> {
        self.plan = 0;
        let emptied = self.empty();
        // Nobody knows any more whose it was.
        self.ended.clear();
        emptied
    }

    /// Leaves what is of an earlier plan, and what should have been left before.
    fn turn_to(&mut self, plan: u64) -> io::Result<()> {
        if plan <= self.plan && !self.unsettled {
            return Ok(());
        }
        self.plan = plan.max(self.plan);
        self.empty()
    }

    fn empty(&mut self) -> io::Result<()> {
        if self.carried.is_empty() && !self.unsettled {
            return Ok(());
        }
        self.unsettled = true;
        self.uplinks.leave_all()?;
        let some: Vec<_> = self.carried.iter().copied().take(COUNTED).collect();
        let ended = self.count(&some.iter().collect::<Vec<_>>());
        let mut batch = Batch::begin(Family::Netdev);
        batch.empty(TABLE, BRIDGED);
        batch.empty(TABLE, ROUTED);
        self.tables.commit(batch)?;
        self.note_ended(ended.unwrap_or_default());
        self.carried.clear();
        self.unsettled = false;
        Ok(())
    }

    /// A page of what was carried of each flow, and whether there is another one. The pages are of those flows that
    /// were carried when the first one was read, as far as they still are.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn carried(&mut self, page: usize) -> io::Result<(Vec<Carried>, bool)> {
        if page == 0 {
            self.turn_to(self.plan)?;
            self.asked = self.carried.iter().copied().collect();
        }
        let from = page.saturating_mul(PAGE).min(self.asked.len());
        let to = (from + PAGE).min(self.asked.len());
        let asked = self.asked[from..to].iter().copied();
        let there: Vec<_> = asked.filter(|seen| self.carried.contains(seen)).collect();
        let carried = self.count(&there.iter().collect::<Vec<_>>())?;
        Ok((carried, to < self.asked.len()))
    }

    /// What was carried of some flows. One by one: a dump of a map begins anew for each part of its answer.
    fn count(&mut self, flows: &[&Seen]) -> io::Result<Vec<Carried>> {
        let mut all = Vec::new();
        for map in [BRIDGED, ROUTED] {
            let keys = self.keys(map, flows);
            let elements = self
                .tables
                .some_elements(Family::Netdev, TABLE, map, &keys)?;
            all.extend(elements.iter().filter_map(|one| self.carried_by(one)));
        }
        Ok(all)
    }

    /// The keys of those flows that belong into a map.
    fn keys(&self, map: &str, flows: &[&Seen]) -> Vec<Vec<u8>> {
        let here = flows.iter().filter(|seen| seen.map() == map);
        here.map(|seen| self.uplinks.inside(seen).key()).collect()
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
