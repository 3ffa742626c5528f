//! Where the stages meet the planner.

use core::net::IpAddr;

use pontoon_nat::{ConnId, Direction};
use pontoon_packet::parse::tcp_flags::{FIN, RST, SYN, URG};
use pontoon_packet::rewrite::Translation;
use pontoon_packet::{Endpoint, Facts, Ip, L4, Timestamp};

use super::{Carriage, Change, Counted, EVERY, Flow, Numbers, Planner, Reach, Rewritten, Seen};
use crate::config::{OffloadMode, PortId};
use crate::datapath::{Datapath, Port, Role};
use crate::flow_cache::Way;

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

    /// A port lies where the kernel can carry frames from and to.
    pub fn within_reach(&mut self, port: PortId) {
        if let Some(port) = self.port_mut(port) {
            port.reach = Reach::Kernel;
        }
    }

    /// It does not any more.
    pub fn out_of_reach(&mut self, port: PortId) {
        if let Some(port) = self.port_mut(port).filter(|p| p.reach == Reach::Kernel) {
            port.reach = Reach::Engine;
            self.begin_epoch();
        }
    }

    /// How often everything was left to the engine.
    pub fn carriage_plan(&self) -> u64 {
        self.carrying.as_ref().map_or(0, |carrying| carrying.plan)
    }

    /// What is to be done for that, since the last call, and the number of the plan.
    pub fn carriage(&mut self) -> (u64, Vec<Change>) {
        self.carrying.as_mut().map_or((0, Vec::new()), |carrying| {
            let changes = carrying.planner.changes();
            (carrying.plan, changes)
        })
    }

    /// The kernel has refused these flows of a plan: they are carried here.
    pub fn not_carried(&mut self, plan: u64, refused: &[Seen]) {
        let Some(carrying) = self.carrying.as_mut().filter(|c| c.plan == plan) else {
            return;
        };
        for id in carrying.planner.refused(refused) {
            self.nat.take_back(id);
        }
    }

    /// Takes note of what the kernel has counted.
    pub fn carried(&mut self, now: Timestamp, counted: &[Counted]) {
        let Self {
            carrying,
            nat,
            ports,
            ..
        } = self;
        let Some(carrying) = carrying else {
            return;
        };
        for credit in carrying.planner.counted(now, counted) {
            if let Some((id, direction)) = credit.connection {
                nat.credit(now, id, direction, credit.packets, credit.bytes);
            }
            for (port, sent) in [(credit.ingress, true), (credit.egress, false)] {
                let port = ports.get_mut(port.0 as usize);
                if let Some(port) = port.and_then(Option::as_mut) {
                    port.counters.carried(sent, credit.packets, credit.bytes);
                }
            }
        }
        for id in carrying.planner.leave_silent(now) {
            nat.take_back(id);
        }
    }

    /// A segment of a connection that begins, ends or resets it: its flows are the engine's again.
    pub(crate) fn leave_what_changes(&mut self, id: ConnId, ip: &Ip) {
        let changes = matches!(ip.l4, L4::Tcp(header) if header.flags & (SYN | FIN | RST) != 0);
        if let (true, Some(carrying)) = (changes, &mut self.carrying)
            && carrying.planner.leave(id.slot)
        {
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

    /// Something has changed that compiled ways depend on.
    pub(crate) fn begin_epoch(&mut self) {
        self.cache.bump_epoch();
        if let Some(carrying) = &mut self.carrying
            && let Some(connections) = carrying.planner.leave_all()
        {
            carrying.plan += 1;
            for id in connections {
                self.nat.take_back(id);
            }
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
        let connection = None;
        self.meet(
            now,
            Flow {
                seen,
                then,
                connection,
            },
        );
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
        if self.user_port == Some(way.port) || !ip.dont_fragment || !self.nat.is_assured(id) {
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
        };
        self.meet(now, flow);
    }

    /// Whether the port's network agrees; a port of none has no say.
    fn may_be_carried(&self, port: &Port) -> bool {
        let Role::Member(network) = port.role else {
            return true;
        };
        let network = self.networks.get(&network);
        network.is_some_and(|network| network.config.offload == OffloadMode::Auto)
    }

    fn meet(&mut self, now: Timestamp, flow: Flow) {
        let at = |port: PortId| self.ports.get(port.0 as usize).and_then(Option::as_ref);
        let (Some(ingress), Some(egress)) = (at(flow.seen.ingress), at(flow.then.egress)) else {
            return;
        };
        let within = [ingress, egress]
            .iter()
            .all(|port| port.reach == Reach::Kernel && self.may_be_carried(port));
        // What comes in whole has to leave whole.
        let fits = ingress.mtu <= egress.mtu;
        if let (true, Some(carrying)) = (within && fits, &mut self.carrying)
            && carrying.planner.meet(now, flow)
            && let Some((id, _)) = flow.connection
        {
            self.nat.hand_over(id);
        }
    }
}

/// What is compared of a frame that may be carried at all.
fn plain(ingress: PortId, facts: &Facts, ip: &Ip) -> Option<Seen> {
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (ip.src, ip.dst) else {
        return None;
    };
    let carried = match ip.l4 {
        L4::Tcp(header) => header.flags & (SYN | FIN | RST | URG) == 0,
        L4::Udp(_) => true,
        L4::Icmp(_) | L4::Other | L4::Fragment => false,
    };
    (carried && facts.vlan.is_none() && !ip.has_options()).then_some(Seen {
        ingress,
        dst_mac: facts.dst_mac,
        src_mac: facts.src_mac,
        protocol: ip.protocol,
        src,
        dst,
        routed: None,
    })
}
