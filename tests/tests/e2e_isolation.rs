//! End to end: what keeps networks, and the containers of one, apart. Tests are named after the checks they
//! show. Attackers are not guarded: what is shown is not owed to their guards.

use pontoon_tests::e2e::{Lab, run_pontoon, sh, wait_for};

/// Makes namespaces and plugs them into a network, the first one as `.2`.
fn populate(network: &str, subnet: &str, names: &[&str]) {
    for (n, ns) in names.iter().enumerate() {
        sh(&format!("ip netns add {ns} && ip -n {ns} link set lo up"));
        let address = subnet.replace(".0/24", &format!(".{}", n + 2));
        run_pontoon(&format!(
            "attach --netns /run/netns/{ns} --name {ns} --network {network} --ip {address} --no-guard"
        ));
    }
}

/// Three more networks beside the laboratory's, each with two containers: one like it, one whose containers do
/// not reach each other, and an internal one.
fn surround(lab: &Lab, uplink: &str) {
    lab.reattach("c1", 2, "--no-guard");
    for (network, subnet, options, names) in [
        ("other", "172.19.0.0/24", "", ["d1", "d2"]),
        (
            "apart",
            "172.20.0.0/24",
            "-o com.docker.network.bridge.enable_icc=false",
            ["e1", "e2"],
        ),
        ("inner", "172.21.0.0/24", "--internal", ["i1", "i2"]),
    ] {
        run_pontoon(&format!(
            "network create {network} --subnet {subnet} --uplink {uplink} {options}"
        ));
        populate(network, subnet, &names);
    }
}

