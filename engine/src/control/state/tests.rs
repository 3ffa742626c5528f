//! What was decided, and what was refused.

mod endpoints;

use std::net::Ipv4Addr;

use pontoon_packet::MacAddr;

use super::{Container, DEFAULT_NETWORK, FreePorts, HostPorts, Phase, State, Stopped, Unclaimed};
use crate::control::Invalid;
use crate::control::api::{AttachSpec, EndpointSpec, HostLoopback, NetworkMode, NetworkSpec};
use crate::control::publish::{self, PublishSpec};

fn spec(name: &str) -> AttachSpec {
    AttachSpec {
        name: Some(name.to_owned()),
        networks: vec![EndpointSpec {
            network: DEFAULT_NETWORK.to_owned(),
            ..EndpointSpec::default()
        }],
        ..AttachSpec::default()
    }
}

fn state() -> State {
    let mut state = State::default();
    let network = NetworkSpec {
        name: DEFAULT_NETWORK.to_owned(),
        subnet: Some("10.0.0.0/29".to_owned()),
        uplink: Some("dev:up0".to_owned()),
        ..NetworkSpec::default()
    };
    state.create_network(&network, &[], 0, [0; 4]).unwrap();
    state
}

#[test]
fn nobody_gets_a_hardware_address_that_was_given_by_hand() {
    let mut state = state();
    let mut first = spec("first");
    first.networks[0].mac = Some(MacAddr::for_ipv4(Ipv4Addr::new(10, 0, 0, 3)).to_string());
    state
        .create_container(first, 0, [1; 4], &mut FreePorts)
        .unwrap();
    let second = state
        .create_container(spec("second"), 0, [2; 4], &mut FreePorts)
        .unwrap();
    assert_eq!(second.endpoints[0].address, Ipv4Addr::new(10, 0, 0, 4));
    let mut third = spec("third");
    third.networks[0].ip = Some(Ipv4Addr::new(10, 0, 0, 3).into());
    let error = state
        .create_container(third, 0, [3; 4], &mut FreePorts)
        .unwrap_err();
    assert!(error.reason.contains("its hardware address"), "{error}");
    let free = ["a", "b", "c"].map(|name| {
        state
            .create_container(spec(name), 0, [4; 4], &mut FreePorts)
            .is_ok()
    });
    assert_eq!(free, [true, true, false], "10.0.0.5 and 10.0.0.6");
}

#[test]
fn a_status_that_is_told_late_counts() {
    let mut state = state();
    state
        .create_container(spec("a"), 0, [1; 4], &mut FreePorts)
        .unwrap();
    state.end("a", 137);
    state.end("a", 3);
    assert_eq!(state.container("a").unwrap().phase, Phase::Exited(3));
}

#[test]
fn an_id_names_a_container_only_when_no_other_begins_so() {
    let mut state = state();
    state
        .create_container(spec("a"), 0, [1, 0, 0, 0], &mut FreePorts)
        .unwrap();
    let id = state.container("a").unwrap().id.clone();
    assert_eq!(state.container(&id[..16]).unwrap().name, "a");
    state
        .create_container(spec("b"), 0, [1, 0, 0, 1], &mut FreePorts)
        .unwrap();
    assert!(state.container(&id[..16]).is_err());
    assert_eq!(state.container(&id).unwrap().name, "a");
}

#[test]
fn a_port_on_an_address_that_cannot_work_is_refused() {
    let mut wanted = spec("a");
    wanted.publish = vec![publish::parse("[::1]:8080:80").unwrap()];
    let error = state()
        .create_container(wanted, 0, [1; 4], &mut FreePorts)
        .unwrap_err();
    assert_eq!(error.field, "publish");
}

