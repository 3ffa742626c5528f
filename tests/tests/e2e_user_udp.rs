//! End to end: UDP and pings through the user uplink, outward.

use pontoon_tests::e2e::sh;

pontoon_tests::user_laboratory_tests! { |lab|
    /// Datagrams of every legal size go and come as they were sent.
    fn every_size_of_datagram_passes_both_ways {
        lab.outward(r#"
            heard = udp_echo("ext", (SERVER, 7000))
            client = udp_socket("c1")
            for size in 0, 1, 2, 1471, 1472, 1473, 2952, 9000, 65000, LARGEST - 1, LARGEST:
                data = random.randbytes(size)
                client.sendto(data, (SERVER, 7000))
                assert client.recvfrom(1 << 16) == (data, (SERVER, 7000)), size
            assert {address for address, _ in heard} == {HOST}
        "#);
    }

    /// Ports at the edges work on both sides.
    fn udp_08_ports_at_the_edges_work {
        lab.outward(r#"
            for port in 1, 65535:
                udp_echo("ext", (SERVER, port))
                for source in 1, 1023, 65535:
                    client = udp_socket("c1", ("", source))
                    client.sendto(b"edge", (SERVER, port))
                    assert client.recvfrom(100) == (b"edge", (SERVER, port)), (source, port)
            # Port 0 is nobody's; the engine lives on.
            wire = Port("c1")
            for sport, dport in (0, 53), (5000, 0), (0, 0):
                wire.send(outward(wire, SERVER) / UDP(sport=sport, dport=dport) / b"nobody")
            wire.send(outward(wire, SERVER) / TCP(sport=0, dport=0, flags="S"))
            wire.send(outward(wire, SERVER) / TCP(sport=5000, dport=0, flags="S"))
            client.sendto(b"alive", (SERVER, 65535)); assert client.recv(100) == b"alive"
        "#);
    }

    /// ICMP-03: a closed port is refused at the socket that sent, about its own datagram; the next one
    /// to a port that is open goes through (L4-14).
    fn icmp_03_a_closed_port_is_refused_at_the_socket {
        lab.outward(r#"
            wire = Port("c1")
            udp_echo("ext", (SERVER, 7000))
            client = udp_socket("c1", ("", 5000))
            for round in range(5):
                time.sleep(1.1 if round > 2 else 0)  # errors to one target are limited
                client.connect((SERVER, 9000 + round))
                client.send(b"x" * (1 + 300 * round))
                assert failure(lambda: client.recv(10)) == "ECONNREFUSED"
                [told] = wire.hear(lambda p: ICMP in p, 1)
                quoted = told[ICMP].payload
                assert (told[ICMP].type, told[ICMP].code) == (3, 3), told.summary()
                assert (quoted.src, quoted.dst, quoted.sport, quoted.dport) == \
                    (ADDRESS["c1"], SERVER, 5000, 9000 + round), quoted.summary()
                assert sums_are_right(told)
                client.connect((SERVER, 7000))
                client.send(b"open"); assert client.recv(10) == b"open"
        "#);
    }

    /// L4-14: a hundred flows whose port is closed, and then opens: no datagram to the open port is lost
    /// to an error about an earlier one, at the host's sockets or at the container's.
    fn l4_14_errors_eat_no_datagram {
        lab.run("ext", "sysctl -qw net.ipv4.icmp_ratelimit=0");
        lab.outward(r#"
            clients = [udp_socket("c1") for _ in range(100)]
            errors = 0
            def send(c, data):
                # An error about an earlier datagram is told first, once, and this one is not sent.
                try:
                    return c.send(data)
                except ConnectionRefusedError:
                    assert c.send(data)
                    return -1
            for c in clients:
                c.connect((SERVER, 7000))
            for _ in range(5):
                errors += sum(send(c, b"closed") < 0 for c in clients)
                time.sleep(0.1)
            assert errors > 0, "no error has arrived"
            [send(c, b"closed") for c in clients]
            time.sleep(0.3)
            heard = udp_echo("ext", (SERVER, 7000))
            for n, c in enumerate(clients):
                send(c, b"open %d" % n)
                try:
                    assert c.recv(10) == b"open %d" % n
                except ConnectionRefusedError:
                    assert c.recv(10) == b"open %d" % n
            assert len(heard) == 100
        "#);
    }

    /// A router or a rule of the host's that forbids or cannot reach is reported to the container.
    fn what_cannot_be_reached_is_reported {
        sh("ip route add unreachable 203.0.113.1/32 && ip route add prohibit 203.0.113.2/32 \
            && ip rule add to 203.0.113.3/32 unreachable");
        lab.run("ext", "ip route add unreachable 203.0.113.4/32 && ip route add prohibit 203.0.113.5/32 \
            && sysctl -qw net.ipv4.ip_forward=1");
        lab.outward(r#"
            for n, code, error in (
                (1, 1, "EHOSTUNREACH"), (2, 13, "EHOSTUNREACH"), (3, 0, "ENETUNREACH"),
                (4, 1, "EHOSTUNREACH"), (5, 13, "EHOSTUNREACH"),
            ):
                time.sleep(1.1 if n > 3 else 0)  # errors to one target are limited
                wire, client = Port("c1"), udp_socket("c1")
                client.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: soft errors are told too
                client.connect((f"203.0.113.{n}", 53))
                client.send(b"lost")
                assert failure(lambda: client.recv(10)) == error, n
                [told] = wire.hear(lambda p: ICMP in p, 1)
                assert (told[ICMP].type, told[ICMP].code) == (3, code), (n, told.summary())
                assert told[ICMP].payload.dst == f"203.0.113.{n}" and sums_are_right(told)
        "#);
    }

    /// UDP-03: three containers with one source port to one server get their own answers.
    fn udp_03_containers_share_a_source_port {
        lab.outward(r#"
            heard = udp_echo("ext", (SERVER, 7000))
            clients = [udp_socket(ns, ("", 5000)) for ns in ("c1", "c2", "c3")]
            for round in range(100):
                for n, c in enumerate(clients):
                    c.sendto(b"%d %d" % (n, round), (SERVER, 7000))
                time.sleep(0.002)  # fewer under way than buffers hold
            for n, c in enumerate(clients):
                assert {c.recv(100) for _ in range(100)} == {b"%d %d" % (n, r) for r in range(100)}
                assert hears_nothing(c)
            assert len(set(heard)) == 3
        "#);
    }

    /// UDP-02: only the far end that was spoken to may answer.
    fn udp_02_nobody_else_may_answer {
        lab.outward(r#"
            server, other = udp_socket("ext", (SERVER, 7000)), udp_socket("ext", (SERVER, 7001))
            third = udp_socket("ext", (SERVER2, 7000))
            client = udp_socket("c1", ("", 5000))
            client.sendto(b"question", (SERVER, 7000))
            _, peer = server.recvfrom(100)
            for s in other, third:
                s.sendto(b"unasked", peer)
            assert hears_nothing(client)
            server.sendto(b"answer", peer)
            assert client.recv(100) == b"answer"
        "#);
    }

    /// UDP-04: an unanswered flow has thirty seconds, an answered one two minutes.
    fn udp_04_flows_have_the_time_that_the_profile_gives {
        lab.outward(r#"
            server = udp_socket("ext", (SERVER, 7000))
            client = udp_socket("c1", ("", 5000))
            client.sendto(b"question", (SERVER, 7000))
            _, peer = server.recvfrom(100)
            [flow] = flows(":5000")
            assert 15 <= flow["expires"] <= 31, flow
            server.sendto(b"answer", peer); client.recv(100)
            client.sendto(b"question", (SERVER, 7000)); server.recvfrom(100)
            server.sendto(b"answer", peer); client.recv(100)
            [flow] = flows(":5000")
            assert 100 <= flow["expires"] <= 121, flow
        "#);
    }

    /// L4-15: a flow that has ended, thirty seconds after a datagram that nobody answered, gives its socket
    /// back, and the same port works again.
    fn l4_15_a_flow_that_has_ended_gives_its_socket_back {
        lab.outward(r#"
            heard = udp_echo("ext", (SERVER, 7000))
            silent = udp_socket("ext", (SERVER, 7001))
            before = settled_files()
            clients = [udp_socket("c1", ("", 20000 + n)) for n in range(200)]
            for c in clients:
                c.sendto(b"unanswered", (SERVER, 7001)); time.sleep(0.001)
            until(lambda: files() == before + 200, "sockets")
            back_to(before, "files", files, patience=40)
            assert flows(":7001") == []
            for c in clients:
                c.sendto(b"again", (SERVER, 7000)); assert c.recv(100) == b"again"
        "#);
    }

    /// Pings of many sizes go out and come back, to several far ends, with one id from two containers.
    fn pings_go_out_and_come_back {
        lab.allow_pings();
        for size in [0, 1, 56, 1472, 1473, 8000, 65_507] {
            lab.run("c1", &format!("ping -c2 -i0.2 -W10 -s {size} -p a5 198.51.100.10"));
        }
        let both: Vec<_> = ["c1", "c2"]
            .map(|ns| lab.spawn(ns, "ping -e 77 -c 10 -i 0.2 -W 10 -q 198.51.100.10"))
            .into();
        for ping in both {
            assert!(ping.wait(), "a ping was not answered");
        }
    }

    /// A far end that cannot be reached is reported to who pings it.
    fn a_ping_that_cannot_arrive_is_reported {
        lab.allow_pings();
        sh("ip route add unreachable 203.0.113.1/32");
        lab.run("ext", "ip route add unreachable 203.0.113.4/32 && sysctl -qw net.ipv4.ip_forward=1");
        for target in ["203.0.113.1", "203.0.113.4"] {
            let said = lab.try_run("c1", &format!("ping -c2 -i0.3 -W1 {target}"));
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            assert!(said.contains("Destination Host Unreachable"), "{target}: {said}");
        }
    }

    /// L4-22: where the host does not let its users ping, the container is told so each time and the
    /// log once; where it does (the twin), it works at once.
    fn l4_22_forbidden_pings_are_answered_and_logged_once {
        for _ in 0..3 {
            let said = lab.try_run("c1", "ping -c2 -i0.3 -W1 198.51.100.10");
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            assert!(said.contains("Packet filtered"), "{said}");
            // Errors are limited to one a second after the first few.
            std::thread::sleep(std::time::Duration::from_secs(2));
        }
        lab.outward(r#"
            lines = [line for line in log().splitlines() if "ping" in line]
            assert len(lines) == 1 and "net.ipv4.ping_group_range" in lines[0], lines
        "#);
        lab.allow_pings();
        lab.run("c1", "ping -c1 -W10 198.51.100.10");
    }

    /// A time to live that runs out at the gateway is reported by it.
    fn ip_03_the_gateway_is_the_first_hop {
        let route = lab.run("c1", "traceroute -n -q1 -w10 -m1 -U 198.51.100.10");
        assert!(route.contains(" 172.18.0.1 "), "{route}");
    }
}