pontoon_tests::laboratory_tests! { |lab|
    /// SEC-01, SEC-02, SEC-04, SEC-20: attack forms × networks × icc and internal. Inside of one network every form
    /// arrives, so what does not arrive elsewhere is kept away.
    fn sec_01_02_04_20_the_isolation_matrix {
        surround(lab, "dev:up0");
        lab.isolation(r#"
            c1, c2 = place("c1", "172.18.0.2"), place("c2", "172.18.0.3")
            d1, d2 = place("d1", "172.19.0.2"), place("d2", "172.19.0.3")
            e1, e2 = place("e1", "172.20.0.2"), place("e2", "172.20.0.3")
            i1, i2 = place("i1", "172.21.0.2"), place("i2", "172.21.0.3")
            routed = drops("route.SourceRoute")
            MATRIX = [
                ("inside of a network", c1, c2, EVERY),
                ("inside of another one", d2, d1, EVERY),
                ("inside of an internal network", i1, i2, EVERY),
                ("without icc", e1, e2, set()),
                ("without icc, backwards", e2, e1, set()),
                ("to another network", c1, d1, set()),
                ("to a network without icc", c1, e1, set()),
                ("to an internal network", c1, i1, set()),
                ("from a network without icc", e1, c1, set()),
                ("from an internal network", i1, c1, set()),
                ("from an internal network to another one", i1, d1, set()),
            ]
            for row in MATRIX:
                check(*row)
            assert drops("route.SourceRoute") == routed + len(MATRIX)
            assert drops("bridge.Isolated") >= 2 * 5

            for a, own, others in [
                (c1, "172.18.0.1", ["172.19.0.1", "172.20.0.1", "172.21.0.1"]),
                (e1, "172.20.0.1", ["172.18.0.1"]),
                (i1, "172.21.0.1", ["172.18.0.1"]),
            ]:
                assert answers(a, own), own
                for other in others:
                    assert not answers(a, other), f"{a.ip} to {other}"
        "#);
    }

    /// SEC-01: joining both networks is the way from one to the other, for who joins them and nobody else.
    fn sec_01_who_joins_both_networks_reaches_both {
        surround(lab, "dev:up0");
        run_pontoon("run -d --name j1 --network net --ip 172.18.0.9 --no-guard -- sleep 300");
        let pid = run_pontoon("ps --json");
        let all: serde_json::Value = serde_json::from_str(&pid).expect("JSON");
        let all = all.as_array().expect("a list");
        let own = all.iter().find(|c| c["name"] == "j1").expect("it runs");
        sh(&format!("ip netns attach j1 {}", own["pid"]));
        run_pontoon("network connect --ip 172.19.0.9 other j1");
        run_pontoon("network connect --ip 172.21.0.9 inner j1");
        lab.isolation(r#"
            c1, c2, d1 = place("c1", "172.18.0.2"), place("c2", "172.18.0.3"), place("d1", "172.19.0.2")
            i1 = place("i1", "172.21.0.2")
            first, second = place("j1", "172.18.0.9"), place("j1", "172.19.0.9", "eth1")
            third = place("j1", "172.21.0.9", "eth2")
            for row in [
                ("by the first network", first, c2, EVERY),
                ("by the second network", second, d1, EVERY),
                ("by the internal network", third, i1, EVERY),
                ("by the wrong one", first, d1, set()),
                ("by the other wrong one", second, c2, set()),
                ("beside who has joined", c1, d1, set()),
            ]:
                check(*row)
        "#);
        run_pontoon("network disconnect other j1");
        lab.isolation(r#"
            d1, first = place("d1", "172.19.0.2"), place("j1", "172.18.0.9")
            check("once it has left", first, d1, set())
        "#);
        let route = || lab.run("j1", "ip route show default");
        assert!(route().contains("172.18.0.1"));
        run_pontoon("network disconnect net j1");
        assert_eq!(route(), "", "an internal network leads nowhere");
        run_pontoon("rm -f j1");
        sh("ip netns del j1");
    }

    /// SEC-04: without icc, containers reach the gateway, the outside and published ports, and nobody beside them.
    fn sec_04_without_icc_the_gateway_is_all_there_is {
        surround(lab, "dev:up0");
        lab.run("e1", "ping -c1 -W5 172.20.0.1");
        lab.run("e1", "ping -c1 -W5 192.0.2.254");
        assert!(!lab.try_run("e1", "ping -c1 -W1 172.20.0.3").status.success());
        lab.run("c1", "ping -c1 -W5 172.18.0.3");
        run_pontoon("publish e2 8080:80");
        let _web = lab.serve("e2", "socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:\"echo here\"", 80);
        assert_eq!(lab.run("e1", "socat -T9 - TCP:172.20.0.1:8080"), "here\n");
        assert!(!lab.try_run("e1", "socat -T2 - TCP:172.20.0.3:80,connect-timeout=1").status.success());
    }

    /// SEC-05: nothing that an internal network begins leaves it, by no address, protocol or neighbour; the same
    /// leaves the network beside it.
    fn sec_05_nothing_leaves_an_internal_network {
        surround(lab, "dev:up0");
        run_pontoon("publish c2 9000:9000/udp");
        assert_eq!(lab.run("i1", "ip route show default"), "");
        assert!(!lab.run("c1", "ip route show default").is_empty());
        lab.isolation(r#"
            ext, c2 = Port("ext"), Port("c2")
            def attempts(a, mark):
                to = lambda dst: Ether(src=a.mac, dst=a.gateway) / IP(src=a.ip, dst=dst)
                return {
                    "UDP": to(FAR) / UDP(sport=700, dport=7) / (mark + b"udp"),
                    "TCP": to(FAR) / TCP(sport=701, dport=7, seq=1) / (mark + b"tcp"),
                    "ping": to(FAR) / ICMP(id=random.getrandbits(16)) / (mark + b"icmp"),
                    "to the host's address": to("192.0.2.254") / UDP(sport=702, dport=7) / (mark + b"near"),
                    "published, by the gateway": to(gateway(a.ip)) / UDP(sport=703, dport=9000) / (mark + b"own"),
                    "published, by the uplink": to(EXTERNAL) / UDP(sport=704, dport=9000) / (mark + b"far"),
                }
            for ns, ip, expected in [("c1", "172.18.0.2", 6), ("i1", "172.21.0.2", 0)]:
                a = place(ns, ip)
                mark = b"%016x" % random.getrandbits(64)
                tried = attempts(a, mark)
                a.send(*tried.values())
                assert answers(a, gateway(ip))
                end = time.monotonic() + PATIENCE
                heard = []
                while len(heard) < expected and time.monotonic() < end or not heard and expected == 0:
                    heard += ext.hear(mark) + c2.hear(mark)
                    if expected == 0:
                        break
                assert len(heard) == expected, (ns, [p.summary() for p in heard])
        "#);
    }

    /// A port that is published on an internal network is reached from outside, by clients whom its container
    /// knows by the gateway's address; on an open network it knows them by their own.
    fn a_port_of_an_internal_network_is_reached_from_outside {
        surround(lab, "dev:up0");
        for (ns, port, client) in [("i1", 8080, "172.21.0.1"), ("d1", 8081, "192.0.2.254")] {
            run_pontoon(&format!("publish {ns} {port}:80"));
            let server = "socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:\"echo \\$SOCAT_PEERADDR\"";
            let _web = lab.serve(ns, server, 80);
            let answer = lab.run("ext", &format!("socat -T9 - TCP:192.0.2.1:{port}"));
            assert_eq!(answer, format!("{client}\n"));
        }
    }

    /// `enable_ip_masquerade=false`: addresses leave as they are, and answers come back to who knows the way.
    fn without_masquerade_addresses_leave_as_they_are {
        let options = "-o com.docker.network.bridge.enable_ip_masquerade=false";
        run_pontoon(&format!("network create plain --subnet 172.22.0.0/24 --uplink dev:up0 {options}"));
        populate("plain", "172.22.0.0/24", &["p1"]);
        sh("ip -n ext route add 172.22.0.0/24 via 192.0.2.1");
        let server = "socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:\"echo \\$SOCAT_PEERADDR\"";
        let _web = lab.serve("ext", server, 80);
        assert_eq!(lab.run("p1", "socat -T9 - TCP:192.0.2.254:80"), "172.22.0.2\n");
        assert_eq!(lab.run("c1", "socat -T9 - TCP:192.0.2.254:80"), "192.0.2.1\n");
        lab.run("p1", "ping -c1 -W5 192.0.2.254");
        let _inside = lab.serve("p1", server, 80);
        let begun = lab.try_run("ext", "socat -T2 - TCP:172.22.0.2:80,connect-timeout=1");
        assert!(!begun.status.success(), "the way back is no way in");
    }

    /// The same on a host that forwards. Its kernel hears what comes back for a container as well, and would send it
    /// round again, or say that there is no way: it does so for addresses that are nobody's.
    fn without_masquerade_a_host_that_forwards_keeps_out_of_it {
        let options = "-o com.docker.network.bridge.enable_ip_masquerade=false";
        run_pontoon(&format!("network create plain --subnet 172.22.0.0/24 --uplink dev:up0 {options}"));
        populate("plain", "172.22.0.0/24", &["p1"]);
        sh("sysctl -qw net.ipv4.ip_forward=1 && ip -n ext route add 172.16.0.0/12 via 192.0.2.1");
        let server = "socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:\"echo \\$SOCAT_PEERADDR\"";
        let _web = lab.serve("ext", server, 80);
        let kernel = lab.mac("", "up0");
        for (way, how) in [("sent round again", "true"), ("told of", "ip route del default")] {
            sh(how);
            let capture = lab.capture("ext", "eth0", "forwarded");
            assert_eq!(lab.run("p1", "socat -T9 - TCP:192.0.2.254:80"), "172.22.0.2\n");
            lab.wire(r#"
                asks, answers = udp_socket("p1"), udp_socket("ext", ("192.0.2.254", 53))
                asks.sendto(b"ask", ("192.0.2.254", 53))
                data, who = answers.recvfrom(100)
                assert (data, who[0]) == (b"ask", "172.22.0.2")
                answers.sendto(b"answer", who)
                assert asks.recv(100) == b"answer"
            "#);
            lab.run("p1", "ping -c3 -i0.2 -W5 192.0.2.254");
            assert!(!lab.try_run("ext", "ping -c1 -W1 172.23.0.9").status.success());
            // What the kernel sends for such an address is for it, or an error that quotes it.
            let by_it = format!("ether src {kernel} and not src net 172.22.0.0/24 and (dst net 172.16.0.0/12 or icmp[0] == 3 or icmp[0] == 5)");
            let seen = lab.captured(capture, "forwarded", &by_it);
            assert!(seen.contains("172.23.0.9"), "{way}: {seen}");
            assert!(!seen.contains("172.22.0."), "{way}: {seen}");
        }
    }
}

pontoon_tests::user_laboratory_tests! { |lab|
    /// SEC-05 on the host's own sockets: nothing leaves, no name is asked for outside, published ports are reached.
    fn sec_05_an_internal_network_of_the_hosts_own_sockets {
        surround(lab, "user");
        let server = "socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:\"echo \\$SOCAT_PEERADDR\"";
        let _web = lab.serve("ext", server, 80);
        assert_eq!(lab.run("d1", "socat -T9 - TCP:192.0.2.254:80"), "192.0.2.1\n");
        sh("ip -n i1 route add default via 172.21.0.1");
        assert!(!lab.try_run("i1", "socat -T2 - TCP:192.0.2.254:80,connect-timeout=1").status.success());
        for address in ["192.0.2.254", "192.0.2.1"] {
            assert!(!lab.try_run("i1", &format!("ping -c1 -W1 {address}")).status.success());
        }
        let asked = |ns: &str, gateway: &str| {
            lab.run(ns, &format!("dig +tries=1 +time=9 @{gateway} example.org || true"))
        };
        assert!(asked("i1", "172.21.0.1").contains("status: NXDOMAIN"));
        assert!(!asked("d1", "172.19.0.1").contains("status: NXDOMAIN"));
        sh("ip -n i1 route del default");

        run_pontoon("publish i1 8080:80");
        let _inside = lab.serve("i1", server, 80);
        let answer = || lab.try_run("ext", "socat -T9 - TCP:192.0.2.1:8080").stdout;
        wait_for(|| answer() == b"172.21.0.1\n", "an answer of the internal network");
    }

    /// What cannot be on this uplink is refused, and what can be is where it says.
    fn options_that_the_hosts_own_sockets_cannot_keep {
        use pontoon_tests::e2e::{environment, try_sh};
        for (options, why) in [
            ("-o com.docker.network.bridge.enable_ip_masquerade=false", "takes the uplink dev:INTERFACE"),
            ("--internal --host-loopback", "--host-loopback: an internal network"),
        ] {
            let output = try_sh(&format!("{} network create x {options}", environment()));
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && error.contains(why), "{error}");
        }
        let binding = "-o com.docker.network.bridge.host_binding_ipv4=192.0.2.2";
        run_pontoon(&format!("network create bound --subnet 172.23.0.0/24 {binding}"));
        populate("bound", "172.23.0.0/24", &["b1"]);
        assert_eq!(run_pontoon("publish b1 8080:80"), "80/tcp -> 192.0.2.2:8080\n");
        assert_eq!(run_pontoon("publish b1 0.0.0.0:8081:81"), "81/tcp -> 0.0.0.0:8081\n");
        let _web = lab.serve("b1", "socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:\"echo here\"", 80);
        assert_eq!(lab.run("ext", "socat -T9 - TCP:192.0.2.2:8080"), "here\n");
        let elsewhere = lab.try_run("ext", "socat -T9 - TCP:192.0.2.1:8080,connect-timeout=5");
        assert!(!elsewhere.status.success());
    }
}
