//! Connections that pause, end and are reset while the kernel carries them.

use pontoon_tests::e2e::run_pontoon;

pontoon_tests::laboratory_tests! { |lab|
    /// A connection that has been silent for long is left to the engine, and carried again when it speaks again.
    fn silent_flows_are_left_and_taken_up_again {
        run_pontoon("publish c2 8080:80/tcp");
        lab.offload(r#"
            pairs = [Connected("c1", "c2", to, port) for to, port in ((("172.18.0.3", 7000), 7000), (("172.18.0.1", 8080), 80))]
            for _ in range(2):
                for pair in pairs:
                    # The bridge's flow is there already when the second one is carried.
                    until_carried(pair.and_back, 2)
                until(lambda: carried() == 0, "silent flows to be left")
                [entry] = flows(":8080")
                assert entry["state"] == "ESTABLISHED" and not entry["offload"], entry
            [pair.and_back() for pair in pairs]
        "#);
    }

    /// A reset by either side is there at once, and the connection is over for the engine too.
    fn a_reset_by_either_side_ends_a_carried_connection {
        run_pontoon("publish c2 8080:80/tcp");
        lab.offload(r#"
            for to, port in (("172.18.0.3", 7000), 7000), (("172.18.0.1", 8080), 80):
                for who in "client", "server":
                    pair = Connected("c1", "c2", to, port)
                    until_carried(pair.and_back, 2)
                    other = pair.server if who == "client" else pair.client
                    start = time.monotonic()
                    pair.reset_by(getattr(pair, who))
                    try:
                        raise SystemExit(f"{to} {who}: {other.recv(1)}")
                    except ConnectionResetError:
                        print(f"{to} {who}: {time.monotonic() - start:.4f} s")
                    if port == 80:
                        until(lambda: not [f for f in flows(":8080") if f["assured"] or f["offload"]], "its end")
        "#);
    }

    /// One side has finished, the other one goes on for long: everything arrives, and so does its end.
    fn the_other_direction_goes_on_after_an_end {
        run_pontoon("publish c2 8080:80/tcp");
        lab.offload(r#"
            for to, port in (("172.18.0.3", 7000), 7000), (("172.18.0.1", 8080), 80):
                for first in "client", "server":
                    pair = Connected("c1", "c2", to, port)
                    until_carried(pair.and_back, 2)
                    one, other = (pair.client, pair.server) if first == "client" else (pair.server, pair.client)
                    one.shutdown(socket.SHUT_WR)
                    assert other.recv(1) == b""
                    for _ in range(3):
                        move(other, one)
                    other.shutdown(socket.SHUT_WR)
                    assert one.recv(1) == b""
                    if port == 80:
                        states = lambda: {f["state"] for f in flows(":8080")}
                        until(lambda: states() == {"TIME_WAIT"}, f"the engine to know: {states()}")
                    one.close(), other.close()
        "#);
    }

    /// Resets and ends of somebody else's making change nothing, whether the engine hears them or not.
    fn forged_resets_do_nothing {
        run_pontoon("publish c2 8080:80/tcp");
        lab.offload(r#"
            c1, c2, c3 = Port("c1"), Port("c2"), Port("c3")
            for to, port in (("172.18.0.3", 7000), 7000), (("172.18.0.1", 8080), 80):
                pair = Connected("c1", "c2", to, port)
                until_carried(pair.and_back, 2)
                sport = pair.client.getsockname()[1]
                mac = c2.mac if port == 7000 else GATEWAY
                def forged(src, flags, seq):
                    head = Ether(src=src, dst=mac) / IP(src=c1.ip, dst=to[0], flags="DF")
                    return bytes(head / TCP(sport=sport, dport=to[1], flags=flags, seq=seq, ack=seq))
                c2.forget()
                # Of a third container, in its own name and in another's; and with numbers that are far away.
                for flags in "R", "RA", "FA", "S":
                    numbers = [random.getrandbits(32) for _ in range(20)]
                    c3.send(*[forged(c1.mac, flags, n) for n in numbers], *[forged(c3.mac, flags, n) for n in numbers])
                assert not c2.hear(lambda p: TCP in p and p[TCP].flags & 5)
                until_carried(pair.and_back, 2)
                # What looks like its own may arrive, and the receiver judges it.
                c1.send(*[forged(c1.mac, "R", random.getrandbits(32)) for _ in range(20)])
                until_carried(pair.and_back, 2)
                if port == 80:
                    until(lambda: [f["state"] for f in flows(":8080")] == ["ESTABLISHED"], "the connection to be known")
                pair.client.close()
                assert pair.server.recv(1) == b""
                pair.server.close()
        "#);
    }
}
