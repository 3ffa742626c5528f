//! End to end: what a container may not say of itself. Tests are named after the checks they show. Each attack
//! is shown to work where it is not stopped: from a port without guard, or on a bridge of the kernel's.

use pontoon_tests::e2e::{Lab, run_pontoon, sh};

/// No form of an attack gets past the guard; every form arrives without it.
fn guarded(lab: &Lab, forms: &str) {
    lab.spoofs(&format!(
        "stopped({forms}, place('c2'), place('c1'))\nassert answers(place('c2')) is None"
    ));
    lab.reattach("c2", 3, "--no-guard");
    lab.spoofs(&format!("arrive({forms}, place('c2'), place('c1'))"));
}

pontoon_tests::laboratory_tests! { |lab|
    /// SEC-06: another address, whatever it is wrapped in, is dropped where it comes in, and counted there.
    fn sec_06_nobody_uses_anothers_address {
        guarded(lab, "ADDRESSES");
    }

    /// SEC-06: nobody answers DHCP, whole or in parts; without guard, the client's socket has the answer.
    fn sec_06_nobody_plays_dhcp_server {
        let answers = r#"
            with inside("c1"):
                client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            client.bind(("", 68))
            four = {name: form for name, form in SERVERS.items() if "v6" not in name}
            a = place("c2")
            nonce = say(four, a, place("c1"))
            answers(a)
            client.settimeout(PATIENCE if expected else QUIET)
            got = set()
            try:
                while len(got) < expected or not expected:
                    data = client.recv(2048)
                    assert data.startswith(nonce)
                    got.add(data[:20])
            except TimeoutError:
                pass
            assert len(got) == expected, got
        "#;
        let client = |expected| {
            let indent = " ".repeat(12);
            lab.spoofs(&format!("{indent}expected = {expected}{answers}"));
        };
        client(0);
        guarded(lab, "SERVERS");
        client(3);
    }

    /// SEC-07: nobody speaks for another one's address by ARP or neighbour discovery.
    fn sec_07_nobody_claims_anothers_address {
        guarded(lab, "NEIGHBOURS");
    }

    /// SEC-07: what a victim's kernel knows of the gateway and of a third container stays what it is.
    fn sec_07_the_victims_tables_stay_as_they_are {
        let program = r#"
            a, third = place("c2"), place("c3")
            [speaks_ipv6(ns) for ns in ("c1", "c3")]
            for to in GATEWAY_IP, THIRD, third.ll + "%eth0":
                shell(f"ip netns exec c1 ping -c1 -W20 {to}")
            known = lambda: [neighbour("c1", to) for to in (GATEWAY_IP, THIRD, third.ll)]
            assert known() == [GATEWAY, third.mac, third.mac], known()
            def poison():
                say(NEIGHBOURS, a, place("c1"))
                answers(a)
        "#;
        // A kernel takes no second answer within a second of the first.
        lab.spoofs(&format!("{program}
            for _ in range(4):
                poison()
                time.sleep(0.5)
            assert known() == [GATEWAY, third.mac, third.mac], known()
        "));
        lab.reattach("c2", 3, "--no-guard");
        lab.spoofs(&format!("{program}
            def poisoned():
                poison()
                return known() == [a.mac] * 3
            until(poisoned, 'the twin: poisoned tables')
        "));
        sh("ip -n c1 neigh flush dev eth0");
    }

    /// SEC-08: no router advertisement reaches another port, behind options, in parts, or tagged.
    fn sec_08_nobody_plays_router {
        guarded(lab, "ROUTERS");
    }

    /// SEC-08: no kernel takes a route, a prefix or a resolver: neither a container's nor the host's.
    fn sec_08_no_kernel_takes_a_route {
        let program = r#"
            [speaks_ipv6(ns) for ns in ("c1", "c3")]
            taken = lambda ns: "2001:db8:bad::" in shell(f"ip {ns} -6 addr show") + shell(f"ip {ns} -6 route show")
            led = lambda ns: "default via fe80::" in shell(f"ip {ns} -6 route show")
            say(ROUTERS, place("c2"), place("c1"))
            answers(place("c2"))
            victims, host = ("-n c1", "-n c3"), ""
        "#;
        lab.spoofs(&format!("{program}
            place('c1').hear(b'nothing', 0)
            assert not any(taken(ns) or led(ns) for ns in victims + (host,))
        "));
        lab.reattach("c2", 3, "--no-guard");
        lab.spoofs(&format!("{program}
            until(lambda: all(taken(ns) and led(ns) for ns in victims), 'the twin: routes')
            assert not taken(host) and not led(host)
        "));
    }

    /// SEC-09: frames in the gateway's or another container's name are not learned, guard or not, and disturb
    /// nobody's traffic. The kernel's bridge learns them, and sends the attacker what is not for it.
    fn sec_09_nobodys_place_is_taken {
        lab.kernel_bridge();
        let program = r#"
            def steal(a, name, v, third):
                for dst in third.mac, EVERYBODY:
                    a.send(Ether(src=name, dst=dst, type=0x88b5) / b"thief")
            def leads(third, to, ports):
                nonce = b"%016x" % random.getrandbits(64)
                third.send(Ether(src=third.mac, dst=to, type=0x88b5) / nonce)
                return [port.ns for port in ports if port.hear(nonce)]
            def table():
                return sorted((e["mac"], e["port"], e["permanent"]) for e in pontoon("fdb"))
        "#;
        let places = |guard: &str| lab.spoofs(&format!("{program}
            v, a, third = place('c1'), place('c2'), place('c3')
            before = table()
            for name in v.mac, GATEWAY:
                steal(a, name, v, third)
                answers(third)
                v.hear(b'thief', 0), third.hear(b'thief', 0)
                a.forget()
                answers(third), answers(v)
                assert a.hear(lambda p: ICMP in p) == []
                assert leads(third, v.mac, [v, a]) == ['c1']
            assert table() == before
            assert drops({guard}) == 4, pontoon('stats')
        "));
        places("'bridge.SpoofedMac'");
        lab.reattach("c2", 3, "--no-guard");
        places("'bridge.BoundElsewhere') + drops('bridge.GatewaySource'");
        lab.spoofs(&format!("{program}
            v, a, third, gateway = place('k1'), place('k2'), place('k3'), Port('k0')
            gateway.ns = 'k0'
            for name, owner in (v.mac, v), (GATEWAY, gateway):
                owner.send(Ether(src=owner.mac, dst=third.mac, type=0x88b5) / b'here I am')
                third.hear(b'here I am', 1)
                assert leads(third, name, [owner, a]) == [owner.ns]
                steal(a, name, v, third)
                third.hear(b'thief', 2)
                assert leads(third, name, [owner, a]) == ['k2'], 'the twin'
        "));
        sh("ip netns exec c3 ping -c1 -W20 172.18.0.2");
    }
}

/// A scan of the host's address from `c1`, beside flows of `c2` whose ports are its own there.
const SCAN: &str = r#"
    c1, c2, ext = Port("c1"), Port("c2"), Port("ext")
    PROBE = {
        "udp": lambda to, mark: outward(c1, EXTERNAL) / UDP(sport=4000, dport=to) / mark,
        "tcp": lambda to, mark: outward(c1, EXTERNAL) / TCP(sport=4000, dport=to, flags="S", seq=7) / mark,
    }
    def told(protocol, to):
        """What c1 is told of a port, without the port. Errors are limited: it asks until it is told."""
        quoted = lambda p: ICMP in p and p[ICMP].type == 3 and struct.pack("!HH", 4000, to) in bytes(p[ICMP].payload)
        end = time.monotonic() + PATIENCE
        while True:
            c1.send(PROBE[protocol](to, b"probe"))
            if answers := c1.hear(quoted):
                [p] = answers[:1]
                return p.src, p[IP].src, p[IP].ttl, len(p), p[ICMP].code
            assert time.monotonic() < end, f"{protocol} {to}: silence"
"#;

pontoon_tests::laboratory_tests! { |lab|
    /// SEC-18: what c1 sends to ports in use by c2's flows reaches nobody, and is answered as at any other port;
    /// what comes from the far end, or to a port that is published, reaches c2.
    fn sec_18_ports_in_use_are_as_closed_as_others {
        lab.mute("c1");
        lab.mute("c2");
        run_pontoon("publish c2 7000:7000/udp");
        lab.wire(&format!(r#"{SCAN}
    far = Connection(c2, ext, 5001, 80)
    used = [("udp", map_udp(c2, ext, 5000, 9)), ("tcp", far.port)]
    free = [("udp", 31001), ("tcp", 31002)]
    said = {{port: told(*port) for port in used + free}}
    assert said[used[0]] == said[free[0]] and said[used[1]] == said[free[1]], said
    c2.hear(b"probe", 0)

    [(_, udp), (_, tcp)] = used
    forged = lambda to: Ether(src=c1.mac, dst=GATEWAY) / IP(src=FAR, dst=EXTERNAL) / UDP(sport=9, dport=to) / b"forged"
    c1.send(forged(udp))
    c1.hear(lambda p: False)
    c2.hear(b"forged", 0)
    assert drops("bridge.SpoofedIp") == 1

    ext.send(inward(ext) / UDP(sport=9, dport=udp) / b"from the far end")
    c2.hear(b"from the far end", 1)
    far.works()
    c1.send(PROBE["udp"](7000, b"published"))
    c2.hear(b"published", 1)
        "#));
        lab.reattach("c1", 2, "--no-guard");
        lab.wire(&format!(r#"{SCAN}
    [flow] = [f for f in flows(":9") if f["protocol"] == "udp"]
    to = int(flow["reply"][1].rsplit(":", 1)[1])
    c1.send(Ether(src=c1.mac, dst=GATEWAY) / IP(src=FAR, dst=EXTERNAL) / UDP(sport=9, dport=to) / b"forged")
    c1.hear(lambda p: False)
    c2.hear(b"forged", 0)
    assert drops("route.ForeignSource") == 1, "and without guard"
        "#));
    }

    /// SEC-18: a scan of every port reaches nobody.
    fn sec_18_a_scan_of_every_port_reaches_nobody {
        lab.mute("c1");
        lab.mute("c2");
        lab.wire(&format!(r#"{SCAN}
    flows = [map_udp(c2, ext, 5000 + n, 9) for n in range(20)]
    MARK = b"scan-of-everything"
    def heard_by_the_gateway(mark):
        """It has had time for everything before."""
        ping = bytes(outward(c1, "172.18.0.1") / ICMP() / mark)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            c1.socket.send(ping)
            if any(mark in data for data in c1.frames(1)):
                return
        raise AssertionError("the gateway is silent")
    def scan(protocol, at):
        """Every port, with the checksum that fits."""
        frame = bytearray(bytes(PROBE[protocol](0, MARK)))
        [base] = struct.unpack_from("!H", frame, at)
        for port in range(65536):
            struct.pack_into("!H", frame, 36, port)
            total = (base ^ 0xFFFF) + port
            struct.pack_into("!H", frame, at, ((total & 0xFFFF) + (total >> 16)) ^ 0xFFFF)
            c1.socket.send(frame)
            if port % 256 == 255:
                heard_by_the_gateway(b"so far %d" % port)
    for protocol, at in ("udp", 40), ("tcp", 50):
        before = drops("route.NoService")
        scan(protocol, at)
        c2.hear(MARK, 0), ext.hear(MARK, 0)
        seen = drops("route.NoService") - before
        assert seen > 60000, f"{{protocol}}: the scan was not seen: {{seen}}"
    assert len(set(flows)) == 20
        "#));
    }
}

pontoon_tests::user_laboratory_tests! { |lab|
    /// SEC-18 on the host's own sockets: the ports of c2's flows are refused as any other is, by TCP and UDP.
    fn sec_18_ports_of_the_hosts_sockets_are_as_closed_as_others {
        lab.outward(r#"
            client, server = pair("c2", listen("ext", (SERVER, 7000)))
            theirs = udp_socket("ext", (SERVER, 7001))
            ours = udp_socket("c2")
            ours.sendto(b"hello", (SERVER, 7001))
            _, [_, udp] = theirs.recvfrom(100)
            tcp = server.getpeername()[1]

            def refused_udp(port):
                s = udp_socket("c1")
                s.connect((HOST, port))
                s.settimeout(1)
                def told():
                    s.send(b"probe")
                    try:
                        return s.recv(100)
                    except TimeoutError:
                        return None
                    except ConnectionRefusedError:
                        return "refused"
                return until(told, f"an answer of port {port}")
            free = [port for port in range(31001, 31010) if port not in (tcp, udp)]
            for port in [tcp] + free[:3]:
                said = failure(lambda: connect("c1", (HOST, port)))
                assert said == "ECONNREFUSED", (port, tcp, said)
            for port in [udp] + free[:3]:
                assert refused_udp(port) == "refused", (port, udp)
            assert hears_nothing(ours) and hears_nothing(client)

            theirs.sendto(b"from the far end", (HOST, udp))
            assert ours.recv(100) == b"from the far end"
            assert works(client, server)
        "#);
    }
}
