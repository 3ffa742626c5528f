//! The table of connections.

use core::hash::{BuildHasher, Hasher};
use core::time::Duration;

use ahash::RandomState;
use hashbrown::{HashMap, HashTable};
use pontoon_packet::{Endpoint, Timestamp};

use crate::compact::Tuples;
use crate::resume::Resumable;
use crate::tcp::Tracker;
use crate::tuple::feed_address;
use crate::wheel::{Linked, Links, NONE, Wheel};
use crate::{Direction, Limits, Owner, Refusal, Tuple};

/// Names a connection as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// Place in the table; reused.
    pub slot: u32,
    /// Tells the users of one place apart.
    pub generation: u32,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames; a super-frame counts once.
    pub packets: u64,
    /// Bytes of IP datagrams.
    pub bytes: u64,
}

/// A connection as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowView {
    /// What the first packet looked like.
    pub original: Tuple,
    /// What replies look like.
    pub reply: Tuple,
    /// TCP state, or nothing.
    pub state: &'static str,
    /// Time until it ends when nothing more comes.
    pub expires_in: Duration,
    /// Both sides agreed to it, and it is not over: never evicted.
    pub assured: bool,
    /// Whose share it counts to.
    pub owner: Owner,
    /// By direction.
    pub traffic: [Traffic; 2],
}

/// What the table holds of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) tuples: Tuples,
    pub(crate) tcp: Tracker,
    pub(crate) traffic: [Traffic; 2],
    /// Second at which it ends.
    pub(crate) expires: u32,
    generation: u32,
    pub(crate) owner: Owner,
    /// The reply direction has been seen.
    pub(crate) replied: bool,
    pub(crate) assured: bool,
    pub(crate) masqueraded: bool,
    pub(crate) relayed: bool,
    live: bool,
    /// Stands in [`Table::changed`].
    noted: bool,
    wheel: Links,
    /// Others of the same owner that may be evicted, oldest first.
    evictable: Ring,
    /// Others with the same mapping.
    mapping: Ring,
}

/// Links in a circular list.
#[derive(Clone, Copy, Debug)]
struct Ring {
    next: u32,
    previous: u32,
}

const ALONE: Ring = Ring {
    next: NONE,
    previous: NONE,
};

#[derive(Clone, Copy, Debug)]
struct Share {
    flows: usize,
    half_open: usize,
    /// Oldest evictable flow.
    oldest: u32,
}

impl Share {
    const EMPTY: Self = Self {
        flows: 0,
        half_open: 0,
        oldest: NONE,
    };
}

/// How often a cap was hit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pressure {
    pub(crate) evicted: u64,
    pub(crate) table_full: u64,
    pub(crate) share_full: u64,
    pub(crate) half_open_full: u64,
}

/// Connections, found by either tuple in constant time.
///
/// * Cap: [`Limits::flows`], [`Limits::flows_per_owner`], [`Limits::half_open_per_owner`].
/// * Ageing: a timing wheel; a connection that is over but not yet swept is not found any more.
/// * Eviction: only flows that are not assured, or over (TCP in TIME_WAIT or CLOSE). An owner at its
///   own cap loses its own oldest. When the table is full, [`SAMPLES`] places drawn at random tell whose share is largest, and that owner
///   loses its oldest: who floods evicts himself.
/// * Invariant: a connection is indexed by both tuples or by neither.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) connections: Connections,
    free: Vec<u32>,
    by_tuple: HashTable<u32>,
    /// One flow of each mapping, by protocol and inside endpoint.
    by_inside: HashTable<u32>,
    /// The same by protocol and external endpoint.
    by_external: HashTable<u32>,
    shares: HashMap<Owner, Share, RandomState>,
    wheel: Wheel,
    hasher: RandomState,
    limits: Limits,
    live: usize,
    random: u64,
    /// Relayed connections that were taken out; no more than there were.
    pub(crate) ended: Vec<ConnId>,
    /// Places of established connections that have changed; each once.
    pub(crate) changed: Vec<u32>,
    pub(crate) pressure: Pressure,
}

#[derive(Debug, Default)]
pub(crate) struct Connections(Vec<Connection>);

impl Linked for Connections {
    fn links(&mut self, index: u32) -> &mut Links {
        &mut self.0[index as usize].wheel
    }
}

/// Packets whose state is fetched side by side. Our choice: what a processor can wait for at a time.
pub const AHEAD: usize = 16;
/// Places looked at to find out who floods. Our choice: with 16, an owner of half of the table is
/// missed once in 65 536.
const SAMPLES: usize = 16;
/// How many of an owner's evictable flows are looked at to find a handshake.
const HALF_OPEN_SCAN: usize = 64;

