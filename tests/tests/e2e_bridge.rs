//! End to end: the bridge and address resolution, frame by frame. Tests are named after the checks
//! they show.

use pontoon_tests::e2e::{run_pontoon, sh};

pontoon_tests::laboratory_tests! { |lab|
    /// An unknown destination is flooded, once to each other port, until it has sent something.
    fn l2_01_unknown_unicast_is_flooded_until_it_speaks {
        lab.reattach("c2", 3, "--no-guard");
        lab.wire(r#"
            c1, c2, c3 = Port("c1"), Port("c2"), Port("c3")
            M = "de:ad:be:ef:13:37"
            def to_unknown(mark):
                c1.send(*[Ether(src=c1.mac, dst=M, type=0x88b5) / (mark + b" %d" % i) for i in range(10)])
                return [len(port.hear(mark)) for port in (c1, c2, c3)]
            assert to_unknown(b"before") == [0, 10, 10]
            c2.send(Ether(src=M, dst=c1.mac, type=0x88b5) / b"speaks")
            c1.hear(b"speaks", 1)
            assert to_unknown(b"after") == [0, 10, 0]
        "#);
    }

    /// A learned address moves with its next frame, and is counted; a bound one never does.
    fn l2_03_a_learned_address_moves_and_a_bound_one_does_not {
        lab.reattach("c1", 2, "--no-guard");
        lab.reattach("c2", 3, "--no-guard");
        lab.wire(r#"
            c1, c2, c3 = Port("c1"), Port("c2"), Port("c3")
            M = "02:de:ad:be:ef:01"
            def reaches(mac, mark):
                c3.send(Ether(src=c3.mac, dst=mac, type=0x88b5) / mark)
                return [len(port.hear(mark)) for port in (c1, c2)]
            def speak(port, mac, mark):
                port.send(Ether(src=mac, dst=c3.mac, type=0x88b5) / mark)
            speak(c1, M, b"one"); c3.hear(b"one", 1)
            assert reaches(M, b"to one") == [1, 0]
            moves = counter("fdb.moves")
            speak(c2, M, b"two"); c3.hear(b"two", 1)
            assert reaches(M, b"to two") == [0, 1]
            assert counter("fdb.moves") == moves + 1

            speak(c2, c1.mac, b"thief")
            c3.hear(b"thief", 0)
            assert drops("bridge.BoundElsewhere") == 1
            assert reaches(c1.mac, b"to bound") == [1, 0]
            assert counter("fdb.moves") == moves + 1
        "#);
    }

    /// Sources that no station has are dropped and not learned.
    fn l2_04_impossible_sources_are_dropped_and_not_learned {
        lab.reattach("c1", 2, "--no-guard");
        lab.wire(r#"
            c1, c2, c3 = Port("c1"), Port("c2"), Port("c3")
            learned = len(pontoon("fdb"))
            for n, mac in enumerate(["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb", "00:00:00:00:00:00"]):
                c1.send(Ether(src=mac, dst=c2.mac, type=0x88b5) / b"impossible")
                c2.hear(b"impossible", 0)
                mark = b"towards %d" % n
                c3.send(Ether(src=c3.mac, dst=mac, type=0x88b5) / mark)
                c1.hear(mark, 1), c2.hear(mark, 1)
            assert drops("bridge.InvalidSource") == 3
            assert len(pontoon("fdb")) == learned
        "#);
    }

    /// Broadcast and multicast reach each other port exactly once, and never the sender.
    fn l2_06_group_frames_reach_each_other_port_once {
        lab.wire(r#"
            c1, c2, c3 = Port("c1"), Port("c2"), Port("c3")
            for mac in ["ff:ff:ff:ff:ff:ff", "33:33:00:00:00:fb", "01:00:5e:00:00:fb"]:
                for i in range(100):
                    c1.send(Ether(src=c1.mac, dst=mac, type=0x88b5) / (b"%s %02d." % (mac.encode(), i)))
                for port, copies in (c1, 0), (c2, 1), (c3, 1):
                    got = sorted(bytes(p)[14:35] for p in port.hear(mac.encode()))
                    want = sorted(b"%s %02d." % (mac.encode(), i) for i in range(100)) * copies
                    assert [g[:len(w)] for g, w in zip(got, want)] == want and len(got) == len(want), (mac, copies, len(got))
        "#);
    }

    /// A frame to an address behind the port it came from is not sent back.
    fn l2_07_nothing_is_reflected {
        lab.reattach("c1", 2, "--no-guard");
        lab.wire(r#"
            c1, c2, c3 = Port("c1"), Port("c2"), Port("c3")
            M = "02:de:ad:be:ef:02"
            c1.send(Ether(src=M, dst=c2.mac, type=0x88b5) / b"learn"); c2.hear(b"learn", 1)
            for mac in M, c1.mac:
                c1.send(Ether(src=c1.mac, dst=mac, type=0x88b5) / b"to itself")
                for port in c1, c2, c3:
                    port.hear(b"to itself", 0)
            assert drops("bridge.SamePort") == 2
        "#);
    }

    /// Frames of every length up to the MTU arrive bit-exact; a longer one is dropped and counted.
    fn l2_08_every_length_arrives_bit_exact_and_longer_ones_not_at_all {
        run_pontoon("network create jumbo --subnet 172.19.0.0/24 --mtu 9000");
        for (ns, host) in [("j1", 2), ("j2", 3)] {
            sh(&format!("ip netns add {ns}"));
            run_pontoon(&format!(
                "attach --netns /run/netns/{ns} --name {ns} --network jumbo --ip 172.19.0.{host}"));
        }
        // The sender's own limit is its own affair.
        sh("ip -n c1 link set eth0 mtu 1600 && ip -n j1 link set eth0 mtu 9100");
        lab.wire(r#"
            def exact(a, b, mtu, lengths):
                head = bytes(Ether(src=a.mac, dst=b.mac, type=0x88b5))
                data = os.urandom(mtu + 18)
                frame = lambda n: head + struct.pack("!H", n) + data[:n - 16]
                for start in range(0, len(lengths), 8):
                    batch = lengths[start:start + 8]
                    a.send(*[frame(n) for n in batch])
                    got = []
                    while len(got) < len(batch):
                        assert select.select([b.socket], [], [], PATIENCE)[0], f"lost one of {batch}"
                        got += [f for f in [b.socket.recv(1 << 16)] if f[12:14] == b"\x88\xb5"]
                    assert got == [frame(n) for n in batch], batch
                before = drops("route.TooLong")
                a.send(*[frame(n) for n in range(mtu + 15, mtu + 19)])
                b.hear(head, 0)
                assert drops("route.TooLong") == before + 4
            exact(Port("c1"), Port("c2"), 1500, list(range(60, 1515)))
            exact(Port("j1"), Port("j2"), 9000, list(range(60, 9014, 7)) + list(range(8900, 9015)))
        "#);
    }

    /// One hardware address on two networks at once: no cross-talk, no moves.
    fn l2_14_one_address_on_two_networks {
        run_pontoon("network create other --subnet 172.19.0.0/24");
        for (ns, host) in [("b1", 2), ("b2", 3)] {
            sh(&format!("ip netns add {ns} && ip -n {ns} link set lo up"));
            run_pontoon(&format!(
                "attach --netns /run/netns/{ns} --name {ns} --network other --ip 172.19.0.{host} \
                 --mac-address 02:42:ac:12:00:0{host}"));
        }
        lab.wire(r#"
            ports = {ns: Port(ns) for ns in ("c1", "c2", "c3", "b1", "b2")}
            assert ports["c1"].mac == ports["b1"].mac and ports["c2"].mac == ports["b2"].mac
            for i in range(100):
                for a, b in ("c1", "c2"), ("b1", "b2"):
                    head = Ether(src=ports[a].mac, dst=ports[b].mac, type=0x88b5)
                    ports[a].send(head / (b"from %s" % a.encode()))
                    ports[b].send(Ether(src=ports[b].mac, dst=ports[a].mac, type=0x88b5) / (b"back %s" % b.encode()))
            for a, b, other in ("c1", "c2", "b"), ("b1", "b2", "c"):
                ports[b].hear(b"from %s" % a.encode(), 100)
                ports[a].hear(b"back %s" % b.encode(), 100)
                for port in ports[a], ports[b]:
                    port.hear(b"from %s" % other.encode(), 0)
                    port.hear(b"back %s" % other.encode(), 0)
            assert counter("fdb.moves") == 0
        "#);
        lab.run("b1", "ping -c1 -W2 172.19.0.3");
    }

    /// A flood of addresses evicts nobody: an address is flooded to before it has spoken, and not
    /// after, however full the table is.
    fn a_mac_flood_leaks_nobodys_unicast {
        lab.reattach("c2", 3, "--no-guard");
        lab.reattach("c3", 4, "--no-guard");
        lab.wire(r#"
            c1, c2, c3 = Port("c1"), Port("c2"), Port("c3")
            M = "02:de:ad:be:ef:03"
            def reaches(mark):
                c1.send(Ether(src=c1.mac, dst=M, type=0x88b5) / mark)
                return [len(port.hear(mark)) for port in (c2, c3)]
            assert reaches(b"unknown") == [1, 1], "the twin: what is unknown is flooded"
            c3.send(Ether(src=M, dst=c1.mac, type=0x88b5) / b"speaks"); c1.hear(b"speaks", 1)
            for i in range(6000):
                if i % 100 == 0:
                    time.sleep(0.005)
                c2.send(bytes.fromhex(GATEWAY.replace(":", "")) + struct.pack("!HI", 0x0200, i) + b"\x88\xb5" + bytes(46))
            c2.send(Ether(src="02:00:ff:ff:ff:ff", dst=c1.mac, type=0x88b5) / b"flooded")
            c1.hear(b"flooded", 1)
            reached = reaches(b"known")
            assert reached == [0, 1], reached
            learned = counter("fdb.learned")
            assert learned == 1024 + 1, learned
        "#);
    }

    /// The first packet to an unresolved neighbour waits; a burst loses at most what exceeds the
    /// queue of eight.
    fn arp_03_the_first_packets_wait_for_resolution {
        lab.reattach("c1", 2, "-p 7:7/udp");
        sh("ip -n ext addr add 192.0.2.200/24 dev eth0 && ip -n ext addr add 192.0.2.201/24 dev eth0");
        lab.run("c1", "ping -c1 -W2 192.0.2.200");
        lab.wire(r#"
            assert "192.0.2.201" not in [n["address"] for n in pontoon("arp")]
            c1, ext = Port("c1"), Port("ext")
            c1.send(*[outward(c1, "192.0.2.201") / UDP(sport=9, dport=9) / (b"burst %02d" % i) for i in range(20)])
            heard = [bytes(p[UDP].payload) for p in ext.hear(b"burst")]
            assert len(heard) >= 8 and heard == sorted(set(heard)), heard
            assert drops("route.NeighbourQueueFull") == 20 - len(heard)
            ext.send(inward(ext) / UDP(sport=1, dport=7) / b"inward")
            c1.hear(b"inward", 1)
        "#);
    }

    /// What is said in another VLAN is not for here, although the kernel takes the tag out before it is heard: neither
    /// whose address it is, nor a datagram.
    fn arp_06_what_has_a_tag_outside_is_not_heard {
        lab.reattach("c1", 2, "-p 7:7/udp");
        lab.run("c1", "ping -c1 -W10 192.0.2.254");
        lab.wire(r#"
            c1, ext = Port("c1"), Port("ext")
            told = lambda: [n["mac"] for n in pontoon("arp") if n["address"] == "192.0.2.254"]
            def claim(mac, tags):
                head = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")
                for vlan in tags:
                    head /= Dot1Q(vlan=vlan)
                ext.send(head / ARP(op=2, hwsrc=mac, psrc="192.0.2.254", hwdst=mac, pdst="192.0.2.254"))
            def datagram(mark, tags):
                whole = inward(ext) / UDP(sport=1, dport=7) / mark
                head = Ether(src=whole.src, dst=whole.dst)
                for vlan in tags:
                    head /= Dot1Q(vlan=vlan)
                ext.send(head / whole.payload)
            stranger = "02:00:00:00:00:99"
            for tags in [42], [42, 7]:
                claim(stranger, tags), datagram(b"tagged", tags)
            datagram(b"plain", [])
            c1.hear(b"plain", 1), c1.hear(b"tagged", 0)
            assert told() == [ext.mac], told()
            # Without a tag it is believed.
            for mac in stranger, ext.mac:
                claim(mac, [])
                end = time.monotonic() + PATIENCE
                while told() != [mac]:
                    assert time.monotonic() < end, told()
                    time.sleep(0.02)
        "#);
    }

    /// ARP that cannot be is not answered and changes nothing.
    fn arp_06_malformed_arp_is_ignored {
        lab.reattach("c1", 2, "--no-guard");
        lab.run("c1", "ping -c1 -W2 192.0.2.254");
        lab.wire(r#"
            def requests(port, me, to):
                good = dict(op=1, hwsrc=port.mac, psrc=me, hwdst="00:00:00:00:00:00", pdst=to)
                make = lambda src=port.mac, **f: bytes(Ether(src=src, dst="ff:ff:ff:ff:ff:ff") / ARP(**{**good, **f}))
                whole = make()
                bad = [whole[:n] for n in range(14, 42)]
                bad += [make(hwlen=n) for n in (0, 5, 7, 255)] + [make(plen=n) for n in (0, 3, 5, 16, 255)]
                bad += [make(hwtype=n) for n in (0, 2, 6, 65535)] + [make(ptype=n) for n in (0, 0x86dd)]
                bad += [make(op=n) for n in (0, 3, 65535)]
                bad += [make(hwsrc=m) for m in ("ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00")]
                bad += [make(hwsrc=m, op=2, psrc=to) for m in ("ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01")]
                return bad, whole
            c1, ext = Port("c1"), Port("ext")
            table = lambda: [(n["address"], n["mac"]) for n in pontoon("arp")]
            before, answered = table(), counter("arp.answered")
            is_reply = lambda p: ARP in p and p[ARP].op == 2 and p[ARP].psrc in ("172.18.0.1", "192.0.2.1")
            for port, me, to in (c1, "172.18.0.2", "172.18.0.1"), (ext, "192.0.2.254", "192.0.2.1"):
                bad, good = requests(port, me, to)
                port.send(*bad)
                if port is c1:
                    port.hear(is_reply, 0)
                assert table() == before, table()
            assert counter("arp.answered") == answered
            c1.send(requests(c1, "172.18.0.2", "172.18.0.1")[1])
            [reply] = c1.hear(is_reply, 1)
            assert reply[ARP].hwsrc == GATEWAY and reply.dst == c1.mac
        "#);
    }

    /// A forged reply does not move what was bound at attach; what nobody has bound, a reply resolves.
    fn arp_08_a_bound_neighbour_cannot_be_stolen {
        lab.reattach("c1", 2, "-p 7:7/udp");
        lab.reattach("c2", 3, "--no-guard");
        lab.wire(r#"
            c1, c2, ext = Port("c1"), Port("c2"), Port("ext")
            def claim(address):
                for dst in GATEWAY, "ff:ff:ff:ff:ff:ff":
                    c2.send(Ether(src=c2.mac, dst=dst) / ARP(op=2, hwsrc=c2.mac, psrc=address, hwdst=GATEWAY, pdst="172.18.0.1"))
            claim("172.18.0.2")
            ext.send(inward(ext) / UDP(sport=1, dport=7) / b"for c1")
            c1.hear(b"for c1", 1), c2.hear(b"for c1", 0)
            [bound] = [n for n in pontoon("arp") if n["address"] == "172.18.0.2"]
            assert (bound["mac"], bound["state"]) == (c1.mac, "PERMANENT"), bound

            c1.send(outward(c1, "172.18.0.50") / UDP(sport=2, dport=2) / b"for whom")
            c2.hear(lambda p: ARP in p and p[ARP].pdst == "172.18.0.50")
            claim("172.18.0.50")
            c2.hear(b"for whom", 1)
        "#);
    }

    /// ARP-06: operations other than request and reply change nothing; nor does a reply nobody asked for.
    fn arp_06_unknown_operations_and_unsolicited_replies_are_not_learned {
        lab.wire(r#"
            ext = Port("ext")
            up = uplink_mac()
            table = lambda: sorted(n["address"] for n in pontoon("arp"))
            before = table()
            wrong = []
            for n, op in enumerate((0, 3, 65535, 2)):
                ext.send(Ether(src=ext.mac, dst=up) / ARP(op=op, hwsrc=ext.mac, psrc=f"192.0.2.{100 + n}", hwdst=up, pdst="192.0.2.1"))
                time.sleep(0.2)
                if f"192.0.2.{100 + n}" in table():
                    wrong.append(op)
            assert not wrong, wrong
        "#);
    }
}
