//! Snapshots of the tables, for `fdb`, `arp`, `flows` and `stats`.

use core::ops::Range;

use pontoon_nat::{Direction, FlowView, Refusal};
use pontoon_packet::{Timestamp, parse::protocol};

use crate::config::PortId;
use crate::datapath::Datapath;
use crate::drop::DropReason;
use crate::neighbour::Neighbours;
use crate::view::{FdbEntry, FlowEntry, NeighbourEntry, Stats};

impl Datapath {
    /// The forwarding databases of all networks, the gateways' own entries included.
    pub fn fdb(&self, now: Timestamp) -> Vec<FdbEntry> {
        let mut entries = Vec::new();
        for (id, network) in &self.networks {
            entries.push(FdbEntry {
                network: id.0,
                mac: network.config.gateway_mac.to_string(),
                port: network.host_port.map(|port| port.0),
                permanent: true,
                age: 0.0,
            });
            entries.extend(network.switch.entries(now).map(|entry| FdbEntry {
                network: id.0,
                mac: entry.mac.to_string(),
                port: Some(entry.port.0),
                permanent: entry.is_static(),
                age: entry.age.as_secs_f64(),
            }));
        }
        entries.sort_by(|a, b| (a.network, &a.mac).cmp(&(b.network, &b.mac)));
        entries
    }

    /// The neighbour tables of all networks and uplinks.
    pub fn neighbours(&self, now: Timestamp) -> Vec<NeighbourEntry> {
        let networks = self
            .networks
            .iter()
            .flat_map(|(id, n)| describe(&n.neighbours, now, Some(id.0), None));
        let uplinks = self
            .uplinks
            .iter()
            .flat_map(|(id, u)| describe(&u.neighbours, now, None, Some(id.0)));
        let mut entries: Vec<_> = networks.chain(uplinks).collect();
        entries.sort_by_key(|entry| (entry.network, entry.uplink, entry.address));
        entries
    }

    /// Every tracked connection.
    pub fn flows(&self, now: Timestamp) -> Vec<FlowEntry> {
        self.nat.flows(now).map(FlowEntry::from).collect()
    }

    /// The tracked connections in a part of the table, so that a listing of many need not hold frames up.
    /// `None` beyond the table's end.
    pub fn flows_at(&self, now: Timestamp, places: Range<usize>) -> Option<Vec<FlowView>> {
        let exists = places.start < self.nat.places();
        exists.then(|| self.nat.flows_at(now, places).collect())
    }

    /// Counters of ports, drops and tables.
    pub fn stats(&self) -> Stats {
        let ports = self
            .ports
            .iter()
            .enumerate()
            .filter_map(|(id, port)| Some((id as u32, port.as_ref()?.counters)))
            .collect();
        let mut counters = self.counters.named();
        counters.extend(self.nat.counters());
        counters.extend(self.carried_counters());
        let learned: usize = self.networks.values().map(|n| n.switch.learned()).sum();
        let moves: u64 = self.networks.values().map(|n| n.switch.moves()).sum();
        counters.push(("fdb.learned".to_owned(), learned as u64));
        counters.push(("fdb.moves".to_owned(), moves));
        Stats {
            ports,
            drops: self.counters.drops(),
            counters,
        }
    }

    /// How often bounded tables had no room, by the names of their counters.
    pub fn limits(&self) -> Vec<(&'static str, u64)> {
        let mut limits = self.nat.limits().to_vec();
        let full = self.networks.values().map(|n| n.switch.full()).sum();
        let dropped = |reason| self.counters.dropped(reason);
        limits.extend([
            ("fdb.full", full),
            ("neighbours.full", dropped(DropReason::NeighbourQueueFull)),
            (
                "fragments.full",
                dropped(DropReason::Nat(Refusal::FragmentsFull)),
            ),
        ]);
        limits
    }

    /// The port has something bound to it.
    pub fn has_port(&self, id: PortId) -> bool {
        self.ports.get(id.0 as usize).is_some_and(Option::is_some)
    }
}

impl From<FlowView> for FlowEntry {
    fn from(flow: FlowView) -> Self {
        let traffic = |direction: Direction| {
            let counts = flow.traffic[direction as usize];
            [counts.packets, counts.bytes]
        };
        Self {
            protocol: protocol_name(flow.original.protocol),
            state: flow.state.to_owned(),
            original: [flow.original.src.to_string(), flow.original.dst.to_string()],
            reply: [flow.reply.src.to_string(), flow.reply.dst.to_string()],
            expires: flow.expires_in.as_secs(),
            assured: flow.assured,
            offload: flow.carried,
            owner: flow.owner.0,
            original_traffic: traffic(Direction::Original),
            reply_traffic: traffic(Direction::Reply),
        }
    }
}

fn describe(
    table: &Neighbours,
    now: Timestamp,
    network: Option<u32>,
    uplink: Option<u32>,
) -> impl Iterator<Item = NeighbourEntry> {
    table
        .entries(now)
        .map(move |(address, mac, state, queued)| NeighbourEntry {
            network,
            uplink,
            address,
            mac: mac.map(|mac| mac.to_string()),
            state: state.to_owned(),
            queued,
        })
}

fn protocol_name(number: u8) -> String {
    match number {
        protocol::ICMP => "icmp".to_owned(),
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        protocol::ICMPV6 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}
