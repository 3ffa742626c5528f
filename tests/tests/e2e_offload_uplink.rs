//! Flows through an uplink that the kernel carries.

use pontoon_tests::e2e::figures::{counter, received};
use pontoon_tests::e2e::{run_pontoon, sh, wait_for};

pontoon_tests::laboratory_tests! { |lab|
    /// Out of a container and translated, in both directions; most of it never meets the engine.
    fn a_masqueraded_stream_is_carried {
        let _server = lab.serve("ext", "iperf3 -s", 5201);
        for options in ["", "-R", "-P 4"] {
            let before = counter("carried.bytes");
            let moved = received(&lab.run("c1", &format!("iperf3 -c 192.0.2.254 -t 2 -J {options}")));
            wait_for(|| counter("carried.bytes") > before + moved / 2, &format!("most of {moved} to be carried {options}"));
        }
    }

    /// Into a container, by a published port.
    fn a_published_stream_is_carried {
        run_pontoon("publish c2 5201:5201");
        let _server = lab.serve("c2", "iperf3 -s", 5201);
        for options in ["", "-R"] {
            let before = counter("carried.bytes");
            let moved = received(&lab.run("ext", &format!("iperf3 -c 192.0.2.1 -t 2 -J {options}")));
            wait_for(|| counter("carried.bytes") > before + moved / 2, &format!("most of {moved} to be carried {options}"));
        }
    }

    /// What the host itself does with the uplink goes on beside it.
    fn the_hosts_own_traffic_is_its_own {
        let _server = lab.serve("ext", "iperf3 -s", 5201);
        let stream = lab.spawn("c1", "iperf3 -c 192.0.2.254 -t 4");
        wait_for(|| counter("carried.flows") > 0, "the stream to be carried");
        sh("ping -c 3 -i 0.2 192.0.2.254");
        // A server of its own for each: one that has just served may still be busy with that.
        for (port, way) in [(5202, ""), (5203, "-R")] {
            let _own = lab.serve("ext", &format!("iperf3 -s -p {port}"), port);
            let report = sh(&format!("iperf3 -c 192.0.2.254 -p {port} -t 1 {way} -J"));
            assert!(received(&report) > 0, "{report}");
        }
        assert!(counter("carried.flows") > 0, "the stream is carried still");
        assert!(stream.wait(), "the stream");
    }
}
