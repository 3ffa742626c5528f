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
//! TCP with SYN, FIN, RST or URG            → the engine
//! bridged[interface, MACs, protocol, addresses]          → out of an interface
//! routed[interface, MACs, TTL, addresses, ports]         → MACs, TTL, addresses and ports replaced, and out
//! ```
//!
//! One lookup each, however many flows there are. The kernel updates the checksums, half-done ones too;
//! a datagram without one (UDP's 0) is left to the engine, since the kernel would write one that is wrong.
//! Measured with 6.18: everything below is allowed to a user over a network namespace whose user namespace is
//! his own, from outside of it, by a socket that was opened inside.

mod keys;
mod rules;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::io::nftables::expression::{Verdict, verdict};
use crate::io::nftables::{Batch, ChainHook, Family, Map, Tables};
use rules::{BRIDGED, ROUTED, rules};

const TABLE: &str = "pontoon";
/// The rules of all interfaces.
const CHAIN: &str = "carry";
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

/// The table.
pub(super) struct Carrier {
    tables: Tables,
    /// The plan that has left everything last.
    plan: u64,
    /// What was carried, as it was read last.
    read: Vec<Carried>,
}

/// Flows of a page: what a message has room for, each at its longest.
const PAGE: usize = 128;

impl Carrier {
    /// Makes the table. `socket` speaks to the sandbox's nf_tables.
    ///
    /// # Errors
    /// The kernel lacks nf_tables or a part of it, or there is no right to it.
    pub(super) fn raise(socket: OwnedFd) -> io::Result<Self> {
        let mut tables = Tables::from_fd(socket);
        let mut batch = Batch::begin(Family::Netdev);
        batch.owned_table(TABLE);
        batch.map(
            TABLE,
            Map {
                name: BRIDGED,
                key: 32,
                data: 4,
                size: SIZE,
                id: 1,
            },
        );
        batch.map(
            TABLE,
            Map {
                name: ROUTED,
                key: 36,
                data: 32,
                size: SIZE,
                id: 2,
            },
        );
        batch.chain(TABLE, CHAIN, None);
        for rule in rules() {
            batch.rule(TABLE, CHAIN, &rule);
        }
        tables.commit(batch)?;
        Ok(Self {
            tables,
            plan: 0,
            read: Vec::new(),
        })
    }

    /// Has the frames of an interface looked at. It ends with the interface.
    ///
    /// # Errors
    /// There is no such interface.
    pub(super) fn watch(&mut self, interface: &str) -> io::Result<()> {
        let mut batch = Batch::begin(Family::Netdev);
        let hook = ChainHook {
            number: 0,
            priority: 0,
            interface: Some(interface),
        };
        batch.chain(TABLE, interface, Some(hook));
        batch.rule(TABLE, interface, &[verdict(Verdict::Jump(CHAIN))]);
        self.tables.commit(batch)
    }

    /// Leaves some flows to the engine again, and carries others, at once.
    ///
    /// # Errors
    /// One of those to leave was not carried, or there are too many of the others; all is as before.
    pub(super) fn change(
        &mut self,
        plan: u64,
        leave: &[Seen],
        carry: &[(Seen, Carriage)],
    ) -> io::Result<()> {
        if plan < self.plan {
            return Err(io::Error::other("a later plan has left everything"));
        }
        let mut batch = Batch::begin(Family::Netdev);
        for (map, routed) in [(BRIDGED, false), (ROUTED, true)] {
            let here = |seen: &Seen| seen.routed.is_some() == routed;
            let gone: Vec<_> = leave.iter().filter(|s| here(s)).map(Seen::key).collect();
            batch.remove(TABLE, map, gone.iter().map(|key| &key[..]));
            let new = carry.iter().filter(|(seen, _)| here(seen));
            let new: Vec<_> = new.map(|(seen, then)| (seen.key(), then.data())).collect();
            let new = new.iter().map(|(key, data)| (&key[..], &data[..]));
            batch.add(TABLE, map, new);
        }
        self.tables.commit(batch)
    }

    /// Leaves all flows to the engine again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn leave_all(&mut self, plan: u64) -> io::Result<()> {
        self.plan = plan;
        let mut batch = Batch::begin(Family::Netdev);
        batch.empty(TABLE, BRIDGED);
        batch.empty(TABLE, ROUTED);
        self.tables.commit(batch)
    }

    /// Another engine is there: nothing is carried, and plans count from the beginning.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn begin_anew(&mut self) -> io::Result<()> {
        self.leave_all(0)
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
            for element in self.tables.elements(Family::Netdev, TABLE, map)? {
                all.extend(Seen::of(&element.key).map(|seen| Carried {
                    seen,
                    packets: element.packets,
                    bytes: element.bytes,
                }));
            }
        }
        Ok(all)
    }
}
