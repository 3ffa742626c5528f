//! End to end: containers that mean harm, on a network with the user uplink.

use pontoon_tests::e2e::sh;

pontoon_tests::user_laboratory_tests! { |lab|
    /// L4-20: the host's loopback is closed to containers in every form, by TCP, UDP and ping, and
    /// nothing there ever hears of them. The twin: what listens on the host's own address is reached.
    fn l4_20_the_hosts_loopback_is_closed_in_every_form {
        lab.outward(r#"
            heard, datagrams = tcp_server("", ("127.0.0.1", 80)), udp_echo("", ("127.0.0.1", 80))
            heard_all, all_datagrams = tcp_server("", ("0.0.0.0", 81)), udp_echo("", ("0.0.0.0", 81))
            wire = Port("c1")
            for dst in "127.0.0.1", "127.1.2.3", "127.255.255.254", "0.0.0.0", "0.1.2.3", GATEWAY_IP, "169.254.169.254":
                for port in 80, 81:
                    sport = random.randrange(1024, 65535)
                    wire.send(outward(wire, dst) / TCP(sport=sport, dport=port, flags="S", seq=1))
                    wire.send(outward(wire, dst) / UDP(sport=sport, dport=port) / b"secret")
                if dst != GATEWAY_IP:
                    wire.send(outward(wire, dst) / ICMP(id=7) / b"secret")
            assert wire.hear(lambda p: TCP in p and "S" in str(p[TCP].flags)) == []
            assert wire.hear(lambda p: UDP in p and ICMP not in p) == []
            assert wire.hear(lambda p: ICMP in p and p[ICMP].type == 0) == []
            assert heard == datagrams == heard_all == all_datagrams == []
            # What the container's own kernel makes of it: nothing leaves for it.
            for address in "127.0.0.1", "127.1.2.3", "0.0.0.0", GATEWAY_IP:
                for port in 80, 81:
                    assert failure(lambda: connect("c1", (address, port), timeout=2)) == "ECONNREFUSED", address
            assert ask("c1", (HOST, 81)) and failure(lambda: connect("c1", (HOST, 80))) == "ECONNREFUSED"
            client = udp_socket("c1"); client.sendto(b"x", (HOST, 81)); assert client.recv(10) == b"x"
            assert heard == datagrams == [] and len(heard_all) == len(all_datagrams) == 1
        "#);
    }

    /// L4-18: a flood of SYNs from one container, to a server that lives and to nobody, stops no other
    /// one; the flood's share is bounded, and is given back.
    fn l4_18_a_syn_flood_stops_no_other_container {
        lab.run("ext", "nft add table ip hole && nft add chain ip hole in \
            \"{ type filter hook input priority 0; }\" && nft add rule ip hole in ip daddr 198.51.100.11 drop");
        lab.mute("c2");
        lab.outward(r#"
            listener = listen("ext", (SERVER, 80), 8192)
            before, grown = settled_files(), memory()
            wire, stop = Port("c2"), threading.Event()
            syn = {}
            for dst in SERVER, SERVER2:
                syn[dst] = [bytes(outward(wire, dst) / TCP(sport=p, dport=80, flags="S", seq=p))
                            for p in range(1024, 65024, 13)]
            sent = []
            def flood():
                n = 0
                while not stop.is_set():
                    for dst in SERVER, SERVER2:
                        for frame in syn[dst]:
                            wire.socket.send(frame); n += 1
                            if n % 50 == 0: time.sleep(0.01)
                            if stop.is_set(): break
                sent.append(n)
            flooding = background(flood)
            time.sleep(1)
            times, peak, most = [], 0, 0
            other = listen("ext", (SERVER, 81))
            for _ in range(100):
                try:
                    (client, server), took = timed(lambda: pair("c1", other))
                    assert works(client, server)
                    times.append(took)
                    client.close(); server.close()
                except OSError:
                    pass
                peak, most = max(peak, memory() - grown), max(most, files() - before)
                time.sleep(0.05)
            stop.set(); flooding.join()
            print("sent", sent, "served", len(times), "peak", peak, "most files", most)
            assert sent[0] > 5000, sent
            assert len(times) >= 95 and median(times) < 1, times
            assert peak < 16 << 10, peak
            # 1 024 handshakes a container, and as many that the server has accepted and that the
            # container never confirms.
            assert most <= 2 * 1024 + 50, most
        "#);
    }

    /// L4-08: a guest whose segments defy the rules ends its own connection at worst.
    fn l4_08_segments_that_defy_the_rules_hurt_nobody_else {
        lab.mute("c2");
        lab.outward(r#"
            quiet = listen("ext", (SERVER, 81))
            bystander, far = pair("c1", quiet)
            wire = Port("c2")
            class Guest:
                count = 20000
                def __init__(self, window=65535, options=()):
                    # A port of its own on both sides: an earlier guest's SYN may still open a connection.
                    Guest.count += 1
                    self.port, self.seq = Guest.count, random.choice((1, 0xFFFFFFF0, 0x7FFFFFF0))
                    listener = listen("ext", (SERVER, self.port))
                    answer = self.say("S", window=window, options=list(options), hear=True)
                    self.seq = (self.seq + 1) & 0xFFFFFFFF
                    self.ack, self.window = (answer[TCP].seq + 1) & 0xFFFFFFFF, answer[TCP].window
                    self.say("A", window=window)
                    self.server = listener.accept()[0]
                def say(self, flags, data=b"", seq=0, ack=0, window=65535, options=(), hear=False):
                    wire.send(outward(wire, SERVER) / TCP(sport=self.port, dport=self.port, flags=flags,
                        seq=(self.seq + seq) & 0xFFFFFFFF,
                        ack=((getattr(self, "ack", 0) + ack) & 0xFFFFFFFF) if "A" in flags else 0,
                        window=window, options=list(options)) / data)
                    if hear:
                        return wire.hear(lambda p: TCP in p and p[TCP].dport == self.port, 1)[0]
            def beyond_the_window(g):
                for n in range(0, 3 << 20, 1 << 16):
                    g.say("A", b"x" * 1400, seq=n)
                g.say("A", b"x" * 1400, seq=1 << 30); g.say("A", b"x" * 1400, seq=-(1 << 30))
            def shrinking_window(g):
                def send():
                    try:
                        g.server.sendall(bytes(1 << 20))
                    except OSError:
                        pass
                background(send)
                for w in (0, 65535, 1, 0, 65535, 0) * 5:
                    g.say("A", window=w)
            def wrong_acks(g):
                for a in (1, 1 << 16, 1 << 31, -1, -(1 << 31)):
                    g.say("A", ack=a); g.say("A", b"x", ack=a)
            def wrapped_sack(g):
                for left, right in ((0, 0xFFFFFFFF), (0xFFFFFFFF, 0), (5, 5), (1 << 31, 1)):
                    g.say("A", options=[("SAck", (left, right))])
            def after_the_end(g):
                g.say("FA"); g.seq += 1
                for _ in range(5):
                    g.say("A", b"late"); g.say("FA"); g.say("S"); g.say("SA")
            def odd_flags(g):
                for flags in ("", "FSRPAU", "SF", "SR", "U", "FPU", "SA", "SE", "AUE"):
                    g.say(flags, b"data", hear=False)
            def one_byte(g):
                for n in range(2000):
                    g.say("A", b"y", seq=n * 2)
            def urgent(g):
                for pointer in (0, 1, 65535):
                    wire.send(outward(wire, SERVER) / TCP(sport=g.port, dport=g.port, flags="AU",
                        seq=g.seq, ack=g.ack, urgptr=pointer) / b"urgent")
            def broken_options(g):
                for raw in b"\x02\x00", b"\x02\x01\x01\x01", b"\x05\xff\x00\x00", b"\x08\x02\x01\x01", b"\x03\x03\xff\x00", bytes([1] * 40):
                    head = bytes(TCP(sport=g.port, dport=g.port, flags="A", seq=g.seq, ack=g.ack))
                    head = head[:12] + bytes([(5 + (len(raw) + 3) // 4) << 4]) + head[13:]
                    wire.send(outward(wire, SERVER, proto=6) / Raw(head + raw.ljust((len(raw) + 3) // 4 * 4, b"\0") + b"z"))
            pid = engine()
            for options in ((), [("MSS", 0)], [("MSS", 1)], [("MSS", 48), ("WScale", 255)], [("SAckOK", b""), ("WScale", 14)]):
                for attack in (beyond_the_window, shrinking_window, wrong_acks, wrapped_sack, after_the_end,
                               odd_flags, one_byte, urgent, broken_options):
                    g = Guest(options=options)
                    attack(g)
                    assert works(bystander, far), attack.__name__
                    assert engine() == pid
                    wire.forget()
            # SYNs that are nobody's, and answers to what was never asked.
            for src in "0.0.0.0", "255.255.255.255", "224.0.0.1", SERVER:
                frame = outward(wire, SERVER) / TCP(sport=7, dport=80, flags="S"); frame[IP].src = src
                wire.send(frame)
            wire.send(outward(wire, SERVER) / TCP(sport=8, dport=80, flags="SA", seq=1, ack=77))
            assert works(bystander, far)
            assert works(*pair("c1", quiet)) and works(*pair("c3", quiet))
        "#);
    }

    /// Forty thousand frames of noise at the gateway and through it: nobody else notices, the log
    /// stays short (RES-13), nothing is left.
    fn garbage_at_the_gateway_hurts_nobody_else {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 80), 1024)
            bystander, far = pair("c1", listener)
            before, said = settled_files(), len(log())
            wire = Port("c2")
            mac = bytes.fromhex((wire.mac + GATEWAY).replace(":", ""))
            head = mac[6:] + mac[:6] + b"\x08\x00"
            real = [bytes(outward(wire, dst) / rest_) for dst in (GATEWAY_IP, SERVER) for rest_ in (
                TCP(sport=5, dport=80, flags="S") / b"", UDP(sport=5, dport=80) / b"data", ICMP(id=5) / b"data")]
            for n in range(40000):
                if n % 2:
                    frame = head + random.randbytes(random.randrange(1, 200))
                else:
                    frame = bytearray(random.choice(real))
                    for _ in range(random.randrange(1, 6)):
                        frame[random.randrange(14, len(frame))] = random.randrange(256)
                    frame = bytes(frame[: random.randrange(15, len(frame) + 1)])
                wire.socket.send(frame)
                if n % 500 == 0:
                    assert works(bystander, far)
            # A listener of its own: noise that is by chance a whole SYN opens a connection to the other one.
            unhit = listen("ext", (SERVER2, 7000))
            times = [timed(lambda: works(*pair("c3", unhit)))[1] for _ in range(9)]
            assert median(times) < 1, times
            assert len(log()) - said < 1 << 16, log()[-2000:]
            assert "panicked" not in log()
            # Noise that was by chance a datagram has a flow of its own for its time.
            assert files() < before + 400, files() - before
        "#);
    }

    /// RES-01, RES-02: a container that opens flows without end gets as many as it may, and pays for more
    /// with its own; the connections of another one live on and it makes new ones.
    fn res_01_res_02_a_greedy_container_gets_its_share_and_no_more {
        // The tables keep the size that sixteen thousand flows have given them.
        lab.may_grow(24 << 10);
        lab.run("ext", "nft add table ip hole && nft add chain ip hole in \
            \"{ type filter hook input priority 0; }\" && nft add rule ip hole in ip daddr 198.51.100.11 drop");
        lab.mute("c2");
        lab.outward(r#"
            listener = listen("ext", (SERVER, 80), 1024)
            old = [pair("c1", listener) for _ in range(20)]
            wire, grown = Port("c2"), memory()
            udp = bytearray(bytes(outward(wire, SERVER2) / UDP(sport=1, dport=53, chksum=0) / b"x"))
            def flood():
                for n in range(20000):
                    udp[34:36] = struct.pack("!H", 1024 + n)
                    wire.socket.send(bytes(udp))
                    if n % 100 == 0: time.sleep(0.005)
            def begin():
                for n in range(3000):
                    wire.send(outward(wire, SERVER2) / TCP(sport=1024 + n, dport=80, flags="S", seq=1))
            def is_refused():
                # A busy machine loses some of it.
                counters = [("flows.share_full", 3000, flood), ("flows.half_open_full", 1000, begin)]
                short = [send for name, least, send in counters if counter(name) <= least]
                for send in short: send()
                return not short
            until(is_refused, "what exceeds the share to be refused", 90)
            held = pontoon("flows")
            mine = [f for f in held if ADDRESS["c2"] in " ".join(f["original"])]
            print(len(mine), "flows", memory() - grown, "KiB")
            assert len(mine) <= 16384, len(mine)
            assert len(mine) > 10000, "the flood did not get there"
            assert all(works(*both) for both in old)
            new = [timed(lambda: pair("c1", listener)) for _ in range(20)]
            assert all(works(*both) for both, _ in new) and median([took for _, took in new]) < 1, new
            # Memory for a flow's socket and its quotation, and none for streams that never were.
            assert memory() - grown < 32 << 10, memory() - grown
        "#);
    }

    /// L4-17: initial sequence numbers cannot be guessed from earlier ones. (The host's ports are its
    /// kernel's choice.)
    fn l4_17_sequence_numbers_cannot_be_guessed {
        lab.outward(r#"
            listener = listen("ext", (SERVER, 80), 1024)
            wire = Port("c1")
            for _ in range(300):
                abort(pair("c1", listener)[0])
            numbers = [p[TCP].seq for p in wire.hear(lambda p: TCP in p and p[TCP].flags == "SA", 300)]
            steps = [(b - a) % (1 << 32) for a, b in zip(numbers, numbers[1:])]
            assert len(set(steps)) > 295, "steps repeat"
            assert max(numbers) - min(numbers) > 1 << 30
        "#);
    }

    /// RES-14: the host's link goes down under a steady stream of datagrams: nothing piles up, and
    /// it resumes when the link is back.
    fn res_14_a_link_that_goes_away_piles_nothing_up {
        lab.outward(r#"
            heard = udp_echo("ext", (SERVER, 7000))
            client = udp_socket("c1"); client.setblocking(False)
            grown, used, start = memory(), ticks(), time.monotonic()
            assert shell("ip -n ext link set eth0 down").returncode == 0
            n = 0
            while time.monotonic() < start + 5:
                try:
                    client.sendto(bytes(1000), (SERVER, 7000)); n += 1
                except OSError:
                    pass
                time.sleep(0.001)
            assert n > 500 and memory() - grown < 4 << 10, (n, memory() - grown)
            assert ticks() - used < 100, ticks() - used
            shell("ip -n ext link set eth0 up; ip route replace default via 192.0.2.254")
            def answered():
                try:
                    client.sendto(b"again", (SERVER, 7000)); time.sleep(0.1)
                    # Some of what was sent meanwhile may have waited at the host's neighbour.
                    while client.recv(10) != b"again":
                        pass
                    return True
                except OSError:
                    return False
            until(answered, "an answer")
        "#);
        sh("ping -c1 -W10 192.0.2.254");
    }

    /// RES-15: a container that does not read what it is sent keeps nothing from the others.
    fn res_15_a_container_that_does_not_read_keeps_nothing_from_others {
        lab.reattach("c2", 3, "-p 8080:80 -p 8080:80/udp");
        lab.outward(r#"
            asleep, listener = udp_socket("c2", ("", 80)), listen("c2", ("", 80))
            stuck = [pair("ext", listener, (HOST, 8080)) for _ in range(10)]
            for client, _ in stuck:
                client.setblocking(False)
                while select.select([], [client], [], 0.05)[1]:
                    client.send(bytes(1 << 18))
            sender, stop = udp_socket("ext"), threading.Event()
            def flood():
                while not stop.is_set():
                    for _ in range(20): sender.sendto(bytes(500), (HOST, 8080))
                    time.sleep(0.002)
            flooding = background(flood)
            outside, inside_ = listen("ext", (SERVER, 80)), listen("c3", ("", 80))
            times = []
            for _ in range(50):
                for target in outside, inside_:
                    address = (SERVER, 80) if target is outside else (ADDRESS["c3"], 80)
                    both, took = timed(lambda: pair("c1", target, address))
                    assert works(*both, bytes(10000)), address
                    times.append(took)
            stop.set(); flooding.join()
            assert median(times) < 0.5, times
        "#);
    }
}
