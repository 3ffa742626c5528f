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

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use pontoon_packet::parse::protocol::{TCP, UDP};
use serde::{Deserialize, Serialize};

use crate::io::nftables::expression::{
    Bytes, Checksum, Comparison, FIRST, Header, Meta, Register, Verdict, compare, forward, load,
    lookup, mask, meta, store, verdict,
};
use crate::io::nftables::{Batch, ChainHook, Family, Map, Tables};

const TABLE: &str = "pontoon";
/// The rules of all interfaces.
const CHAIN: &str = "carry";
const BRIDGED: &str = "bridged";
const ROUTED: &str = "routed";
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

impl Seen {
    /// As the rules put it together in registers of four bytes.
    fn key(&self) -> Vec<u8> {
        let mut key = self.ingress.to_ne_bytes().to_vec();
        key.extend(self.dst_mac);
        key.extend(self.src_mac);
        key.extend(ETHERTYPE_IPV4);
        key.extend([0; 2]);
        match self.routed {
            None => key.extend([self.protocol, 0, 0, 0]),
            Some(numbers) => key.extend([numbers.ttl, self.protocol, 0, 0]),
        }
        key.extend(self.src.octets());
        key.extend(self.dst.octets());
        key.extend(
            self.routed
                .map_or(Vec::new(), |numbers| numbers.ports().to_vec()),
        );
        key
    }

    /// The flow of a key.
    fn of(key: &[u8]) -> Option<Self> {
        let at = |offset: usize| key.get(offset).copied();
        let four = |offset: usize| <[u8; 4]>::try_from(key.get(offset..offset + 4)?).ok();
        let mac = |offset: usize| <[u8; 6]>::try_from(key.get(offset..offset + 6)?).ok();
        let routed = four(32).map(|[a, b, c, d]| Numbers {
            ttl: key[20],
            src_port: u16::from_be_bytes([a, b]),
            dst_port: u16::from_be_bytes([c, d]),
        });
        Some(Self {
            ingress: u32::from_ne_bytes(four(0)?),
            dst_mac: mac(4)?,
            src_mac: mac(10)?,
            protocol: at(if routed.is_some() { 21 } else { 20 })?,
            src: four(24)?.into(),
            dst: four(28)?.into(),
            routed,
        })
    }
}

impl Numbers {
    fn ports(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.src_port.to_be_bytes(), self.dst_port.to_be_bytes());
        [a, b, c, d]
    }
}

impl Carriage {
    fn data(&self) -> Vec<u8> {
        let Some(new) = self.rewritten else {
            return self.egress.to_ne_bytes().to_vec();
        };
        let mut data = new.dst_mac.to_vec();
        data.extend(new.src_mac);
        data.extend([new.numbers.ttl, 0, 0, 0]);
        data.extend(new.src.octets());
        data.extend(new.dst.octets());
        data.extend(new.numbers.ports());
        data.extend(self.egress.to_ne_bytes());
        data
    }
}

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE: Bytes = Bytes(Header::Link, 12, 2);
const LINK_HEADER: Bytes = Bytes(Header::Link, 0, 14);
const MACS: Bytes = Bytes(Header::Link, 0, 12);
const VERSION_AND_LENGTH: Bytes = Bytes(Header::Network, 0, 1);
const FRAGMENT: Bytes = Bytes(Header::Network, 6, 2);
const TTL_AND_PROTOCOL: Bytes = Bytes(Header::Network, 8, 2);
const TTL: Bytes = Bytes(Header::Network, 8, 1);
const PROTOCOL: Bytes = Bytes(Header::Network, 9, 1);
const ADDRESSES: Bytes = Bytes(Header::Network, 12, 8);
const PORTS: Bytes = Bytes(Header::Transport, 0, 4);
const TCP_FLAGS: Bytes = Bytes(Header::Transport, 13, 1);
const UDP_CHECKSUM: Bytes = Bytes(Header::Transport, 6, 2);
const IP_CHECKSUM: u32 = 10;

