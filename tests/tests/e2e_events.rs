//! End to end: faults, as those who watch are told of them.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use pontoon_tests::e2e::{pontoon, run_pontoon, sh, wait_for};
use serde_json::Value;

/// Somebody who watches.
struct Watcher(Child);

impl Watcher {
    const FILE: &str = "/run/events";

    /// Watches from now on.
    fn start() -> Self {
        let file = fs::File::create(Self::FILE).expect("a writable /run");
        let mut events = Command::new(pontoon());
        events.args(["events", "--json"]).stdin(Stdio::null());
        events.env("XDG_RUNTIME_DIR", "/run/user").stdout(file);
        let watcher = Self(events.spawn().expect("pontoon can be run"));
        // Whatever is seen first says that it watches.
        let begun = || {
            run_pontoon("network create first --uplink none");
            run_pontoon("network rm first");
            !watcher.told().is_empty()
        };
        wait_for(begun, "somebody to watch");
        watcher
    }

    /// What was told, in order.
    fn told(&self) -> Vec<Value> {
        let text = fs::read_to_string(Self::FILE).expect("its file");
        let whole = text.split_inclusive('\n').filter(|l| l.ends_with('\n'));
        whole
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// What was told of faults of this kind: the event and its words.
    fn of_kind(&self, kind: &str) -> Vec<String> {
        let told = self
            .told()
            .into_iter()
            .filter(|event| event["kind"] == kind);
        told.map(|event| {
            let text = |key: &str| event[key].as_str().expect("text").to_owned();
            format!("{}: {}", text("event"), text("what"))
        })
        .collect()
    }

    fn wait_for(&self, kind: &str, expected: &[&str]) {
        wait_for(|| self.of_kind(kind) == expected, &format!("{expected:?}"));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may have ended with the engine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pontoon_tests::laboratory_tests! { |lab|
    fn an_uplink_that_is_down_or_gone_is_told_of_once {
        let watcher = Watcher::start();
        sh("ip link add other type veth peer name far && ip link set far up && ip link set other up");
        sh("ip addr add 198.18.0.1/24 dev other");
        run_pontoon("network create out --uplink dev:other");
        sh("ip link set other down");
        watcher.wait_for("uplink_down", &["fault: the uplink other is down"]);
        // More of what nobody needs to know.
        sh("ip addr add 198.18.0.2/24 dev other");
        sh("ip link set other up");
        let both = ["fault: the uplink other is down", "mended: the uplink other is up"];
        watcher.wait_for("uplink_down", &both);
        sh("ip link del other");
        watcher.wait_for("uplink_gone", &["fault: the uplink other is gone"]);
        run_pontoon("network rm out");
        assert!(lab.run("c1", "ping -c1 -W5 192.0.2.254").contains("1 received"));
    }

    fn a_container_that_loses_its_interface_is_told_of_and_one_that_ends_is_not {
        let watcher = Watcher::start();
        run_pontoon("run -d --name ends --network net -- sleep 60");
        run_pontoon("run -d --name loses --network net -- sleep 60");
        run_pontoon("rm -f ends");
        run_pontoon("exec loses -- ip link del eth0");
        watcher.wait_for("interface_lost", &["fault: the container loses has lost its interface on net"]);
        run_pontoon("rm -f loses");
        let ended = |event: &Value| event["event"] == "container_ended" && event["name"] == "loses";
        wait_for(|| watcher.told().iter().any(ended), "its end");
        assert_eq!(watcher.of_kind("interface_lost").len(), 1);
    }

    /// A container opens more connections than it may have, as fast as it can: a table that is full is told of once a
    /// second, however often it is.
    fn a_share_that_is_used_up_is_told_of_once_a_second {
        lab.may_grow(32 << 10);
        let (watcher, begin) = (Watcher::start(), Instant::now());
        lab.wire(r#"
            with inside("c1"):
                sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]
            end = time.monotonic() + 2.5
            port = 0
            while port < 20000 or time.monotonic() < end:
                for s in sockets:
                    s.sendto(b"x", (FAR, 1 + port % 60000))
                port += 1
        "#);
        let times = |what: &str| what.split(['(', ' ']).find_map(|word| word.parse::<u64>().ok()).unwrap_or(1);
        let hits = || {
            let stats: Value = serde_json::from_str(&run_pontoon("stats --json")).expect("JSON");
            let counters = stats["counters"].as_array().expect("a list");
            let full = counters.iter().find(|c| c[0] == "flows.share_full").expect("it is counted");
            full[1].as_u64().expect("a number")
        };
        let told = || watcher.of_kind("share_full").iter().map(|what| times(what)).sum::<u64>();
        wait_for(|| told() == hits(), "every time to be told of");
        assert!(hits() > 1000, "{}", hits());
        let (events, seconds) = (watcher.of_kind("share_full").len() as u64, begin.elapsed().as_secs());
        assert!(events <= seconds + 2, "{events} in {seconds} s");
    }
}
