//! Flows that are translated on an interface go on when the engine dies (FLT-01), and what its life under load
//! costs.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use pontoon_tests::e2e::process::{descriptors, engine};
use pontoon_tests::e2e::streams::Streams;
use pontoon_tests::e2e::{environment, run_pontoon, sh, try_sh, wait_for};

/// An engine that has lived for so long is started again at once.
const LONG_ENOUGH: Duration = Duration::from_millis(2_100);
/// No stream may stand still for longer, however busy the machine is. What it takes is measured, not tested.
const LONGEST_GAP: Duration = Duration::from_secs(3);

fn keeper() -> u32 {
    let status = run_pontoon("status --json");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    status["keeper"]["pid"].as_u64().expect("a number") as u32
}

fn kill_engine() {
    let before = engine();
    sh(&format!("kill -9 {before}"));
    wait_for(|| engine() != before, "another engine");
}

fn namespaces_and_descriptors() -> (usize, usize) {
    let namespaces = sh("lsns -t net -n -o NS | sort -u").lines().count();
    (namespaces, descriptors(keeper()))
}

pontoon_tests::laboratory_tests! { |lab|
    /// The one inside has sent nothing since, or the one outside has not; the external port is another than
    /// the one inside; it is TCP or UDP; the container or the outside began.
    fn flt_01_translated_flows_go_on_whoever_speaks_first {
        run_pontoon("publish c2 8080:80/tcp 8053:53/udp");
        lab.wire(r#"
            def outward(source):
                listener = tcp_socket("ext"); listener.bind(("198.51.100.10", 0)); listener.listen()
                client = tcp_socket(source); client.bind(("", 4000))
                client.connect(listener.getsockname())
                server, peer = listener.accept()
                return (client, server), peer
            def inward():
                listener = tcp_socket("c2"); listener.bind(("", 80)); listener.listen()
                client = tcp_socket("ext"); client.connect((EXTERNAL, 8080))
                return listener.accept()[0], client
            def exchange(first, second):
                for a, b in (first, second), (second, first):
                    data = os.urandom(30000)
                    a.sendall(data)
                    got = b""
                    while len(got) < len(data):
                        got += b.recv(1 << 16)
                    assert got == data
            streams = []
            for first in "inside", "outside":
                # Of two who use one port, the second gets another outside.
                (plain, at_plain), (mapped, at_mapped) = outward("c1"), outward("c3")
                assert at_plain[1] == 4000 != at_mapped[1]
                pairs = [plain, mapped, inward()]
                [exchange(*pair) for pair in pairs]
                kill_engine()
                for inner, outer in pairs:
                    exchange(*((inner, outer) if first == "inside" else (outer, inner)))
                for s in sum(pairs, ()):
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    s.close()
                time.sleep(2.2)

            ext, name = udp_socket("ext", ("198.51.100.10", 7000)), udp_socket("ext", ("", 6000))
            inner = {ns: udp_socket(ns, ("", 5000)) for ns in ("c1", "c3")}
            served = udp_socket("c2", ("", 53))
            back = {}
            for ns, s in inner.items():
                s.sendto(ns.encode(), ("198.51.100.10", 7000))
                _, back[ns] = ext.recvfrom(100)
                ext.sendto(b"answer", back[ns]); assert s.recv(100) == b"answer"
            assert back["c1"] != back["c3"]
            name.sendto(b"query", (EXTERNAL, 8053))
            _, client = served.recvfrom(100)
            served.sendto(b"answer", client); assert name.recv(100) == b"answer"
            kill_engine()
            for ns, s in inner.items():
                ext.sendto(ns.encode(), back[ns]); assert s.recv(100) == ns.encode()
                s.sendto(b"more", ("198.51.100.10", 7000)); assert ext.recvfrom(100) == (b"more", back[ns])
            served.sendto(b"late", client); assert name.recvfrom(100) == (b"late", (EXTERNAL, 8053))
        "#);
        lab.expect_this_engine();
    }

    /// What nobody asked for stays out after a restart too, and a flow whose container has gone is no way in.
    fn flt_01_nobody_else_gets_in_by_what_was_written_down {
        run_pontoon("publish c2 8053:53/udp");
        lab.wire(r#"
            inner, outer = udp_socket("c1", ("", 5000)), udp_socket("ext", ("198.51.100.10", 7000))
            inner.sendto(b"hello", ("198.51.100.10", 7000))
            _, back = outer.recvfrom(100)
            outer.sendto(b"answer", back); assert inner.recv(100) == b"answer"
            served, client = udp_socket("c2", ("", 53)), udp_socket("ext", ("", 6000))
            client.sendto(b"query", (EXTERNAL, 8053))
            served.sendto(b"answer", served.recvfrom(100)[1]); assert client.recv(100) == b"answer"
            subprocess.check_call(f"{os.environ['PONTOON']} unpublish c2 8053:53/udp", shell=True)
            kill_engine()
            stranger = udp_socket("ext", ("198.51.100.11", 7000))
            heard = Port("c1"), Port("c2")
            stranger.sendto(b"stranger", back)
            client.sendto(b"late", (EXTERNAL, 8053))
            outer.sendto(b"friend", back); assert inner.recv(100) == b"friend"
            assert [port.hear(b"stranger", 0) for port in heard] == [[], []]
            assert heard[1].hear(b"late", 0) == []
            assert len(flows(":7000")) == 1 and flows(":8053") == []
        "#);
        lab.expect_this_engine();
    }

    /// A container that went while no engine ran has taken its flows with it: whoever gets its address gets none of
    /// what they would have brought.
    fn flt_01_flows_of_a_container_that_has_gone_lead_nowhere {
        lab.wire(r#"
            inner, outer = udp_socket("c1", ("", 5000)), udp_socket("ext", ("198.51.100.10", 7000))
            inner.sendto(b"hello", ("198.51.100.10", 7000))
            assert outer.recvfrom(100) == (b"hello", (EXTERNAL, 5000))
            outer.sendto(b"answer", (EXTERNAL, 5000)); assert inner.recv(100) == b"answer"
        "#);
        sleep(LONG_ENOUGH);
        kill_engine();
        let second = engine();
        sh(&format!("kill -9 {second} && ip netns del c1"));
        wait_for(|| engine() != second, "another engine");
        wait_for(|| try_sh(&format!("{} status", environment())).status.success(), "an engine that serves");
        sh("ip netns add c1 && ip -n c1 link set lo up");
        lab.attach("c1", 2, "");
        lab.wire(r#"
            inner, outer = Port("c1"), udp_socket("ext", ("198.51.100.10", 7000))
            outer.sendto(b"late", (EXTERNAL, 5000))
            assert inner.hear(b"late", 0) == [] and flows(":7000") == []
        "#);
        lab.expect_this_engine();
    }

    /// Streams over the bridge, outward, back, and to a published port, and a client after the other, while
    /// twenty engines die.
    fn flt_01_twenty_engines_die_under_load {
        run_pontoon("publish c3 8080:80");
        run_pontoon("publish c2 8090:90");
        let _web = lab.serve("c2", "socat -T5 TCP-LISTEN:90,fork,reuseaddr,backlog=100 OPEN:/etc/hostname,rdonly", 90);
        let (namespaces, fds) = namespaces_and_descriptors();
        let own = descriptors(engine());
        let streams = Streams::start(Duration::from_secs(46), &[
            "bridged:c1:c2:172.18.0.3:7001:7001", "dev:c1:ext:198.51.100.10:7002:7002",
            "<back:c1:ext:198.51.100.10:7003:7003", "published:ext:c3:192.0.2.1:8080:80",
        ]);
        for _ in 0..20 {
            sleep(LONG_ENOUGH);
            kill_engine();
            // Nobody is refused, at whatever moment.
            let asked = "socat -u -T20 TCP:192.0.2.1:8090,connect-timeout=20 STDOUT";
            assert_eq!(lab.run("ext", asked), sh("cat /etc/hostname"));
        }
        let gap = streams.longest_gap();
        assert!(gap <= LONGEST_GAP, "{gap:?}");
        let status = run_pontoon("status --json");
        assert!(status.contains("\"restarts\": 20") || status.contains("\"restarts\":20"), "{status}");
        wait_for(|| namespaces_and_descriptors() == (namespaces, fds), "namespaces and the keeper's descriptors as before");
        wait_for(|| descriptors(engine()) <= own + 5, "the engine to hold what it held");
        lab.expect_this_engine();
    }

    /// An interface that went while no engine ran takes nobody else with it.
    fn an_uplink_that_is_gone_stops_no_engine {
        run_pontoon("network create other --subnet 172.19.0.0/24");
        // Two that die at once give the keeper time to see it go.
        sleep(LONG_ENOUGH);
        kill_engine();
        let second = engine();
        sh(&format!("kill -9 {second}"));
        sh("ip link del up0");
        wait_for(|| engine() != second, "another engine");
        wait_for(|| try_sh(&format!("{} status", environment())).status.success(), "an engine that serves");
        lab.run("c1", "ping -c1 -W10 172.18.0.3");
        let log = fs::read_to_string("/run/user/pontoon/engine.log").expect("the engine's log");
        assert!(log.contains("up0"), "{log}");
        sh("ip link add up0 type veth peer name eth0 netns ext && ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up");
        sh("ip -n ext addr add 192.0.2.254/24 dev eth0 && ip -n ext link set eth0 up");
        sh("ip route replace default via 192.0.2.254");
        // Nobody has to say that it is there again.
        wait_for(|| lab.try_run("c1", "ping -c1 -W1 192.0.2.254").status.success(), "the way out");
        lab.expect_this_engine();
    }

    /// One whose addresses have become the network's own while no engine ran is no way out until they have not.
    fn an_uplink_with_the_network_s_own_addresses_stops_no_engine {
        // Two that die at once give the keeper time to see the address.
        sleep(LONG_ENOUGH);
        kill_engine();
        let second = engine();
        sh(&format!("kill -9 {second}"));
        sh("ip addr add 172.18.0.200/24 dev up0");
        wait_for(|| engine() != second, "another engine");
        wait_for(|| try_sh(&format!("{} status", environment())).status.success(), "an engine that serves");
        lab.run("c1", "ping -c1 -W10 172.18.0.3");
        let log = fs::read_to_string("/run/user/pontoon/engine.log").expect("the engine's log");
        assert!(log.contains("network net has no way out, dev:up0 cannot be had"), "{log}");
        sh("ip addr del 172.18.0.200/24 dev up0");
        sleep(LONG_ENOUGH);
        kill_engine();
        lab.run("c1", "ping -c1 -W10 192.0.2.254");
        lab.expect_this_engine();
    }
}
