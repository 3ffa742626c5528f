//! Putting fragments together again, in bounded memory (RFC 791 §3.2, RFC 815, RFC 1858, RFC 5722).

use core::net::IpAddr;

use ahash::RandomState;
use hashbrown::HashMap;
use pontoon_packet::checksum::checksum;
use pontoon_packet::parse::protocol;
use pontoon_packet::{Facts, Fragment, Ip, Timestamp};

use crate::{Limits, Owner, Refusal};

/// A datagram that is whole again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassembled {
    /// A frame: the Ethernet and IP headers of the first fragment, all of the payload.
    pub bytes: Vec<u8>,
    /// IP length of the largest fragment, in bytes: whoever cuts the datagram again cuts it no
    /// larger (Linux `frag_max_size`).
    pub largest_fragment: u16,
}

/// A datagram that was never completed, and whose first fragment had come: what an ICMP *reassembly
/// time exceeded* may be sent about (RFC 1122 §3.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Where it came from.
    pub owner: Owner,
    /// The first fragment, as a frame.
    pub first: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    owner: Owner,
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    id: u32,
}

#[derive(Debug)]
struct Queue {
    /// Offset and payload, in order, without overlaps.
    parts: Vec<(u16, Vec<u8>)>,
    /// Ethernet and IP header of the first fragment.
    header: Option<Vec<u8>>,
    ip_start: usize,
    /// Length of the whole payload, once the last fragment has come.
    length: Option<u32>,
    largest: u16,
    dont_fragment: bool,
    bytes: usize,
    started: Timestamp,
    number: u64,
}

/// Incomplete datagrams.
///
/// Keyed by the port they came from besides the fields of RFC 791, so that two containers with equal
/// identifications never mix.
///
/// * Cap: [`Limits`]' bytes in all and per owner, and datagrams per owner. Who is over gives up his
///   own oldest; when the whole is full, the owner who sends gives up his own.
/// * Ageing: [`Limits::fragment_timeout`] after the first fragment that came.
/// * An exact duplicate is ignored; any other overlap ends the datagram.
#[derive(Debug)]
pub struct Reassembler {
    queues: HashMap<Key, Queue, RandomState>,
    held: HashMap<Owner, Held, RandomState>,
    limits: Limits,
    bytes: usize,
    started: u64,
    next_timeout: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    bytes: usize,
    queues: usize,
}

/// What an incomplete datagram costs besides its payload, so that tiny fragments count as what they
/// take.
const OVERHEAD: usize = 192;
/// The same for each of its parts: a place in the list, which may be twice as long as it needs to be,
/// and the least that is allocated for a payload.
const PART_OVERHEAD: usize = 64;

impl Reassembler {
    /// Nothing waits. `seeds` key the table.
    pub fn new(limits: Limits, seeds: [u64; 4]) -> Self {
        let [a, b, c, d] = seeds;
        let hasher = RandomState::with_seeds(b, a, d, c);
        Self {
            queues: HashMap::with_hasher(hasher.clone()),
            held: HashMap::with_hasher(hasher),
            limits,
            bytes: 0,
            started: 0,
            next_timeout: None,
        }
    }

