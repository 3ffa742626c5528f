//! End to end: containers whose network namespace is empty, the user's, or another container's.

use pontoon_tests::e2e::containers::*;
use pontoon_tests::e2e::names::*;
use pontoon_tests::e2e::{environment, run_pontoon, sh, try_sh, wait_for};

/// The first process of a container, and its monitor.
fn process(name: &str, which: &str) -> String {
    shown(name)[which].to_string()
}

fn is_running(name: &str) -> bool {
    shown(name)["state"] == "running"
}

pontoon_tests::names_tests! {
    fn none_has_only_a_loopback_that_is_up {
        let _upstream = networks();
        container("n", "--network none");
        assert_eq!(exec("n", "ip -o link | wc -l"), "1\n");
        exec("n", "ping -c1 -W2 127.0.0.1");
        assert!(!succeeds("n", "ping -c1 -W1 172.18.0.1"));
        let view = shown("n");
        assert_eq!((&view["network"], &view["networks"]), (&"none".into(), &serde_json::json!([])));
        let said = refused("run --network none -p 80 -- true");
        assert!(said.contains("no network that a port could lead to"), "{said}");
        let said = refused("run --network none --network app -- true");
        assert!(said.contains("cannot attach both user-defined and non-user-defined"), "{said}");
        run_pontoon("network connect app n");
        exec("n", "ping -c1 -W2 172.18.0.1");
        run_pontoon("stop -t 0 n");
        run_pontoon("rm n");
    }

    fn host_is_where_the_user_is {
        let _upstream = networks();
        let links = sh("ip -o link; hostname; readlink /proc/self/ns/net");
        let found = run_pontoon("run --rm --network host -- sh -c 'ip -o link; hostname; readlink /proc/self/ns/net'");
        assert_eq!(found, links);
        container("h", "--network host");
        assert_eq!(run_pontoon("exec h -- readlink /proc/self/ns/net"), sh("readlink /proc/self/ns/net"));
        assert_eq!(shown("h")["network"], "host");
        for (options, why) in [
            ("-p 8080:80", "Published ports are discarded when using host network mode"),
            ("--hostname x", "conflicting options: hostname and the UTS mode"),
            ("--add-host x:192.0.2.1", "conflicting options: custom host-to-IP mapping and the network mode"),
            ("--ip 172.18.0.9", "user specified IP address is supported on user defined networks only"),
            ("--network-alias x", "network-scoped alias is supported only"),
        ] {
            let said = refused(&format!("run --network host {options} -- true"));
            assert!(said.contains(why), "{options}: {said}");
        }
        let said = refused("network connect app h");
        assert!(said.contains("container sharing network namespace with another container or host"), "{said}");
        let status = try_sh(&format!("{} run --rm --network host -- sh -c 'exit 7'", environment())).status;
        assert_eq!(status.code(), Some(7));
        run_pontoon("stop -t 0 h");
        assert!(!is_running("h"));
        run_pontoon("run -d --name killed --network host -- sleep 60");
        sh(&format!("kill -9 {}", process("killed", "monitor")));
        wait_for(|| !is_running("killed"), "a container of the host's to end with its monitor");
        assert!(try_sh("ip -o link").status.success(), "the host is untouched");
    }

    fn a_container_is_with_another_one {
        let _upstream = networks();
        web("web", "--network app --hostname front");
        let script = "curl -sf -o /dev/null http://127.0.0.1 && ip -o -4 addr show dev eth0 && hostname && grep front /etc/hosts";
        let found = run_pontoon(&format!("run --rm --network container:web -- sh -c '{script}'"));
        assert!(found.contains("172.18.0.2/24") && found.contains("\nfront\n"), "{found}");
        container("side", "--network container:web");
        let id = shown("web")["id"].as_str().expect("text").to_owned();
        assert_eq!(shown("side")["network"], format!("container:{id}"));
        // As in Docker it has no ports; what it is on is somebody's.
        let listed = run_pontoon("ps");
        let line = listed.lines().find(|line| line.ends_with("side")).expect("it is listed");
        assert!(line.contains("container:web") && !line.contains(&id), "{line}");
        exec("side", "ping -c1 -W2 172.18.0.1 && getent ahostsv4 web");
        for (options, why) in [
            ("-p 8080:80", "conflicting options: port publishing and the container type network mode."),
            ("--hostname x", "conflicting options: hostname and the network mode"),
            ("--dns 192.0.2.1", "conflicting options: dns and the network mode"),
            ("--mac-address 02:42:00:00:00:01", "conflicting options: mac-address and the network mode"),
        ] {
            let said = refused(&format!("run --network container:web {options} -- true"));
            assert!(said.contains(why), "{options}: {said}");
        }
        assert!(refused("run --network container:none-such -- true").contains("No such container: none-such"));
        assert!(refused("network connect vault side").contains("container sharing network namespace"));
        // What its owner joins, it sees.
        run_pontoon("network connect vault web");
        exec("side", "ping -c1 -W2 172.19.0.1");
        run_pontoon("rm -f side");
        wait_for(|| succeeds("web", "curl -sf -o /dev/null http://127.0.0.1"), "the owner to be untouched");
        assert!(is_running("web"));
        let said = refused("run --network container:side -- true");
        assert!(said.contains("No such container: side"), "{said}");
    }

    /// As in Docker, who shared lives on, with a loopback.
    fn when_the_owner_ends_its_networks_go_and_who_shared_lives_on {
        let _upstream = networks();
        let ends: [&dyn Fn(); 3] = [
            &|| { run_pontoon("stop -t 0 web"); },
            &|| { run_pontoon("rm -f web"); },
            &|| { sh(&format!("kill -9 {}", process("web", "monitor"))); },
        ];
        for end in ends {
            container("web", "--rm --network app --ip 172.18.0.20");
            container("side", "--network container:web");
            assert_eq!(exec("side", "ip -o link | wc -l"), "2\n");
            end();
            wait_for(|| succeeds("side", "test $(ip -o link | wc -l) = 1"), "the interface to go");
            assert!(is_running("side"));
            exec("side", "ping -c1 -W2 127.0.0.1");
            // The sharer's own end takes what it left behind, and nobody else.
            sh(&format!("kill -9 {}", process("side", "monitor")));
            wait_for(|| !is_running("side"), "the sharer to end with its monitor");
            run_pontoon("rm side");
        }
    }

    fn a_sharer_that_is_killed_leaves_its_owner_alone {
        let _upstream = networks();
        web("web", "--network app");
        run_pontoon("run -d --name side --network container:web -- sh -c 'sleep 61 & sleep 61'");
        sh(&format!("kill -9 {}", process("side", "monitor")));
        wait_for(|| !is_running("side"), "the sharer to end with its monitor");
        wait_for(|| !try_sh("pgrep -fx \"sleep 61\"").status.success(), "what it has left behind to end");
        assert!(is_running("web") && succeeds("web", "curl -sf -o /dev/null http://127.0.0.1"));
    }
}
