//! Networks: what is decided for them, and what is refused.

use std::net::{IpAddr, Ipv4Addr};

use super::{DEFAULT_NETWORK, FreePorts, Network, State};
use crate::config::OffloadMode;
use crate::control::Invalid;
use crate::control::api::{AttachSpec, EndpointSpec, NetworkSpec, PruneFilter};
use crate::control::labels::LabelFilter;
use crate::control::publish;

fn spec(name: &str, subnet: &str) -> NetworkSpec {
    NetworkSpec {
        name: name.to_owned(),
        subnet: Some(subnet.to_owned()),
        ..NetworkSpec::default()
    }
}

fn create(state: &mut State, spec: &NetworkSpec) -> Result<Network, Invalid> {
    let random = [0, 0, 0, state.networks().count() as u64];
    state.create_network(spec, &[], 0, random).cloned()
}

fn attach(state: &mut State, network: &str, ip: Option<&str>) -> Result<Ipv4Addr, Invalid> {
    let wanted = AttachSpec {
        networks: vec![EndpointSpec {
            network: network.to_owned(),
            ip: ip.map(|text| text.parse().unwrap()),
            ..EndpointSpec::default()
        }],
        ..AttachSpec::default()
    };
    let random = [state.containers().count() as u64, 0, 0, 0].map(|word: u64| word << 48);
    let container = state.create_container(wanted, 0, random, &mut FreePorts);
    container.map(|c| c.endpoints[0].address)
}

#[test]
fn a_range_begins_with_its_first_address() {
    let mut state = State::default();
    let mut ranged = spec("n", "172.28.0.0/16");
    ranged.ip_range = Some("172.28.5.0/24".to_owned());
    ranged.gateway = Some(IpAddr::from([172, 28, 5, 254]));
    ranged.aux_addresses = [("router".to_owned(), IpAddr::from([172, 28, 5, 1]))].into();
    let network = create(&mut state, &ranged).unwrap();
    assert_eq!(network.auxiliary["router"], Ipv4Addr::new(172, 28, 5, 1));
    let addresses = [None, None, Some("172.28.9.9")].map(|ip| attach(&mut state, "n", ip).unwrap());
    let expected = [[172, 28, 5, 0], [172, 28, 5, 2], [172, 28, 9, 9]];
    assert_eq!(addresses, expected.map(Ipv4Addr::from));
    for taken in ["172.28.5.1", "172.28.5.254", "172.28.5.0"] {
        let error = attach(&mut state, "n", Some(taken)).unwrap_err();
        assert!(error.reason.contains("already in use"), "{error}");
    }
}

#[test]
fn without_a_gateway_the_first_of_the_range_is_it() {
    let mut state = State::default();
    let mut ranged = spec("n", "172.28.0.0/16");
    assert_eq!(
        create(&mut State::default(), &ranged).unwrap().gateway,
        Ipv4Addr::new(172, 28, 0, 1)
    );
    ranged.ip_range = Some("172.28.5.0/24".to_owned());
    let network = create(&mut state, &ranged).unwrap();
    assert_eq!(network.gateway, Ipv4Addr::new(172, 28, 5, 0));
}

#[test]
fn an_address_is_given_back_with_its_container_and_not_given_again_at_once() {
    let mut state = State::default();
    create(&mut state, &spec("n", "10.0.0.0/29")).unwrap();
    let first = attach(&mut state, "n", None).unwrap();
    let name = state.containers().next().unwrap().name.clone();
    state.end(&name, 0);
    let next: Vec<_> = (0..5)
        .map(|_| attach(&mut state, "n", None).unwrap())
        .collect();
    assert_eq!(next.last(), Some(&first), "{next:?}");
    assert!(attach(&mut state, "n", None).is_err());
}

#[test]
fn addresses_that_make_no_sense_are_refused_by_field() {
    type Change = fn(&mut NetworkSpec);
    let wrong: [(&str, Change, &str); 9] = [
        (
            "ip_range",
            |s| s.ip_range = Some("10.1.0.0/24".into()),
            "no matching subnet for range",
        ),
        (
            "ip_range",
            |s| s.ip_range = Some("10.0.0.5/28".into()),
            "did you mean 10.0.0.0/28",
        ),
        (
            "ip_range",
            |s| s.ip_range = Some("x".into()),
            "expected ADDRESS/LENGTH",
        ),
        (
            "gateway",
            |s| s.gateway = Some([10, 1, 0, 1].into()),
            "no matching subnet for gateway",
        ),
        (
            "gateway",
            |s| s.gateway = Some([10, 0, 0, 255].into()),
            "not a host's",
        ),
        (
            "aux_addresses",
            |s| s.aux_addresses = [("a".into(), [10, 1, 0, 1].into())].into(),
            "no matching subnet",
        ),
        (
            "aux_addresses",
            |s| s.aux_addresses = [("a".into(), [10, 0, 0, 1].into())].into(),
            "already in use",
        ),
        (
            "aux_addresses",
            |s| s.aux_addresses = [("/".into(), [10, 0, 0, 9].into())].into(),
            "invalid name",
        ),
        (
            "gateway",
            |s| (s.subnet, s.gateway) = (None, Some([10, 0, 0, 1].into())),
            "must have a corresponding subnet",
        ),
    ];
    for (field, change, why) in wrong {
        let mut wanted = spec("n", "10.0.0.0/24");
        change(&mut wanted);
        let error = create(&mut State::default(), &wanted).unwrap_err();
        assert_eq!(error.field, field, "{error}");
        assert!(error.reason.contains(why), "{error}");
    }
}

