//! Where a frame goes.

use ahash::RandomState;
use pontoon_packet::parse::ethertype;
use pontoon_packet::{Facts, MacAddr, Timestamp};

use crate::fdb::{Fdb, FdbLimits, FdbView, Learned};
use crate::{PortId, Refusal};

/// Whether a port's link carries frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Frames pass.
    Up,
    /// No carrier: what was learned behind the port is forgotten.
    Down,
}

/// Whether the members of a bridge reach each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// They do.
    #[default]
    Off,
    /// Frames pass only between a member and the gateway or the host's own port, as between isolated ports
    /// of Linux' bridge (`br_private.h`: `br_skb_isolated`).
    On,
}

/// The bridge's decision about one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// To the one port behind which the destination is.
    Unicast(PortId),
    /// To every port but the one it came from ([`Switch::flood_ports`]).
    Flood,
    /// To the gateway.
    Local,
    /// To the gateway and to every other port: a group address.
    LocalAndFlood,
    /// Nowhere.
    Drop(Refusal),
}

#[derive(Clone, Copy, Debug)]
struct Member {
    id: PortId,
    link: LinkState,
    /// The address that is bound to it; none for the host's own port, which holds the gateway's.
    bound: Option<MacAddr>,
}

/// The bridge of one network.
#[derive(Debug)]
pub struct Switch {
    gateway: MacAddr,
    isolation: Isolation,
    fdb: Fdb,
    /// In ascending order of id.
    members: Vec<Member>,
}

impl Switch {
    /// A bridge without ports, whose gateway has the address `gateway`. `seeds` key its table.
    pub fn new(gateway: MacAddr, seeds: [u64; 4]) -> Self {
        Self::with_limits(gateway, FdbLimits::default(), seeds)
    }

    /// The same with other limits.
    pub fn with_limits(gateway: MacAddr, limits: FdbLimits, seeds: [u64; 4]) -> Self {
        let [a, b, c, d] = seeds;
        let fdb = Fdb::new(limits, RandomState::with_seeds(a, b, c, d));
        Self {
            gateway,
            isolation: Isolation::Off,
            fdb,
            members: Vec::new(),
        }
    }

    /// The same with members that reach each other or do not.
    #[must_use]
    pub fn with_isolation(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }

    /// Plugs a port in and binds a hardware address to it, which then never moves. A port of that
    /// number that was there before is pulled out, with its binding.
    pub fn add_port(&mut self, id: PortId, mac: MacAddr) {
        self.plug(id, Some(mac));
        self.fdb.bind(mac, id);
    }

    /// Plugs the host's own port in: the one that may use the gateway's address as source.
    pub fn add_host_port(&mut self, id: PortId) {
        self.plug(id, None);
    }

    /// Pulls a port out, with everything that was bound to it or learned behind it.
    pub fn remove_port(&mut self, id: PortId) {
        self.members.retain(|member| member.id != id);
        self.fdb.unplug(id);
    }

    /// Notes how a port's link stands. Says whether it stood otherwise.
    pub fn set_link(&mut self, id: PortId, link: LinkState) -> bool {
        let Ok(at) = self.position(id) else {
            return false;
        };
        let before = core::mem::replace(&mut self.members[at].link, link);
        if link == LinkState::Down {
            self.fdb.flush_learned(id);
        }
        before != link
    }

    /// Learns where a frame came from and decides where it goes.
    pub fn forward(&mut self, now: Timestamp, ingress: PortId, facts: &Facts) -> Forward {
        let reserved = facts.dst_mac.is_bridge_group() || facts.ethertype == ethertype::PAUSE;
        if reserved {
            return Forward::Drop(Refusal::ReservedGroup);
        }
        if let Err(refusal) = self.learn(now, ingress, facts.src_mac) {
            return Forward::Drop(refusal);
        }
        if facts.dst_mac == self.gateway {
            return match facts.vlan {
                None => Forward::Local,
                Some(_) => Forward::Drop(Refusal::TaggedForGateway),
            };
        }
        if facts.dst_mac.is_group() {
            return if facts.vlan.is_none() {
                Forward::LocalAndFlood
            } else {
                Forward::Flood
            };
        }
        match self.fdb.lookup(Some(now), facts.dst_mac) {
            Some(port) if port == ingress => Forward::Drop(Refusal::SamePort),
            Some(port) if !self.reaches(ingress, port) => Forward::Drop(Refusal::Isolated),
            Some(port) => Forward::Unicast(port),
            // The host's own port has the gateway's address, and waits for no other.
            None if self.is_confined(ingress) => Forward::Drop(Refusal::Isolated),
            None => Forward::Flood,
        }
    }

