//! Random operations on UDP flows, compared with a list that is searched from end to end.

use std::net::Ipv4Addr;
use std::time::Duration;

use pontoon_engine::config::Guarding;
use pontoon_packet::build::Packet;
use pontoon_packet::parse::protocol;
use pontoon_switch::PortId;
use pontoon_tests::flow_model::{Expected, Inside, Model, Remote};
use pontoon_tests::lab::{
    A, C1, C2, C3, EXTERNAL, EXTERNAL_MAC, Lab, ROUTER_MAC, SERVER, Sent, UP, addr, gateway_mac,
    mac,
};
use pontoon_tests::wire::datagram;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

#[derive(Clone, Debug)]
enum Operation {
    /// A container sends to a server.
    Out(Inside, Remote),
    /// A server sends to a port of the uplink.
    In(Remote, u16),
    /// The server of the flow of that number, counted round, sends.
    Answer(usize),
    /// The container of the flow of that number sends.
    Reply(usize),
    Pass(u64),
    Publish(u16, Inside),
    /// The published port of that number, counted round, is taken back.
    Unpublish(usize),
    /// The container is pulled out and comes back.
    Replug(PortId),
}

struct Pair {
    lab: Lab,
    model: Model,
}

impl Pair {
    fn apply(&mut self, operation: &Operation) -> Result<(), TestCaseError> {
        match operation.clone() {
            Operation::Out(inside, remote) => self.out(inside, remote)?,
            Operation::In(remote, outside) => self.come(remote, outside)?,
            Operation::Answer(at) => {
                let flows = &self.model.flows;
                if let Some(flow) = flows.get(at % flows.len().max(1)) {
                    self.come(flow.remote, flow.outside)?;
                }
            }
            Operation::Reply(at) => {
                let flows = &self.model.flows;
                if let Some(flow) = flows.get(at % flows.len().max(1)) {
                    self.out(flow.inside, flow.shown)?;
                }
            }
            Operation::Pass(seconds) => {
                self.lab.pass(Duration::from_secs(seconds));
                self.lab.learn_router();
                self.model.pass(seconds);
            }
            Operation::Publish(port, inside) => {
                if !self.model.published.contains_key(&port) {
                    let published = self.lab.publish(protocol::UDP, port, inside.0, inside.1);
                    self.model.publish(port, inside, published);
                }
            }
            Operation::Unpublish(at) => {
                if let Some(published) = self.model.unpublish(at) {
                    self.lab.datapath.unpublish(&published);
                }
            }
            Operation::Replug(container) => {
                let removed = self.lab.datapath.remove_port(container);
                removed.expect("the container is plugged in");
                self.lab.plug(container, A, Guarding::On);
                self.model.unplug(container);
            }
        }
        let tracked = self.lab.datapath.flows(self.lab.now).len();
        prop_assert_eq!(tracked, self.model.flows.len(), "{:#?}", self.model.flows);
        Ok(())
    }

    fn out(&mut self, inside: Inside, remote: Remote) -> Result<(), TestCaseError> {
        let packet = Packet::ethernet(mac(inside.0), gateway_mac())
            .ipv4(addr(inside.0), remote.0)
            .udp(inside.1, remote.1);
        let sent = self.lab.send(inside.0, &packet.build());
        let expected = self.model.out(inside, remote);
        prop_assert_eq!((sent.len(), sent[0].port), (1, UP));
        let ((addr, outside), server) = read(&sent)?;
        prop_assert_eq!(addr, EXTERNAL);
        match expected {
            Expected::From(port, remote) => prop_assert_eq!((outside, server), (port, remote)),
            _ => prop_assert!(!self.model.is_used(outside) && server == remote),
        }
        self.model.left(inside, remote, outside);
        Ok(())
    }

    fn come(&mut self, remote: Remote, outside: u16) -> Result<(), TestCaseError> {
        let packet = Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC)
            .ipv4(remote.0, EXTERNAL)
            .udp(remote.1, outside);
        let sent = self.lab.send(UP, &packet.build());
        let expected = self.model.come(remote, outside);
        let (Expected::At(inside, _) | Expected::AtUnknown(inside)) = expected else {
            prop_assert_eq!(sent, []);
            return Ok(());
        };
        prop_assert_eq!((sent.len(), sent[0].port), (1, inside.0));
        let (shown, target) = read(&sent)?;
        prop_assert_eq!(target, (addr(inside.0), inside.1));
        prop_assert_eq!(shown.0, remote.0);
        match expected {
            Expected::At(_, server) => prop_assert_eq!(shown, server),
            _ => prop_assert!(!self.model.knows(inside, shown)),
        }
        self.model.arrived(inside, outside, remote, shown);
        Ok(())
    }
}

/// Both ends of the first frame.
fn read(sent: &[Sent]) -> Result<(Remote, Remote), TestCaseError> {
    let seen = datagram(&sent[0].bytes, sent[0].offload).map_err(TestCaseError::fail)?;
    Ok((seen.src, seen.dst))
}

fn operation() -> impl Strategy<Value = Operation> {
    let inside = || (select(vec![C1, C2, C3]), select(vec![53, 1000, 5000, 5001]));
    let other = Ipv4Addr::new(203, 0, 113, 9);
    let remote = move || (select(vec![SERVER, other]), select(vec![53, 5000]));
    let outside = || select(vec![53, 1000, 5000, 9000]);
    prop_oneof![
        6 => (inside(), remote()).prop_map(|(inside, remote)| Operation::Out(inside, remote)),
        2 => (remote(), outside()).prop_map(|(remote, port)| Operation::In(remote, port)),
        3 => any::<usize>().prop_map(Operation::Answer),
        3 => any::<usize>().prop_map(Operation::Reply),
        3 => (1u64..90).prop_map(Operation::Pass),
        2 => (outside(), inside()).prop_map(|(port, inside)| Operation::Publish(port, inside)),
        1 => any::<usize>().prop_map(Operation::Unpublish),
        1 => select(vec![C1, C2, C3]).prop_map(Operation::Replug),
    ]
}

proptest! {
    #[test]
    fn flows_live_and_die_as_in_the_model(operations in vec(operation(), 1..80)) {
        let mut pair = Pair { lab: Lab::new(), model: Model::default() };
        for operation in &operations {
            pair.apply(operation)?;
        }
    }
}
