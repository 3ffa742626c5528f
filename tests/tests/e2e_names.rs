//! End to end: names, with real resolvers in containers and a name server of the test's own where the
//! host's would be.

use pontoon_tests::e2e::names::*;
use pontoon_tests::e2e::{environment, run_pontoon, sh, try_sh, wait_for};
use std::fs;

const CAPTURE: &str = include_str!("../src/e2e/capture.py");

/// What `dig` has said, and how many milliseconds it says that the answer took.
fn query(said: &str) -> (String, u64) {
    let time = said.split("Query time: ").nth(1);
    let time = time.and_then(|rest| rest.split(' ').next()?.parse().ok());
    (
        said.to_owned(),
        time.unwrap_or_else(|| panic!("no time: {said}")),
    )
}

pontoon_tests::names_tests! {
    fn containers_of_a_network_find_each_other_by_all_their_names {
        let upstream = networks();
        container("web", "--network app --network-alias www2 --hostname front");
        container("other", "--network vault");
        let id = sh(&format!("{} ps -q --all --json", environment()));
        let ids: serde_json::Value = serde_json::from_str(&id).expect("JSON");
        let web = ids.as_array().and_then(|all| all.iter().find(|c| c["name"] == "web"));
        let id = web.and_then(|c| c["id"].as_str()).expect("an id")[..12].to_owned();
        for name in ["web", "www2", "front", "WEB", "web.app", &id] {
            let found = inside("--network app", &format!("getent ahostsv4 {name}"));
            assert!(found.starts_with("172.18.0.2 "), "{name}: {found}");
        }
        let script = format!("{DIG} +short web; {DIG} +tcp +short web; {DIG} +short -x 172.18.0.2; \
                              getent hosts 172.18.0.2; {DIG} AAAA web");
        let found = inside("--network app", &script);
        assert!(found.starts_with("172.18.0.2\n172.18.0.2\nweb.app.\n172.18.0.2      web.app\n"), "{found}");
        assert!(found.contains("NOERROR") && found.contains("ANSWER: 0"), "{found}");
        for name in ["other", "other.vault"] {
            assert!(inside("--network app", &format!("{DIG} {name}")).contains("NXDOMAIN"), "{name}");
        }
        assert_eq!(upstream.asked().len(), 2, "{:?}", upstream.asked());
    }

    fn an_alias_leads_to_all_who_bear_it_and_goes_with_them {
        let _upstream = networks();
        for name in ["a", "b"] {
            container(name, "--network app --network-alias db");
        }
        let both = inside("--network app", &format!("{DIG} +short db | sort"));
        assert_eq!(both, "172.18.0.2\n172.18.0.3\n");
        run_pontoon("rm -f a");
        assert_eq!(inside("--network app", &format!("{DIG} +short db")), "172.18.0.3\n");
        run_pontoon("stop -t 0 b");
        assert!(inside("--network app", &format!("{DIG} db")).contains("NXDOMAIN"));
        assert!(inside("--network app", &format!("{DIG} -x 172.18.0.3")).contains("NXDOMAIN"));
    }

    fn containers_of_the_default_network_do_not_find_each_other {
        let _upstream = networks();
        container("web", "");
        for name in ["web", "web.bridge", "-x 172.17.0.2"] {
            assert!(inside("", &format!("{DIG} {name}")).contains("NXDOMAIN"), "{name}");
        }
        let alias = try_sh(&format!("{} run --network-alias db -- true", environment()));
        assert!(String::from_utf8_lossy(&alias.stderr).contains("--network-alias: "), "{alias:?}");
    }

    fn other_names_are_asked_of_the_hosts_resolver {
        let upstream = networks();
        let found = inside("--network app", &format!("{DIG} +short www.example; {DIG} +tcp +short www.example; \
                                                      getent ahostsv4 www.example"));
        assert!(found.starts_with(&format!("{WWW}\n{WWW}\n{WWW} ")), "{found}");
        assert!(inside("--network app", &format!("{DIG} none.example")).contains("NXDOMAIN"));
        assert!(inside("--network app", &format!("{DIG} refused.example")).contains("REFUSED"));
        let asked = upstream.asked();
        assert!(asked[0].starts_with("udp www.example ") && asked[1].starts_with("tcp www.example "), "{asked:?}");
    }

    fn what_does_not_fit_into_a_datagram_comes_over_tcp {
        let upstream = networks();
        for name in ["big.example", "fat.example"] {
            let cut = inside("--network app", &format!("{DIG} +ignore {name}"));
            assert!(cut.contains(" tc "), "{cut}");
            let whole = inside("--network app", &format!("{DIG} +short {name} | wc -l"));
            assert_eq!(whole, "200\n", "{name}");
        }
        let tcp = upstream.asked().iter().filter(|line| line.starts_with("tcp")).count();
        assert_eq!(tcp, 2);
    }

    fn each_query_leaves_under_a_port_and_an_id_of_its_own {
        let upstream = networks();
        inside("--network app", &format!("for n in $(seq 30); do {DIG} +qid=7 www$n.example; done"));
        let asked = upstream.asked();
        let distinct = |field: usize| {
            let all = asked.iter().filter_map(|line| line.split(' ').nth(field));
            all.collect::<std::collections::HashSet<_>>().len()
        };
        assert_eq!(asked.len(), 30);
        assert!(distinct(2) >= 28 && distinct(3) >= 28, "{asked:?}");
    }

    fn a_resolver_that_refuses_or_is_silent_is_passed_over {
        let _upstream = networks();
        let silent = std::net::UdpSocket::bind("127.0.0.54:53").expect("a free port");
        silent.set_nonblocking(true).expect("a socket");
        container("asker", "--network app");
        let ask = |how: &str| query(&run_pontoon(&format!("exec asker -- {DIG} @172.18.0.1 {how} www.example")));
        name_servers(&["127.0.0.55", "127.0.0.54", RESOLVER]);
        // The engine has followed once the silent one is asked, which it waits two seconds for by its own clock.
        wait_for(|| {
            let (told, took) = ask("");
            let passed_over = silent.recv(&mut [0; 512]).is_ok();
            assert!(told.contains(WWW) && (1900..4000).contains(&took) == passed_over, "{told}");
            passed_over
        }, "the silent one to be asked");
        drop(silent);
        let (told, took) = ask("");
        assert!(told.contains(WWW) && took < 1900, "{told}");
        name_servers(&["127.0.0.55"]);
        wait_for(|| ask("").0.contains("SERVFAIL"), "nobody to be left who answers");
        for how in ["+notcp", "+tcp"] {
            let (told, took) = ask(how);
            assert!(told.contains("SERVFAIL") && took < 2000, "{told}");
        }
    }

    fn a_silent_resolver_delays_nobody_elses_query {
        let _upstream = networks();
        let script = format!("for n in $(seq 20); do {DIG} silent.example$n & done; sleep 0.5; \
                              {DIG} www.example | grep -e \"Query time\" -e {WWW}; kill %1; true");
        let (found, took) = query(&inside("--network app", &script));
        assert!(found.contains(WWW) && took < 2000, "{found}");
    }

    fn the_hosts_resolvers_are_followed {
        let first = networks();
        let second = Upstream::start("127.0.0.54", "203.0.113.54");
        container("asker", "--network app");
        let ask = || run_pontoon(&format!("exec asker -- {DIG} @172.18.0.1 +short www.example"));
        let is = |answer: &str| wait_for(|| ask() == format!("{answer}\n"), answer);
        is(WWW);
        name_servers(&["127.0.0.54"]);
        is("203.0.113.54");
        fs::write("/etc/new", resolv_conf(&[RESOLVER])).expect("a writable /etc");
        fs::rename("/etc/new", "/etc/resolv.conf").expect("a writable /etc");
        is(WWW);
        sh("mkdir /run/stub && echo nameserver 127.0.0.54 > /run/stub/conf && ln -sf /run/stub/conf /etc/resolv.conf");
        is("203.0.113.54");
        sh(&format!("echo nameserver {RESOLVER} > /run/stub/new && mv /run/stub/new /run/stub/conf"));
        is(WWW);
        sh("echo nameserver 127.0.0.54 > /run/stub/conf");
        is("203.0.113.54");
        drop((first, second));
    }

    fn an_internal_network_answers_its_own_and_leaks_nothing {
        let upstream = networks();
        container("web", "--network vault --network-alias db");
        let capture = Program::start("capture", CAPTURE, &["lo", "/run/lo.pcap"]);
        wait_for(|| fs::metadata("/run/lo.pcap").is_ok_and(|m| m.len() >= 24), "the capture");
        let own = inside("--network vault", &format!("getent ahostsv4 db; {DIG} +short -x 172.19.0.2"));
        assert!(own.starts_with("172.19.0.2 ") && own.ends_with("web.vault.\n"), "{own}");
        for how in ["", "+tcp"] {
            let told = inside("--network vault --dns 192.0.2.53", &format!("{DIG} {how} secret.example"));
            assert!(told.contains("NXDOMAIN"), "{told}");
            let told = inside("--network vault", &format!("{DIG} {how} -x 198.51.100.1"));
            assert!(told.contains("REFUSED"), "{told}");
        }
        let host = inside("--network vault", &format!("{DIG} host.docker.internal"));
        assert!(host.contains("NXDOMAIN"), "{host}");
        let none: [&str; 0] = [];
        assert_eq!(upstream.asked(), none);
        let size = || fs::metadata("/run/lo.pcap").expect("a capture").len();
        assert_eq!(size(), 24, "something left");
        inside("--network app", &format!("{DIG} secret.example"));
        wait_for(|| size() > 24, "a network that is not internal to be seen");
        drop(capture);
    }

    fn a_containers_own_servers_are_asked_for_it_alone {
        let upstream = networks();
        sh("ip addr add 192.0.2.53/32 dev lo");
        let own = Upstream::start("192.0.2.53", "203.0.113.53");
        container("web", "--network app");
        let script = format!("cat /etc/resolv.conf; {DIG} +short www.example; {DIG} +short web");
        let found = inside("--network app --dns 192.0.2.53", &script);
        assert!(found.starts_with("nameserver 172.18.0.1\n"), "{found}");
        assert!(found.ends_with("203.0.113.53\n172.18.0.2\n"), "{found}");
        assert_eq!(inside("--network app", &format!("{DIG} +short www.example")), format!("{WWW}\n"));
        assert_eq!((own.asked().len(), upstream.asked().len()), (1, 1));
        // What only the container can reach it asks itself; the host's loopback is not meant.
        let found = inside("--network app --dns 127.0.0.53", &format!("cat /etc/resolv.conf; {DIG} www.example; true"));
        assert!(found.starts_with("nameserver 127.0.0.53\n") && !found.contains(WWW), "{found}");
    }

    fn a_container_has_files_of_its_own {
        let _upstream = networks();
        let before = sh("hostname");
        let script = "cat /etc/resolv.conf /etc/hosts /etc/hostname; hostname";
        let plain = inside("--network app --name plain", script);
        assert!(plain.starts_with("nameserver 172.18.0.1\nsearch lan.example\noptions timeout:9 ndots:0\n"), "{plain}");
        let words: Vec<_> = plain.lines().collect();
        let [.., file, called] = words[..] else { panic!("{plain}") };
        assert!(file == called && called.len() == 12, "{plain}");
        assert!(plain.contains(&format!("\tplain {called}\n")), "{plain}");
        let options = "--network app --hostname front.example --add-host x:192.0.2.1 \
                       --add-host gate:host-gateway --dns-search a.example --dns-search b.example \
                       --dns-option ndots:3";
        let told = inside(options, &format!("{script}; getent hosts x gate"));
        for part in [
            "search a.example b.example\noptions ndots:3\n",
            " front.example\n",
            "front.example\nfront.example\n192.0.2.1       x\n172.18.0.1      gate\n",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let none = inside("--network app --dns-search .", "cat /etc/resolv.conf");
        assert!(!none.contains("search"), "{none}");
        container("front", "--network app --hostname front");
        assert_eq!(run_pontoon("exec front -- hostname"), "front\n");
        assert_eq!(sh("hostname"), before);
    }

    fn a_search_domain_is_tried_behind_a_short_name {
        let upstream = networks();
        let found = inside("--network app --dns-search example --dns-option ndots:1", "getent ahostsv4 www");
        assert!(found.starts_with(WWW), "{found}");
        assert!(upstream.asked().iter().all(|line| line.contains(" www.example ")), "{:?}", upstream.asked());
    }

    fn the_host_has_a_name_where_its_loopback_is_open {
        let _upstream = networks();
        run_pontoon("network create open --uplink user --subnet 172.20.0.0/24 --host-loopback");
        for name in ["host.pontoon.internal", "host.docker.internal"] {
            let found = inside("--network open", &format!("{DIG} +short {name}"));
            assert_eq!(found, "172.20.0.254\n", "{name}");
            assert!(inside("--network app", &format!("{DIG} {name}")).contains("NXDOMAIN"), "{name}");
        }
    }

    fn names_that_are_none_are_refused {
        let _upstream = networks();
        for (option, field) in [
            ("--hostname \"a b\"", "--hostname"),
            ("--hostname \"\"", "--hostname"),
            ("--network-alias ../x", "--network-alias"),
            ("--network-alias a..b", "DNS"),
            ("--name a..b", "DNS"),
            ("--dns example.org", "--dns"),
            ("--dns-search \"a b\"", "--dns-search"),
            ("--dns-option \"\"", "--dns-option"),
        ] {
            let output = try_sh(&format!("{} run --network app {option} -- true", environment()));
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && error.contains(field), "{option}: {error}");
        }
        let output = try_sh(&format!("{} network create a..b", environment()));
        assert!(!output.status.success());
        let left = run_pontoon("ps -aq");
        assert_eq!(left, "");
        assert!(!run_pontoon("network ls").contains("a..b"));
    }
}

pontoon_tests::laboratory_tests! { |lab|
    /// Attached namespaces have names too, on a network that leaves by an interface.
    fn attached_namespaces_are_found_by_name {
        let found = lab.run("c1", "dig +short @172.18.0.1 c2; dig +tcp +short @172.18.0.1 c3.net; dig +short @172.18.0.1 -x 172.18.0.3");
        assert_eq!(found, "172.18.0.3\n172.18.0.4\nc2.net.\n");
        lab.reattach("c2", 3, "--network-alias database");
        assert_eq!(lab.run("c1", "dig +short @172.18.0.1 database"), "172.18.0.3\n");
        run_pontoon("detach c2");
        let gone = lab.run("c1", "dig +tries=1 +time=9 @172.18.0.1 -x 172.18.0.3");
        assert!(gone.contains("NXDOMAIN"), "{gone}");
        lab.attach("c2", 3, "");
    }
}
