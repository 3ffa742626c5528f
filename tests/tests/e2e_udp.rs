//! End to end: UDP through the translation. Tests are named after the checks they show.

pontoon_tests::laboratory_tests! { |lab|
    /// One source, whatever it talks to, is one external port; also beside another container with the
    /// same port, and after that one had taken the port first.
    fn udp_01_mapping_is_endpoint_independent {
        lab.mute("c1");
        lab.mute("c2");
        lab.wire(r#"
            c1, c2, ext = Port("c1"), Port("c2"), Port("ext")
            targets = [(FAR, 3478), (FAR, 3479), (FAR2, 3478), ("198.51.100.10", 3478)]
            def ports(inner, sport):
                return {map_udp(inner, ext, sport, dport, far) for far, dport in targets}
            cold = ports(c1, 5000), ports(c2, 5000)
            assert [len(p) for p in cold] == [1, 1] and cold[0] == {5000} and cold[0] != cold[1], cold
            polluting = map_udp(c2, ext, 5001, 9999)
            polluted = ports(c1, 5001), ports(c2, 5001)
            assert [len(p) for p in polluted] == [1, 1] and polluted[1] == {polluting}, polluted
            assert polluted[0] != polluted[1]
        "#);
    }

    /// What a container did not ask reaches nobody: another host, another port of the same host.
    fn udp_02_filtering_is_address_and_port_dependent {
        lab.mute("c1");
        lab.mute("c2");
        lab.wire(r#"
            c1, c2, ext = Port("c1"), Port("c2"), Port("ext")
            port = map_udp(c1, ext, 5000, 53)
            other = map_udp(c2, ext, 5000, 53)
            for src, sport in (FAR, 54), (FAR2, 53), ("192.0.2.254", 53):
                ext.send(inward(ext, src) / UDP(sport=sport, dport=port) / b"unasked")
            c1.hear(b"unasked", 0), c2.hear(b"unasked", 0)
            ext.send(inward(ext) / UDP(sport=53, dport=port) / b"asked")
            c1.hear(b"asked", 1), c2.hear(b"asked", 0)
            # A container's address means nothing outside.
            ext.send(inward(ext, dst="172.18.0.2") / UDP(sport=53, dport=5000) / b"direct")
            c1.hear(b"direct", 0)
            assert drops("route.Isolated") == 1
        "#);
    }

    /// A hundred interleaved rounds from one source port: two external ports, no crossed reply.
    fn udp_03_two_containers_share_a_source_port {
        lab.wire(r#"
            server = udp_socket("ext", ("198.51.100.10", 53))
            clients = {ns: udp_socket(ns, ("", 5000)) for ns in ("c1", "c2")}
            peers = {"c1": set(), "c2": set()}
            for n in range(100):
                for ns, s in clients.items():
                    s.sendto(b"%s %d" % (ns.encode(), n), ("198.51.100.10", 53))
                asked = [server.recvfrom(100) for _ in clients]
                for data, peer in reversed(asked):
                    peers[data[:2].decode()].add(peer)
                    server.sendto(data, peer)
                for ns, s in clients.items():
                    assert s.recv(100) == b"%s %d" % (ns.encode(), n)
            assert len(peers["c1"]) == len(peers["c2"]) == 1 and peers["c1"] != peers["c2"], peers
        "#);
    }

    /// An unanswered flow is kept for thirty seconds, an answered one for two minutes, and each datagram
    /// of either side begins the time anew. That they end then is shown on the core, whose clock can be
    /// set.
    fn udp_04_unanswered_flows_are_kept_thirty_seconds_and_answered_ones_two_minutes {
        lab.mute("c1");
        lab.wire(r#"
            c1, ext = Port("c1"), Port("ext")
            def said(action):
                """Between which two times the time of the flow has begun, and what the action returns."""
                start = time.monotonic()
                value = action()
                return (start, time.monotonic()), value
            def expires(lifetime, begun):
                asked = time.monotonic()
                [flow] = flows(FAR)
                told = time.monotonic()
                # Given in whole seconds, of a clock that is read once a batch.
                assert lifetime - (told - begun[0]) - 2 <= flow["expires"] <= lifetime - (asked - begun[1]) + 2, flow
            def answer():
                ext.send(inward(ext) / UDP(sport=53, dport=port) / b"answer")
                c1.hear(b"answer", 1)
            begun, port = said(lambda: map_udp(c1, ext, 5000, 53))
            expires(30, begun)
            time.sleep(3)
            expires(30, begun)
            begun, _ = said(lambda: map_udp(c1, ext, 5000, 53))
            expires(30, begun)
            begun, _ = said(answer)
            expires(120, begun)
            time.sleep(3)
            expires(120, begun)
            begun, _ = said(lambda: map_udp(c1, ext, 5000, 53))
            expires(120, begun)
        "#);
    }

    /// No checksum stays none; one that comes out as zero is sent as 0xFFFF; a wrong one goes nowhere.
    fn udp_09_checksums_of_zero_and_wrong_ones {
        lab.mute("c1");
        lab.wire(r#"
            c1, ext = Port("c1"), Port("ext")
            port = map_udp(c1, ext, 5000, 53)
            ends = {
                "out": (c1, ext, outward(c1), 5000, 53, EXTERNAL, FAR),
                "in": (ext, c1, inward(ext), 53, port, FAR, "172.18.0.2"),
            }
            for sender, hearer, base, sport, dport, src, dst in ends.values():
                sender.send(base / UDP(sport=sport, dport=dport, chksum=0) / b"no sum")
                [heard] = hearer.hear(b"no sum", 1)
                assert heard[UDP].chksum == 0
                # A payload whose datagram sums to zero after the translation.
                after = bytes(IP(src=src, dst=dst) / UDP(sport=port if base[IP].src == c1.ip else sport, dport=5000 if base[IP].src != c1.ip else dport) / b"zeroed\0\0")
                body = after[20:26] + b"\0\0" + after[28:]
                filler = 0xffff - fold(after[12:20] + struct.pack("!HH", 17, len(body)) + body)
                sender.send(base / UDP(sport=sport, dport=dport) / (b"zeroed" + struct.pack("!H", filler)))
                [heard] = hearer.hear(b"zeroed", 1)
                assert heard[UDP].chksum == 0xffff and sums_are_right(heard), hex(heard[UDP].chksum)
                for delta in (1, 0x0100, 0x8000):
                    good = Ether(bytes(base / UDP(sport=sport, dport=dport) / b"wrong"))
                    good[UDP].chksum = good[UDP].chksum ^ delta or 0x1234
                    before = drops("route.BadChecksum")
                    sender.send(good)
                    hearer.hear(b"wrong", 0)
                    assert drops("route.BadChecksum") == before + 1
        "#);
    }

    /// Two hundred datagrams of one new source from four threads at once get one external port, and
    /// at most those that exceed the neighbour queue are lost.
    fn udp_12_parallel_first_datagrams_get_one_port {
        lab.wire(r#"
            server = udp_socket("ext", ("198.51.100.10", 53), timeout=3)
            client = udp_socket("c1", ("", 5000))
            gate = threading.Barrier(4)
            def send(n):
                gate.wait()
                for i in range(50):
                    client.sendto(b"%d %d" % (n, i), ("198.51.100.10", 53))
            threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
            [t.start() for t in threads]
            got, peers = set(), set()
            try:
                while len(got) < 200:
                    data, peer = server.recvfrom(100)
                    assert data not in got, "twice"
                    got.add(data), peers.add(peer)
            except TimeoutError:
                pass
            [t.join() for t in threads]
            assert len(peers) == 1 and len(flows("172.18.0.2:5000")) == 1, peers
            assert 200 - len(got) == drops("route.NeighbourQueueFull"), (len(got), pontoon("stats")["drops"])
        "#);
    }

    /// What arrives bears right checksums where nothing is left to hardware: between containers,
    /// outward and inward.
    fn udp_checksums_are_right_in_a_capture {
        for ns in ["c1", "c2", "ext"] {
            lab.run(ns, "ethtool -K eth0 tx off");
        }
        let captures = ["c1", "c2", "ext"].map(|ns| (ns, lab.capture(ns, "eth0", &format!("sums-{ns}"))));
        lab.wire(r#"
            for ns, address in ("c2", "172.18.0.3"), ("ext", "198.51.100.10"):
                server, client = udp_socket(ns, (address, 7600)), udp_socket("c1")
                for size in (0, 1, 2, 63, 64, 1000, 1471, 1472):
                    client.sendto(b"\xa5" * size, (address, 7600))
                    data, peer = server.recvfrom(65536)
                    server.sendto(data, peer)
                    assert client.recv(65536) == b"\xa5" * size
        "#);
        for (ns, capture) in captures {
            let text = lab.captured(capture, &format!("sums-{ns}"), "udp port 7600");
            assert!(text.matches("udp sum ok").count() >= 16, "{ns}: {text}");
            assert!(!text.contains("bad udp cksum"), "{ns}: {text}");
        }
    }

    /// iperf3 over UDP, small and large, both ways, bridged and translated: what is sent arrives, and
    /// the loss is what iperf3 says it is.
    fn iperf3_udp_reports_its_loss {
        for (ns, target) in [("c2", "172.18.0.3"), ("ext", "192.0.2.254")] {
            for options in ["-b 10M -l 1400", "-b 10M -l 1400 -R", "-b 1M -l 64", "-b 1M -l 64 -R"] {
                // A server that goes on closes its listener between two clients, and resets who is early.
                let _server = lab.serve(ns, "iperf3 -s -1", 5201);
                let report = lab.run("c1", &format!("iperf3 -c {target} -t1 -J -u {options}"));
                let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
                let sum = &report["end"]["sum"];
                let lost = sum["lost_percent"].as_f64().expect("a percentage");
                let packets = sum["packets"].as_u64().expect("a count");
                println!("{ns} {options}: {lost:.2} % of {packets} datagrams lost");
                // Some is lost where the machine is busy and the receiver stalls; most is not.
                assert!(packets > 100 && lost < 50.0, "{ns} {options}: {sum}");
            }
        }
    }
}
