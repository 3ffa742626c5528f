//! Where the stages meet the planner.

use core::net::IpAddr;

use pontoon_nat::{ConnId, Direction};
use pontoon_packet::parse::Udp;
use pontoon_packet::parse::tcp_flags::{ACK, FIN, RST, SYN, URG};
use pontoon_packet::rewrite::Translation;
use pontoon_packet::{Endpoint, Facts, Ip, L4, MacAddr, Timestamp};

use super::{
    Carriage, Counted, Credit, Dependence, EVERY, Flow, Numbers, Orders, Planner, Reach, Rewritten,
    Seen,
};
use crate::config::{OffloadMode, PortId};
use crate::datapath::{Datapath, Port, Role};
use crate::flow_cache::Way;
use crate::route::InterfaceId;

const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;

/// The planner, and whose turn it is.
#[derive(Debug)]
pub(crate) struct Carrying {
    planner: Planner,
    until_next: u32,
    /// Number of the plan: counts how often everything was left.
    plan: u64,
}

impl Datapath {
    /// From now on flows that are worth it are to be carried by the kernel.
    pub fn carry_flows(&mut self) {
        let planner = Planner::new(self.seeds.hasher());
        self.carrying = Some(Carrying {
            planner,
            until_next: EVERY,
            plan: 0,
        });
    }

    /// Notes who can move frames from a port and to it.
    pub fn set_reach(&mut self, port: PortId, reach: Reach) {
        let Some(port) = self.port_mut(port) else {
            return;
        };
        let was = core::mem::replace(&mut port.reach, reach);
        if (was, reach) == (Reach::Kernel, Reach::Engine) {
            self.begin_epoch();
        }
    }

    /// The kernel has not taken these flows of the orders of that number: they stay here.
    pub fn not_carried(&mut self, orders: u64, refused: &[Seen]) {
        if let Some(carrying) = &mut self.carrying {
            let connections = carrying.planner.refused(orders, refused);
            self.take_back(connections);
        }
    }

    /// Whether anything is carried.
    pub fn carries(&self) -> bool {
        let carrying = self.carrying.as_ref();
        carrying.is_some_and(|carrying| !carrying.planner.is_empty())
    }

    /// How often everything was left to the engine.
    pub fn carriage_plan(&self) -> u64 {
        self.carrying.as_ref().map_or(0, |carrying| carrying.plan)
    }

    /// What is to be done for that, since the last call; nothing before that is settled
    /// ([`carriage_settled`](Self::carriage_settled)), so that what changes meanwhile becomes one.
    pub fn carriage(&mut self) -> Orders {
        self.leave_released();
        let carrying = self.carrying.as_mut();
        let settled = carrying.filter(|carrying| carrying.planner.is_settled());
        let given = settled.map(|carrying| {
            let (number, changes) = carrying.planner.changes();
            Orders {
                plan: carrying.plan,
                number,
                changes,
            }
        });
        given.unwrap_or_default()
    }

    /// Takes note of what the kernel had counted when it had obeyed the orders of that number.
    pub fn carried(&mut self, now: Timestamp, orders: u64, counted: &[Counted]) {
        self.leave_released();
        let Some(carrying) = &mut self.carrying else {
            return;
        };
        for credit in carrying.planner.counted(now, orders, counted) {
            self.credit(now, &credit);
        }
    }

    /// Leaves flows to the engine of which nothing has been counted for too long. Looks at all of them: once in a report,
    /// when everything that it says was taken note of.
    pub fn leave_silent(&mut self, now: Timestamp) {
        if let Some(carrying) = &mut self.carrying {
            let silent = carrying.planner.leave_silent(now);
            self.take_back(silent);
        }
    }

    /// Takes note of what the kernel had counted in all of flows that it carries no more.
    pub fn carried_to_the_end(&mut self, now: Timestamp, counted: &[Counted]) {
        let Some(carrying) = &mut self.carrying else {
            return;
        };
        for credit in carrying.planner.counted_last(counted) {
            self.credit(now, &credit);
        }
    }

    /// The orders of that number were obeyed, and all that was counted of what they leave was told.
    pub fn carriage_settled(&mut self, orders: u64) {
        if let Some(carrying) = &mut self.carrying {
            carrying.planner.settled(orders);
        }
    }

