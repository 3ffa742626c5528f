//! Who is kept from whom, and what nobody may say of himself, while the kernel carries flows beside it.

use pontoon_tests::e2e::{run_pontoon, sh};

pontoon_tests::laboratory_tests! { |lab|
    /// Frames that say what a carried flow's say, and come by another interface or from another sender, are neither
    /// carried nor delivered. The same frame by its own interface is.
    fn only_who_a_flow_belongs_to_speaks_for_it {
        lab.offload(r#"
            flow = Datagrams("c1", "c2", ("172.18.0.3", 53), 53, 5000)
            until_carried(flow.there)
            c1, c2, c3 = Port("c1"), Port("c2"), Port("c3")
            def frame(mark, **fields):
                fields = {"src": c1.mac, "dst": c2.mac, "ip": c1.ip, "tos": 0, **fields}
                head = Ether(src=fields["src"], dst=fields["dst"]) / IP(src=fields["ip"], dst=c2.ip, tos=fields["tos"])
                return bytes(head / UDP(sport=5000, dport=53) / mark)
            until_carried(flow.there)
            before = settled("carried.frames")
            c2.forget()
            forged = [(c3, {}), (c3, {"src": c3.mac}), (c1, {"src": c3.mac}), (c1, {"ip": c3.ip}), (c1, {"src": "02:00:00:00:00:07"})]
            spoofed = drops("bridge.Spoofed")
            for port, fields in forged:
                port.send(*[frame(b"forged", **fields)] * 200)
            until(lambda: drops("bridge.Spoofed") >= spoofed + 200 * len(forged), f"drops: {pontoon('stats')['drops']}")
            c2.hear(b"forged", 0)
            assert carried() == 1 and settled("carried.frames") == before
            c1.send(*[frame(b"honest")] * 200)
            c2.hear(b"honest", 200)
            until(lambda: counter("carried.frames") == before + 200, "what was honest to be carried")
        "#);
    }

    /// The same of a flow that is translated, whose ports and time to live count too.
    fn only_who_a_translated_flow_belongs_to_speaks_for_it {
        lab.offload(r#"
            command("publish c2 8053:53/udp")
            flow = Datagrams("c1", "c2", ("172.18.0.1", 8053), 53, 5000)
            until_carried(flow.there)
            c1, c2, c3 = Port("c1"), Port("c2"), Port("c3")
            def frame(mark, **fields):
                fields = {"src": c1.mac, "ip": c1.ip, "sport": 5000, "dport": 8053, "ttl": 64, **fields}
                head = Ether(src=fields["src"], dst=GATEWAY)
                head /= IP(src=fields["ip"], dst="172.18.0.1", ttl=fields["ttl"], flags="DF")
                return bytes(head / UDP(sport=fields["sport"], dport=fields["dport"]) / mark)
            before = settled("carried.frames")
            c2.forget()
            for port, fields in [(c3, {}), (c3, {"src": c3.mac}), (c1, {"ip": c3.ip}), (c1, {"src": c3.mac}), (c1, {"dport": 8054})]:
                port.send(*[frame(b"forged", **fields)] * 200)
            c1.send(*[frame(b"other time", ttl=63)] * 20)
            c2.hear(b"other time", 20)
            c2.hear(b"forged", 0)
            assert settled("carried.frames") == before
            # The laboratory's own interface is no way in either.
            outside = Port("ext")
            outside.send(*[frame(b"outside", src=outside.mac)] * 200)
            c2.hear(b"outside", 0)
            until_carried(flow.there)
            before = settled("carried.frames")
            c2.forget()
            c1.send(*[frame(b"honest")] * 200)
            heard = c2.hear(b"honest", 200)
            assert all(sums_are_right(p) and p[IP].ttl == 63 and p[IP].src == "172.18.0.1" for p in heard)
            assert all((p.src, p.dst) == (GATEWAY, c2.mac) for p in heard)
            until(lambda: counter("carried.frames") == before + 200, "what was honest to be carried")
        "#);
    }

    /// Containers that are kept from each other have nothing carried between them, however much they say.
    fn nothing_is_carried_where_nothing_may_go {
        for (network, subnet, options) in [
            ("other", "172.19.0.0/24", ""),
            ("apart", "172.20.0.0/24", "-o com.docker.network.bridge.enable_icc=false"),
            ("inner", "172.21.0.0/24", "--internal"),
        ] {
            run_pontoon(&format!("network create {network} --subnet {subnet} --uplink dev:up0 {options}"));
            for host in [2, 3] {
                let ns = format!("{network}{host}");
                sh(&format!("ip netns add {ns} && ip -n {ns} link set lo up"));
                let ip = subnet.replace("0/24", &host.to_string());
                run_pontoon(&format!("attach --netns /run/netns/{ns} --name {ns} --network {network} --ip {ip}"));
            }
        }
        lab.isolation(r#"
            c1, c2 = place("c1", "172.18.0.2"), place("c2", "172.18.0.3")
            other, apart = place("other2", "172.19.0.2"), [place(f"apart{n}", f"172.20.0.{n}") for n in (2, 3)]
            inner = [place(f"inner{n}", f"172.21.0.{n}") for n in (2, 3)]
            def load(a, b, to=None):
                head = Ether(src=a.mac, dst=to or b.mac) / IP(src=a.ip, dst=b.ip, flags="DF")
                a.send(*[bytes(head / UDP(sport=1000, dport=2000) / b"load")] * 300)
            for a, b in (c1, other), (other, c1), (apart[0], apart[1]), (c1, apart[0]), (c1, inner[0]), (inner[0], c1):
                for to in b.mac, a.gateway:
                    b.forget()
                    load(a, b, to)
                    b.hear(b"load", 0)
                    assert counter("carried.flows") == 0, (a.ip, b.ip, to)
            # The twins: within one network they are carried.
            for a, b in (c1, c2), (inner[0], inner[1]):
                while counter("carried.flows") == 0:
                    load(a, b)
                [p.forget() for p in (other, c1, c2, *apart, *inner)]
                load(a, b)
                assert len(b.hear(b"load")) == 300
                [p.hear(b"load", 0) for p in (other, c1, c2, *apart, *inner) if p not in (a, b)]
                subprocess.check_call(f"{os.environ['PONTOON']} publish c2 9999:99", shell=True)
                subprocess.check_call(f"{os.environ['PONTOON']} unpublish c2 9999:99", shell=True)
                assert counter("carried.flows") == 0
        "#);
    }

    /// A container whose interface goes and comes ends what was carried by it, and nothing of others'.
    fn whose_link_goes_has_only_what_is_his_left {
        lab.offload(r#"
            others = Datagrams("c1", "c2", ("172.18.0.3", 53), 53, 5000)
            own = Datagrams("c3", "c2", ("172.18.0.3", 54), 54, 5000)
            both = lambda: (others.there(), own.there()) and None
            flushed, began = counter("carried.flushed"), counter("carried.installed")
            for turn in range(1, 9):
                until_carried(both, 2)
                ip("-n c3 link set eth0 down")
                until(lambda: others.there() or carried() == 1, "its own flow to be left")
                ip("-n c3 link set eth0 up")
                assert counter("carried.installed") == began + 1 + turn, "nothing of others' began anew"
            assert counter("carried.flushed") == flushed
            others.works()
        "#);
    }

    /// A container that is guarded from now on cannot go on with what was carried for it without.
    fn a_guard_ends_what_was_carried_without_it {
        lab.reattach("c1", 2, "--no-guard");
        lab.offload(r#"
            c1, c2 = Port("c1"), Port("c2")
            def load(port, mark):
                head = Ether(src=port.mac, dst=c2.mac) / IP(src="172.18.0.77", dst=c2.ip)
                port.send(*[bytes(head / UDP(sport=1000, dport=2000) / mark)] * 300)
            until_carried(lambda: load(c1, b"load"))
            command("detach c1")
            command("attach --netns /run/netns/c1 --name c1 --network net --ip 172.18.0.2")
            c1 = Port("c1")
            c2.forget()
            load(c1, b"late")
            c2.hear(b"late", 0)
            assert carried() == 0 and drops("bridge.Spoofed") >= 300
        "#);
    }
}