    /// Takes a fragment; gives the datagram back once it is whole.
    ///
    /// # Errors
    /// The fragment overlaps another, is too small to be first, or there is no room for it.
    pub fn insert(
        &mut self,
        now: Timestamp,
        owner: Owner,
        frame: &[u8],
        facts: &Facts,
    ) -> Result<Option<Reassembled>, Refusal> {
        let Some((ip, part)) = facts.ip().and_then(|ip| Some((ip, ip.fragment?))) else {
            return Ok(None);
        };
        let payload = &frame[ip.l4_start()..ip.end()];
        if part.offset == 0 && payload.len() < smallest_first(ip.protocol) {
            return Err(Refusal::TinyFragment);
        }
        let key = Key {
            owner,
            src: ip.src,
            dst: ip.dst,
            protocol: ip.protocol,
            id: ip.id,
        };
        self.make_room(&key, payload.len() + PART_OVERHEAD)?;
        let queue = self.queue(now, key);
        match queue.add(part, payload) {
            Ok(added) => {
                queue.note(frame, ip, part);
                let whole = queue.is_whole();
                self.count(owner, added as isize, 0);
                match whole.then(|| self.take(&key)).flatten() {
                    Some(queue) => queue.join().map(Some),
                    None => Ok(None),
                }
            }
            Err(overlap) => {
                self.take(&key);
                Err(overlap)
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has something to do.
    pub const fn poll_timeout(&self) -> Option<Timestamp> {
        self.next_timeout
    }

    /// Gives up what has waited too long.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Vec<Expired> {
        if self.next_timeout.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let timeout = self.limits.fragment_timeout;
        let over: Vec<_> = self
            .queues
            .iter()
            .filter(|(_, queue)| queue.started + timeout <= now)
            .map(|(key, _)| *key)
            .collect();
        let expired = over
            .iter()
            .filter_map(|key| {
                let first = self.take(key)?.first()?;
                Some(Expired {
                    owner: key.owner,
                    first,
                })
            })
            .collect();
        self.next_timeout = self
            .queues
            .values()
            .map(|queue| queue.started + timeout)
            .min();
        expired
    }

    /// Gives up everything that came from `owner`.
    pub fn remove_owner(&mut self, owner: Owner) {
        let keys: Vec<_> = self
            .queues
            .keys()
            .filter(|key| key.owner == owner)
            .copied()
            .collect();
        for key in keys {
            self.take(&key);
        }
    }

    /// Bytes held.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn queue(&mut self, now: Timestamp, key: Key) -> &mut Queue {
        if !self.queues.contains_key(&key) {
            self.count(key.owner, OVERHEAD as isize, 1);
            self.started += 1;
            self.next_timeout
                .get_or_insert(now + self.limits.fragment_timeout);
        }
        let number = self.started;
        self.queues.entry(key).or_insert_with(|| Queue {
            parts: Vec::new(),
            header: None,
            ip_start: 0,
            length: None,
            largest: 0,
            dont_fragment: false,
            bytes: OVERHEAD,
            started: now,
            number,
        })
    }

    fn make_room(&mut self, key: &Key, payload: usize) -> Result<(), Refusal> {
        loop {
            let held = self.held.get(&key.owner).copied().unwrap_or_default();
            let new = !self.queues.contains_key(key);
            let bytes = payload + if new { OVERHEAD } else { 0 };
            let fits = held.bytes + bytes <= self.limits.fragment_bytes_per_owner
                && self.bytes + bytes <= self.limits.fragment_bytes
                && (!new || held.queues < self.limits.fragment_queues_per_owner);
            if fits {
                return Ok(());
            }
            let oldest = self
                .queues
                .iter()
                .filter(|(other, _)| other.owner == key.owner && *other != key)
                .min_by_key(|(_, queue)| queue.number)
                .map(|(other, _)| *other);
            self.take(&oldest.ok_or(Refusal::FragmentsFull)?);
        }
    }

    fn take(&mut self, key: &Key) -> Option<Queue> {
        let queue = self.queues.remove(key)?;
        self.count(key.owner, -(queue.bytes as isize), -1);
        if self.queues.is_empty() {
            self.next_timeout = None;
        }
        Some(queue)
    }

    fn count(&mut self, owner: Owner, bytes: isize, queues: isize) {
        let held = self.held.entry(owner).or_default();
        held.bytes = held.bytes.saturating_add_signed(bytes);
        held.queues = held.queues.saturating_add_signed(queues);
        if held.queues == 0 {
            self.held.remove(&owner);
        }
        self.bytes = self.bytes.saturating_add_signed(bytes);
    }
}

impl Queue {
    /// Puts a part in its place; says how many bytes that added.
    fn add(&mut self, part: Fragment, payload: &[u8]) -> Result<usize, Refusal> {
        let start = u32::from(part.offset);
        let end = start + payload.len() as u32;
        let at = self
            .parts
            .partition_point(|(offset, _)| *offset < part.offset);
        let same = self
            .parts
            .get(at)
            .is_some_and(|(o, p)| *o == part.offset && p == payload);
        let last_agrees = part.more || self.length.is_none_or(|length| length == end);
        if same && last_agrees {
            return Ok(0);
        }
        let before = at.checked_sub(1).and_then(|i| self.parts.get(i));
        let overlaps_before = before.is_some_and(|(o, p)| u32::from(*o) + p.len() as u32 > start);
        let overlaps_after = self.parts.get(at).is_some_and(|(o, _)| u32::from(*o) < end);
        let beyond = self
            .length
            .is_some_and(|length| end > length || (!part.more && end != length));
        let cuts = !part.more && self.parts.last().is_some_and(|(o, _)| u32::from(*o) >= end);
        if overlaps_before || overlaps_after || beyond || cuts {
            return Err(Refusal::FragmentOverlap);
        }
        self.parts.insert(at, (part.offset, payload.to_vec()));
        if !part.more {
            self.length = Some(end);
        }
        let added = payload.len() + PART_OVERHEAD;
        self.bytes += added;
        Ok(added)
    }

    fn note(&mut self, frame: &[u8], ip: &Ip, part: Fragment) {
        self.largest = self.largest.max(ip.total_len as u16);
        self.dont_fragment |= ip.dont_fragment;
        if part.offset == 0 && self.header.is_none() {
            self.header = Some(frame[..ip.l4_start()].to_vec());
            self.ip_start = usize::from(ip.start);
        }
    }

    fn is_whole(&self) -> bool {
        let Some(length) = self.length else {
            return false;
        };
        let held = self.bytes - OVERHEAD - self.parts.len() * PART_OVERHEAD;
        self.header.is_some() && held as u32 == length
    }

    /// The whole datagram.
    fn join(self) -> Result<Reassembled, Refusal> {
        let mut bytes = self.header.unwrap_or_default();
        for (_, payload) in &self.parts {
            bytes.extend_from_slice(payload);
        }
        let total =
            u16::try_from(bytes.len() - self.ip_start).map_err(|_| Refusal::OversizedDatagram)?;
        let header_len = usize::from(bytes[self.ip_start] & 0xf) * 4;
        let header = &mut bytes[self.ip_start..self.ip_start + header_len];
        header[2..4].copy_from_slice(&total.to_be_bytes());
        header[6..8].copy_from_slice(&[if self.dont_fragment { 0x40 } else { 0 }, 0]);
        header[10..12].fill(0);
        let sum = checksum(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        Ok(Reassembled {
            bytes,
            largest_fragment: self.largest,
        })
    }

    /// The first fragment as it came, but for the flags that its place in the whole implies.
    fn first(self) -> Option<Vec<u8>> {
        let (0, payload) = self.parts.first()? else {
            return None;
        };
        Some([&self.header?[..], payload].concat())
    }
}

/// Bytes of transport header that the first fragment must hold, so that nothing of it can be
/// overwritten or hidden in the second (RFC 1858 §3).
const fn smallest_first(protocol: u8) -> usize {
    match protocol {
        protocol::TCP => 20,
        protocol::UDP | protocol::ICMP => 8,
        _ => 0,
    }
}