/// A connection about to enter the table.
pub(crate) struct NewConnection {
    pub(crate) tuples: Tuples,
    pub(crate) tcp: Tracker,
    pub(crate) owner: Owner,
    pub(crate) expires: u32,
    pub(crate) half_open: bool,
    pub(crate) masqueraded: bool,
    pub(crate) relayed: bool,
}

impl Table {
    pub(crate) fn new(limits: Limits, seeds: [u64; 4]) -> Self {
        let [a, b, c, d] = seeds;
        let hasher = RandomState::with_seeds(a, b, c, d);
        Self {
            connections: Connections::default(),
            free: Vec::new(),
            by_tuple: HashTable::new(),
            by_inside: HashTable::new(),
            by_external: HashTable::new(),
            shares: HashMap::with_hasher(hasher.clone()),
            wheel: Wheel::new(),
            hasher,
            limits,
            live: 0,
            random: a ^ d | 1,
            ended: Vec::new(),
            changed: Vec::new(),
            pressure: Pressure::default(),
        }
    }

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

    pub(crate) fn get(&self, id: ConnId) -> Option<&Connection> {
        let connection = self.connections.0.get(id.slot as usize)?;
        (connection.live && connection.generation == id.generation).then_some(connection)
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        let connection = self.connections.0.get_mut(id.slot as usize)?;
        (connection.live && connection.generation == id.generation).then_some(connection)
    }