#[test]
fn an_mtu_comes_by_one_way_only() {
    let mut wanted = spec("n", "10.0.0.0/24");
    let name = "com.docker.network.driver.mtu";
    wanted.options = [(name.to_owned(), "1400".to_owned())].into();
    assert_eq!(create(&mut State::default(), &wanted).unwrap().mtu, 1400);
    wanted.mtu = Some(1400);
    let error = create(&mut State::default(), &wanted).unwrap_err();
    assert!(
        error.field == "mtu" && error.reason.contains("-o"),
        "{error}"
    );
}

#[test]
fn networks_go_by_name_or_by_what_only_their_id_begins_with() {
    let mut state = State::default();
    let one = create(&mut state, &spec("one", "10.0.0.0/24")).unwrap();
    let two = create(&mut state, &spec("two", "10.0.1.0/24")).unwrap();
    assert_eq!(state.network(&one.id).unwrap().name, "one");
    assert!(state.network(&one.id[..12]).is_err(), "both begin so");
    attach(&mut state, &two.id, None).unwrap();
    assert_eq!(
        state.containers().next().unwrap().endpoints[0].network,
        "two"
    );
    let error = state.remove_network(&two.id).unwrap_err();
    assert!(error.reason.contains("network two id 0000"), "{error}");
    state.remove_network(&one.id).unwrap();
    assert!(state.network("one").is_err());
    for name in ["two", "host", "none"] {
        let error = create(&mut state, &spec(name, "10.0.9.0/24")).unwrap_err();
        assert_eq!(
            error.reason,
            format!("network with name {name} already exists")
        );
    }
}

#[test]
fn a_network_says_how_interfaces_are_called_and_where_ports_are_published() {
    let mut state = State::default();
    let mut wanted = spec("n", "10.0.0.0/24");
    wanted.options = [
        ("com.docker.network.container_iface_prefix", "net"),
        ("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    create(&mut state, &wanted).unwrap();
    let ports = ["80:80", "0.0.0.0:81:81"].map(|text| publish::parse(text).unwrap());
    let spec = AttachSpec {
        networks: vec![EndpointSpec {
            network: "n".to_owned(),
            ..EndpointSpec::default()
        }],
        publish: ports.into(),
        ..AttachSpec::default()
    };
    let container = state
        .create_container(spec, 0, [1; 4], &mut FreePorts)
        .unwrap();
    assert_eq!(container.endpoints[0].ifname, "net0");
    let published: Vec<_> = container.publish().map(ToString::to_string).collect();
    assert_eq!(published, ["127.0.0.1:80->80/tcp", "0.0.0.0:81->81/tcp"]);
}

#[test]
fn what_nobody_uses_is_pruned_as_far_as_it_is_meant() {
    let mut state = State::default();
    for (n, name) in [DEFAULT_NETWORK, "used", "blue", "red", "plain"]
        .into_iter()
        .enumerate()
    {
        let mut wanted = spec(name, &format!("10.0.{n}.0/24"));
        if ["blue", "red"].contains(&name) {
            wanted.labels = [("team".to_owned(), name.to_owned())].into();
        }
        state
            .create_network(&wanted, &[], n as u64, [n as u64; 4])
            .unwrap();
    }
    attach(&mut state, "used", None).unwrap();
    let unused = |labels: &[LabelFilter], created_before_nanos| {
        let labels = labels.to_vec();
        state.unused_networks(&PruneFilter {
            labels,
            created_before_nanos,
        })
    };
    assert_eq!(unused(&[], None), ["blue", "plain", "red"]);
    assert_eq!(unused(&[], Some(3)), ["blue"]);
    assert_eq!(unused(&[LabelFilter::has("team")], None), ["blue", "red"]);
    let both = [LabelFilter::has("team"), LabelFilter::has_not("team=red")];
    assert_eq!(unused(&both, None), ["blue"]);
}

/// A file of an engine that knew nothing of the choice is read, and one that says nothing of it is what such an engine
/// reads.
#[test]
fn networks_of_older_files_have_their_flows_carried() {
    let mut state = State::default();
    let off = NetworkSpec {
        offload: OffloadMode::Off,
        ..spec("off", "172.29.0.0/24")
    };
    create(&mut state, &spec("auto", "172.28.0.0/24")).unwrap();
    create(&mut state, &off).unwrap();
    for (name, mode) in [("auto", OffloadMode::Auto), ("off", OffloadMode::Off)] {
        let network = state.network(name).unwrap();
        assert_eq!(state.network_view(network).offload, mode);
        let written = serde_json::to_string(network).unwrap();
        assert_eq!(written.contains("offload"), mode == OffloadMode::Off);
        assert_eq!(serde_json::from_str::<Network>(&written).unwrap(), *network);
    }
}