    /// Frames were carried: what they would have kept alive lives.
    fn credit(&mut self, now: Timestamp, credit: &Credit) {
        let Credit {
            flow,
            packets,
            bytes,
        } = *credit;
        if let Some((id, direction)) = flow.connection {
            self.nat.credit(now, id, direction, packets, bytes);
        }
        if let Some(port) = self.port_mut(flow.seen.ingress) {
            port.counters.carried_from(packets, bytes);
        }
        if let Some(port) = self.port_mut(flow.then.egress) {
            port.counters.carried_to(packets, bytes);
        }
        let role = |port: Option<&mut Port>| port.map(|port| port.role);
        if let Some(Role::Member(id)) = role(self.port_mut(flow.seen.ingress))
            && let Some(network) = self.networks.get_mut(&id)
        {
            let Seen {
                ingress, src_mac, ..
            } = flow.seen;
            network.switch.refresh(now, ingress, src_mac);
        }
        let interface = match role(self.port_mut(flow.then.egress)) {
            Some(Role::Member(id)) => InterfaceId::Network(id),
            Some(Role::Uplink(id)) => InterfaceId::Uplink(id),
            Some(Role::User) | None => return,
        };
        if let (Some(hop), Some(neighbours)) = (flow.next_hop, self.neighbours_mut(interface)) {
            // As the engine itself would: what it is used for is checked now and then.
            neighbours.resolve(now, hop);
        }
    }

    /// What the table of connections has let go of is the engine's again.
    fn leave_released(&mut self) {
        if let Some(carrying) = &mut self.carrying {
            for id in self.nat.released() {
                carrying.planner.leave(id);
            }
        }
    }

    fn take_back(&mut self, connections: impl IntoIterator<Item = ConnId>) {
        for id in connections {
            self.nat.take_back(id);
        }
    }

