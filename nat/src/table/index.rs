//! Finding connections: by tuple, and masqueraded ones by either end of their mapping.

use core::hash::{BuildHasher, Hasher};

use ahash::RandomState;
use hashbrown::HashTable;
use pontoon_packet::{Endpoint, Timestamp};

use super::connection::{Connection, Kind};
use super::ring::Ring;
use super::{AHEAD, ConnId, Table, second};
use crate::tuple::feed_address;
use crate::wheel::NONE;
use crate::{Direction, Tuple};

impl Table {
    /// The connection that a packet with this tuple belongs to, and which way it goes.
    pub(crate) fn find(&self, now: Timestamp, tuple: &Tuple) -> Option<(ConnId, Direction)> {
        let all = &self.connections.0;
        let hash = hash_tuple(&self.hasher, tuple);
        let entry = *self
            .by_tuple
            .find(hash, |entry| tuple_of(all, *entry) == *tuple)?;
        let connection = &all[(entry >> 1) as usize];
        if connection.expires <= second(now) {
            return None;
        }
        let id = ConnId {
            slot: entry >> 1,
            generation: connection.generation,
        };
        Some((id, direction_of(entry)))
    }

    /// Reads what packets with these tuples will need, and says where it lies. The steps are taken
    /// for all of them in turn, so that the memory they wait for is fetched side by side. A place may
    /// be a wrong guess: only the hash is compared.
    pub(crate) fn warm(&self, tuples: &[Option<Tuple>; AHEAD]) -> [u32; AHEAD] {
        let hash = |tuple: &Tuple| hash_tuple(&self.hasher, tuple);
        let hashes = tuples.each_ref().map(|tuple| tuple.as_ref().map(hash));
        let slots = hashes.map(|hash| {
            let entry = self.by_tuple.find(hash?, |_| true)?;
            Some(entry >> 1)
        });
        let slots = slots.map(|slot| slot.unwrap_or(NONE));
        for slot in slots {
            if let Some(connection) = self.connections.0.get(slot as usize) {
                core::hint::black_box(connection.touch());
            }
        }
        slots
    }

    /// Takes a connection that has ended but was not swept out of the way of its tuple.
    pub(crate) fn bury(&mut self, now: Timestamp, tuple: &Tuple) {
        let all = &self.connections.0;
        let hash = hash_tuple(&self.hasher, tuple);
        let found = self
            .by_tuple
            .find(hash, |entry| tuple_of(all, *entry) == *tuple);
        if let Some(slot) = found.map(|entry| entry >> 1)
            && all[slot as usize].expires <= second(now)
        {
            self.remove(slot);
        }
    }

    pub(crate) fn is_taken(&self, tuple: &Tuple) -> bool {
        let all = &self.connections.0;
        let hash = hash_tuple(&self.hasher, tuple);
        self.by_tuple
            .find(hash, |entry| tuple_of(all, *entry) == *tuple)
            .is_some()
    }

    /// The external endpoint that an inside endpoint uses.
    pub(crate) fn external_of(&self, protocol: u8, inside: Endpoint) -> Option<Endpoint> {
        let slot = self.find_end(&self.by_inside, protocol, inside, inside_end)?;
        Some(external_end(&self.connections.0[slot as usize]))
    }

    /// The external endpoint belongs to somebody.
    pub(crate) fn is_mapped(&self, protocol: u8, external: Endpoint) -> bool {
        self.find_end(&self.by_external, protocol, external, external_end)
            .is_some()
    }

    pub(super) fn index(&mut self, slot: u32) {
        let Self {
            connections,
            by_tuple,
            hasher,
            ..
        } = self;
        let all = &connections.0;
        let rehash = |entry: &u32| hash_tuple(hasher, &tuple_of(all, *entry));
        for (direction, tuple) in all[slot as usize].both().iter().enumerate() {
            by_tuple.insert_unique(
                hash_tuple(hasher, tuple),
                slot << 1 | direction as u32,
                rehash,
            );
        }
        if self.connections.0[slot as usize].kind == Kind::Masqueraded {
            self.join_mapping(slot);
        }
    }

