//! Containers on several networks.

use super::*;

fn on(networks: &[&str]) -> AttachSpec {
    let place = |network: &&str| EndpointSpec {
        network: (*network).to_owned(),
        ..EndpointSpec::default()
    };
    AttachSpec {
        networks: networks.iter().map(place).collect(),
        ..spec("c")
    }
}

/// The default network, `app` with a way out, and `vault` without one; each has room for five.
fn networks() -> State {
    let mut state = state();
    for (name, subnet, uplink) in [
        ("app", "10.0.1.0/29", "user"),
        ("vault", "10.0.2.0/29", "none"),
    ] {
        let network = NetworkSpec {
            name: name.to_owned(),
            subnet: Some(subnet.to_owned()),
            uplink: Some(uplink.to_owned()),
            ..NetworkSpec::default()
        };
        state.create_network(&network, &[], 0, [0; 4]).unwrap();
    }
    state
}

fn create(state: &mut State, spec: AttachSpec) -> Result<Container, Invalid> {
    let random = [state.containers().count() as u64 + 1; 4];
    let created = state.create_container(spec, 0, random, &mut FreePorts);
    created.cloned()
}

#[test]
fn interfaces_are_numbered_and_each_place_is_its_own() {
    let mut state = networks();
    let mut wanted = on(&["app", "vault", DEFAULT_NETWORK]);
    wanted.networks[1].aliases = vec!["db".to_owned()];
    let container = create(&mut state, wanted).unwrap();
    let places = container.endpoints.iter();
    let shown: Vec<_> = places
        .map(|e| (e.ifname.as_str(), e.address.to_string(), e.aliases.len()))
        .collect();
    let expected = [
        ("eth0", "10.0.1.2".to_owned(), 0),
        ("eth1", "10.0.2.2".to_owned(), 1),
        ("eth2", "10.0.0.2".to_owned(), 0),
    ];
    assert_eq!(shown, expected);
    let [first, second, third] = &container.endpoints[..] else {
        panic!("{container:?}");
    };
    assert!(first.port != second.port && second.port != third.port);
    assert!(first.id != second.id && first.host_ifname() != second.host_ifname());
    let (owner, place) = state.endpoint_at(second.port).unwrap();
    assert_eq!((owner.name.as_str(), place), ("c", second));
    let view = state.container_view(&container).unwrap();
    assert_eq!((view.network.as_str(), view.networks.len()), ("app", 3));
}

#[test]
fn the_first_network_with_a_way_out_leads() {
    let mut state = networks();
    let mut wanted = on(&["vault", "app", DEFAULT_NETWORK]);
    wanted.publish = vec![publish::parse("8080:80").unwrap()];
    let container = create(&mut state, wanted).unwrap();
    assert_eq!(state.leading(&container).unwrap().network, "app");
    let ports = container.endpoints.iter().map(|e| e.publish.len());
    assert_eq!(ports.collect::<Vec<_>>(), [0, 1, 0]);
    state.forget("c");
    let container = create(&mut state, on(&["vault"])).unwrap();
    assert_eq!(state.leading(&container).unwrap().network, "vault");
}

#[test]
fn what_cannot_be_had_on_one_network_is_held_on_none() {
    let mut state = networks();
    for (networks, why) in [
        (
            ["app", "app"],
            "endpoint with name c already exists in network app",
        ),
        (["app", "none-such"], "No such network: none-such"),
    ] {
        let error = create(&mut state, on(&networks)).unwrap_err();
        assert_eq!(error.reason, why);
    }
    let mut taken = on(&["app", DEFAULT_NETWORK]);
    taken.networks[1].ip = Some(Ipv4Addr::new(10, 0, 0, 1).into());
    assert_eq!(create(&mut state, taken).unwrap_err().field, "ip");
    let mut free = on(&["app"]);
    for last in 2..=6 {
        free.name = Some(format!("c{last}"));
        create(&mut state, free.clone()).unwrap();
    }
    free.name = Some("c7".to_owned());
    assert!(create(&mut state, free).is_err(), "a /29 has five");
}

#[test]
fn all_addresses_come_back_when_it_ends() {
    let mut state = networks();
    create(&mut state, on(&["app", "vault"])).unwrap();
    for network in ["app", "vault"] {
        let error = state.remove_network(network).unwrap_err();
        assert!(error.reason.contains("active endpoints"), "{error}");
    }
    let mut wanted = on(&["app", "vault"]);
    wanted.name = Some("again".to_owned());
    wanted.networks[0].ip = Some(Ipv4Addr::new(10, 0, 1, 2).into());
    wanted.networks[1].ip = Some(Ipv4Addr::new(10, 0, 2, 2).into());
    assert!(
        create(&mut state, wanted.clone()).is_err(),
        "both are taken"
    );
    state.end("c", 0);
    create(&mut state, wanted).unwrap();
    state.forget("again");
    state.remove_network("app").unwrap();
    let left = state.container("c").unwrap();
    assert_eq!(
        left.endpoints.len(),
        1,
        "one that has ended keeps no network"
    );
}

