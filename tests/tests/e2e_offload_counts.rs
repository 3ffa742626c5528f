//! What is counted of carried flows is what was sent, and keeps them known.

use pontoon_tests::e2e::figures::{counter, json};
use pontoon_tests::e2e::{Lab, run_pontoon, wait_for};
use serde_json::Value;

/// Bytes that came from a container and that went to it.
fn of_port(name: &str) -> (u64, u64) {
    let stats = run_pontoon("stats");
    let mut rows = stats.lines().map(str::split_whitespace);
    let row = rows.find_map(|mut row| (row.next() == Some(name)).then_some(row));
    let row = row.unwrap_or_else(|| panic!("no port {name}: {stats}"));
    let numbers: Vec<u64> = row.filter_map(|n| n.parse().ok()).collect();
    (numbers[1], numbers[3])
}

/// Bytes of connections to a port, in both directions together.
fn of_flows(port: u16) -> u64 {
    let all = json("flows --json");
    let all = all.as_array().expect("a list").iter();
    let ours = all.filter(|flow| {
        flow["original"][1]
            .as_str()
            .is_some_and(|end| end.ends_with(&format!(":{port}")))
    });
    ours.map(|flow| {
        let bytes = |key: &str| flow[key][1].as_u64().expect("bytes");
        bytes("original_traffic") + bytes("reply_traffic")
    })
    .sum()
}

/// What an iperf3 client says was sent and has arrived, in bytes.
fn load(lab: &Lab, options: &str) -> (u64, u64) {
    let report = lab.run("c1", &format!("iperf3 {options} -J"));
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let of = |key: &str| report["end"][key]["bytes"].as_u64().expect("bytes");
    (of("sum_sent"), of("sum_received"))
}

/// Everything that arrived was counted, and no more than was sent, with headers: of a datagram of 1 200 bytes or a
/// segment of 1 448 these are less than a twentieth.
fn equals(what: &str, counted: impl Fn() -> u64, (sent, received): (u64, u64)) {
    wait_for(|| counted() >= received, what);
    let (counted, most) = (counted(), sent + sent / 20 + (1 << 20));
    println!("{what}: {counted} of {sent} sent, {received} received");
    assert!(counted <= most, "{what}: {counted} of {sent}");
}

fn of_both_ports(load: (u64, u64), before: [(u64, u64); 2], to: &str) {
    equals("from the sender", || of_port("c1").0 - before[0].0, load);
    equals("to the receiver", || of_port(to).1 - before[1].1, load);
}

pontoon_tests::laboratory_tests! { |lab|
    /// Streams and datagrams by the bridge: each byte is counted where it came in and where it went out.
    fn ports_count_what_iperf_does {
        let _server = lab.serve("c2", "iperf3 -s", 5201);
        for options in ["-c 172.18.0.3 -t 3", "-c 172.18.0.3 -t 3 -R", "-u -b 200M -l 1200 -c 172.18.0.3 -t 3"] {
            let before = [of_port("c1"), of_port("c2")];
            let carried = counter("carried.bytes");
            let load = load(lab, options);
            if options.contains("-R") {
                equals("to the client", || of_port("c1").1 - before[0].1, load);
                equals("from the server", || of_port("c2").0 - before[1].0, load);
            } else {
                of_both_ports(load, before, "c2");
            }
            wait_for(|| counter("carried.bytes") - carried > load.0 / 2, "most of it to be carried");
        }
    }

    /// By a published port: connections count too, also what came just before they ended.
    fn connections_count_what_iperf_does {
        run_pontoon("publish c2 9201:5201/tcp");
        run_pontoon("publish c2 9201:5201/udp");
        let _server = lab.serve("c2", "iperf3 -s", 5201);
        let _outside = lab.serve("ext", "iperf3 -s -p 9201", 9201);
        for options in ["-c 172.18.0.1 -p 9201 -t 3", "-u -b 200M -l 1200 -c 172.18.0.1 -p 9201 -t 3"] {
            let (before, flows) = ([of_port("c1"), of_port("c2")], of_flows(9201));
            let carried = counter("carried.bytes");
            let load = load(lab, options);
            of_both_ports(load, before, "c2");
            equals("of connections", || of_flows(9201) - flows, load);
            wait_for(|| counter("carried.bytes") - carried > load.0 / 2, "most of it to be carried");
        }
    }

    /// Connections that are carried never come to their end while they move.
    fn what_moves_does_not_age {
        run_pontoon("publish c2 8053:53/udp");
        run_pontoon("publish c2 8080:80/tcp");
        lab.offload(r#"
            flow = Datagrams("c1", "c2", ("172.18.0.1", 8053), 53)
            stream = Steady("c1", "c2", ("172.18.0.1", 8080), 80)
            sender = Repeat(lambda: flow.client.send(b"load"))
            until_carried(lambda: time.sleep(0.05), 3)
            seen = []
            for _ in range(40):
                seen.append([(f["protocol"], f["expires"], f["state"]) for f in flows(":80") if f["offload"]])
                time.sleep(0.2)
            assert all(len(s) == 2 for s in seen), seen
            assert min(e for s in seen for p, e, _ in s if p == "udp") >= 115, seen
            assert min(e for s in seen for p, e, _ in s if p == "tcp") >= 431_990, seen
            assert {s for l in seen for p, _, s in l if p == "tcp"} == {"ESTABLISHED"}
            sender.end(), stream.finish()
        "#);
    }
}