fn rules() -> Vec<Vec<Vec<u8>>> {
    use Comparison::{Different, Equal};
    let tagged = |tag: [u8; 2]| {
        let is = compare(FIRST, Equal, &tag);
        vec![load(ETHERTYPE, FIRST), is, verdict(Verdict::Drop)]
    };
    let unless = |bytes, value: &[u8]| {
        let differs = compare(FIRST, Different, value);
        vec![load(bytes, FIRST), differs, verdict(Verdict::Accept)]
    };
    vec![
        tagged([0x81, 0x00]),
        tagged([0x88, 0xa8]),
        unless(ETHERTYPE, &ETHERTYPE_IPV4),
        unless(VERSION_AND_LENGTH, &[0x45]),
        vec![
            load(FRAGMENT, FIRST),
            // All but *don't fragment*.
            mask(FIRST, &[0xbf, 0xff]),
            compare(FIRST, Different, &[0, 0]),
            verdict(Verdict::Accept),
        ],
        vec![
            meta(Meta::Protocol, FIRST),
            compare(FIRST, Equal, &[TCP]),
            load(TCP_FLAGS, FIRST),
            // URG, RST, SYN, FIN.
            mask(FIRST, &[0x27]),
            compare(FIRST, Different, &[0]),
            verdict(Verdict::Accept),
        ],
        bridged(),
        // The engine gives what may be cut another identification.
        unless(FRAGMENT, &[0x40, 0x00]),
        routed(TCP, 16, Vec::new()),
        routed(
            UDP,
            6,
            vec![
                load(UDP_CHECKSUM, FIRST),
                compare(FIRST, Different, &[0, 0]),
            ],
        ),
    ]
}

fn bridged() -> Vec<Vec<u8>> {
    let mut rule = key();
    rule.extend([
        load(PROTOCOL, Register(5)),
        load(ADDRESSES, Register(6)),
        lookup(BRIDGED, FIRST, FIRST),
        forward(FIRST),
    ]);
    rule
}

/// `sum` is the checksum's offset in the transport header.
fn routed(protocol: u8, sum: u32, unless: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut rule = vec![
        meta(Meta::Protocol, FIRST),
        compare(FIRST, Comparison::Equal, &[protocol]),
    ];
    rule.extend(unless);
    rule.extend(key());
    rule.extend([
        load(TTL_AND_PROTOCOL, Register(5)),
        load(ADDRESSES, Register(6)),
        load(PORTS, Register(8)),
        lookup(ROUTED, FIRST, FIRST),
        store(MACS, FIRST, Checksum::None),
        store(TTL, Register(3), Checksum::At(IP_CHECKSUM)),
        store(
            ADDRESSES,
            Register(4),
            Checksum::AtAndTransport(IP_CHECKSUM),
        ),
        store(PORTS, Register(6), Checksum::At(sum)),
        forward(Register(7)),
    ]);
    rule
}

/// What both keys begin with.
fn key() -> Vec<Vec<u8>> {
    vec![meta(Meta::Interface, FIRST), load(LINK_HEADER, Register(1))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(routed: Option<Numbers>) -> Seen {
        Seen {
            ingress: 7,
            dst_mac: [2, 0, 0, 0, 0, 1],
            src_mac: [2, 0, 0, 0, 0, 2],
            protocol: TCP,
            src: Ipv4Addr::new(172, 17, 0, 2),
            dst: Ipv4Addr::new(192, 0, 2, 1),
            routed,
        }
    }

    #[test]
    fn a_flow_is_known_by_its_key() {
        let numbers = Numbers {
            ttl: 64,
            src_port: 40_000,
            dst_port: 80,
        };
        for (seen, length) in [(seen(None), 32), (seen(Some(numbers)), 36)] {
            assert_eq!(seen.key().len(), length);
            assert_eq!(Seen::of(&seen.key()), Some(seen));
        }
        assert_eq!(Seen::of(&[0; 31]), None);
    }

    #[test]
    fn data_are_as_long_as_the_map_says() {
        let numbers = Numbers {
            ttl: 63,
            src_port: 1,
            dst_port: 2,
        };
        let rewritten = Rewritten {
            dst_mac: [1; 6],
            src_mac: [2; 6],
            src: Ipv4Addr::LOCALHOST,
            dst: Ipv4Addr::BROADCAST,
            numbers,
        };
        let bridged = Carriage {
            egress: 9,
            rewritten: None,
        };
        let routed = Carriage {
            egress: 9,
            rewritten: Some(rewritten),
        };
        assert_eq!((bridged.data().len(), routed.data().len()), (4, 32));
    }
}
