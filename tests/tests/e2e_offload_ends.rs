//! Carried flows that somebody puts an end to: nothing arrives once the command has answered.

use pontoon_tests::e2e::run_pontoon;

pontoon_tests::laboratory_tests! { |lab|
    /// A port that is taken back, and one whose container goes, lead nowhere once that was answered, whoever has
    /// the container's address then.
    fn what_is_published_ends_at_once {
        lab.offload(r#"
            ip("netns add n1")
            def ends(end, ns):
                flow = Datagrams("c1", ns, ("172.18.0.1", 8053), 53)
                until_carried(flow.and_back, 2)
                [entry] = flows(":8053")
                assert entry["offload"], entry
                ends_at_once(end, lambda: flow.client.send(b"late"), ns, b"late")
                assert flows(":8053") == [] and carried() == 0
                return flow
            def nothing_for_an_heir(flow, host):
                attach("n1", host)
                heir = Port("n1")
                flow.there()
                heir.hear(b"load", 0)
                command("detach n1")
            command("publish c2 8053:53/udp")
            ends("unpublish c2 8053:53/udp", "c2")
            command("publish c2 8053:53/udp")
            nothing_for_an_heir(ends("detach c2", "c2"), 3)
            attach("c2", 3)
            for end in "network disconnect net j1", "rm -f j1", "stop -t 0 j1":
                container("j1", "--network net --ip 172.18.0.9 -p 8053:53/udp")
                nothing_for_an_heir(ends(end, "j1"), 9)
                gone("j1")
        "#);
    }

    /// Answers of a container go nowhere once who has asked is gone.
    fn answers_end_with_who_has_asked {
        lab.offload(r#"
            command("publish c2 8053:53/udp")
            flow = Datagrams("c1", "c2", ("172.18.0.1", 8053), 53, 5000)
            until_carried(flow.and_back, 2)
            ends_at_once("detach c1", lambda: flow.back(b"late"), "c1", b"late")
            assert carried() == 0
            attach("c1", 2)
        "#);
    }

    /// What goes from container to container by the bridge ends with either of them.
    fn bridged_flows_end_with_their_containers {
        lab.offload(r#"
            def ends(end, a, b, who):
                flow = Datagrams(a, b, ({"c2": "172.18.0.3", "j1": "172.18.0.9"}[b], 53), 53)
                until_carried(flow.and_back, 2)
                send = (lambda: flow.back(b"late")) if who == a else (lambda: flow.client.send(b"late"))
                ends_at_once(end, send, who, b"late")
                assert carried() == 0
                flow.close()
            ends("detach c2", "c1", "c2", "c2")
            attach("c2", 3)
            ends("detach c1", "c1", "c2", "c1")
            attach("c1", 2)
            for end in "network disconnect net j1", "rm -f j1":
                container("j1", "--network net --ip 172.18.0.9")
                ends(end, "c1", "j1", "j1")
                gone("j1")
        "#);
    }

    /// A network that goes takes everything with it; a port of another network's container ends with its place there.
    fn flows_between_networks_end_with_either {
        run_pontoon("network create other --subnet 172.19.0.0/24 --uplink dev:up0");
        lab.offload(r#"
            for end in "unpublish j1 9053:53/udp", "network disconnect other j1", "rm -f j1":
                container("j1", "--network other -p 9053:53/udp")
                flow = Datagrams("c1", "j1", ("172.18.0.1", 9053), 53)
                until_carried(flow.and_back, 2)
                ends_at_once(end, lambda: flow.client.send(b"late"), "j1", b"late")
                assert carried() == 0 and flows(":9053") == []
                flow.close()
                gone("j1")
            command("network rm other")
        "#);
    }

    /// Who joins another network, and leaves it, is reached there meanwhile and no longer.
    fn who_leaves_a_network_is_not_reached_there {
        run_pontoon("network create other --subnet 172.19.0.0/24 --uplink dev:up0");
        lab.offload(r#"
            container("j1", "--network other --ip 172.19.0.9")
            for _ in range(3):
                command("network connect --ip 172.18.0.9 net j1")
                flow = Datagrams("c1", "j1", ("172.18.0.9", 53), 53)
                until_carried(flow.and_back, 2)
                witness = Witness("j1", b"load", "eth0")
                command("network disconnect net j1")
                flow.there()
                witness.end()
                assert witness.count == 0 and carried() == 0
                flow.close()
            gone("j1")
            command("network rm other")
        "#);
    }

    /// The port of one container leads to another one as soon as that was published.
    fn what_another_one_publishes_is_its_own_at_once {
        lab.offload(r#"
            for a, b in ("c2", "c3"), ("c3", "c2"), ("c2", "c3"):
                command(f"publish {a} 8053:53/udp")
                flow = Datagrams("c1", a, ("172.18.0.1", 8053), 53, 5000)
                until_carried(flow.and_back, 2)
                command(f"unpublish {a} 8053:53/udp")
                command(f"publish {b} 8053:53/udp")
                before = Port(a)
                other = Datagrams("c1", b, ("172.18.0.1", 8053), 53, 5000)
                for _ in range(300):
                    other.client.send(b"new")
                other.works()
                before.hear(b"new", 0)
                command(f"unpublish {b} 8053:53/udp")
                flow.close(), other.close()
        "#);
    }

    /// A change of something else does not disturb: what is carried goes on, and is carried again.
    fn changes_elsewhere_disturb_nobody {
        lab.offload(r#"
            stream = Stream("c1", "c2", "172.18.0.3", 7000)
            fast = Connected("c1", "c2", ("172.18.0.3", 7001), 7001)
            until_carried(fast.there)
            for round in range(3):
                left = counter("carried.flushed")
                command("publish c3 8053:53/udp")
                command("unpublish c3 8053:53/udp")
                assert counter("carried.flushed") > left
                fast.and_back()
                until_carried(fast.there)
                stream.goes_on()
            stream.finish()
        "#);
    }
}
