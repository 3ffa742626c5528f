//! End to end: containers, the way out, published ports.

use pontoon_tests::e2e::{Background, Lab, run_pontoon, sh, try_sh, wait_for, wait_for_quiet};

const PORTS: &str = include_str!("../src/e2e/ports.py");
/// Prints as whom the server of [`serve_who_asks`] knows the client.
const ASK: &str = "/usr/bin/python3 /run/ports.py ask";

/// Serves TCP and UDP on ports 53 and 80 of c2, and tells each client its address.
fn serve_who_asks(lab: &Lab) -> Background {
    std::fs::write("/run/ports.py", PORTS).expect("a writable /run");
    let serve = "/usr/bin/python3 /run/ports.py serve /run/ready 0.0.0.0 53 80";
    let server = lab.spawn("c2", serve);
    wait_for(
        || std::fs::exists("/run/ready").unwrap_or(false),
        "the server",
    );
    server
}

pontoon_tests::laboratory_tests! { |lab|
    /// Containers reach each other, the gateway and the outside; nobody answers for what is unused.
    fn ping_everywhere {
        for target in ["172.18.0.3", "172.18.0.1", "192.0.2.254", "198.51.100.10"] {
            lab.run("c1", &format!("ping -c2 -i0.2 -W10 {target}"));
        }
        lab.run("c1", "ping -c1 -s 65000 -W10 172.18.0.1");
        assert!(!lab.try_run("c1", "ping -c1 -W1 172.18.0.77").status.success());
    }

    /// ARP-01: the gateway answers once, by unicast, with its own address; it answers for no other.
    fn arp_01_the_gateway_answers_once_and_for_nobody_else {
        let replies = lab.run("c1", "arping -c2 -w3 172.18.0.1");
        assert_eq!(replies.matches("02:42:AC:12:00:01").count(), 2, "{replies}");
        assert!(replies.contains("Received 2 response(s)"), "{replies}");
        assert!(!lab.try_run("c1", "arping -c1 -w1 172.18.0.99").status.success());
    }

    /// TCP and UDP in both directions between containers and through masquerade.
    fn iperf3_in_both_directions {
        for (server, client, target) in
            [("c2", "c1", "172.18.0.3"), ("ext", "c1", "192.0.2.254")]
        {
            for options in ["", "-R", "-P4", "-u -b 50M -l 1400", "-u -b 20M -R -l 64"] {
                // A server that goes on closes its listener between two clients, and resets who is early.
                let _server = lab.serve(server, "iperf3 -s -1", 5201);
                lab.run(client, &format!("iperf3 -c {target} -t1 {options}"));
            }
        }
    }

    /// L2-11: the bytes that arrive are the bytes that were sent, whatever the offload settings, and
    /// every checksum that is on the wire is right when nothing is left to be done by hardware.
    fn l2_11_transfers_are_exact_with_and_without_offloads {
        sh("head -c 30000000 /dev/urandom > /run/data");
        for state in ["on", "off"] {
            for ns in ["c1", "c2", "ext"] {
                lab.run(ns, &format!("ethtool -K eth0 tso {state} gso {state} gro {state} tx {state}"));
            }
            for (server, target) in [("c2", "172.18.0.3"), ("ext", "192.0.2.254")] {
                let capture = lab.capture(server, "eth0", "sums");
                let receiver = lab.serve(
                    server, "socat -u TCP-LISTEN:7000,reuseaddr CREATE:/run/copy", 7000);
                lab.run("c1", &format!("socat -u OPEN:/run/data TCP:{target}:7000"));
                assert!(receiver.wait());
                sh("cmp /run/data /run/copy");
                let text = lab.captured(capture, "sums", "tcp port 7000");
                if state == "off" {
                    assert!(text.contains("(correct)"), "nothing was checked: {text:.500}");
                    assert!(!text.contains("(incorrect"), "a wrong checksum arrived");
                }
            }
        }
    }

    /// Masquerade: two containers with one source port get two external ports, and their own replies.
    fn two_containers_share_a_source_port {
        let _echo = lab.serve("ext", "socat -t20 UDP4-LISTEN:5300,bind=198.51.100.10,fork,reuseaddr EXEC:cat", 5300);
        for round in 0..5 {
            for ns in ["c1", "c2"] {
                // Waits for the answer, however long a loaded machine takes to start the server's program.
                let ask = format!(r#"python3 -c "import socket; s = socket.socket(2, 2); s.settimeout(20)
s.bind((str(), 5000)); s.connect((\"198.51.100.10\", 5300)); s.send(b\"{ns}-{round}\"); print(s.recv(99).decode())""#);
                assert_eq!(lab.run(ns, &ask).trim(), format!("{ns}-{round}"));
            }
        }
        let flows = run_pontoon("flows");
        assert!(flows.contains("dport=5000"), "the first keeps its port: {flows}");
        let mapped: std::collections::BTreeSet<_> = flows
            .lines()
            .filter(|line| line.contains("sport=5000 dport=5300"))
            .filter_map(|line| line.rsplit("dport=").next()?.split(' ').next())
            .collect();
        assert_eq!(mapped.len(), 2, "two external ports: {flows}");
    }

    /// ICMP ids: both containers ping with one id at the same time, and both are answered.
    fn two_containers_share_an_icmp_id {
        let both: Vec<_> = ["c1", "c2"]
            .map(|ns| lab.spawn(ns, "ping -e 77 -c 10 -i 0.2 -W 2 -q 198.51.100.10"))
            .into();
        for ping in both {
            assert!(ping.wait(), "a ping was not answered");
        }
    }

    /// Published TCP and UDP ports; the server sees the client's own address.
    fn published_ports_preserve_the_client {
        lab.reattach("c2", 3, "-p 8080:80 -p 5353:53/udp");
        let _server = serve_who_asks(lab);
        for (kind, port) in [("tcp", 8080), ("udp", 5353)] {
            let told = lab.run("ext", &format!("{ASK} {kind} 192.0.2.1 {port}"));
            assert_eq!(told.trim(), "192.0.2.254", "{kind}");
        }
        assert_eq!(run_pontoon("port c2").lines().count(), 2);
    }

    /// TCP-18: a container reaches a published port by the uplink's address, its own included.
    fn tcp_18_hairpin_from_another_and_from_itself {
        lab.reattach("c2", 3, "-p 8080:80");
        let _server = serve_who_asks(lab);
        for ns in ["c1", "c2"] {
            let told = lab.run(ns, &format!("{ASK} tcp 192.0.2.1 8080"));
            assert_eq!(told.trim(), "172.18.0.1", "{ns}");
        }
    }

    /// ICMP-03: an error about a datagram comes back to the socket that sent it.
    fn icmp_03_closed_ports_are_refused_at_the_socket {
        let outward = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
            s.settimeout(20)\ns.connect((\"198.51.100.10\", 9))\ns.send(b\"x\")\n\
            try:\n    s.recv(10)\n    raise SystemExit(\"answered\")\n\
            except ConnectionRefusedError:\n    pass\n";
        lab.scapy("c1", outward);
        lab.reattach("c2", 3, "-p 9000:9000 -p 9000:9000/udp");
        let capture = lab.capture("ext", "eth0", "inward");
        lab.scapy("ext", &outward.replace("198.51.100.10\", 9", "192.0.2.1\", 9000"));
        let refused = lab.try_run("ext", "socat -t20 - TCP:192.0.2.1:9000");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("refused"), "{said}");
        let text = lab.captured(capture, "inward", "icmp or tcp");
        assert!(text.contains("udp port 9000 unreachable"), "{text}");
        assert!(!text.contains("172.18."), "an inside address is shown outside: {text}");
    }

    /// IP-02: the gateway reports a time to live that ran out, quoting what was sent.
    fn traceroute_shows_the_gateway_first {
        let route = lab.run("c1", "traceroute -n -q1 -w10 -m5 -U 198.51.100.10");
        let hops: Vec<_> = route.lines().skip(1).filter_map(|l| l.split_whitespace().nth(1)).collect();
        assert_eq!(hops, ["172.18.0.1", "198.51.100.10"], "{route}");
    }

    /// IP-05 and IP-06: a smaller MTU on the way out.
    fn ip_05_ip_06_path_mtu_is_reported_and_fragments_pass {
        sh("ip link set up0 mtu 1280 && ip -n ext link set eth0 mtu 1280");
        let refused = || {
            let ping = lab.try_run("c1", "ping -M do -s 1372 -c2 -W1 198.51.100.10");
            let text = String::from_utf8_lossy(&ping.stdout) + String::from_utf8_lossy(&ping.stderr);
            text.contains("mtu = 1280") || text.contains("mtu=1280")
        };
        wait_for(refused, "a ping to be told the smaller MTU");
        lab.run("c1", "ping -M dont -s 4000 -c2 -i0.2 -W10 198.51.100.10");
        sh("head -c 3000000 /dev/urandom > /run/data");
        let receiver = lab.serve("ext", "socat -u TCP-LISTEN:7001 CREATE:/run/copy", 7001);
        lab.run("c1", "socat -u OPEN:/run/data TCP:192.0.2.254:7001");
        assert!(receiver.wait());
        sh("cmp /run/data /run/copy");
    }

    /// Fragments: two containers with one identification never get each other's data.
    fn equal_fragment_ids_do_not_mix {
        let capture = lab.capture("ext", "eth0", "frags");
        let program = |own: &str, byte: &str| format!(
            "p = IP(src=\"{own}\", dst=\"198.51.100.10\", id=77)/UDP(sport=5000, dport=6000)/Raw(b\"{byte}\" * 3000)\n\
             send(fragment(p, fragsize=1400))\n");
        lab.scapy("c1", &program("172.18.0.2", "A"));
        lab.scapy("c2", &program("172.18.0.3", "B"));
        wait_for_quiet("/run/frags.pcap");
        drop(capture);
        let check = "from collections import defaultdict\n\
            parts = defaultdict(bytes)\n\
            for p in sorted([p for p in rdpcap(\"/run/frags.pcap\") if IP in p and p[IP].proto == 17], key=lambda p: p[IP].frag):\n\
            \x20   parts[p[IP].id] += bytes(p[IP].payload)\n\
            assert len(parts) == 2, parts.keys()\n\
            for data in parts.values():\n\
            \x20   assert len(data) == 3008 and len(set(data[8:])) == 1, len(data)\n";
        lab.scapy("ext", check);
    }

    /// L2-09/L2-10: tags and unknown EtherTypes arrive as they left.
    fn tags_and_unknown_ethertypes_are_carried_intact {
        let capture = lab.capture("c2", "eth0", "tags");
        lab.scapy("c1",
            "e = Ether(src=\"02:42:ac:12:00:02\", dst=\"02:42:ac:12:00:03\")\n\
             sendp(e/Dot1Q(vlan=5, prio=3)/IP(src=\"172.18.0.2\", dst=\"172.18.0.3\")/UDP(sport=1, dport=2)/b\"tagged\", iface=\"eth0\")\n\
             sendp(Ether(src=e.src, dst=e.dst, type=0x88a8)/Dot1Q(vlan=9, type=0x8100)/Dot1Q(vlan=5)/b\"double\", iface=\"eth0\")\n\
             sendp(Ether(src=e.src, dst=e.dst, type=0x88b5)/b\"unknown\", iface=\"eth0\")\n");
        let text = lab.captured(capture, "tags", "ether src 02:42:ac:12:00:02");
        assert!(text.contains("vlan 5, p 3"), "{text}");
        assert!(text.contains("802.1Q-QinQ (0x88a8)") && text.contains("vlan 9"), "{text}");
        assert!(text.contains("0x88b5"), "{text}");
    }

    /// SEC-06, ARP-07 with their twin: spoofed sources reach nobody, unless the guard is off.
    fn arp_07_guards_stop_spoofed_sources {
        let spoof =
            "e = Ether(src=\"02:42:ac:12:00:03\", dst=\"ff:ff:ff:ff:ff:ff\")\n\
             sendp(e/ARP(op=2, hwsrc=\"02:42:ac:12:00:03\", psrc=\"172.18.0.1\", hwdst=\"ff:ff:ff:ff:ff:ff\", pdst=\"172.18.0.2\"), iface=\"eth0\", count=3)\n\
             sendp(Ether(src=\"02:42:ac:12:00:03\", dst=\"02:42:ac:12:00:02\")/IP(src=\"10.9.9.9\", dst=\"172.18.0.2\")/UDP()/b\"ip\", iface=\"eth0\", count=3)\n\
             sendp(Ether(src=\"02:de:ad:be:ef:00\", dst=\"02:42:ac:12:00:02\")/IP(src=\"172.18.0.3\", dst=\"172.18.0.2\")/UDP()/b\"mac\", iface=\"eth0\", count=3)\n";
        let attack = |name: &str| {
            let capture = lab.capture("c1", "eth0", name);
            lab.scapy("c2", spoof);
            lab.captured(capture, name, "not ip6")
        };
        let guarded = attack("guarded");
        assert!(!guarded.contains("172.18.0.1 is-at") && !guarded.contains("10.9.9.9"), "{guarded}");
        assert_eq!(lab.drops("bridge.Spoofed"), 9);
        lab.reattach("c2", 3, "--no-guard");
        let open = attack("open");
        assert!(open.contains("172.18.0.1 is-at") && open.contains("10.9.9.9"), "the twin: {open}");
    }

    /// Frames cut at every length, from a container and from outside.
    fn garbage_of_every_length_harms_nothing {
        let garbage = |src: &str, dst: &str, from: &str, to: &str| format!(
            "s = conf.L2socket(iface=\"eth0\")\n\
             e = Ether(src=\"{src}\", dst=\"{dst}\")\n\
             for whole in [e/IP(src=\"{from}\", dst=\"{to}\")/TCP(flags=\"S\", options=[(\"MSS\", 1460)])/b\"data\", \
                 e/IP(src=\"{from}\", dst=\"{to}\")/ICMP(type=3)/IP()/UDP()/b\"x\", \
                 e/ARP(op=1, psrc=\"{from}\", pdst=\"{to}\", hwsrc=\"{src}\"), \
                 e/IPv6()/ICMPv6ND_RA(), e/Dot1Q(vlan=3)/IP(src=\"{from}\")/UDP()]:\n\
             \x20   data = bytes(whole)\n\
             \x20   for n in range(14, len(data) + 1):\n\
             \x20       s.send(data[:n])\n\
             \x20   for i in range(14, len(data)):\n\
             \x20       s.send(data[:i] + bytes([data[i] ^ 0xff]) + data[i+1:])\n");
        lab.scapy("c1", &garbage("02:42:ac:12:00:02", "02:42:ac:12:00:01", "172.18.0.2", "198.51.100.10"));
        let (up0, ext) = (lab.mac("", "up0"), lab.mac("ext", "eth0"));
        lab.scapy("ext", &garbage(&ext, &up0, "192.0.2.254", "192.0.2.1"));
        assert!(lab.drops("malformed.") > 100);
        lab.run("c1", "ping -c2 -i0.2 -W10 198.51.100.10");
    }

    /// TCP-07: an unsolicited SYN on the uplink is met with silence, and reaches nobody.
    fn tcp_07_an_unsolicited_syn_is_met_with_silence {
        let capture = lab.capture("c1", "eth0", "syn");
        lab.scapy("ext",
            "a = sr1(IP(dst=\"192.0.2.1\")/TCP(sport=4444, dport=45555, flags=\"S\"), timeout=7)\n\
             assert a is None, a.summary()\n");
        assert!(!lab.captured(capture, "syn", "tcp").contains("45555"));
        assert_eq!(run_pontoon("flows").matches("45555").count(), 0);
    }

    /// IP-16, IP-17: impossible and foreign sources never leave.
    fn ip_16_ip_17_martians_and_foreign_sources_never_leave {
        lab.reattach("c1", 2, "--no-guard");
        let capture = lab.capture("ext", "eth0", "martians");
        lab.scapy("c1",
            "e = Ether(src=\"02:42:ac:12:00:02\", dst=\"02:42:ac:12:00:01\")\n\
             for src, dst in [(\"0.1.2.3\", \"198.51.100.10\"), (\"127.0.0.1\", \"198.51.100.10\"), \
                 (\"224.0.0.1\", \"198.51.100.10\"), (\"255.255.255.255\", \"198.51.100.10\"), \
                 (\"172.18.0.1\", \"198.51.100.10\"), (\"192.0.2.1\", \"198.51.100.10\"), \
                 (\"10.9.9.9\", \"198.51.100.10\"), (\"198.51.100.10\", \"198.51.100.10\"), \
                 (\"172.18.0.2\", \"127.0.0.1\"), (\"172.18.0.2\", \"0.0.0.0\"), \
                 (\"172.18.0.2\", \"224.0.0.251\"), (\"172.18.0.2\", \"255.255.255.255\")]:\n\
             \x20   sendp(e/IP(src=src, dst=dst)/UDP(sport=7, dport=7)/b\"x\", iface=\"eth0\")\n\
             sendp(e/IP(src=\"172.18.0.2\", dst=\"198.51.100.10\")/UDP(sport=7, dport=8)/b\"good\", iface=\"eth0\")\n");
        let text = lab.captured(capture, "martians", "udp");
        assert!(text.contains("192.0.2.1.7 > 198.51.100.10.8"), "the twin: {text}");
        assert!(!text.contains("198.51.100.10.7"), "{text}");
    }

    /// A namespace that vanishes under load takes everything with it; others do not notice.
    fn a_namespace_dies_under_load {
        let server = lab.serve("c3", "iperf3 -s", 5201);
        let load = lab.spawn("c1", "iperf3 -c 172.18.0.4 -t 20");
        wait_for(|| lab.try_run("c3", "ss -Htn state established sport = :5201 | grep -q 5201").status.success(), "load");
        drop((server, load));
        sh("ip netns pids c3 | xargs -r kill -9; ip netns del c3");
        wait_for(|| !is_listed("c3"), "the container to be gone");
        lab.run("c1", "ping -c2 -i0.2 172.18.0.3");
        sh("ip netns add c3");
        lab.attach("c3", 4, "");
        lab.run("c1", "ping -c1 -W10 172.18.0.4");
    }

    /// An interface that is deleted and made anew with the same address works at once.
    fn an_interface_is_deleted_and_made_again {
        lab.run("c1", "ping -c1 172.18.0.3");
        sh("ip -n c2 link del eth0");
        wait_for(|| !is_listed("c2"), "the container to be gone");
        lab.attach("c2", 3, "");
        lab.run("c1", "ping -c1 -W10 172.18.0.3");
    }

    /// ARP-04: a neighbour that does not answer is asked three times, and the sender told.
    fn arp_04_an_absent_neighbour_is_reported {
        let capture = lab.capture("ext", "eth0", "arp");
        let ping = lab.try_run("c1", "ping -c1 -W6 192.0.2.77");
        let text = String::from_utf8_lossy(&ping.stdout).into_owned();
        assert!(text.contains("Destination Host Unreachable"), "{text}");
        let asked = lab.captured(capture, "arp", "arp").matches("who-has 192.0.2.77").count();
        assert_eq!(asked, 3);
    }

    /// The host's own connections over the uplink go on working beside the engine's.
    fn the_host_shares_the_uplink {
        let _server = lab.serve("ext", "socat -t20 TCP-LISTEN:7100,fork,reuseaddr EXEC:cat", 7100);
        assert_eq!(sh("echo host | socat -t20 - TCP:192.0.2.254:7100").trim(), "host");
        assert_eq!(lab.run("c1", "echo inside | socat -t20 - TCP:192.0.2.254:7100").trim(), "inside");
        sh("socat -t20 TCP-LISTEN:7200,fork,reuseaddr EXEC:cat >/dev/null 2>&1 & echo $! > /run/listener");
        wait_for(|| try_sh("ss -Hlnt | grep -q ':7200 '").status.success(), "the host's server");
        assert_eq!(lab.run("ext", "echo in | socat -t20 - TCP:192.0.2.1:7200").trim(), "in");
        sh("kill $(cat /run/listener)");
    }

    /// RES-03: a SYN flood from one container leaves the connections of another alone.
    fn a_syn_flood_hurts_only_the_flooder {
        let _server = lab.serve("ext", "socat -t20 TCP-LISTEN:7300,fork,reuseaddr EXEC:cat", 7300);
        lab.scapy("c2",
            "s = conf.L2socket(iface=\"eth0\")\n\
             base = Ether(src=\"02:42:ac:12:00:03\", dst=\"02:42:ac:12:00:01\")/IP(src=\"172.18.0.3\", dst=\"203.0.113.9\")\n\
             for port in range(1024, 5024):\n\
             \x20   s.send(base/TCP(sport=port, dport=99, flags=\"S\"))\n");
        assert_eq!(lab.run("c1", "echo fine | socat -t20 - TCP:192.0.2.254:7300").trim(), "fine");
        let flows = run_pontoon("flows");
        let half_open = flows.matches("SYN_SENT").count();
        assert!((1000..=1024).contains(&half_open), "{half_open} half-open flows");
    }
}

/// Whether `ps` shows a container of that name, in its last column: ids can hold any two digits.
fn is_listed(name: &str) -> bool {
    run_pontoon("ps")
        .lines()
        .any(|line| line.split_whitespace().next_back() == Some(name))
}
