//! End to end: what the user uplink holds and lets go of: many connections, readers that stop, containers
//! that vanish, files that run out.

use pontoon_tests::e2e::{run_pontoon, sh, try_sh, wait_for};

pontoon_tests::user_laboratory_tests! { |lab|
    /// A reader that stops, stops its writer within bounded memory, in both directions, and nobody else;
    /// once it reads again everything is there.
    fn l4_05_a_reader_that_stops_stops_its_writer_and_nobody_else {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 7000))
            for writer in 0, 1:
                grown = memory()
                ends = pair("c1", listener)
                source, sink = ends[writer], ends[1 - writer]
                source.setblocking(False)
                pattern, sent = random.randbytes(1 << 16), 0
                while select.select([], [source], [], 1)[1]:
                    sent += source.send(pattern[sent % len(pattern):])
                # Twice what the kernels' own buffers hold at most (tcp_rmem, tcp_wmem).
                assert sent < 40 << 20, sent
                assert memory() - grown < 6 << 10, memory() - grown
                times = []
                for ns in ("c1", "c2") * 4:
                    (client, server), took = timed(lambda: pair(ns, listener))
                    assert works(client, server, bytes(1 << 20)), (writer, ns)
                    times.append(took)
                assert median(times) < 0.5, times
                # Stalled for a while, it costs nothing.
                before = ticks(); time.sleep(2); assert ticks() - before < 10, ticks() - before
                source.shutdown(socket.SHUT_WR)
                got = rest(sink)
                assert len(got) == sent and got == (pattern * (sent // len(pattern) + 1))[:sent]
        "#);
    }

    /// L4-06: fifty stalled connections hold no more than they may, and give it back.
    fn l4_06_stalled_connections_hold_a_bounded_amount {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 7000))
            grown = memory()
            ends = [pair("c1", listener) for _ in range(50)]
            for client, server in ends:
                for s in client, server:
                    s.setblocking(False)
                    while select.select([], [s], [], 0.02)[1]:
                        s.send(bytes(1 << 18))
            # The first 32 hold a megabyte each way, the others a quarter of it.
            assert memory() - grown < 80 << 10, memory() - grown
            times = []
            for _ in range(9):
                (client, server), took = timed(lambda: pair("c2", listener))
                assert works(client, server, bytes(1 << 20))
                times.append(took)
            assert median(times) < 0.5, times
            for both in ends:
                [s.close() for s in both]
            until(lambda: memory() - grown < 8 << 10, "memory to come back")
        "#);
    }

    /// L4-07: a window that was shut for fourteen seconds opens, and bytes flow at once: long before the
    /// next time that the sender would ask, which it does after 0.2, 0.6 … 12.6, 25.4 seconds.
    fn l4_07_a_window_that_opens_late_lets_bytes_flow_at_once {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 7000))
            for writer in 0, 1:
                ends = pair("c1", listener)
                source, sink = ends[writer], ends[1 - writer]
                source.settimeout(None)
                background(source.sendall, bytes(60 << 20))
                time.sleep(14)
                sink.settimeout(5)
                got = 0
                while got < 60 << 20:
                    got += len(sink.recv(1 << 20))
        "#);
    }

    /// L4-10: two thousand connections at once, ten rounds of echo, then all descriptors are back.
    fn l4_10_two_thousand_connections_at_once {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 7000), 4096)
            before = settled_files()
            ends = [pair("c1" if n % 2 else "c2", listener) for n in range(2000)]
            for round in range(10):
                for n, (client, _) in enumerate(ends):
                    client.sendall(b"%5d %d" % (n, round))
                for n, (_, server) in enumerate(ends):
                    assert read(server, 7) == b"%5d %d" % (n, round)
                    server.sendall(b"%5d!" % n)
                for n, (client, _) in enumerate(ends):
                    assert read(client, 6) == b"%5d!" % n
            for client, server in ends:
                client.close(); server.close()
            back_to(before, "files", files, patience=30)
        "#);
    }

    /// L4-11: when files run out, new connections are refused and those that are there go on; when some
    /// have ended, new ones are made.
    fn l4_11_without_files_new_connections_are_refused_and_old_ones_live {
        lab.reattach("c2", 3, "-p 8080:80");
        lab.outward(r#"
            listener, published = listen("ext", (SERVER, 7000)), listen("c2", ("", 80))
            free = 100
            limit = settled_files() + free
            before, pid = settled_files(), engine()
            assert shell(f"prlimit --pid {pid} --nofile={limit}:20000").returncode == 0
            held = []
            asked = [tcp_socket("c1") for _ in range(free + 5)]
            for s in asked:
                s.setblocking(False)
                s.connect_ex((SERVER, 7000))
            servers = {}
            def accept():
                while select.select([listener], [], [], 0.2)[0]:
                    server, _ = listener.accept(); servers[len(servers)] = server
            accept()
            until(lambda: len(select.select([], asked, [], 0)[1]) == len(asked), "everybody to be told", 30)
            for s in asked:
                if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    s.settimeout(PATIENCE); held.append(s)
            accept()
            assert free - 5 <= len(held) <= free, len(held)
            by_name = {}
            for n, s in enumerate(held):
                s.sendall(b"%4d" % n)
            for server in servers.values():
                by_name[int(read(server, 4))] = server
            held = [(s, by_name[n]) for n, s in enumerate(held)]
            used = ticks()
            # A client of a published port waits, or is refused; it hurts nobody.
            waiting = tcp_socket("ext", 2); waiting.connect_ex((HOST, 8080))
            time.sleep(2)
            assert ticks() - used < 100, ticks() - used
            assert all(works(*both) for both in held)
            for client, server in held:
                server.close(); client.close()
            until(lambda: files() <= before + 5, "files", 20)
            assert works(*pair("c1", listener))
            waiting.close()
            # The one that waited may have been let in meanwhile, or was refused.
            client = connect("ext", (HOST, 8080))
            published.settimeout(PATIENCE)
            while published.accept()[0].getpeername() != client.getsockname():
                pass
            shell(f"prlimit --pid {pid} --nofile=20000:20000")
        "#);
    }

    /// L4-12: connections whose container never closes, and then vanishes: the host's sockets go with it.
    fn l4_12_a_container_that_vanishes_takes_its_sockets_along {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 7000), 4096)
            before = settled_files()
            ends = [pair("c3", listener) for _ in range(500)]
            for _, server in ends[:250]:
                server.shutdown(socket.SHUT_WR)
            for client, server in ends[100:200]:
                client.shutdown(socket.SHUT_WR); assert server.recv(1) == b""
            kept += [s for both in ends for s in both]
            run = lambda a: subprocess.run(f"{os.environ['PONTOON']} {a}", shell=True, check=True)
            run("detach c3")
            back_to(before, "files", files)
            assert flows(":7000") == []
            for n, (_, server) in enumerate(ends):
                # Whose two halves had ended in order has nothing to be told.
                assert ended(server) == ("end" if 100 <= n < 200 else "reset"), n
            until(lambda: shell("ss -Htan dst 198.51.100.10 | grep -v TIME-WAIT").stdout == "", "the host's sockets")
        "#);
    }

    /// A container that is killed under load: its flows, listeners and sockets are gone at
    /// once, its clients and servers are told, and the port can be published again.
    fn a_container_that_is_killed_under_load_is_gone_at_once {
        let _sink = lab.serve("ext", "iperf3 -s", 5201);
        lab.outward("kept = settled_files(); open('/run/files', 'w').write(str(kept))");
        let before: usize = sh("cat /run/files").trim().parse().expect("a number");
        for how in ["kill -9", "rm -f"] {
            run_pontoon(
                "run -d --name k --network net -p 5201:5201 -p 9000-9049:9000-9049/udp -- sh -c \
                'iperf3 -s & iperf3 -c 198.51.100.10 -P8 -t60 --bidir > /dev/null & exec sleep 60'");
            wait_for(|| run_pontoon("flows").matches("dport=5201").count() >= 16, "load");
            let from_outside = lab.spawn("ext", "iperf3 -c 192.0.2.1 -P4 -t60");
            wait_for(|| run_pontoon("flows").matches("192.0.2.254").count() >= 4, "load from outside");
            if how == "kill -9" {
                sh(&format!("kill -9 {}", sh(&format!(
                    "{} ps --json | /usr/bin/python3 -c \"import json,sys; print(next(c[\\\"pid\\\"] for c in json.load(sys.stdin) if c[\\\"name\\\"] == \\\"k\\\"))\"",
                    pontoon_tests::e2e::environment())).trim()));
            } else {
                run_pontoon("rm -f k");
            }
            wait_for(|| !run_pontoon("flows").contains("5201"), "flows to go");
            wait_for(|| !try_sh("ss -Hlntu | grep -E ':(5201|9000|9049) '").status.success(), "listeners");
            assert!(!from_outside.wait(), "a client was not told");
            lab.outward(&format!("back_to({before}, 'files', files, slack=1)"));
            try_sh(&format!("{} rm -f k", pontoon_tests::e2e::environment()));
        }
    }
}
