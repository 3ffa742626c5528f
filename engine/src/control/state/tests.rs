//! What was decided, and what was refused.

use std::net::Ipv4Addr;

use pontoon_packet::MacAddr;

use super::{DEFAULT_NETWORK, Phase, State};
use crate::control::api::{AttachSpec, NetworkSpec};
use crate::control::publish;

fn spec(name: &str) -> AttachSpec {
    AttachSpec {
        name: Some(name.to_owned()),
        network: DEFAULT_NETWORK.to_owned(),
        ifname: "eth0".to_owned(),
        ip: None,
        mac: None,
        publish: Vec::new(),
        command: String::new(),
        pid: None,
        monitor: None,
        remove: false,
        unguarded: false,
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
    state.create_network(&network, &[], [0; 4]).unwrap();
    state
}

#[test]
fn nobody_gets_a_hardware_address_that_was_given_by_hand() {
    let mut state = state();
    let mut first = spec("first");
    first.mac = Some(MacAddr::for_ipv4(Ipv4Addr::new(10, 0, 0, 3)).to_string());
    state.create_container(first, 0, [1; 4]).unwrap();
    let second = state.create_container(spec("second"), 0, [2; 4]).unwrap();
    assert_eq!(second.address, Ipv4Addr::new(10, 0, 0, 4));
    let mut third = spec("third");
    third.ip = Some(Ipv4Addr::new(10, 0, 0, 3).into());
    let error = state.create_container(third, 0, [3; 4]).unwrap_err();
    assert!(error.reason.contains("--mac-address"), "{error}");
    let free = ["a", "b", "c"].map(|name| state.create_container(spec(name), 0, [4; 4]).is_ok());
    assert_eq!(free, [true, true, false], "10.0.0.5 and 10.0.0.6");
}

#[test]
fn a_status_that_is_told_late_counts() {
    let mut state = state();
    state.create_container(spec("a"), 0, [1; 4]).unwrap();
    state.end("a", 137);
    state.end("a", 3);
    assert_eq!(state.container("a").unwrap().phase, Phase::Exited(3));
}

#[test]
fn an_id_names_a_container_only_when_no_other_begins_so() {
    let mut state = state();
    state.create_container(spec("a"), 0, [1, 0, 0, 0]).unwrap();
    let id = state.container("a").unwrap().id.clone();
    assert_eq!(state.container(&id[..16]).unwrap().name, "a");
    state.create_container(spec("b"), 0, [1, 0, 0, 1]).unwrap();
    assert!(state.container(&id[..16]).is_err());
    assert_eq!(state.container(&id).unwrap().name, "a");
}

#[test]
fn a_port_on_an_address_that_cannot_work_is_refused() {
    let mut wanted = spec("a");
    wanted.publish = publish::parse("[::1]:8080:80").unwrap();
    let error = state().create_container(wanted, 0, [1; 4]).unwrap_err();
    assert_eq!(error.field, "--publish");
}

#[test]
fn a_port_that_somebody_has_is_refused() {
    let mut state = state();
    let mut wanted = spec("a");
    wanted.publish = publish::parse("8080:80").unwrap();
    state.create_container(wanted.clone(), 0, [1; 4]).unwrap();
    wanted.name = Some("b".to_owned());
    let error = state
        .create_container(wanted.clone(), 0, [2; 4])
        .unwrap_err();
    assert!(error.reason.contains("already allocated to a"), "{error}");
    state.end("a", 0);
    state.create_container(wanted, 0, [2; 4]).unwrap();
}

#[test]
fn a_port_that_nobody_outside_could_reach_is_refused() {
    let mut state = state();
    let internal = NetworkSpec {
        name: "internal".to_owned(),
        ..NetworkSpec::default()
    };
    state.create_network(&internal, &[], [1; 4]).unwrap();
    let mut wanted = spec("a");
    wanted.network = internal.name;
    state.create_container(wanted.clone(), 0, [2; 4]).unwrap();
    wanted.name = Some("b".to_owned());
    wanted.publish = publish::parse("8080:80").unwrap();
    let error = state.create_container(wanted, 0, [3; 4]).unwrap_err();
    assert_eq!(error.field, "--publish");
    assert!(error.reason.ends_with("an uplink: bridge"), "{error}");
    assert!(state.container("b").is_err(), "nothing is reserved");
}