    /// The port behind which `mac` is, for frames that the gateway sends. An entry that is too old
    /// but not yet swept still counts.
    pub fn lookup(&self, mac: MacAddr) -> Option<PortId> {
        self.fdb.lookup(None, mac)
    }

    /// The ports to which a frame from `ingress` is flooded.
    pub fn flood_ports(&self, ingress: PortId) -> impl Iterator<Item = PortId> {
        let confined = self.is_confined(ingress);
        let reached = move |member: &&Member| {
            let open = !confined || member.bound.is_none();
            open && member.link == LinkState::Up && member.id != ingress
        };
        self.members.iter().filter(reached).map(|member| member.id)
    }

    /// Every port whose link is up, in ascending order.
    pub fn all_ports(&self) -> impl Iterator<Item = PortId> {
        self.members
            .iter()
            .filter(|m| m.link == LinkState::Up)
            .map(|m| m.id)
    }

    /// The address is bound to a port.
    pub fn is_bound(&self, mac: MacAddr) -> bool {
        self.fdb.is_bound(mac)
    }

    /// The forwarding database.
    pub fn entries(&self, now: Timestamp) -> impl Iterator<Item = FdbView> {
        self.fdb.entries(now)
    }

    /// Addresses learned and not yet forgotten.
    pub fn learned(&self) -> usize {
        self.fdb.learned()
    }

    /// How often an address was seen behind another port than before.
    pub fn moves(&self) -> u64 {
        self.fdb.moves
    }

    /// How often an address was not learned for lack of room.
    pub fn full(&self) -> u64 {
        self.fdb.full
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has something to do.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.fdb.poll_timeout()
    }

    /// Forgets what is too old.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.fdb.handle_timeout(now);
    }

    /// Addresses that are not where they were since the last call: they moved, or are forgotten because of their age.
    #[inline]
    pub fn changed(&mut self) -> Option<Vec<MacAddr>> {
        let changed = &mut self.fdb.changed;
        (!changed.is_empty()).then(|| core::mem::take(changed))
    }

    /// The address was seen as a source at its port by somebody else: if it is still there, it stays for longer.
    pub fn refresh(&mut self, now: Timestamp, port: PortId, mac: MacAddr) {
        self.fdb.refresh(now, port, mac);
    }

    fn reaches(&self, ingress: PortId, egress: PortId) -> bool {
        !self.is_confined(ingress) || !self.is_confined(egress)
    }

    /// The port is a member that reaches no other one.
    fn is_confined(&self, id: PortId) -> bool {
        let bound = || {
            self.position(id)
                .is_ok_and(|at| self.members[at].bound.is_some())
        };
        self.isolation == Isolation::On && bound()
    }

    fn learn(&mut self, now: Timestamp, ingress: PortId, src: MacAddr) -> Result<(), Refusal> {
        let at = self.position(ingress).map_err(|_| Refusal::PortDown)?;
        let member = self.members[at];
        if !src.is_valid_source() {
            return Err(Refusal::InvalidSource);
        }
        if member.bound == Some(src) && src != self.gateway {
            return Ok(());
        }
        if src == self.gateway {
            return match member.bound {
                None => Ok(()),
                Some(_) => Err(Refusal::GatewaySource),
            };
        }
        match self.fdb.learn(now, src, ingress) {
            Learned::BoundElsewhere => Err(Refusal::BoundElsewhere),
            Learned::New | Learned::Moved | Learned::Refreshed | Learned::Full => Ok(()),
        }
    }

    fn plug(&mut self, id: PortId, bound: Option<MacAddr>) {
        self.remove_port(id);
        let member = Member {
            id,
            link: LinkState::Up,
            bound,
        };
        let at = self.members.partition_point(|other| other.id < id);
        self.members.insert(at, member);
    }

    fn position(&self, id: PortId) -> Result<usize, usize> {
        self.members.binary_search_by_key(&id, |member| member.id)
    }
}