    pub(super) fn unindex(&mut self, slot: u32) {
        if self.connections.0[slot as usize].kind == Kind::Masqueraded {
            self.leave_mapping(slot);
        }
        for (direction, tuple) in self.connections.0[slot as usize].both().iter().enumerate() {
            let entry = slot << 1 | direction as u32;
            let hash = hash_tuple(&self.hasher, tuple);
            if let Ok(found) = self.by_tuple.find_entry(hash, |other| *other == entry) {
                found.remove();
            }
        }
    }

    fn find_end(
        &self,
        index: &HashTable<u32>,
        protocol: u8,
        end: Endpoint,
        of: fn(&Connection) -> Endpoint,
    ) -> Option<u32> {
        let all = &self.connections.0;
        let hash = hash_end(&self.hasher, protocol, end);
        let same = |slot: &u32| {
            let connection = &all[*slot as usize];
            of(connection) == end && connection.tuples.protocol() == protocol
        };
        index.find(hash, same).copied()
    }

    fn join_mapping(&mut self, slot: u32) {
        let connection = &self.connections.0[slot as usize];
        let protocol = connection.tuples.protocol();
        let (inside, external) = (inside_end(connection), external_end(connection));
        if let Some(first) = self.find_end(&self.by_inside, protocol, inside, inside_end) {
            self.ring_insert(slot, first, |c| &mut c.mapping);
            return;
        }
        self.connections.0[slot as usize].mapping = Ring::of_one(slot);
        let Self {
            connections,
            by_inside,
            by_external,
            hasher,
            ..
        } = self;
        let (all, hasher) = (&connections.0, &*hasher);
        let rehash = |of: fn(&Connection) -> Endpoint| {
            move |other: &u32| {
                let other = &all[*other as usize];
                hash_end(hasher, other.tuples.protocol(), of(other))
            }
        };
        by_inside.insert_unique(hash_end(hasher, protocol, inside), slot, rehash(inside_end));
        by_external.insert_unique(
            hash_end(hasher, protocol, external),
            slot,
            rehash(external_end),
        );
    }

    fn leave_mapping(&mut self, slot: u32) {
        let connection = self.connections.0[slot as usize];
        let protocol = connection.tuples.protocol();
        let heir = self.ring_remove(slot, |c| &mut c.mapping);
        let Self {
            by_inside,
            by_external,
            hasher,
            ..
        } = self;
        let ends = [
            (by_inside, inside_end(&connection)),
            (by_external, external_end(&connection)),
        ];
        for (index, end) in ends {
            let hash = hash_end(hasher, protocol, end);
            if let Ok(mut found) = index.find_entry(hash, |other| *other == slot) {
                match heir {
                    Some(heir) => *found.get_mut() = heir,
                    None => {
                        found.remove();
                    }
                }
            }
        }
    }
}

fn tuple_of(all: &[Connection], entry: u32) -> Tuple {
    all[(entry >> 1) as usize].tuples.of(direction_of(entry))
}

const fn direction_of(entry: u32) -> Direction {
    if entry & 1 == 0 {
        Direction::Original
    } else {
        Direction::Reply
    }
}

/// The end that a masqueraded flow has inside.
fn inside_end(connection: &Connection) -> Endpoint {
    connection.tuples.of(Direction::Original).src
}

/// The end that it has outside.
fn external_end(connection: &Connection) -> Endpoint {
    connection.tuples.of(Direction::Reply).dst
}

fn hash_tuple(hasher: &RandomState, tuple: &Tuple) -> u64 {
    let mut state = hasher.build_hasher();
    tuple.feed(&mut state);
    state.finish()
}

fn hash_end(hasher: &RandomState, protocol: u8, end: Endpoint) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_u32(u32::from(end.port) << 8 | u32::from(protocol));
    feed_address(end.addr, &mut state);
    state.finish()
}