#[test]
fn a_port_that_somebody_has_is_refused() {
    let mut state = state();
    let mut wanted = spec("a");
    wanted.publish = vec![publish::parse("8080:80").unwrap()];
    state
        .create_container(wanted.clone(), 0, [1; 4], &mut FreePorts)
        .unwrap();
    wanted.name = Some("b".to_owned());
    let error = state
        .create_container(wanted.clone(), 0, [2; 4], &mut FreePorts)
        .unwrap_err();
    assert!(error.reason.contains("already allocated to a"), "{error}");
    state.end("a", 0);
    state
        .create_container(wanted, 0, [2; 4], &mut FreePorts)
        .unwrap();
}

#[test]
fn a_port_that_nobody_outside_could_reach_is_refused() {
    let mut state = state();
    let internal = NetworkSpec {
        name: "internal".to_owned(),
        uplink: Some("none".to_owned()),
        ..NetworkSpec::default()
    };
    state.create_network(&internal, &[], 0, [1; 4]).unwrap();
    let mut wanted = spec("a");
    wanted.networks[0].network = internal.name;
    state
        .create_container(wanted.clone(), 0, [2; 4], &mut FreePorts)
        .unwrap();
    wanted.name = Some("b".to_owned());
    wanted.publish = vec![publish::parse("8080:80").unwrap()];
    let error = state
        .create_container(wanted, 0, [3; 4], &mut FreePorts)
        .unwrap_err();
    assert_eq!(error.field, "publish");
    assert!(error.reason.ends_with("an uplink: bridge"), "{error}");
    assert!(state.container("b").is_err(), "nothing is reserved");
}

/// A host on which somebody has these ports.
struct Busy(Vec<u16>);

impl HostPorts for Busy {
    fn claim(&mut self, ports: &[PublishSpec]) -> Result<(), Stopped> {
        let taken = |port: &PublishSpec| port.host.is_some_and(|number| self.0.contains(&number));
        let stopped = |at| Stopped {
            at,
            why: Unclaimed::Taken,
        };
        ports
            .iter()
            .position(taken)
            .map_or(Ok(()), |at| Err(stopped(at)))
    }

    fn holder(&self, _: &PublishSpec) -> String {
        "somebody".to_owned()
    }
}

fn published(state: &State, name: &str) -> Vec<String> {
    let container = state.container(name).unwrap();
    container.publish().map(PublishSpec::to_string).collect()
}

fn shown(ports: &[PublishSpec]) -> Vec<String> {
    ports.iter().map(PublishSpec::to_string).collect()
}

#[test]
fn a_port_that_is_left_open_is_one_that_nobody_has() {
    let mut state = state();
    let mut first = spec("a");
    first.publish = vec![publish::parse("32768:80").unwrap()];
    state
        .create_container(first, 0, [1; 4], &mut FreePorts)
        .unwrap();
    state
        .create_container(spec("b"), 0, [2; 4], &mut FreePorts)
        .unwrap();

    let wanted = [publish::parse("80-81").unwrap()];
    let chosen = state
        .publish("b", &wanted, &mut Busy(vec![32_769]))
        .unwrap();

    let expected = ["0.0.0.0:32770->80/tcp", "0.0.0.0:32771->81/tcp"];
    assert_eq!(shown(&chosen), expected);
    assert_eq!(published(&state, "b"), expected);

    let more = [publish::parse("80-82/udp").unwrap()];
    let busy = &mut Busy(vec![32_769, 32_773, 32_775, 32_776]);
    let chosen = state.publish("a", &more, busy).unwrap();
    let expected = [
        "0.0.0.0:32768->80/udp",
        "0.0.0.0:32770->81/udp",
        "0.0.0.0:32771->82/udp",
    ];
    assert_eq!(shown(&chosen), expected, "another protocol has its own");
    let more = [
        publish::parse("80-81").unwrap(),
        publish::parse("82").unwrap(),
    ];
    let chosen = state.publish("b", &more, busy).unwrap();
    let expected = [
        "0.0.0.0:32772->80/tcp",
        "0.0.0.0:32774->81/tcp",
        "0.0.0.0:32777->82/tcp",
    ];
    assert_eq!(shown(&chosen), expected);
}

