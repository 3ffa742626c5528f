//! End to end: TCP through the user uplink, outward. Tests are named after the checks they show, where
//! there is one.

use pontoon_tests::e2e::sh;

pontoon_tests::user_laboratory_tests! { |lab|
    /// A page is fetched, whole and as it is, and the server sees the host's address.
    fn curl_fetches_a_page_through_the_host {
        sh("mkdir /run/www && head -c 3000000 /dev/urandom > /run/www/page");
        let _server = lab.serve(
            "ext", "/usr/bin/python3 -m http.server -d /run/www --bind 198.51.100.10 80", 80);
        lab.run("c1", "curl -sS --fail --max-time 10 -o /run/copy http://198.51.100.10/page");
        sh("cmp /run/www/page /run/copy");
        lab.outward(r#"
            heard = tcp_server("ext", (SERVER, 7000))
            assert ask("c1", (SERVER, 7000)) == repr(heard[0])
            assert heard[0][0] == HOST, heard
        "#);
    }

    /// A closed port is refused by a reset, at once, and never accepted before.
    fn l4_03_a_closed_port_is_refused_at_once {
        lab.outward(r#"
            wire = Port("c1")
            times = []
            for port in range(9000, 9010):
                error, took = timed(lambda: failure(lambda: connect("c1", (SERVER, port))))
                assert error == "ECONNREFUSED", error
                times.append(took)
            assert median(times) < 0.5, times
            answers = wire.hear(lambda p: TCP in p and p[IP].src == SERVER, 10)
            assert all(p[TCP].flags == "RA" and sums_are_right(p) for p in answers), answers
            # The twin: with somebody there, it is accepted.
            listener = listen("ext", (SERVER, 9000))
            assert works(*pair("c1", listener))
        "#);
    }

    /// What the host cannot reach is reported by ICMP about the container's own segment, and its
    /// socket says what the host's said.
    fn ip_04_what_cannot_be_reached_is_reported {
        sh("ip route add unreachable 203.0.113.1/32 && ip route add prohibit 203.0.113.2/32 \
            && ip rule add to 203.0.113.3/32 unreachable");
        lab.outward(r#"
            wire = Port("c1")
            for dst, code, error in (
                ("203.0.113.1", 1, "EHOSTUNREACH"),
                ("203.0.113.2", 13, "EHOSTUNREACH"),
                ("203.0.113.3", 0, "ENETUNREACH"),
            ):
                said, took = timed(lambda: failure(lambda: connect("c1", (dst, 80))))
                assert said == error and took < 5, (dst, said, took)
                [told] = wire.hear(lambda p: ICMP in p and p[IP].src == GATEWAY_IP, 1)
                quoted = told[ICMP].payload
                assert (told[ICMP].type, told[ICMP].code) == (3, code), told.summary()
                assert (quoted.src, quoted.dst, quoted.dport) == (ADDRESS["c1"], dst, 80), quoted.summary()
                assert sums_are_right(told)
        "#);
    }

    /// A neighbour of the host's that is not there is reported when the host has given up.
    fn a_neighbour_that_is_not_there_is_reported {
        lab.outward(r#"
            error, took = timed(lambda: failure(lambda: connect("c1", ("192.0.2.77", 80))))
            assert error == "EHOSTUNREACH" and took < 8, (error, took)
        "#);
    }

    /// A far end that does not answer delays nobody but who asked for it: many such connects leave
    /// other containers, and the same one, as quick as ever.
    fn tcp_27_a_black_hole_delays_only_itself {
        lab.run("ext", "nft add table ip hole && nft add chain ip hole in \
            \"{ type filter hook input priority 0; }\" && nft add rule ip hole in ip daddr 198.51.100.11 drop");
        lab.outward(r#"
            stuck = [tcp_socket(ns) for ns in ("c1", "c2") for _ in range(50)]
            for s in stuck:
                s.setblocking(False)
                assert s.connect_ex((SERVER2, 80)) == errno.EINPROGRESS
            until(lambda: len(flows(f"{SERVER2}:80")) == 100, "100 held connections")
            listener = listen("ext", (SERVER, 80))
            times = []
            for ns in ("c1", "c2", "c3") * 3:
                (client, server), took = timed(lambda: pair(ns, listener))
                assert works(client, server), ns
                times.append(took)
            assert median(times) < 0.5, times
            assert not select.select([], stuck, [], 0)[1], "a black hole has answered"
        "#);
    }

    /// Each side ends its half and goes on reading: ten megabytes come after the end of the other half,
    /// then a clean end.
    fn l4_01_half_close_passes_both_ways {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 7000))
            data = random.randbytes(10 << 20)
            for first in 0, 1:
                ends = pair("c1", listener)
                early, late = ends[first], ends[1 - first]
                early.sendall(b"question")
                early.shutdown(socket.SHUT_WR)
                assert rest(late) == b"question"
                background(lambda: (late.sendall(data), late.shutdown(socket.SHUT_WR)))
                assert rest(early) == data
        "#);
    }

    /// A connection that is aborted by either side arrives as a reset, never as an end: idle, with
    /// bytes under way, with bytes that nobody has read, and after half of it was ended in order.
    fn l4_02_an_abort_arrives_as_a_reset {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 7000))
            def idle(dead, other): pass
            def unread(dead, other):
                other.sendall(b"unread"); time.sleep(0.1)
            def sending(dead, other):
                dead.setblocking(False)
                while select.select([], [dead], [], 0.2)[1]:
                    dead.send(bytes(1 << 16))
            def other_half_ended(dead, other):
                other.shutdown(socket.SHUT_WR)
                assert dead.recv(1) == b""
            for how in idle, unread, sending, other_half_ended:
                for first in 0, 1:
                    ends = pair("c1", listener)
                    assert works(*ends)
                    dead, other = ends[first], ends[1 - first]
                    how(dead, other)
                    abort(dead)
                    assert ended(other) == "reset", (how.__name__, "container" if first == 0 else "server")
            # The twin: an end in order is an end.
            for first in 0, 1:
                ends = pair("c1", listener)
                ends[first].close()
                assert ended(ends[1 - first]) == "end"
        "#);
    }

    /// A socket that is closed with bytes unread resets, as the kernel does it, also through the engine.
    fn a_close_with_unread_bytes_arrives_as_a_reset {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 7000))
            for first in 0, 1:
                ends = pair("c1", listener)
                ends[1 - first].sendall(b"never read")
                until(lambda: select.select([ends[first]], [], [], 0)[0], "bytes")
                ends[first].close()
                assert ended(ends[1 - first]) == "reset"
        "#);
    }

    /// Large transfers in both directions at once arrive as they were sent.
    fn long_transfers_are_exact_in_both_directions {
        sh("head -c 200000000 /dev/urandom > /run/data");
        for (option, sender, receiver) in [
            ("outward", "c1", "ext"), ("inward", "ext", "c1"),
        ] {
            let (server, client) = if option == "outward" {
                ("socat -u TCP-LISTEN:7000,reuseaddr CREATE:/run/copy", "socat -u OPEN:/run/data TCP:198.51.100.10:7000")
            } else {
                ("socat -u OPEN:/run/data TCP-LISTEN:7000,reuseaddr", "socat -u TCP:198.51.100.10:7000 CREATE:/run/copy")
            };
            let server = lab.serve("ext", server, 7000);
            lab.run("c1", client);
            assert!(server.wait(), "{sender} → {receiver}");
            sh("cmp /run/data /run/copy && rm /run/copy");
        }
        lab.outward(r#"
            listener = listen("ext", (SERVER, 7001))
            ends = pair("c1", listener)
            data = [random.randbytes(50 << 20) for _ in ends]
            for s, bytes_ in zip(ends, data):
                background(lambda s=s, b=bytes_: (s.sendall(b), s.shutdown(socket.SHUT_WR)))
            got = [None, None]
            readers = [background(lambda i=i: got.__setitem__(i, rest(ends[i]))) for i in (0, 1)]
            [r.join() for r in readers]
            assert got[0] == data[1] and got[1] == data[0]
        "#);
    }

    /// An idle connection is shown as established with its days ahead of it, and the host keeps it
    /// alive as the engine does the container's half.
    fn an_idle_connection_is_shown_with_its_time {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 7000))
            client, server = pair("c1", listener)
            assert works(client, server)
            [flow] = flows(f"{SERVER}:7000")
            assert flow["state"] == "ESTABLISHED" and 431_000 < flow["expires"] <= 432_001, flow
            client.shutdown(socket.SHUT_WR); assert server.recv(1) == b""
            [flow] = until(lambda: [f for f in flows(f"{SERVER}:7000") if f["state"] != "ESTABLISHED"], "a half-closed flow")
            assert flow["state"] in ("FIN_WAIT", "CLOSE_WAIT") and flow["expires"] <= 7441, flow
            server.sendall(b"still here"); assert read(client, 10) == b"still here"
            server.close(); assert client.recv(1) == b""
            # Both halves have ended: it has no place in the table any more.
            until(lambda: flows(f"{SERVER}:7000") == [], "the end of the flow")
        "#);
    }

    /// Two containers with one source port to one server have connections of their own.
    fn two_containers_share_a_source_port {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 7000))
            ends = [pair(ns, listener, bind=("", 5000)) for ns in ("c1", "c2", "c3")]
            for n, (client, server) in enumerate(ends):
                assert works(client, server, b"own %d" % n)
            assert len({server.getpeername() for _, server in ends}) == 3
        "#);
    }

    /// The same four ends again, at once after the last connection.
    fn tcp_14_a_connection_is_opened_anew_after_its_end {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 7000))
            for n in range(20):
                client, server = pair("c1", listener, bind=("", 5000))
                assert works(client, server)
                # The container ends last, so that only the engine remembers.
                if n % 2:
                    server.close(); assert client.recv(1) == b""; client.close()
                    until(lambda: ":5000" not in shell("ip netns exec c1 ss -Htan").stdout, "the last acknowledgement")
                else:
                    abort(client); assert ended(server) == "reset"; server.close()
        "#);
    }

    /// git, or something like it: many requests over one connection, each small.
    fn requests_and_answers_over_one_connection {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 7000))
            client, server = pair("c1", listener)
            for s in client, server:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _, took = timed(lambda: [works(client, server, b"x" * (1 + n % 3000)) for n in range(2000)])
            # With a delayed acknowledgement each it would take 160 seconds.
            assert took < 60, took
        "#);
    }
}