    /// Counters by name; none where nothing is carried.
    pub(crate) fn carried_counters(&self) -> Vec<(String, u64)> {
        let Some(Carrying { planner, plan, .. }) = &self.carrying else {
            return Vec::new();
        };
        let mut counters = planner.counters();
        counters.push(("carried.flushed", *plan));
        let named = counters
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count));
        named.collect()
    }

    /// Something has changed that any compiled way may depend on.
    pub(crate) fn begin_epoch(&mut self) {
        self.cache.bump_epoch();
        if let Some(carrying) = &mut self.carrying
            && let Some(connections) = carrying.planner.leave_all()
        {
            carrying.plan += 1;
            self.take_back(connections);
        }
    }

    /// Hardware addresses are not where they were.
    pub(crate) fn lose_places(&mut self, addresses: &[MacAddr]) {
        self.cache.bump_epoch();
        for address in addresses {
            self.leave_dependent(Dependence::Place(*address));
        }
    }

    /// A next hop has another hardware address than before.
    pub(crate) fn lose_hop(&mut self, addr: IpAddr) {
        self.cache.bump_epoch();
        self.leave_dependent(Dependence::Hop(addr));
    }

    /// A port's link or what it takes is not as it was.
    pub(crate) fn lose_port(&mut self, port: PortId) {
        self.cache.bump_epoch();
        self.leave_dependent(Dependence::Port(port));
    }

    /// Leaves flows that depend on something to the engine.
    pub(crate) fn leave_dependent(&mut self, what: Dependence) {
        if let Some(carrying) = &mut self.carrying {
            let connections = carrying.planner.leave_dependent(what);
            self.take_back(connections);
        }
    }

    /// Whether this frame is looked at.
    #[inline]
    pub(crate) fn is_looked_at(&mut self) -> bool {
        let Some(carrying) = &mut self.carrying else {
            return false;
        };
        carrying.until_next -= 1;
        if carrying.until_next > 0 {
            return false;
        }
        carrying.until_next = EVERY;
        true
    }

    /// A frame has gone from one port to another of its network.
    pub(crate) fn look_at_bridged(
        &mut self,
        now: Timestamp,
        ingress: PortId,
        egress: PortId,
        facts: &Facts,
    ) {
        let Some(seen) = facts.ip().and_then(|ip| plain(ingress, facts, ip)) else {
            return;
        };
        let then = Carriage {
            egress,
            rewritten: None,
        };
        let flow = Flow {
            seen,
            then,
            connection: None,
            next_hop: None,
        };
        self.meet(now, flow, u16::MAX);
    }

    /// A datagram of an established connection has gone its compiled way.
    pub(crate) fn look_at_routed(
        &mut self,
        now: Timestamp,
        ingress: PortId,
        (id, direction): (ConnId, Direction),
        translation: Translation,
        way: Way,
        facts: &Facts,
    ) {
        let Some(ip) = facts.ip() else { return };
        let (Some(seen), Some((src_port, dst_port))) = (plain(ingress, facts, ip), ip.ports())
        else {
            return;
        };
        // The kernel would write a sum where there is none.
        let unsummed = matches!(ip.l4, L4::Udp(header) if header.checksum == 0);
        let cut = !ip.dont_fragment;
        if self.user_port == Some(way.port) || cut || unsummed || !self.nat.may_be_carried(id) {
            return;
        }
        let before = |addr: core::net::Ipv4Addr, port| Endpoint::new(addr.into(), port);
        let src = translation.src.unwrap_or(before(seen.src, src_port));
        let dst = translation.dst.unwrap_or(before(seen.dst, dst_port));
        let (IpAddr::V4(new_src), IpAddr::V4(new_dst)) = (src.addr, dst.addr) else {
            return;
        };
        let numbers = |ttl, src_port, dst_port| Numbers {
            ttl,
            src_port,
            dst_port,
        };
        let rewritten = Rewritten {
            dst_mac: way.dst_mac,
            src_mac: way.src_mac,
            src: new_src,
            dst: new_dst,
            numbers: numbers(ip.ttl - 1, src.port, dst.port),
        };
        let flow = Flow {
            seen: Seen {
                routed: Some(numbers(ip.ttl, src_port, dst_port)),
                ..seen
            },
            then: Carriage {
                egress: way.port,
                rewritten: Some(rewritten),
            },
            connection: Some((id, direction)),
            next_hop: self.cache.next_hop(id, direction),
        };
        self.meet(now, flow, way.mtu);
    }

    /// Whether the port's network agrees; a port of none has no say.
    fn may_be_carried(&self, port: &Port) -> bool {
        let Role::Member(network) = port.role else {
            return true;
        };
        let network = self.networks.get(&network);
        network.is_some_and(|network| network.config.offload == OffloadMode::Auto)
    }

    /// `mtu` is what the way takes whole, whatever the port does.
    fn meet(&mut self, now: Timestamp, flow: Flow, mtu: u16) {
        self.leave_released();
        let at = |port: PortId| self.ports.get(port.0 as usize).and_then(Option::as_ref);
        let (Some(ingress), Some(egress)) = (at(flow.seen.ingress), at(flow.then.egress)) else {
            return;
        };
        let within = [ingress, egress]
            .iter()
            .all(|port| port.reach == Reach::Kernel && self.may_be_carried(port));
        // What comes in whole has to leave whole.
        let fits = ingress.mtu <= egress.mtu.min(mtu);
        if let (true, Some(carrying)) = (within && fits, &mut self.carrying)
            && let Some(begun) = carrying.planner.meet(now, flow)
        {
            self.take_back(begun.given_up);
            if let Some((id, _)) = flow.connection {
                self.nat.hand_over(id);
            }
        }
    }
}

/// What is compared of a frame that may be carried at all.
fn plain(ingress: PortId, facts: &Facts, ip: &Ip) -> Option<Seen> {
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (ip.src, ip.dst) else {
        return None;
    };
    let carried = match ip.l4 {
        L4::Tcp(header) => header.flags & (SYN | FIN | RST | URG | ACK) == ACK,
        L4::Udp(header) => !is_dhcp(header),
        L4::Icmp(_) | L4::Other | L4::Fragment => false,
    };
    let plain = carried && facts.vlan.is_none() && !ip.has_options() && !src.is_unspecified();
    plain.then_some(Seen {
        ingress,
        dst_mac: facts.dst_mac,
        src_mac: facts.src_mac,
        protocol: ip.protocol,
        src,
        dst,
        routed: None,
    })
}

/// Comes from a server's port or goes to a client's: guards ask who does that, and bridged flows are carried whatever
/// their ports.
const fn is_dhcp(header: Udp) -> bool {
    header.src_port == DHCP_SERVER || header.dst_port == DHCP_CLIENT
}
