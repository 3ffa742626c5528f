//! End to end: networks as `docker network` makes, lists and removes them. Tests are named after the checks
//! they show where there are any.

use pontoon_tests::e2e::{self, environment, run_pontoon, sh, try_sh};

/// The one line with which `pontoon` refuses.
fn refused(arguments: &str) -> String {
    let error = e2e::refused(arguments);
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

pontoon_tests::namespace_tests! {
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
            subnets.push(inspected(&format!("n{n}"), "/IPAM/Config/0/Subnet"));
        }
        assert_eq!(inspected("bridge", "/IPAM/Config/0/Subnet"), "172.17.0.0/16");
        let expected = (19..=31).map(|n| format!("172.{n}.0.0/16"));
        let expected: Vec<_> = expected.chain([0, 16, 32].map(|n| format!("192.168.{n}.0/20"))).collect();
        assert_eq!(subnets, expected);
        run_pontoon("network rm n1");
        run_pontoon("network create again");
        assert_eq!(inspected("again", "/IPAM/Config/0/Subnet"), "172.20.0.0/16");
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

    /// `docker network ls` with its forms and filters.
    fn networks_are_listed_as_docker_lists_them {
        let id = run_pontoon("network create --label team=blue --label bare n1");
        let (id, short) = (id.trim(), &id[..12]);
        run_pontoon("network create --uplink none n2");
        let bridge = run_pontoon("network ls -q --filter type=builtin");
        let n2 = run_pontoon("network ls -q --filter name=n2");
        let expected = [
            "NETWORK ID     NAME      DRIVER    SCOPE".to_owned(),
            format!("{}   bridge    bridge    local", bridge.trim()),
            format!("{short}   n1        bridge    local"),
            format!("{}   n2        bridge    local\n", n2.trim()),
        ];
        assert_eq!(run_pontoon("network ls"), expected.join("\n"));
        assert_eq!(run_pontoon("network ls -q --no-trunc -f name=n1"), format!("{id}\n"));
        for (filters, names) in [
            ("-f name=n", "n1\nn2\n"),
            ("-f name=n1 -f name=n2", "n1\nn2\n"),
            ("-f label=team", "n1\n"),
            ("-f label=team=red", ""),
            ("-f label=team=blue -f label=bare", "n1\n"),
            ("-f type=custom -f driver=bridge -f scope=local", "n1\nn2\n"),
            ("-f driver=overlay", ""),
            (&format!("-f id={}", &id[..8]), "n1\n"),
        ] {
            let listed = run_pontoon(&format!("network ls {filters} --format '{{{{.Name}}}}'"));
            assert_eq!(listed, names, "{filters}");
        }
        let columns = run_pontoon(r"network ls -f type=custom --format 'table {{.Name}}\t{{.Internal}}\t{{.Labels}}'");
        assert_eq!(columns, "NAME      INTERNAL   LABELS\nn1        false      bare=,team=blue\nn2        true\n");
        let line = run_pontoon("network ls -f name=n1 --format '{{json .}}'");
        assert_eq!(line, run_pontoon("network ls -f name=n1 --format json"));
        let (created, rest) = line.split_once(",").expect("several fields");
        assert!(created.starts_with("{\"CreatedAt\":\"20") && created.ends_with(" +0000 UTC\""), "{created}");
        let expected = format!(
            "\"Driver\":\"bridge\",\"ID\":\"{short}\",\"IPv6\":\"false\",\"Internal\":\"false\",\
             \"Labels\":\"bare=,team=blue\",\"Name\":\"n1\",\"Scope\":\"local\"}}\n");
        assert_eq!(rest, expected);
        assert!(refused("network ls -f nosuch=1").contains("invalid filter 'nosuch'"));
        assert!(refused("network ls --format '{{range .}}'").contains("only {{.Field}}"));
    }

    /// `docker network inspect`: its keys in its order.
    fn networks_are_shown_as_docker_shows_them {
        let id = run_pontoon(
            "network create --subnet 10.9.0.0/24 --ip-range 10.9.0.128/25 --gateway 10.9.0.1 \
            --aux-address r=10.9.0.2 --label a=b -o com.docker.network.driver.mtu=1400 n1");
        let id = id.trim();
        sleeper("c1", "--network n1 --ip 10.9.0.5");
        run_pontoon("run --name gone --network n1 -- true");
        let text = run_pontoon("network inspect n1");
        let keys = [
            "[\n    {\n        \"Name\": \"n1\",\n        \"Id\"", "\"Created\"", "\"Scope\": \"local\"",
            "\"Driver\": \"bridge\"", "\"EnableIPv6\": false", "\"IPAM\"", "\"Driver\": \"default\"",
            "\"Options\": {}", "\"Config\"", "\"Subnet\": \"10.9.0.0/24\"", "\"IPRange\": \"10.9.0.128/25\"",
            "\"Gateway\": \"10.9.0.1\"", "\"AuxiliaryAddresses\"", "\"r\": \"10.9.0.2\"",
            "\"Internal\": false", "\"Attachable\": false", "\"Ingress\": false", "\"ConfigFrom\"",
            "\"Network\": \"\"", "\"ConfigOnly\": false", "\"Containers\"", "\"Name\": \"c1\"",
            "\"EndpointID\"", "\"MacAddress\": \"02:42:0a:09:00:05\"", "\"IPv4Address\": \"10.9.0.5/24\"",
            "\"IPv6Address\": \"\"", "\"Options\"", "\"com.docker.network.driver.mtu\": \"1400\"",
            "\"Labels\"", "\"a\": \"b\"",
        ];
        let mut rest = text.as_str();
        for key in keys {
            let at = rest.find(key).unwrap_or_else(|| panic!("no {key} behind the others in {text}"));
            rest = &rest[at + key.len()..];
        }
        assert!(!text.contains("\"gone\""), "{text}");
        assert_eq!(inspected(&id[..12], "/Id"), id);
        assert_eq!(run_pontoon("network inspect -f '{{.Name}} {{.Id}}' n1"), format!("n1 {id}\n"));
        assert_eq!(run_pontoon("network inspect -f '{{json .Labels}}' n1"), "{\"a\":\"b\"}\n");

        let output = try_sh(&format!("{} network inspect nosuch n1", environment()));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(error, "pontoon: No such network: nosuch\n");
        assert_eq!(String::from_utf8_lossy(&output.stdout), text, "the others are shown");
    }

    /// `docker network rm` and `prune`: what is used stays, and each thing is told in Docker's words.
    fn networks_that_nobody_uses_go {
        let id = run_pontoon("network create used");
        let id = id.trim();
        run_pontoon("network create --label keep one");
        run_pontoon("network create two");
        sleeper("c1", "--network used");
        let in_use = format!("error while removing network: network used id {id} has active endpoints");
        assert!(refused("network rm used").contains(&in_use));
        assert!(refused(&format!("network rm {}", &id[..12])).contains(&in_use));
        assert!(refused("network rm nosuch").contains("No such network: nosuch"));
        assert!(refused("network rm bridge").contains("bridge is a pre-defined network and cannot be removed"));

        let prune = format!("{} network prune", environment());
        let asked = sh(&format!("echo n | {prune}"));
        assert!(asked.starts_with("WARNING! This will remove all custom networks"), "{asked}");
        assert!(asked.ends_with("[y/N] "), "{asked}");
        assert_eq!(run_pontoon("network prune -f --filter until=1h"), "");
        assert_eq!(run_pontoon("network prune -f --filter label!=keep --filter until=0s"), "Deleted Networks:\ntwo\n\n");
        assert!(refused("network prune -f --filter until=soon").contains("until=soon"));
        let agreed = sh(&format!("echo y | {prune}"));
        assert!(agreed.ends_with("Deleted Networks:\none\n\n"), "{agreed}");
        assert_eq!(run_pontoon("network prune -f"), "");
        run_pontoon("rm -f c1");
        assert_eq!(run_pontoon("network rm used"), "used\n");
    }
}