#[test]
fn a_place_comes_and_goes_while_the_container_runs() {
    let mut state = networks();
    create(&mut state, on(&["vault"])).unwrap();
    let back = |network: &str| on(&[network]).networks.remove(0);
    let place = state.connect("c", &back("app")).unwrap();
    assert_eq!(place.ifname, "eth1");
    let container = state.container("c").unwrap();
    assert_eq!(state.leading(container).unwrap().network, "app");
    let again = state.connect("c", &back("app")).unwrap_err();
    assert_eq!(
        again.reason,
        "endpoint with name c already exists in network app"
    );
    state.disconnect("c", "vault").unwrap();
    let error = state.disconnect("c", "vault").unwrap_err();
    assert!(error.reason.ends_with("is not connected to network vault"));
    let next = state.connect("c", &back(DEFAULT_NETWORK)).unwrap();
    assert_eq!(next.ifname, "eth0", "the first that is free");
    state.end("c", 0);
    assert!(state.connect("c", &back("vault")).is_err(), "it has ended");
    state.disconnect("c", "app").unwrap();
    assert!(state.container("c").unwrap().endpoint("app").is_none());
}

#[test]
fn ports_go_with_the_place_that_they_lead_to() {
    let mut state = networks();
    let mut wanted = on(&["app", DEFAULT_NETWORK]);
    wanted.publish = vec![publish::parse("8080:80").unwrap()];
    create(&mut state, wanted.clone()).unwrap();
    let gone = state.disconnect("c", "app").unwrap();
    assert_eq!(shown(&gone.publish), ["0.0.0.0:8080->80/tcp"]);
    wanted.name = Some("d".to_owned());
    wanted.networks[0].ip = Some(gone.address.into());
    create(&mut state, wanted).expect("port and address are free again");
}

#[test]
fn who_is_in_anothers_namespace_has_nothing_of_its_own() {
    let mut state = networks();
    let mut owner = on(&["app"]);
    owner.pid = Some(1);
    let owner = create(&mut state, owner).unwrap();
    let name = "c".to_owned();
    let shared = AttachSpec {
        name: Some("sharer".to_owned()),
        mode: NetworkMode::Container { name },
        ..AttachSpec::default()
    };
    let publish = vec![publish::parse("80").unwrap()];
    let wrong = AttachSpec {
        publish,
        ..shared.clone()
    };
    let error = create(&mut state, wrong).unwrap_err();
    assert_eq!(
        error.to_string(),
        "conflicting options: port publishing and the container type network mode."
    );
    assert!(!state.is_shared(&owner));
    let sharer = create(&mut state, shared.clone()).unwrap();
    let view = state.container_view(&sharer).unwrap();
    assert_eq!(view.network, format!("container:{}", owner.id));
    assert!(state.is_shared(&owner) && !state.is_shared(&sharer));
    let app = on(&["app"]).networks.remove(0);
    let error = state.connect("sharer", &app).unwrap_err();
    assert!(error.reason.contains("sharing network namespace"));
    state.end("sharer", 0);
    assert!(!state.is_shared(&owner));
    state.end("c", 0);
    let error = create(&mut state, shared).unwrap_err();
    assert!(error.reason.contains("in use"), "the name is: {error}");
}

#[test]
fn ports_wait_where_nobody_could_reach_them_and_can_be_taken_back() {
    let mut state = networks();
    let mut wanted = on(&["app"]);
    wanted.publish = vec![publish::parse("8080:80").unwrap()];
    create(&mut state, wanted).unwrap();
    let gone = state.disconnect("c", "app").unwrap();
    state.put_ports("c", None, &gone.publish);
    state.connect("c", &on(&["vault"]).networks[0]).unwrap();
    let container = state.container("c").unwrap();
    assert_eq!(state.reached(container), None);
    assert_eq!(
        (container.publish().count(), container.waiting.len()),
        (0, 1)
    );
    // Somebody else may have it meanwhile.
    let mut other = on(&["app"]);
    other.name = Some("d".to_owned());
    other.publish = vec![publish::parse("8080:80").unwrap()];
    create(&mut state, other).unwrap();
    let error = state
        .claim_again(&gone.publish, &mut FreePorts)
        .unwrap_err();
    assert!(error.reason.contains("already allocated to d"), "{error}");
    let place = state.connect("c", &on(&["app"]).networks[0]).unwrap();
    let container = state.container("c").unwrap();
    assert_eq!(state.reached(container), Some(&place));
    let taken = state
        .unpublish("c", &[publish::parse("80").unwrap()])
        .unwrap();
    assert_eq!(taken, gone.publish);
    assert!(state.container("c").unwrap().waiting.is_empty());
}
