//! Carried flows outlive the engine, are not held up by what is changed elsewhere, and end with the keeper.

use std::time::{Duration, Instant};

use pontoon_tests::e2e::streams::Streams;
use pontoon_tests::e2e::{run_pontoon, sh, wait_for};

pontoon_tests::laboratory_tests! { |lab|
    /// While there is no engine at all, what is carried goes on; the next one begins with nothing, and knows the
    /// connections.
    fn carried_flows_go_on_without_an_engine {
        run_pontoon("publish c2 8080:80/tcp");
        run_pontoon("publish c2 8053:53/udp");
        lab.offload(r#"
            bridged = Steady("c1", "c2", ("172.18.0.3", 7000), 7000)
            translated = Steady("c1", "c2", ("172.18.0.1", 8080), 80)
            nothing = lambda: time.sleep(0.05)
            until_carried(nothing, 4)
            for round in range(2):
                status = pontoon("status")
                os.kill(status["keeper"]["pid"], signal.SIGSTOP)
                try:
                    os.kill(status["engine"]["pid"], signal.SIGKILL)
                    for stream in (bridged, translated) * 3:
                        stream.goes_on()
                finally:
                    os.kill(status["keeper"]["pid"], signal.SIGCONT)
                until(lambda: pontoon("network ls") and pontoon("status")["restarts"] > status["restarts"], "the next engine")
                for stream in bridged, translated:
                    stream.goes_on()
                until_carried(nothing, 4)
                [entry] = flows(":8080")
                assert entry["state"] == "ESTABLISHED" and entry["offload"], entry
            print(f"longest gaps: {bridged.gap:.3f} s bridged, {translated.gap:.3f} s translated")
            bridged.finish(), translated.finish()
        "#);
        lab.expect_this_engine();
    }

    /// What was carried under an engine that has died is not carried on by a plan that nobody has any more.
    fn the_next_engine_begins_with_nothing {
        run_pontoon("publish c2 8053:53/udp");
        lab.offload(r#"
            flow = Datagrams("c1", "c2", ("172.18.0.1", 8053), 53)
            until_carried(flow.and_back, 2)
            kill_engine()
            assert carried() == 0
            before = counter("flows.cached_frames")
            flow.works()
            until_carried(flow.and_back, 2)
            ends_at_once("unpublish c2 8053:53/udp", lambda: flow.client.send(b"late"), "c2", b"late")
            assert flows(":8053") == []
        "#);
        lab.expect_this_engine();
    }

    /// Each change leaves everything to the engine for a moment. Whatever is lost then is sent again and gets through.
    fn no_change_elsewhere_holds_a_stream_up {
        run_pontoon("publish c3 8080:80");
        sh("ip netns add n1");
        let since = Instant::now();
        let streams = Streams::start(Duration::from_secs(20), &[
            "bridged:c1:c2:172.18.0.3:7001:7001", "<out:c1:ext:198.51.100.10:7003:7003",
            "published:ext:c3:192.0.2.1:8080:80",
        ]);
        while since.elapsed() < Duration::from_secs(18) {
            run_pontoon("publish c2 8053:53/udp");
            lab.attach("n1", 9, "");
            run_pontoon("detach n1");
            run_pontoon("unpublish c2 8053:53/udp");
        }
        let gap = streams.longest_gap();
        assert!(gap <= Duration::from_secs(3), "{gap:?}");
        sh("ip netns del n1");
        lab.expect_this_engine();
    }

    /// Without its keeper nothing is left that could carry anything.
    fn the_keeper_s_end_is_that_of_all_flows {
        lab.offload(r#"
            flow = Datagrams("c1", "c2", ("172.18.0.3", 53), 53)
            until_carried(flow.and_back, 2)
            sender = Repeat(lambda: flow.client.send(b"late"))
            os.kill(pontoon("status")["keeper"]["pid"], signal.SIGKILL)
            def links(ns):
                return subprocess.check_output(f"ip -n {ns} -o link show type veth", shell=True)
            until(lambda: not links("c1") and not links("c2"), "the interfaces' end")
            empty(flow.server)
            assert hears_nothing(flow.server)
            sender.end()
        "#);
        let processes = || sh("ps -C pontoon -o stat= | grep -v Z || true");
        wait_for(|| processes().is_empty(), "everybody's end");
        run_pontoon("network create net --subnet 172.18.0.0/24 --uplink dev:up0");
        for (ns, host) in [("c1", 2), ("c2", 3), ("c3", 4)] {
            lab.attach(ns, host, "");
        }
        lab.expect_this_engine();
    }
}
