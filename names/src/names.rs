//! What comes in and what is to be done.

use core::net::{IpAddr, SocketAddr};

use ahash::RandomState;
use hashbrown::HashMap;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use pontoon_packet::Timestamp;

use crate::forwarder::Forwarder;
use crate::message::{Fault, Query};
use crate::pending::Limits;
use crate::zone::{Found, Zone};
use crate::{Action, Client, DropReason, Key, Step, Transport, ZoneId, reply};

/// The zones of all networks, and the queries that are being asked elsewhere.
#[derive(Debug)]
pub struct Names {
    zones: HashMap<ZoneId, Zone, RandomState>,
    forwarder: Forwarder,
}

impl Names {
    /// No zones, no upstreams. `seeds` key the tables.
    pub fn new(limits: Limits, seeds: [u64; 4]) -> Self {
        let [a, b, c, d] = seeds;
        let hasher = RandomState::with_seeds(a, b, c, d);
        Self {
            zones: HashMap::with_hasher(hasher.clone()),
            forwarder: Forwarder::new(limits, hasher),
        }
    }

    /// Adds the zone of a network, in the place of the one it had.
    pub fn insert_zone(&mut self, id: ZoneId, zone: Zone) {
        self.zones.insert(id, zone);
    }

    /// The zone of a network, to be changed.
    pub fn zone_mut(&mut self, id: ZoneId) -> Option<&mut Zone> {
        self.zones.get_mut(&id)
    }

    /// Removes the zone of a network and gives up its queries. Says which, so that what was opened
    /// for them can be closed.
    pub fn remove_zone(&mut self, id: ZoneId) -> Vec<Key> {
        self.zones.remove(&id);
        let keys = self.forwarder.table.of_zone(id);
        self.give_up(keys)
    }

    /// Forgets what only `client` sees of its zone and gives up its queries, as when it is detached.
    /// Says which, so that what was opened for them can be closed.
    pub fn forget_client(&mut self, zone: ZoneId, client: IpAddr) -> Vec<Key> {
        if let Some(zone) = self.zones.get_mut(&zone) {
            zone.forget_client(client);
        }
        let keys = self.forwarder.table.of((zone, client)).collect();
        self.give_up(keys)
    }

    /// Whom to ask what no zone knows, in that order, of every client that has none of its own.
    /// Queries under way go on with these when the one they wait for does not answer.
    pub fn set_upstreams(&mut self, upstreams: &[SocketAddr]) {
        self.forwarder.set_upstreams(upstreams);
    }

    /// Queries under way.
    pub fn pending(&self) -> usize {
        self.forwarder.table.len()
    }

    /// A message of a client. `random` must be fresh and unpredictable: it becomes the id of what is
    /// forwarded, and chooses which of several addresses comes first.
    ///
    /// Served are standard queries for one name of class IN (RFC 1035 §4.1.2, RFC 9619 §4). Others are
    /// answered FORMERR (malformed), NOTIMP (opcode, zone transfer), REFUSED (class, length) or
    /// BADVERS (RFC 6891 §6.1.3).
    pub fn query(
        &mut self,
        now: Timestamp,
        random: u64,
        client: Client,
        transport: Transport,
        bytes: &[u8],
    ) -> Action {
        let Some(zone) = self.zones.get(&client.zone) else {
            return Action::Drop(DropReason::NoZone);
        };
        let query = match Query::read(bytes) {
            Ok(query) => query,
            Err(Fault::Drop(reason)) => return Action::Drop(reason),
            Err(Fault::Answer(answer)) => return Action::Answer(answer),
        };
        let ip = client.addr.ip();
        let answer = match self.find(zone, ip, &query.question.name) {
            Found::Addresses(addrs) => {
                let addrs = chosen(addrs, query.question.query_type, random >> 16);
                reply::addresses(&query, &addrs, reply::limit(&query, transport))
            }
            Found::Pointer(name) => reply::pointer(&query, name),
            Found::Nothing => reply::error(&query, ResponseCode::NXDomain),
            Found::Refused => reply::error(&query, ResponseCode::Refused),
            Found::Elsewhere => {
                let own = zone.client_upstreams(ip);
                let asker = (client, transport);
                let id = random as u16;
                return self.forwarder.begin(now, id, asker, query, bytes, own);
            }
        };
        Action::Answer(answer)
    }

    /// A message from `from` on what was opened for `key`. `None` if it is not the answer to what was
    /// asked (RFC 5452 §9.1): wait on. An upstream that answers SERVFAIL or REFUSED is passed over as
    /// long as there is one that was not asked yet.
    pub fn response(
        &mut self,
        now: Timestamp,
        key: Key,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Option<Step> {
        self.forwarder.response(now, key, from, bytes)
    }

    /// `upstream` cannot be asked for `key`: port unreachable, connection refused, reset or closed, no
    /// route. `None` if nobody waits for it any more.
    pub fn failed(&mut self, now: Timestamp, key: Key, upstream: SocketAddr) -> Option<Step> {
        self.forwarder.failed(now, key, upstream)
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.forwarder.table.first_deadline()
    }

    /// Goes on with every query whose upstream had its two seconds: the next one, each twice at most,
    /// and then SERVFAIL for the client.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Vec<Step> {
        self.forwarder.handle_timeout(now)
    }

    /// What `client` is to know about `name`: of its zone, and of the others it may look into.
    fn find<'a>(&'a self, zone: &'a Zone, client: IpAddr, name: &Name) -> Found<'a> {
        let found = zone.find(client, name);
        if found.is_known() {
            return found;
        }
        let others = zone.client_zones(client).iter();
        let mut others = others.filter_map(|id| Some(self.zones.get(id)?.find(client, name)));
        others.find(Found::is_known).unwrap_or(found)
    }

    fn give_up(&mut self, keys: Vec<Key>) -> Vec<Key> {
        for key in &keys {
            self.forwarder.table.remove(*key);
        }
        keys
    }
}

/// Those of `addrs` that were asked for, beginning with any of them.
fn chosen(mut addrs: Vec<IpAddr>, kind: RecordType, random: u64) -> Vec<IpAddr> {
    addrs.retain(|addr| match kind {
        RecordType::A => addr.is_ipv4(),
        RecordType::AAAA => addr.is_ipv6(),
        other => other == RecordType::ANY,
    });
    if !addrs.is_empty() {
        let first = random % addrs.len() as u64;
        addrs.rotate_left(first as usize);
    }
    addrs
}
