//! End to end: networks as `docker network` makes, lists and removes them. Tests are named after the checks
//! they show where there are any.

use pontoon_tests::e2e::{environment, namespaces, run_pontoon, sh, try_sh};

/// Declares tests that run in namespaces of their own, and end the engine that they have started.
macro_rules! network_tests {
    ($($(#[$meta:meta])* fn $name:ident $body:block)*) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            namespaces(stringify!($name), || {
                $body
                run_pontoon("shutdown");
            });
        }
    )*};
}

/// The one line with which `pontoon` refuses.
fn refused(arguments: &str) -> String {
    let output = try_sh(&format!("{} {arguments}", environment()));
    assert!(!output.status.success(), "{arguments} was accepted");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(error.trim_end().lines().count(), 1, "one line: {error}");
    error
}

/// What `network inspect` says of a network, at a JSON pointer.
fn inspected(name: &str, pointer: &str) -> serde_json::Value {
    let text = run_pontoon(&format!("network inspect {name}"));
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let found = all[0].pointer(pointer);
    found
        .unwrap_or_else(|| panic!("no {pointer} in {text}"))
        .clone()
}

/// Starts a container that sleeps, and returns its address.
fn sleeper(name: &str, options: &str) -> String {
    run_pontoon(&format!("run -d --name {name} {options} -- sleep 300"));
    let listed = run_pontoon("ps --json");
    let all: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let all = all.as_array().expect("a list");
    let own = all.iter().find(|c| c["name"] == name).expect("it runs");
    own["address"].as_str().expect("text").to_owned()
}

network_tests! {
    /// What `docker network create` takes is taken, and decides what containers get.
    fn networks_are_made_as_docker_makes_them {
        let id = run_pontoon(
            "network create -d bridge --subnet 172.28.0.0/16 --ip-range 172.28.5.0/24 \
            --gateway 172.28.5.254 --aux-address router=172.28.5.1 --label team=blue --label bare \
            -o com.docker.network.driver.mtu=1400 -o com.docker.network.container_iface_prefix=net n1");
        assert!(id.trim().len() == 64 && id.trim().bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        assert_eq!(sleeper("a", "--network n1"), "172.28.5.0/16");
        assert_eq!(sleeper("b", "--network n1"), "172.28.5.2/16", "over the auxiliary address");
        assert_eq!(sleeper("c", "--network n1 --ip 172.28.200.9"), "172.28.200.9/16");
        let link = run_pontoon("exec a -- ip -o link show net0");
        assert!(link.contains("mtu 1400") && link.contains("02:42:ac:1c:05:00"), "{link}");
        run_pontoon("exec b -- ping -c1 -W5 172.28.5.254");
        run_pontoon("exec b -- ping -c1 -W5 172.28.200.9");

        run_pontoon("rm -f a");
        assert_eq!(sleeper("d", &format!("--network {}", &id[..12])), "172.28.5.3/16", "not at once");
        assert_eq!(sleeper("e", "--network n1 --ip 172.28.5.0"), "172.28.5.0/16", "it was given back");
        for (wrong, why) in [
            ("172.28.5.1", "already in use"),
            ("172.28.5.254", "already in use"),
            ("172.28.0.0", "not a host's address"),
            ("172.28.255.255", "not a host's address"),
            ("172.29.0.9", "not in the network's subnet"),
        ] {
            let error = refused(&format!("run --rm --network n1 --ip {wrong} -- true"));
            assert!(error.contains(why), "{error}");
        }
    }

    /// Default pools are Docker's, without those that a route of the host or another network overlaps.
    fn pools_of_the_hosts_routes_and_of_other_networks_are_skipped {
        sh("ip link add v0 type veth peer name v1 && ip link set v0 up && ip addr add 172.18.9.1/24 dev v0");
        let mut subnets = Vec::new();
        for n in 0..16 {
            run_pontoon(&format!("network create n{n}"));
            subnets.push(inspected(&format!("n{n}"), "/subnet"));
        }
        assert_eq!(inspected("bridge", "/subnet"), "172.17.0.0/16");
        let expected = (19..=31).map(|n| format!("172.{n}.0.0/16"));
        let expected: Vec<_> = expected.chain([0, 16, 32].map(|n| format!("192.168.{n}.0/20"))).collect();
        assert_eq!(subnets, expected);
        run_pontoon("network rm n1");
        run_pontoon("network create again");
        assert_eq!(inspected("again", "/subnet"), "172.20.0.0/16");
    }

    /// BAD-06: what makes no network is refused with one line that names field and value, and leaves nothing.
    fn bad_06_what_makes_no_network_is_refused {
        run_pontoon("network create --subnet 10.99.0.0/24 lab");
        let before = run_pontoon("network ls");
        for (arguments, why) in [
            ("lab", "network with name lab already exists"),
            ("host", "network with name host already exists"),
            ("--subnet 10.99.0.128/25 a", "Pool overlaps with other one on this address space"),
            ("--subnet 10.98.0.0/24 --ip-range 10.97.0.0/25 a", "no matching subnet for range 10.97.0.0/25"),
            ("--subnet 10.98.0.0/24 --gateway 10.97.0.1 a", "no matching subnet for gateway 10.97.0.1"),
            ("--subnet 10.98.0.0/24 --aux-address x=10.97.0.1 a", "no matching subnet for aux-address 10.97.0.1"),
            ("--subnet 10.98.0.0/24 --gateway 10.98.0.1 --aux-address x=10.98.0.1 a", "--aux-address: 10.98.0.1"),
            ("--gateway 10.98.0.1 a", "must have a corresponding subnet"),
            ("--mtu 1400 -o com.docker.network.driver.mtu=1400 a", "--mtu: it is given as a driver option"),
            ("-o com.docker.network.driver.mtu=x a", "com.docker.network.driver.mtu=x: expected"),
            ("-o com.docker.network.bridge.name=br0 a", "com.docker.network.bridge.name"),
            ("-o nosuch=1 a", "nosuch: unknown; there are com.docker"),
        ] {
            let error = refused(&format!("network create {arguments}"));
            assert!(error.contains(why), "{arguments}: {error}");
        }
        for (arguments, why) in [
            ("--aux-address x a", "expected NAME=ADDRESS"),
            ("-d overlay a", "possible values: bridge"),
        ] {
            let output = try_sh(&format!("{} network create {arguments}", environment()));
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && error.contains(why), "{error}");
        }
        assert_eq!(run_pontoon("network ls"), before, "nothing half done is left");
    }
}
