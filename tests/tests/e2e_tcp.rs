//! End to end: TCP through the translation, segment by segment and between real stacks. Tests are
//! named after the checks they show.

pontoon_tests::laboratory_tests! { |lab|
    /// Connections that end in every way carry exact data, and both ends come to an end.
    fn tcp_01_connections_carry_exact_data_and_end {
        lab.wire(r#"
            listener = tcp_socket("ext")
            listener.bind(("198.51.100.10", 7000)); listener.listen()
            size = 1 << 20
            def read(s, n):
                data = b""
                while len(data) < n and (part := s.recv(1 << 16)):
                    data += part
                return data
            def pair():
                client = tcp_socket("c1")
                client.connect(("198.51.100.10", 7000))
                return client, listener.accept()[0]
            def exchange(client, server):
                for a, b in (client, server), (server, client):
                    data = os.urandom(size)
                    sender = threading.Thread(target=a.sendall, args=(data,))
                    sender.start()
                    assert read(b, size) == data
                    sender.join()
            def finish(first, second):
                first.shutdown(socket.SHUT_WR)
                assert second.recv(1) == b""
                second.sendall(b"still open"); assert read(first, 10) == b"still open"
                second.shutdown(socket.SHUT_WR); assert first.recv(1) == b""
            def state(client):
                port = client.getsockname()[1]
                time.sleep(0.1)
                [flow] = [f for f in pontoon("flows") if f["original"][0].endswith(f":{port}")]
                return flow["state"], flow["expires"]
            for ending in "client first", "server first", "both", "reset":
                client, server = pair()
                exchange(client, server)
                assert state(client)[0] == "ESTABLISHED"
                name = client.dup()
                if ending == "client first":
                    finish(client, server)
                elif ending == "server first":
                    finish(server, client)
                elif ending == "both":
                    client.shutdown(socket.SHUT_WR); server.shutdown(socket.SHUT_WR)
                    assert client.recv(1) == server.recv(1) == b""
                else:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    [s.close() for s in (client, name)]
                    try:
                        raise SystemExit(f"a clean end: {server.recv(1)}")
                    except ConnectionResetError:
                        pass
                    [flow] = [f for f in flows(":7000") if f["state"] == "CLOSE"]
                    assert flow["expires"] <= 11, flow
                    continue
                end = state(name)
                assert end[0] == "TIME_WAIT" and end[1] <= 121, (ending, end)
                [s.close() for s in (client, server, name)]
        "#);
    }

    /// Three thousand connections to one port have three thousand external ports, none privileged.
    fn tcp_05_connections_have_distinct_external_ports {
        lab.wire(r#"
            listener = tcp_socket("ext")
            listener.bind(("198.51.100.10", 80)); listener.listen(1024)
            held, ports = [], set()
            for _ in range(3000):
                client = tcp_socket("c1")
                client.connect(("198.51.100.10", 80))
                server, peer = listener.accept()
                held += [client, server]
                ports.add(peer)
            assert len(ports) == 3000 and {a for a, _ in ports} == {EXTERNAL}
            assert min(port for _, port in ports) >= 1024
            for s in held:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.close()
        "#);
    }

    /// A reset of either side is translated and passed on; what comes late is never sent as it is, and
    /// the connection has ten seconds left (that it is forgotten then is shown on the core).
    fn tcp_10_a_reset_is_passed_on_and_late_segments_do_not_leak {
        lab.mute("c1");
        lab.wire(r#"
            c1, ext = Port("c1"), Port("ext")
            inner = Connection(c1, ext, 5000, 80)
            inner.works()
            reset = inner.out("R", seq=inner.seq)
            assert reset[TCP].flags == "R" and reset[TCP].sport == inner.port
            outer = Connection(c1, ext, 5001, 81)
            outer.works()
            reset = outer.back("RA", seq=outer.far_seq)
            assert reset[TCP].dport == 5001 and "R" in reset[TCP].flags
            assert inner.state() == outer.state() == "CLOSE"

            late = lambda c, where: where("PA", b"late data", count=None, seq=getattr(c, "seq" if where == c.out else "far_seq"))
            late(inner, inner.back), late(inner, inner.out), late(outer, outer.out), late(outer, outer.back)
            leaked = lambda p: IP in p and p[IP].src == c1.ip
            assert ext.hear(leaked) == []
            for port in ":80", ":81":
                [flow] = flows(port)
                assert flow["expires"] <= 11, flow
        "#);
    }

    /// A client that died opens the same connection again: challenge, reset, and a new handshake.
    fn tcp_13_a_client_that_died_gets_a_new_connection {
        lab.mute("c1");
        lab.wire(r#"
            c1, ext = Port("c1"), Port("ext")
            tcp = Connection(c1, ext, 5000, 80)
            tcp.works()
            old_seq, old_far = tcp.seq, tcp.far_seq
            for new_seq in (0x70000000, 0xf0000000):
                syn = tcp.out("S", seq=new_seq)
                assert syn[TCP].seq == new_seq and syn[TCP].sport == tcp.port
                challenge = tcp.back("A", seq=old_far, ack=old_seq)
                assert challenge[TCP].ack == old_seq
                reset = tcp.out("R", seq=old_seq)
                assert reset[TCP].sport == tcp.port
                tcp.seq, tcp.far_seq = new_seq, 0x12345678
                tcp.open()
                tcp.works()
                assert tcp.state() == "ESTABLISHED"
                old_seq, old_far = tcp.seq, tcp.far_seq
        "#);
    }

    /// A reset that is not exactly in place, or that lies outside of the window, ends nothing.
    fn tcp_13_forged_rst_outside_the_window_is_ignored {
        lab.mute("c1");
        lab.wire(r#"
            c1, ext = Port("c1"), Port("ext")
            tcp = Connection(c1, ext, 5000, 80)
            tcp.works()
            before = drops("nat.InvalidTcp")
            for distance in (-200_000, 70_000, 200_000, 1 << 31):
                tcp.back("R", count=0, seq=(tcp.far_seq + distance) % 2**32)
            assert drops("nat.InvalidTcp") == before + 4
            assert tcp.state() == "ESTABLISHED"
            # Inside of the window, but not exact: the container judges it, the connection lives.
            tcp.back("R", count=1, seq=tcp.far_seq + 100)
            assert tcp.state() == "ESTABLISHED"
            tcp.works()
            tcp.back("R", count=1, seq=tcp.far_seq)
            assert tcp.state() == "CLOSE", "the twin: an exact reset ends it"
        "#);
    }

    /// Nothing but addresses, ports and checksums is changed: options, urgent data, ECN, data in a
    /// SYN, sequence numbers that wrap.
    fn tcp_16_segments_are_otherwise_untouched {
        lab.mute("c1");
        lab.wire(r#"
            c1, ext = Port("c1"), Port("ext")
            options = [
                [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)],
                [("MSS", 65495), ("WScale", 14), (34, b"cookie00"), ("NOP", None), ("NOP", None)],
                [(253, b"\xf9\x89experimt"), ("NOP", None), ("NOP", None), ("EOL", None)],
                [(30, b"\0\x81" + bytes(8)), ("NOP", None), ("NOP", None)],
            ]
            def same(sent, heard):
                a, b = sent[TCP].copy(), heard[TCP].copy()
                assert sums_are_right(heard)
                for t in a, b:
                    t.sport = t.dport = t.chksum = 0
                assert bytes(a) == bytes(b), (bytes(a), bytes(b))
                a, b = bytes(sent[IP])[:12], bytes(heard[IP])[:12]
                assert a[:8] + a[9:10] == b[:8] + b[9:10], (a, b)
            def pass_on(sender, hearer, sent, mine):
                sent = Ether(bytes(sent))
                sender.send(sent)
                [heard] = hearer.hear(mine, 1)
                same(sent, heard)
                return heard
            for n, opts in enumerate(options):
                sport, wrap = 5000 + n, 2**32 - 3
                out_end = lambda p: TCP in p and p[TCP].dport == 80
                in_end = lambda p: TCP in p and p[TCP].dport == sport
                out = lambda l4: pass_on(c1, ext, outward(c1, id=7, flags="DF", tos=2) / l4, out_end)
                back = lambda l4: pass_on(ext, c1, inward(ext, id=8, flags="DF", tos=1) / l4, in_end)
                seen = out(TCP(sport=sport, dport=80, flags="SEC", seq=wrap, window=8192, options=opts) / b"early data")
                port = seen[TCP].sport
                back(TCP(sport=80, dport=port, flags="SAE", seq=wrap, ack=8, window=8192, options=opts))
                out(TCP(sport=sport, dport=80, flags="A", seq=8, ack=2**32 - 2, window=8192))
                out(TCP(sport=sport, dport=80, flags="PAU", seq=8, ack=2**32 - 2, window=8192, urgptr=3) / b"urgent")
                back(TCP(sport=80, dport=port, flags="PAE", seq=2**32 - 2, ack=14, window=8192, options=[("NOP", None), ("NOP", None), ("SAck", (20, 30))]) / b"wraps round")
                out(TCP(sport=sport, dport=80, flags="PAC", seq=14, ack=9, window=8192, reserved=5) / b"after")
        "#);
    }

    /// Flags that no stack sends begin nothing and leave as nobody; a lost connection is picked up
    /// only from inside, and masqueraded.
    fn tcp_17_impossible_flags_begin_nothing {
        lab.mute("c1");
        lab.wire(r#"
            c1, ext = Port("c1"), Port("ext")
            up = Port("", "up0")
            mine = lambda p: TCP in p and p[TCP].dport in range(7000, 7100)
            cases = ["", "FPU", "SF", "SR", "SFPU", "FSRPAUEC", "F", "FPA", "FA", "P", "U", "SA", "R", "RA", "SFA", "SRA"]
            for n, flags in enumerate(cases):
                c1.send(outward(c1) / TCP(sport=6000, dport=7000 + n, flags=flags, seq=1, ack=1 if "A" in flags else 0))
                ext.send(inward(ext) / TCP(sport=6000, dport=7050 + n, flags=flags, seq=1, ack=1 if "A" in flags else 0))
            ext.send(inward(ext) / TCP(sport=6000, dport=7099, flags="A", seq=1, ack=1))
            assert ext.hear(mine) == [] and c1.hear(mine) == []
            assert flows(":70") == [], flows(":70")
            assert drops("nat.InvalidTcp") >= len(cases)

            c1.send(outward(c1) / TCP(sport=6000, dport=7090, flags="A", seq=1, ack=1))
            [picked] = ext.hear(mine, 1)
            assert picked[IP].src == EXTERNAL
            [flow] = flows(":7090")
            assert flow["state"] == "ESTABLISHED" and not flow["assured"], flow
        "#);
    }

    /// Twenty megabytes each way over a path that loses every twentieth packet each way. Without the
    /// kernel's `netem`, nftables drops at random where the packets arrive.
    fn tcp_19_transfers_survive_loss {
        for ns in ["c1", "ext"] {
            // Super-frames would be lost as a whole, which no wire does.
            lab.run(ns, "ethtool -K eth0 tso off gso off gro off");
            lab.run(ns, "nft add table ip loss; \
                nft \"add chain ip loss in { type filter hook prerouting priority -300; }\"; \
                nft add rule ip loss in meta l4proto tcp numgen random mod 100 \\< 5 counter drop");
        }
        lab.wire(r#"
            listener = tcp_socket("ext")
            listener.bind(("198.51.100.10", 7000)); listener.listen()
            client = tcp_socket("c1", 120)
            client.connect(("198.51.100.10", 7000))
            server = listener.accept()[0]
            server.settimeout(120)
            begun = time.monotonic()
            for sender, receiver in (client, server), (server, client):
                data = os.urandom(20 << 20)
                def send():
                    sender.sendall(data)
                    sender.shutdown(socket.SHUT_WR)
                thread = threading.Thread(target=send)
                thread.start()
                sum = hashlib.sha256()
                while part := receiver.recv(1 << 20):
                    sum.update(part)
                thread.join()
                assert sum.digest() == hashlib.sha256(data).digest()
            print("took", time.monotonic() - begun)
            assert time.monotonic() - begun < 120
        "#);
        for ns in ["c1", "ext"] {
            let lost = lab.run(ns, "nft list ruleset");
            let lost = lost.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
            let lost: u32 = lost.and_then(|n| n.parse().ok()).expect("a counter");
            assert!(lost > 100, "{ns} lost {lost} packets only");
            lab.run(ns, "nft delete table ip loss");
        }
    }

    /// There are no application-level gateways: addresses in payloads arrive as they were sent, and
    /// open nothing.
    fn tcp_22_payloads_open_nothing {
        lab.mute("c1");
        lab.wire(r#"
            c1, ext = Port("c1"), Port("ext")
            inside = b"172,18,0,2"
            talks = {
                21: [b"PORT " + inside + b",31,64\r\n", b"EPRT |1|172.18.0.2|8000|\r\n"],
                5060: [b"REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/TCP 172.18.0.2:8000\r\nContact: <sip:a@172.18.0.2:8000>\r\n\r\n"],
                1720: [b"\x03\0\0\x20\x08\x02" + bytes([172, 18, 0, 2]) + b"\x1f\x40" + bytes(20)],
                6667: [b"PRIVMSG x :\x01DCC SEND f 2886860802 8000 10\x01\r\n"],
            }
            for n, (dport, payloads) in enumerate(talks.items()):
                tcp = Connection(c1, ext, 5000 + n, dport)
                for payload in payloads:
                    for cut in range(0, len(payload), 16):
                        assert bytes(tcp.out("PA", payload[cut:cut + 16])[TCP].payload) == payload[cut:cut + 16]
                    assert bytes(tcp.out("PA", payload)[TCP].payload) == payload
                tcp.back("PA", b"227 Entering Passive Mode (" + inside + b",31,64)\r\n")
            for payload in talks[5060] + [b"INVITE sip:x\r\nc=IN IP4 172.18.0.2\r\nm=audio 8000 RTP/AVP 0\r\n"]:
                c1.send(outward(c1) / UDP(sport=5060, dport=5060) / payload)
                [heard] = ext.hear(payload, 1)
                assert sums_are_right(heard)
            known = len(pontoon("flows"))
            for port in 8000, 31 * 256 + 64:
                ext.send(inward(ext) / TCP(sport=20, dport=port, flags="S"), inward(ext) / UDP(sport=20, dport=port) / b"opened?")
            assert c1.hear(lambda p: (TCP in p or UDP in p) and p[IP].payload.sport == 20) == []
            assert len(pontoon("flows")) == known
        "#);
    }
}
