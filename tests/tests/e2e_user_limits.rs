//! End to end: the user uplink at its limits, and what is given up.

pontoon_tests::user_laboratory_tests! { |lab|
    /// PUB-07: a thousand ports of each kind are there in seconds, cost no process and little memory,
    /// and are gone with their container.
    fn pub_07_a_thousand_ports_cost_little {
        lab.outward(r#"
            before, grown = settled_files(), memory()
            keepers = lambda: len(os.listdir(f"/proc/{keeper()}/fd"))
            of_keeper = keepers()
            run = lambda a: subprocess.run(f"{os.environ['PONTOON']} {a}", shell=True, check=True)
            processes = lambda: sum(n.isdigit() for n in os.listdir("/proc"))
            run("detach c2")
            running = processes()
            attach = "attach --netns /run/netns/c2 --name c2 --network net --ip 172.18.0.3"
            _, took = timed(lambda: run(f"{attach} -p 10000-10999:10000-10999 -p 10000-10999:10000-10999/udp"))
            assert took < PATIENCE, took
            assert processes() == running
            until(lambda: files() == before + 2000, "a socket for each port")
            assert keepers() == of_keeper + 2000, "for an engine after this one"
            # 2 KiB of the engine's memory a port would do; 4 MiB is the table of what it waits for.
            assert memory() - grown < 8 << 10, memory() - grown
            tcp_server("c2", ("", 10999)); udp_echo("c2", ("", 10000))
            assert ask("ext", (HOST, 10999))
            client = udp_socket("ext"); client.sendto(b"x", (HOST, 10000)); assert client.recv(10) == b"x"
            run("detach c2")
            back_to(before, "files", files)
            back_to(of_keeper, "the keeper's files", keepers)
            assert failure(lambda: connect("ext", (HOST, 10500))) == "ECONNREFUSED"
            listen("", ("0.0.0.0", 10500))
        "#);
    }

    /// When the engine or its keeper runs out of files, a request for ports is refused whole, with the
    /// limit's name. What was there goes on, and with files there again the same request is met.
    fn without_files_a_request_for_ports_is_refused_whole {
        lab.reattach("c2", 3, "-p 8080:80 -p 8080:80/udp");
        lab.outward(r#"
            tcp_server("c2", ("", 80)); udp_echo("c2", ("", 80))
            before = settled_files()
            publish = "publish c2 9000-9499:9000-9499"
            for pid, spare in (engine(), 300), (engine(), 20), (keeper(), 100):
                limit = len(os.listdir(f"/proc/{pid}/fd")) + spare
                assert shell(f"prlimit --pid {pid} --nofile={limit}:20000").returncode == 0
                refusal = shell(f"{os.environ['PONTOON']} {publish}")
                assert refusal.returncode != 0 and "Bind for 0.0.0.0:9" in refusal.stderr, refusal
                assert "oo many" in refusal.stderr and "ulimit -n" in refusal.stderr, refusal
                assert shell("ss -Hlnt | grep ':9[0-4]'").stdout == ""
                back_to(before, "files", files)
                assert ask("ext", (HOST, 8080))
                client = udp_socket("ext")
                client.sendto(b"x", (HOST, 8080)); assert client.recv(1) == b"x"
                assert shell(f"prlimit --pid {pid} --nofile=20000:20000").returncode == 0
            for said in publish, "un" + publish:
                assert shell(f"{os.environ['PONTOON']} {said}").returncode == 0
            back_to(before, "files", files)
        "#);
    }

    /// PUB-13: by the gateway's address too, as behind docker0.
    fn pub_13_hairpin_by_the_gateways_address {
        lab.reattach("c2", 3, "-p 8080:80 -p 8080:80/udp");
        lab.outward(r#"
            tcp_server("c2", ("", 80)); udp_echo("c2", ("", 80))
            for ns in "c1", "c2":
                assert ask(ns, (GATEWAY_IP, 8080))
                client = udp_socket(ns)
                client.sendto(b"x", (GATEWAY_IP, 8080))
                assert client.recvfrom(10) == (b"x", (GATEWAY_IP, 8080))
        "#);
    }

    /// L4-11: when files run out, new connections are refused at once, each of them.
    fn l4_11_without_files_each_connection_is_refused_at_once {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 7000))
            limit = settled_files() + 20
            assert shell(f"prlimit --pid {engine()} --nofile={limit}:20000").returncode == 0
            times = []
            for n in range(60):
                s = tcp_socket("c1"); kept.append(s)
                error, took = timed(lambda: s.connect_ex((SERVER, 7000)))
                assert error in (0, errno.ECONNREFUSED), (n, error)
                times.append(took)
            # A segment that is sent again is sent after a second.
            assert sum(took >= 1 for took in times) < 5, times
        "#);
    }

    /// A container that gives its connection up before the far end has answered leaves nothing behind.
    fn a_connect_that_is_given_up_is_forgotten {
        lab.run("ext", "nft add table ip hole && nft add chain ip hole in \
            \"{ type filter hook input priority 0; }\" && nft add rule ip hole in ip daddr 198.51.100.11 drop");
        lab.outward(r#"
            before = settled_files()
            wire = Port("c1")
            for port in range(20000, 20050):
                wire.send(outward(wire, SERVER2) / TCP(sport=port, dport=80, flags="S", seq=1))
            until(lambda: files() == before + 50, "fifty sockets")
            for port in range(20000, 20050):
                wire.send(outward(wire, SERVER2) / TCP(sport=port, dport=80, flags="R", seq=2))
            back_to(before, "files", files, patience=15)
        "#);
    }

    /// L4-19: a guest that wants its segments tiny gets none below what Linux allows (`tcp_min_snd_mss`);
    /// one that sends a byte at a time, or nothing but selective acknowledgements, is served like any
    /// other and disturbs nobody.
    fn l4_19_tiny_segments_and_sack_storms_hurt_nobody {
        lab.mute("c2");
        lab.outward(r#"
            listener, quiet = listen("ext", (SERVER, 80)), listen("ext", (SERVER, 81))
            bystander = pair("c1", quiet)
            wire = Port("c2")
            def say(port, flags, seq, ack=0, data=b"", options=()):
                wire.send(outward(wire, SERVER) / TCP(sport=port, dport=80, flags=flags, seq=seq, ack=ack,
                    window=65535, options=list(options)) / data)
            def connected(port, mss):
                say(port, "S", 1, options=[("MSS", mss), ("SAckOK", b"")])
                [answer] = wire.hear(lambda p: TCP in p and p[TCP].dport == port, 1)
                say(port, "A", 2, answer[TCP].seq + 1)
                return listener.accept()[0], answer[TCP].seq + 1
            for n, (mss, least) in enumerate(((0, 48), (1, 48), (2, 48), (48, 48), (536, 536))):
                server, _ = connected(20000 + n, mss)
                server.sendall(bytes(2000))
                first = until(lambda: wire.hear(lambda p: TCP in p and p[TCP].dport == 20000 + n and p[TCP].payload), "bytes")[0]
                assert least <= len(first[TCP].payload) <= 2000, (mss, first.summary())
            server, ack = connected(21000, 1460)
            text = random.randbytes(20000)
            for n in range(len(text)):
                say(21000, "A", 2 + n, ack, text[n:n + 1])
                # Fewer under way than the receive ring holds.
                if n % 100 == 99:
                    assert read(server, 100) == text[n - 99:n + 1]
            for n in range(5000):
                edges = sorted(random.randrange(1 << 32) for _ in range(6))
                say(21000, "A", 2 + len(text), ack, options=[("SAck", tuple(edges))])
                if n % 100 == 99:
                    assert works(*bystander), n
            server.sendall(b"still there")
            assert wire.hear(b"still there")
            assert works(*bystander, bytes(1 << 20)) and works(*pair("c1", quiet))
        "#);
    }

    /// RES-03: a flood of SYNs from spoofed addresses at a published port keeps no client out, costs the
    /// engine nothing, and is over when it ends.
    fn res_03_a_syn_flood_at_a_published_port_keeps_no_client_out {
        lab.reattach("c2", 3, "-p 8080:80");
        lab.outward(r#"
            tcp_server("c2", ("", 80))
            before, grown = settled_files(), memory()
            wire, stop, sent = Port("ext"), threading.Event(), [0]
            head = inward(wire, dst=HOST)
            syns = []
            for n in range(5000):
                head[IP].src = f"203.0.{n % 200 + 1}.{n // 200 + 1}"
                syns.append(bytes(head / TCP(sport=1024 + n, dport=8080, flags="S", seq=n)))
            def flood():
                while not stop.is_set():
                    for n, syn in enumerate(syns):
                        wire.socket.send(syn); sent[0] += 1
                        if n % 100 == 0: time.sleep(0.005)
                        if stop.is_set(): break
            flooding = background(flood)
            until(lambda: sent[0] > 5000, "the flood")
            quick = 0
            for n in range(100):
                try:
                    answer, took = timed(lambda: ask(("ext", "c1")[n % 2], (HOST, 8080)))
                    quick += bool(answer)
                except OSError:
                    pass
                time.sleep(0.03)
            stop.set(); flooding.join()
            print(sent[0], "SYNs", quick, "quick")
            assert sent[0] > 20000 and quick >= 90, (sent, quick)
            assert memory() - grown < 4 << 10, memory() - grown
            assert ask("ext", (HOST, 8080))
            back_to(before, "files", files)
        "#);
    }
}
