//! A datapath on the bench whose flows are carried by a model of the kernel's table.
//!
//! The model does what the rules of the engine's keeper do: it reads bytes at fixed places, and knows nothing of the
//! parser.

use core::time::Duration;
use std::collections::BTreeMap;

use pontoon_engine::carried::{Carriage, Change, Counted, Numbers, Orders, Reach, Rewritten, Seen};
use pontoon_packet::parse::protocol::{TCP, UDP};
use pontoon_packet::{MacAddr, Offload};
use pontoon_switch::PortId;

use crate::lab::{Lab, Sent};

/// The flags that a carried segment has, of those that are looked at: URG, ACK, RST, SYN, FIN.
const FLAGS: u8 = 0x37;
const ACK: u8 = 0x10;
/// Where things are in a frame without tags and options.
const TYPE: usize = 12;
const IP: usize = 14;
const ADDRESSES: usize = IP + 12;
const PORTS: usize = IP + 20;

/// What becomes of the frames of a flow, and how many there were.
#[derive(Clone, Copy, Debug)]
struct Element {
    then: Carriage,
    packets: u64,
    bytes: u64,
}

/// The table.
#[derive(Debug, Default)]
pub struct Kernel {
    elements: BTreeMap<Seen, Element>,
    /// Number of the orders that were obeyed last.
    pub obeyed: u64,
    /// What is compared less exactly than the rules do, to see that it is noticed.
    pub mistake: Option<Mistake>,
}

/// What somebody could get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Everything is not left when it should be.
    KeepAll,
    /// Single flows are not left when they should be.
    Keep,
    /// Flags of TCP are not looked at.
    AnyFlags,
    /// The time to live is not compared.
    AnyTimeToLive,
    /// The hardware address of the sender is not compared.
    AnySource,
    /// Nothing is counted.
    CountNothing,
}

impl Kernel {
    /// Does what it is told, as the keeper does. Gives back what was counted of the flows that it leaves.
    ///
    /// # Panics
    /// What is to be left is not carried, or what is to be carried is.
    pub fn obey(&mut self, orders: &Orders) -> Vec<Counted> {
        self.obeyed = orders.number;
        let before = self.counted();
        let is = |mistake| self.mistake == Some(mistake);
        let (keep_all, keep) = (is(Mistake::KeepAll), is(Mistake::Keep));
        for change in &orders.changes {
            match change {
                Change::LeaveAll if !keep_all => self.elements.clear(),
                Change::Leave(seen) if !keep => {
                    let gone = self.elements.remove(seen);
                    assert!(gone.is_some() || keep_all, "nobody carries {seen:?}");
                }
                Change::LeaveAll | Change::Leave(_) => {}
                Change::Carry(seen, then) => {
                    let element = Element {
                        then: *then,
                        packets: 0,
                        bytes: 0,
                    };
                    let old = self.elements.insert(*seen, element);
                    assert!(old.is_none() || keep || keep_all, "{seen:?} is carried");
                }
            }
        }
        let gone = |counted: &Counted| !self.elements.contains_key(&counted.seen);
        before.into_iter().filter(gone).collect()
    }

    /// How many flows are carried.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// None is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was counted.
    pub fn counted(&self) -> Vec<Counted> {
        let counts = self.mistake != Some(Mistake::CountNothing);
        let counted = self.elements.iter().filter(|_| counts);
        let counted = counted.map(|(seen, element)| Counted {
            seen: *seen,
            packets: element.packets,
            bytes: element.bytes,
        });
        counted.collect()
    }

    /// Carries a frame that comes in by a port, or leaves it to the engine.
    pub fn carry(&mut self, ingress: PortId, bytes: &[u8], offload: Offload) -> Option<Sent> {
        let bridged = self.plain(ingress, bytes)?;
        let found = self.find(bridged).or_else(|| {
            let routed = routed(bridged, bytes)?;
            self.find(routed)
        });
        let element = self.elements.get_mut(&found?)?;
        element.packets += 1;
        element.bytes += (bytes.len() - IP) as u64;
        let mut sent = Sent {
            port: element.then.egress,
            bytes: bytes.to_vec(),
            offload,
        };
        if let Some(new) = element.then.rewritten {
            rewrite(&mut sent, &new);
        }
        Some(sent)
    }

    fn find(&self, seen: Seen) -> Option<Seen> {
        if self.elements.contains_key(&seen) {
            return Some(seen);
        }
        let known = self.elements.keys();
        known.copied().find(|other| self.takes_for(seen, *other))
    }

    fn takes_for(&self, seen: Seen, other: Seen) -> bool {
        match self.mistake {
            Some(Mistake::AnySource) => {
                let src_mac = other.src_mac;
                Seen { src_mac, ..seen } == other
            }
            Some(Mistake::AnyTimeToLive) => {
                let ttl = other.routed.map_or(0, |numbers| numbers.ttl);
                let routed = seen.routed.map(|numbers| Numbers { ttl, ..numbers });
                Seen { routed, ..seen } == other
            }
            _ => false,
        }
    }

