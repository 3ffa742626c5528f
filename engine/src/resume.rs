//! Flows of an engine before this one.
//!
//! What is translated goes on: a connection is taken up before its container is connected, so that no
//! frame of it is taken for a new one, and ends again if its container or published port does not come
//! ([`Datapath::end_orphans`]). What ended at a socket of the engine's has lost that end; the container's
//! end is made to speak ([`Datapath::probe`]), and is then told by the answer that any segment of no
//! connection gets: a reset with exactly the number that it expects.

use core::net::IpAddr;

use pontoon_nat::{Owner, Resumable};
use pontoon_packet::build::Packet;
use pontoon_packet::parse::protocol;
use pontoon_packet::parse::tcp_flags::ACK;
use pontoon_packet::{Offload, Timestamp};

use crate::config::PortId;
use crate::datapath::{Datapath, Transmit};

impl Datapath {
    /// What has become of established connections since the last call, by place.
    pub fn changes(&mut self) -> impl Iterator<Item = (u32, Option<Resumable>)> {
        self.nat.changes()
    }

    /// Takes up flows whose external addresses are still the engine's. Says how many.
    pub fn resume<'a>(
        &mut self,
        now: Timestamp,
        flows: impl Iterator<Item = &'a Resumable>,
    ) -> usize {
        let own: Vec<IpAddr> = self.own_addresses().collect();
        flows
            .filter(|flow| {
                let translated = flow.original.dst.addr != flow.reply.src.addr;
                (!flow.masqueraded || own.contains(&flow.reply.dst.addr))
                    && (!translated || own.contains(&flow.original.dst.addr))
            })
            .filter(|flow| self.nat.resume(now, flow).is_ok())
            .count()
    }

    /// Ends flows whose container is not there, or that came by a port that is not published any more.
    pub fn end_orphans(&mut self) {
        let ports = &self.ports;
        let is_there = |owner: Owner| matches!(ports.get(owner.0 as usize), Some(Some(_)));
        self.nat.end_orphans(is_there);
        self.begin_epoch();
    }

    /// Makes the container's end of a connection speak whose other end is gone: by a segment outside of
    /// its window, which is answered with an acknowledgement (RFC 9293 §3.10.7.4).
    pub fn probe(&mut self, flow: &Resumable, out: &mut impl Transmit) {
        let port = PortId(flow.owner.0);
        let place = self.ports.get(port.0 as usize).and_then(Option::as_ref);
        let Some(config) = place.and_then(|port| port.config.as_ref()) else {
            return;
        };
        let Some(network) = self.networks.get(&config.network) else {
            return;
        };
        let outward = config.addresses.contains(&flow.original.src.addr);
        let tuple = if outward {
            flow.reply
        } else {
            flow.reply.inverted()
        };
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (tuple.src.addr, tuple.dst.addr) else {
            return;
        };
        if tuple.protocol != protocol::TCP || !config.addresses.contains(&tuple.dst.addr) {
            return;
        }
        let (from, to) = (tuple.src.port, tuple.dst.port);
        let segment = Packet::ethernet(network.config.gateway_mac, config.mac)
            .ipv4(src, dst)
            .tcp(from, to, ACK, 0, 0)
            .build();
        self.emit(port, &segment, Offload::NONE, out);
    }

    /// Addresses that flows can bear outside, or be sent to.
    fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let uplinks = self.uplinks.values();
        let outside = uplinks.flat_map(|uplink| uplink.config.addresses.iter());
        let gateways = self.networks.values().map(|network| network.config.gateway);
        outside.map(ipnet::IpNet::addr).chain(gateways)
    }
}