#[test]
fn when_no_port_is_left_none_is_chosen() {
    let mut state = state();
    state
        .create_container(spec("a"), 0, [1; 4], &mut FreePorts)
        .unwrap();
    let wanted = [publish::parse("80-81").unwrap()];
    let all_but_one = (32_768..u16::MAX).collect();
    let error = state
        .publish("a", &wanted, &mut Busy(all_but_one))
        .unwrap_err();
    assert_eq!(error.reason, "no ephemeral port is free");
    assert!(published(&state, "a").is_empty());
}

#[test]
fn a_range_is_published_and_taken_back_whole_or_not_at_all() {
    let mut state = state();
    state
        .create_container(spec("a"), 0, [1; 4], &mut FreePorts)
        .unwrap();
    let range = [publish::parse("8000-8002:80-82").unwrap()];

    let error = state
        .publish("a", &range, &mut Busy(vec![8002]))
        .unwrap_err();
    assert_eq!(
        error.reason,
        "Bind for 0.0.0.0:8002/tcp failed: address already in use by somebody"
    );
    assert_eq!(published(&state, "a"), [""; 0]);

    state.publish("a", &range, &mut FreePorts).unwrap();
    let more = [publish::parse("8001-8003:81-83").unwrap()];
    let error = state.unpublish("a", &more).unwrap_err();
    assert!(error.reason.contains("8003:83/tcp"), "{error}");
    assert_eq!(published(&state, "a").len(), 3);
    let one = [publish::parse("81").unwrap()];
    let gone = state.unpublish("a", &one).unwrap();
    assert_eq!(shown(&gone), ["0.0.0.0:8001->81/tcp"]);
    assert_eq!(published(&state, "a").len(), 2);
}

#[test]
fn nothing_is_published_by_a_container_that_has_ended() {
    let mut state = state();
    state
        .create_container(spec("a"), 0, [1; 4], &mut FreePorts)
        .unwrap();
    state.end("a", 0);
    let wanted = [publish::parse("80").unwrap()];
    let error = state.publish("a", &wanted, &mut FreePorts).unwrap_err();
    assert!(error.reason.contains("ended already"), "{error}");
}

fn loopback(subnet: &str, uplink: Option<&str>) -> NetworkSpec {
    NetworkSpec {
        name: "n".to_owned(),
        subnet: Some(subnet.to_owned()),
        uplink: uplink.map(str::to_owned),
        host_loopback: HostLoopback::Open,
        ..NetworkSpec::default()
    }
}

#[test]
fn the_hosts_loopback_has_the_last_address_and_no_container_does() {
    let mut state = State::default();
    let spec_29 = loopback("10.1.0.0/29", None);
    let network = state.create_network(&spec_29, &[], 0, [0; 4]).unwrap();
    let reserved = Ipv4Addr::new(10, 1, 0, 6);
    assert_eq!(network.host_loopback, Some(reserved));
    for name in ["a", "b", "c", "d"] {
        let mut wanted = spec(name);
        wanted.networks[0].network = "n".to_owned();
        let container = state
            .create_container(wanted, 0, [1; 4], &mut FreePorts)
            .unwrap();
        assert_ne!(container.endpoints[0].address, reserved);
    }
    let mut wanted = spec("e");
    wanted.networks[0].network = "n".to_owned();
    wanted.networks[0].ip = Some(reserved.into());
    let error = state
        .create_container(wanted, 0, [1; 4], &mut FreePorts)
        .unwrap_err();
    assert!(error.reason.contains("in use"), "{error}");
}

#[test]
fn the_hosts_loopback_is_not_opened_where_it_cannot_be() {
    for (subnet, uplink, why) in [
        ("10.1.0.0/30", None, "no room"),
        ("10.1.0.0/24", Some("none"), "only the uplink user"),
        ("10.1.0.0/24", Some("dev:up0"), "only the uplink user"),
    ] {
        let spec = loopback(subnet, uplink);
        let error = State::default()
            .create_network(&spec, &[], 0, [0; 4])
            .unwrap_err();
        assert_eq!(error.field, "host_loopback");
        assert!(error.reason.contains(why), "{error}");
    }
}