    /// The key in the map of bridged flows, for what the rules do not leave to the engine before.
    fn plain(&self, ingress: PortId, bytes: &[u8]) -> Option<Seen> {
        let at = |offset: usize| bytes.get(offset).copied();
        let is_ip = bytes.get(TYPE..IP)? == [0x08, 0x00] && at(IP)? == 0x45;
        let whole = at(IP + 6)? & 0xbf == 0 && at(IP + 7)? == 0;
        let length = usize::from(word(bytes, IP + 2)?);
        if !is_ip || !whole || IP + length > bytes.len() || length < 20 {
            return None;
        }
        let left = match at(IP + 9)? {
            TCP if self.mistake == Some(Mistake::AnyFlags) => false,
            TCP => at(PORTS + 13)? & FLAGS != ACK,
            UDP => word(bytes, PORTS)? == 67 || word(bytes, PORTS + 2)? == 68,
            _ => true,
        };
        let mac = |offset: usize| Some(MacAddr(*bytes.get(offset..)?.first_chunk()?));
        let address = |offset: usize| Some((*bytes.get(offset..)?.first_chunk::<4>()?).into());
        let seen = Seen {
            ingress,
            dst_mac: mac(0)?,
            src_mac: mac(6)?,
            protocol: at(IP + 9)?,
            src: address(ADDRESSES)?,
            dst: address(ADDRESSES + 4)?,
            routed: None,
        };
        (!left).then_some(seen)
    }
}

/// The key in the map of routed flows.
fn routed(bridged: Seen, bytes: &[u8]) -> Option<Seen> {
    let uncut = word(bytes, IP + 6)? == 0x4000;
    let summed = bridged.protocol == TCP || word(bytes, PORTS + 6)? != 0;
    let numbers = Numbers {
        ttl: bytes[IP + 8],
        src_port: word(bytes, PORTS)?,
        dst_port: word(bytes, PORTS + 2)?,
    };
    (uncut && summed).then_some(Seen {
        routed: Some(numbers),
        ..bridged
    })
}

fn rewrite(sent: &mut Sent, new: &Rewritten) {
    let half_done = sent.offload.is_partial();
    let bytes = &mut sent.bytes;
    bytes[..6].copy_from_slice(&new.dst_mac.0);
    bytes[6..12].copy_from_slice(&new.src_mac.0);
    let time_to_live = [new.numbers.ttl, bytes[IP + 9]];
    let sum = PORTS + if bytes[IP + 9] == TCP { 16 } else { 6 };
    store(bytes, IP + 8, &time_to_live, |bytes, old, new| {
        replace(bytes, IP + 10, old, new);
    });
    let [src, dst] = [new.src, new.dst].map(|addr| addr.octets());
    store(bytes, ADDRESSES, &[src, dst].concat(), |bytes, old, new| {
        replace(bytes, IP + 10, old, new);
        if half_done {
            // Not complemented: what is added elsewhere is subtracted here.
            replace(bytes, sum, new, old);
        } else {
            replace(bytes, sum, old, new);
        }
    });
    let [src, dst] = [new.numbers.src_port, new.numbers.dst_port].map(u16::to_be_bytes);
    store(bytes, PORTS, &[src, dst].concat(), |bytes, old, new| {
        if !half_done {
            replace(bytes, sum, old, new);
        }
    });
}

fn store(bytes: &mut [u8], at: usize, new: &[u8], update: impl Fn(&mut [u8], &[u8], &[u8])) {
    let old = bytes[at..at + new.len()].to_vec();
    update(bytes, &old, new);
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// RFC 1624 §3, equation 3, word by word; a sum of 0 is written as 0xffff.
fn replace(bytes: &mut [u8], at: usize, old: &[u8], new: &[u8]) {
    let words = |bytes: &[u8]| -> u32 {
        let pairs = bytes.chunks_exact(2);
        pairs
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum()
    };
    let count = old.len() as u32 / 2;
    let was = word(bytes, at).unwrap_or_default();
    let mut sum = u32::from(!was) + (count * 0xffff - words(old)) + words(new);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    };
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// A datapath, and the kernel beside it.
pub struct Geared {
    /// The datapath, its clock, and what leaves.
    pub lab: Lab,
    /// The kernel.
    pub kernel: Kernel,
    /// How many frames the kernel has carried.
    pub carried: u64,
}

impl Geared {
    /// Has the kernel carry what comes and goes by these ports.
    pub fn new(mut lab: Lab, ports: &[PortId]) -> Self {
        lab.datapath.carry_flows();
        for port in ports {
            lab.datapath.set_reach(*port, Reach::Kernel);
        }
        Self {
            lab,
            kernel: Kernel::default(),
            carried: 0,
        }
    }

    /// Puts a frame in at a port, and returns what leaves because of it.
    pub fn send_with(&mut self, port: PortId, bytes: &[u8], offload: Offload) -> Vec<Sent> {
        if let Some(sent) = self.kernel.carry(port, bytes, offload) {
            self.carried += 1;
            return vec![sent];
        }
        let sent = self.lab.send_with(port, bytes, offload);
        self.settle();
        sent
    }

    /// The same for a frame without offload remarks.
    pub fn send(&mut self, port: PortId, bytes: &[u8]) -> Vec<Sent> {
        self.send_with(port, bytes, Offload::NONE)
    }

    /// The kernel does what it is told.
    pub fn settle(&mut self) {
        let orders = self.lab.datapath.carriage();
        if !orders.changes.is_empty() {
            let ended = self.kernel.obey(&orders);
            let datapath = &mut self.lab.datapath;
            datapath.carried_to_the_end(self.lab.now, &ended);
            datapath.carriage_settled(orders.number);
        }
    }

    /// The engine learns what the kernel has counted.
    pub fn report(&mut self) {
        let counted = self.kernel.counted();
        let (now, obeyed) = (self.lab.now, self.kernel.obeyed);
        self.lab.datapath.carried(now, obeyed, &counted);
        self.lab.datapath.leave_silent(now);
        self.settle();
    }

    /// Lets time pass, with a report each second, and returns what leaves meanwhile.
    pub fn pass(&mut self, time: Duration) -> Vec<Sent> {
        let mut left = time;
        let mut sent = Vec::new();
        while !left.is_zero() {
            let step = left.min(Duration::from_secs(1));
            left -= step;
            sent.extend(self.lab.pass(step));
            self.settle();
            self.report();
        }
        sent
    }
}
