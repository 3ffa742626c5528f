//! End to end: ICMP errors of others on their way through the translation, and what they do to the
//! sockets inside. Tests are named after the checks they show.

use pontoon_tests::e2e::sh;

pontoon_tests::laboratory_tests! { |lab|
    /// An error about no flow goes nowhere and is answered by nobody.
    fn icmp_06_errors_about_nothing_are_dropped {
        lab.mute("c1");
        lab.wire(r#"
            c1, ext = Port("c1"), Port("ext")
            port = map_udp(c1, ext, 5000, 53)
            ext.hear(lambda p: ICMP in p)
            quote = lambda **f: IP(src=EXTERNAL, dst=FAR) / UDP(**{"sport": port, "dport": 53, **f})
            unknown = [
                quote(dport=54), quote(sport=port ^ 1),
                IP(src=EXTERNAL, dst=FAR2) / UDP(sport=port, dport=53),
                IP(src=c1.ip, dst=FAR) / UDP(sport=5000, dport=53),
                IP(src=FAR, dst=EXTERNAL) / UDP(sport=53, dport=port),
                IP(src=EXTERNAL, dst=FAR) / TCP(sport=port, dport=53),
                IP(src=EXTERNAL, dst=FAR) / ICMP(id=port),
            ]
            for what in unknown:
                for kind, code in (3, 3), (11, 0):
                    ext.send(inward(ext) / ICMP(type=kind, code=code) / what / b"quoted")
            assert c1.hear(lambda p: ICMP in p) == [] and ext.hear(lambda p: ICMP in p) == []
            assert len(pontoon("flows")) == 1
            ext.send(inward(ext) / ICMP(type=3, code=3) / quote() / b"quoted")
            [error] = c1.hear(lambda p: ICMP in p, 1)
            assert error[IP].dst == c1.ip and sums_are_right(error)
        "#);
    }

    /// A wrong checksum of the error or of the quoted header is dropped; one of the quoted segment,
    /// which is not whole, is nobody's business.
    fn icmp_07_checksums_of_errors {
        lab.mute("c1");
        lab.wire(r#"
            c1, ext = Port("c1"), Port("ext")
            tcp = Connection(c1, ext, 5000, 80)
            is_error = lambda p: ICMP in p
            def error(**fields):
                quoted = IP(src=EXTERNAL, dst=FAR, **{k: v for k, v in fields.items() if k == "chksum"})
                segment = TCP(sport=tcp.port, dport=80, seq=tcp.seq, flags="A", chksum=fields.get("inner", None))
                return inward(ext) / ICMP(type=3, code=1, chksum=fields.get("outer")) / quoted / segment
            ext.send(error(outer=0x1234), error(chksum=0x1234))
            assert c1.hear(is_error) == []
            for n, inner in enumerate((0x1234, None)):
                ext.send(error(inner=inner))
                [heard] = c1.hear(is_error, 1)
                assert sums_are_right(heard) and heard[IP].dst == c1.ip and heard[IP].src == FAR
                quoted = bytes(heard[ICMP].payload)
                assert fold(quoted[:20]) == 0xffff, "the quoted header's sum"
                assert quoted[12:20] == bytes(IP(src=c1.ip, dst=FAR))[12:20]
                assert struct.unpack("!HHI", quoted[20:28]) == (5000, 80, tcp.seq)
            tcp.works()
        "#);
    }

    /// Quotations with options, cut to eight bytes, or that lie about their length are restored or
    /// dropped; nothing is in the output that was not in the input.
    fn icmp_08_odd_quotations_are_restored_or_dropped {
        lab.mute("c1");
        lab.wire(r#"
            c1, ext = Port("c1"), Port("ext")
            port = map_udp(c1, ext, 5000, 53)
            is_error = lambda p: ICMP in p
            def deliver(quoted):
                ext.send(inward(ext) / ICMP(type=3, code=3) / Raw(quoted))
                return c1.hear(is_error)
            udp = bytes(UDP(sport=port, dport=53, len=108, chksum=0xbeef))
            def header(**fields):
                return bytes(IP(**{"src": EXTERNAL, "dst": FAR, "proto": 17, "len": 128, **fields}))
            options = [IPOption(b"\x07\x07\x04" + bytes(4)), IPOption(b"\x01")]
            for head in header(), header(options=options, len=136):
                for tail in b"", b"\x5a" * 100:
                    [heard] = deliver(head + udp + tail)
                    got = bytes(heard[ICMP].payload)
                    size = (head[0] & 15) * 4
                    assert sums_are_right(heard) and fold(got[:size]) == 0xffff
                    assert got[:10] == head[:10] and got[20:size] == head[20:size]
                    assert got[12:20] == bytes(IP(src=c1.ip, dst=FAR))[12:20]
                    assert got[size:size + 6] == struct.pack("!HHH", 5000, 53, 108)
                    assert got[size + 8:len(head + udp + tail)] == tail, (got, tail)
            liars = [header(ihl=n) + udp for n in (0, 4, 15)] + [header(version=6) + udp]
            liars += [header()[:n] for n in range(20)] + [header() + udp[:n] for n in range(8)]
            liars += [header(options=options)[:26], header(proto=41) + header()]
            ext.send(*[inward(ext) / ICMP(type=3, code=3) / Raw(liar) for liar in liars])
            assert c1.hear(is_error) == []
            assert len(deliver(header() + udp)) == 1
        "#);
    }

    /// Every error there is, about an open TCP and an open UDP flow: both go on.
    fn icmp_12_errors_end_no_flow {
        lab.mute("c1");
        lab.wire(r#"
            c1, ext = Port("c1"), Port("ext")
            port = map_udp(c1, ext, 5000, 53)
            tcp = Connection(c1, ext, 5001, 80)
            quotes = [IP(src=EXTERNAL, dst=FAR) / UDP(sport=port, dport=53),
                      IP(src=EXTERNAL, dst=FAR) / TCP(sport=tcp.port, dport=80, seq=tcp.seq)]
            kinds = [(3, code) for code in range(16)] + [(11, 0), (11, 1), (12, 0), (12, 1), (12, 2)]
            before = [(f["original"], f["state"]) for f in pontoon("flows")]
            for kind, code in kinds:
                for quote in quotes:
                    for src in FAR, "192.0.2.254":
                        ext.send(inward(ext, src) / ICMP(type=kind, code=code, nexthopmtu=1200) / quote)
                heard = c1.hear(lambda p: ICMP in p, 4)
                assert all(p[ICMP].type == kind and p[ICMP].code == code and sums_are_right(p) for p in heard)
            assert [(f["original"], f["state"]) for f in pontoon("flows")] == before
            tcp.works()
            ext.send(inward(ext) / UDP(sport=53, dport=port) / b"goes on")
            c1.hear(b"goes on", 1)
        "#);
    }

    /// IP-07: a router beyond the uplink says that a datagram is too big, and the container's kernel
    /// hears it: for TCP the transfer completes, for UDP the socket is told.
    fn ip_07_path_mtu_from_a_router_beyond_the_uplink {
        sh("ip netns add far && ip link add name r0 netns ext type veth peer name eth0 netns far \
            && ip -n far link set lo up \
            && ip -n ext addr add 203.0.113.1/24 dev r0 && ip -n ext link set r0 mtu 1280 up \
            && ip -n far addr add 203.0.113.10/24 dev eth0 && ip -n far link set eth0 mtu 1280 up \
            && ip -n far route add default via 203.0.113.1");
        lab.run("ext", "echo 1 > /proc/sys/net/ipv4/ip_forward");
        lab.wire(r#"
            IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14
            server = udp_socket("far", ("203.0.113.10", 7700))
            client = udp_socket("c1")
            client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
            client.connect(("203.0.113.10", 7700))
            client.send(b"small"); assert server.recv(100) == b"small"
            assert client.getsockopt(socket.IPPROTO_IP, IP_MTU) == 1500
            client.send(bytes(1400))
            end = time.monotonic() + PATIENCE
            while client.getsockopt(socket.IPPROTO_IP, IP_MTU) != 1280:
                assert time.monotonic() < end, "the error was not heard"
                time.sleep(0.02)
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 90, "EMSGSIZE"
            try:
                client.send(bytes(1400))
                raise SystemExit("sent all the same")
            except OSError as error:
                assert error.errno == 90, error
            client.send(bytes(1252)); assert len(server.recv(2000)) == 1252
        "#);
        // The other container has not heard of it: its TCP has to find out for itself.
        lab.wire(r#"
            listener = tcp_socket("far")
            listener.bind(("203.0.113.10", 7701)); listener.listen()
            for forth in True, False:
                client = tcp_socket("c2")
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460) if forth else None
                client.connect(("203.0.113.10", 7701))
                server = listener.accept()[0]
                sender, receiver = (client, server) if forth else (server, client)
                data, got = os.urandom(3 << 20), b""
                thread = threading.Thread(target=lambda: (sender.sendall(data), sender.close()))
                thread.start()
                while part := receiver.recv(1 << 20):
                    got += part
                thread.join()
                assert got == data
        "#);
        let route = lab.run("c1", "ip route get 203.0.113.10");
        assert!(route.contains("mtu 1280"), "{route}");
    }
}