    pub(crate) fn len(&self) -> usize {
        self.live
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

    /// Makes room within the caps, at the expense of who fills them.
    pub(crate) fn make_room(&mut self, owner: Owner, half_open: bool) -> Result<(), Refusal> {
        if half_open {
            self.make_room_for_handshake(owner)?;
        }
        if self.share(owner).flows >= self.limits.flows_per_owner {
            self.pressure.share_full += 1;
            self.evict_oldest(owner).ok_or(Refusal::ShareFull)?;
        }
        if self.live >= self.limits.flows {
            self.pressure.table_full += 1;
            let victim = self.largest_share().ok_or(Refusal::TableFull)?;
            self.evict_oldest(victim).ok_or(Refusal::TableFull)?;
        }
        Ok(())
    }

    /// The same for a handshake of a connection that is in the table already.
    pub(crate) fn make_room_for_handshake(&mut self, owner: Owner) -> Result<(), Refusal> {
        let share = self.share(owner);
        if share.half_open >= self.limits.half_open_per_owner {
            self.pressure.half_open_full += 1;
            let victim = self.oldest_half_open(share).ok_or(Refusal::HalfOpenFull)?;
            self.evict(victim);
        }
        Ok(())
    }

    fn share(&self, owner: Owner) -> Share {
        self.shares.get(&owner).copied().unwrap_or(Share::EMPTY)
    }

    /// Puts a connection in. The caller has made room and seen to it that neither tuple is taken.
    pub(crate) fn insert(&mut self, new: NewConnection) -> ConnId {
        let slot = self.free.pop().unwrap_or(self.connections.0.len() as u32);
        let old = self.connections.0.get(slot as usize);
        let generation = old.map_or(0, |old| old.generation.wrapping_add(1));
        let noted = old.is_some_and(|old| old.noted);
        let connection = Connection {
            tuples: new.tuples,
            tcp: new.tcp,
            traffic: [Traffic::default(); 2],
            expires: new.expires,
            generation,
            owner: new.owner,
            replied: false,
            assured: false,
            masqueraded: new.masqueraded,
            relayed: new.relayed,
            live: true,
            noted,
            wheel: Links::UNLINKED,
            evictable: ALONE,
            mapping: ALONE,
        };
        match self.connections.0.get_mut(slot as usize) {
            Some(place) => *place = connection,
            None => self.connections.0.push(connection),
        }
        self.live += 1;
        self.index(slot);
        self.wheel
            .link(&mut self.connections, slot, u64::from(new.expires));
        let share = self.shares.entry(new.owner).or_insert(Share::EMPTY);
        share.flows += 1;
        share.half_open += usize::from(new.half_open);
        self.join_evictable(slot);
        ConnId { slot, generation }
    }

    /// Both sides have agreed to the connection: it is not evicted any more.
    pub(crate) fn assure(&mut self, slot: u32) {
        let connection = &mut self.connections.0[slot as usize];
        if !connection.assured {
            connection.assured = true;
            self.leave_evictable(slot);
            self.note(slot);
        }
    }

    /// The connection is over, or begins anew: it may be evicted again.
    pub(crate) fn unassure(&mut self, slot: u32) {
        let connection = &mut self.connections.0[slot as usize];
        if connection.assured {
            connection.assured = false;
            self.join_evictable(slot);
            self.note(slot);
        }
    }

    /// What is written down of an established connection has changed.
    pub(crate) fn note(&mut self, slot: u32) {
        let connection = &mut self.connections.0[slot as usize];
        if !core::mem::replace(&mut connection.noted, true) {
            self.changed.push(slot);
        }
    }

    /// How a connection that was noted stands; `None` when there is none, or it is not established.
    pub(crate) fn take_change(&mut self, slot: u32) -> Option<Resumable> {
        let connection = self.connections.0.get_mut(slot as usize)?;
        connection.noted = false;
        connection.live.then(|| connection.resumable()).flatten()
    }

    /// The deadline of a connection has moved towards the present: the wheel must come to it sooner.
    pub(crate) fn hasten(&mut self, slot: u32) {
        let expires = u64::from(self.connections.0[slot as usize].expires);
        self.wheel.unlink(&mut self.connections, slot);
        self.wheel.link(&mut self.connections, slot, expires);
    }

    /// A handshake of the owner has ended, one way or the other.
    pub(crate) fn count_half_open(&mut self, owner: Owner, change: isize) {
        if let Some(share) = self.shares.get_mut(&owner) {
            share.half_open = share.half_open.saturating_add_signed(change);
        }
    }

    /// Takes a connection out.
    pub(crate) fn remove(&mut self, slot: u32) {
        let connection = self.connections.0[slot as usize];
        if !connection.live {
            return;
        }
        self.unindex(slot);
        self.wheel.unlink(&mut self.connections, slot);
        if connection.assured {
            self.note(slot);
        } else {
            self.leave_evictable(slot);
        }
        if connection.relayed {
            let generation = connection.generation;
            self.ended.push(ConnId { slot, generation });
        }
        self.connections.0[slot as usize].live = false;
        self.free.push(slot);
        self.live -= 1;
        self.leave_share(&connection);
    }

    /// Takes out every connection of which `ends` says so. For rare events: it looks at all of them.
    pub(crate) fn remove_where(&mut self, ends: impl Fn(&Connection) -> bool) {
        for slot in 0..self.connections.0.len() as u32 {
            let connection = &self.connections.0[slot as usize];
            if connection.live && ends(connection) {
                self.remove(slot);
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.wheel.next_slot().map(Timestamp::from_secs)
    }

    /// Sweeps what has ended by `now`, but no more than `budget` connections.
    pub(crate) fn sweep(&mut self, now: Timestamp, budget: usize) {
        let now = second(now);
        for _ in 0..budget {
            let Some(slot) = self.wheel.pop(&mut self.connections, u64::from(now)) else {
                return;
            };
            let expires = self.connections.0[slot as usize].expires;
            if expires <= now {
                self.remove(slot);
            } else {
                self.wheel
                    .link(&mut self.connections, slot, u64::from(expires));
            }
        }
    }

    pub(crate) fn skip_to(&mut self, now: Timestamp) {
        self.wheel.skip_to(u64::from(second(now)));
    }

    pub(crate) fn views(&self, now: Timestamp) -> impl Iterator<Item = FlowView> {
        let now = second(now);
        self.connections
            .0
            .iter()
            .filter(move |c| c.live && c.expires > now)
            .map(move |c| {
                let [original, reply] = c.both();
                let tcp = original.protocol == pontoon_packet::parse::protocol::TCP;
                FlowView {
                    original,
                    reply,
                    state: if tcp { c.tcp.state.name() } else { "" },
                    expires_in: Duration::from_secs(u64::from(c.expires - now)),
                    assured: c.assured,
                    owner: c.owner,
                    traffic: c.traffic,
                }
            })
    }

    /// A number that outsiders cannot predict: xorshift64* (Marsaglia 2003, Vigna 2016), seeded.
    pub(crate) fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
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

    fn index(&mut self, slot: u32) {
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
        if self.connections.0[slot as usize].masqueraded {
            self.join_mapping(slot);
        }
    }

    fn unindex(&mut self, slot: u32) {
        if self.connections.0[slot as usize].masqueraded {
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

    fn join_mapping(&mut self, slot: u32) {
        let connection = &self.connections.0[slot as usize];
        let protocol = connection.tuples.protocol();
        let (inside, external) = (inside_end(connection), external_end(connection));
        if let Some(first) = self.find_end(&self.by_inside, protocol, inside, inside_end) {
            self.ring_insert(slot, first, |c| &mut c.mapping);
            return;
        }
        self.connections.0[slot as usize].mapping = Ring {
            next: slot,
            previous: slot,
        };
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

    fn join_evictable(&mut self, slot: u32) {
        let owner = self.connections.0[slot as usize].owner;
        let Some(share) = self.shares.get_mut(&owner) else {
            return;
        };
        if share.oldest == NONE {
            share.oldest = slot;
            self.connections.0[slot as usize].evictable = Ring {
                next: slot,
                previous: slot,
            };
        } else {
            let oldest = share.oldest;
            self.ring_insert(slot, oldest, |c| &mut c.evictable);
        }
    }

    fn leave_evictable(&mut self, slot: u32) {
        let owner = self.connections.0[slot as usize].owner;
        let heir = self.ring_remove(slot, |c| &mut c.evictable);
        if let Some(share) = self.shares.get_mut(&owner)
            && share.oldest == slot
        {
            share.oldest = heir.unwrap_or(NONE);
        }
    }

    fn leave_share(&mut self, connection: &Connection) {
        let half_open = connection.is_half_open();
        let Some(share) = self.shares.get_mut(&connection.owner) else {
            return;
        };
        share.flows -= 1;
        share.half_open = share.half_open.saturating_sub(usize::from(half_open));
        if share.flows == 0 {
            self.shares.remove(&connection.owner);
        }
    }

    /// Puts `slot` in front of `at` in a ring, which is the end when `at` is the first.
    fn ring_insert(&mut self, slot: u32, at: u32, ring: fn(&mut Connection) -> &mut Ring) {
        let all = &mut self.connections.0;
        let previous = ring(&mut all[at as usize]).previous;
        *ring(&mut all[slot as usize]) = Ring { next: at, previous };
        ring(&mut all[previous as usize]).next = slot;
        ring(&mut all[at as usize]).previous = slot;
    }

    /// Takes `slot` out of its ring; says who came after it.
    fn ring_remove(&mut self, slot: u32, ring: fn(&mut Connection) -> &mut Ring) -> Option<u32> {
        let all = &mut self.connections.0;
        let Ring { next, previous } = *ring(&mut all[slot as usize]);
        *ring(&mut all[slot as usize]) = ALONE;
        if next == slot || next == NONE {
            return None;
        }
        ring(&mut all[next as usize]).previous = previous;
        ring(&mut all[previous as usize]).next = next;
        Some(next)
    }

    fn oldest_half_open(&self, share: Share) -> Option<u32> {
        let all = &self.connections.0;
        let next = |slot: &u32| Some(all[*slot as usize].evictable.next);
        core::iter::successors((share.oldest != NONE).then_some(share.oldest), next)
            .take(HALF_OPEN_SCAN)
            .find(|slot| all[*slot as usize].is_half_open())
    }

    fn largest_share(&mut self) -> Option<Owner> {
        let mut largest: Option<(usize, Owner)> = None;
        for _ in 0..SAMPLES {
            let at = self.next_random() % self.connections.0.len().max(1) as u64;
            let Some(connection) = self.connections.0.get(at as usize) else {
                continue;
            };
            let owner = connection.owner;
            let evictable = |share: &&Share| connection.live && share.oldest != NONE;
            let Some(share) = self.shares.get(&owner).filter(evictable) else {
                continue;
            };
            if largest.is_none_or(|(flows, _)| share.flows > flows) {
                largest = Some((share.flows, owner));
            }
        }
        largest.map(|(_, owner)| owner)
    }

    fn evict_oldest(&mut self, owner: Owner) -> Option<()> {
        let oldest = self.shares.get(&owner)?.oldest;
        (oldest != NONE).then(|| self.evict(oldest))
    }

    fn evict(&mut self, slot: u32) {
        self.pressure.evicted += 1;
        self.remove(slot);
    }
}

impl Connection {
    /// What packets look like, by direction.
    pub(crate) fn both(&self) -> [Tuple; 2] {
        [Direction::Original, Direction::Reply].map(|direction| self.tuples.of(direction))
    }

    /// Reads a little of every cache line of it.
    fn touch(&self) -> u64 {
        let [sent, received] = &self.traffic;
        u64::from(self.tuples.touch() ^ u16::from(self.live))
            ^ u64::from(self.expires ^ self.evictable.next ^ self.tcp.touch())
            ^ sent.bytes
            ^ received.packets
    }

    fn is_half_open(&self) -> bool {
        self.tuples.protocol() == pontoon_packet::parse::protocol::TCP
            && self.tcp.state.is_half_open()
    }
}

/// The second that a moment lies in; also the resolution of all deadlines.
pub(crate) const fn second(now: Timestamp) -> u32 {
    (now.as_nanos() / 1_000_000_000) as u32
}

/// The second by which `timeout` has passed for certain.
pub(crate) fn deadline(now: Timestamp, timeout: Duration) -> u32 {
    second(now + timeout + Duration::from_nanos(999_999_999))
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
