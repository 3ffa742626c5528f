//! Engines that die, and what outlives them (FLT-01, FLT-02, FLT-03, FLT-19, FLT-20).

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pontoon_tests::e2e::process::{descriptors, engine};
use pontoon_tests::e2e::{
    environment, leftovers, namespaces, pontoon, run_pontoon, sh, try_sh, wait_for,
};
use serde_json::Value;

const CLIENTS: &str = include_str!("life/clients.py");
const FLOWS: &str = include_str!("life/flows.py");
/// An engine that has lived for so long is started again at once.
const LONG_ENOUGH: Duration = Duration::from_millis(2_100);
/// No gap in a stream may be longer. What it takes is measured, not tested.
const LONGEST_GAP: f64 = 5.0;

/// Declares tests in namespaces of their own, after which nothing may be left.
macro_rules! life_tests {
    ($($(#[$meta:meta])* fn $name:ident $body:block)*) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            namespaces(stringify!($name), || {
                $body;
                // It may have ended already.
                try_sh(&format!("{} shutdown", environment()));
                wait_until_gone();
            });
        }
    )*};
}

fn wait_until_gone() {
    let end = Instant::now() + Duration::from_secs(20);
    while !leftovers().is_empty() {
        let log = fs::read_to_string("/run/user/pontoon/engine.log").unwrap_or_default();
        assert!(
            Instant::now() < end,
            "left behind: {:#?}\n{log}",
            leftovers()
        );
        sleep(Duration::from_millis(20));
    }
}

fn status() -> Value {
    serde_json::from_str(&run_pontoon("status --json")).expect("JSON")
}

fn keeper() -> u32 {
    status()["keeper"]["pid"].as_u64().expect("a number") as u32
}

fn log() -> String {
    fs::read_to_string("/run/user/pontoon/engine.log").expect("the engine's log")
}

/// Kills the engine, and waits for the next one.
fn kill_engine() {
    let before = engine();
    sh(&format!("kill -9 {before}"));
    wait_for(|| engine() != before, "another engine");
}

/// The same again and again, after lives that are long enough.
fn kill_engines(times: usize) {
    for _ in 0..times {
        sleep(LONG_ENOUGH);
        kill_engine();
    }
}

/// What there is that a user sees of containers and networks.
fn seen() -> Vec<Value> {
    let parse = |text: String| serde_json::from_str::<Value>(&text).expect("JSON");
    vec![
        parse(run_pontoon("ps -a --json")),
        parse(run_pontoon("network ls --json")),
    ]
}

fn start(command: &str) -> Child {
    let mut child = Command::new("sh");
    child.args(["-c", &format!("exec env {command}")]);
    child.stdin(Stdio::null()).stdout(Stdio::piped());
    child.spawn().expect("sh can be run")
}

fn output(child: Child, what: &str) -> String {
    let output = child.wait_with_output().expect("own child");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{what}: {text}\n{}", log());
    text
}

/// The longest time without a byte in what iperf3 has measured every tenth of a second.
fn longest_gap(report: &str) -> f64 {
    let report: Value = serde_json::from_str(report).expect("JSON");
    let intervals = report["intervals"].as_array().expect("intervals");
    let (mut longest, mut gap) = (0.0_f64, 0.0);
    for interval in intervals {
        let sum = &interval["sum"];
        gap = if sum["bytes"] == 0 {
            gap + sum["seconds"].as_f64().expect("a number")
        } else {
            0.0
        };
        longest = longest.max(gap);
    }
    longest
}

/// How many containers' processes there are.
fn sleepers() -> usize {
    sh("ps -eo comm")
        .lines()
        .filter(|name| *name == "sleep")
        .count()
}

/// A file that a Python program is run from.
fn program(name: &str, text: &str) -> String {
    let path = format!("/run/{name}.py");
    fs::write(&path, text).expect("a writable /run");
    format!("/usr/bin/python3 {path}")
}

life_tests! {
    fn containers_keep_everything_when_the_engine_dies {
        run_pontoon("network create app --subnet 172.18.0.0/24 --host-port veth");
        run_pontoon("run -d --name a --network app --network-alias web -- sleep 600");
        run_pontoon("run -d --name b --network app -p 8080:80 -- sleep 600");
        run_pontoon("run -d --name over -- true");
        wait_for(
            || run_pontoon("ps -a").contains("Exited (0)"),
            "a container that has ended",
        );
        let before = seen();
        let place = run_pontoon("exec a -- ip -o addr show eth0");
        kill_engine();
        assert_eq!(seen(), before);
        assert_eq!(run_pontoon("exec a -- ip -o addr show eth0"), place);
        run_pontoon("exec a -- ping -c1 -W5 172.18.0.3");
        run_pontoon("exec b -- ping -c1 -W5 web");
        run_pontoon("host -- ping -c1 -W5 172.18.0.2");
        let status = status();
        assert_eq!(status["restarts"], 1);
        assert_eq!(status["last_end"], "signal: 9 (SIGKILL)");
        // What is new gets what nobody has, or has had.
        let next = run_pontoon("run --rm --network app -- ip -o -4 addr show eth0");
        assert!(next.contains("172.18.0.4"), "{next}");
        run_pontoon("stop -t 0 a b");
        run_pontoon("rm a b over");
        assert!(!sh("ss -Hlnt").contains(":8080 "), "the port is free");
        run_pontoon("network rm app");
    }

    fn bridged_streams_go_on_when_the_engine_dies {
        run_pontoon("run -d --name s -- iperf3 -s");
        run_pontoon("run -d --name c -- sleep 600");
        wait_for(|| run_pontoon("exec s -- ss -Hlnt").contains(":5201"), "a server");
        let (fds, before) = (descriptors(keeper()), descriptors(engine()));
        let stream = start(&format!(
            "{} exec c -- iperf3 -c s -t 9 -i 0.1 -J",
            environment()
        ));
        kill_engines(3);
        let gap = longest_gap(&output(stream, "iperf3"));
        println!("longest gap of a bridged stream: {gap:.1} s");
        assert!(gap <= LONGEST_GAP, "{gap}");
        assert_eq!(status()["restarts"], 3);
        wait_for(|| descriptors(keeper()) == fds, "the keeper to hold what it held");
        wait_for(|| descriptors(engine()) <= before, "the engine to hold what it held");
    }

    fn published_ports_refuse_nobody_when_the_engine_dies {
        let server = program("server", CLIENTS);
        run_pontoon(&format!("run -d --name s -p 8080:80 -- {server} serve"));
        run_pontoon("run -d --name other -p 8081:80 -- sleep 600");
        wait_for(|| run_pontoon("exec s -- ss -Hlnt").contains(":80 "), "a server");
        let clients = start(&format!("{server} connect 7"));
        kill_engines(2);
        println!("{}", output(clients, "clients"));
        // The other port leads where it led, and is free when its container goes.
        run_pontoon("rm -f other");
        assert!(!sh("ss -Hlnt").contains(":8081 "), "the port is free");
        sh(&format!("{server} connect 0.1"));
    }

    fn streams_of_the_host_s_sockets_end_with_a_reset_on_both_sides {
        let flows = program("flows", FLOWS);
        // The host has the same file, at the same place.
        run_pontoon("run -d --name stay -- sleep 600");
        run_pontoon(&format!("run -d --name s -p 8080:80 -- {flows} hold 0.0.0.0 80 in"));
        let far = start(&format!("{flows} hold 192.0.2.1 7000 out"));
        sh("ip addr add 192.0.2.1/32 dev lo");
        wait_for(|| run_pontoon("exec s -- ss -Hlnt").contains(":80 "), "a server");
        wait_for(|| sh("ss -Hlnt").contains(":7000 "), "a server");
        let beyond = start(&format!("{flows} hold-quietly 192.0.2.1 7001 quiet-out"));
        wait_for(|| sh("ss -Hlnt").contains(":7001 "), "a server");
        let near = start(&format!("{flows} speak 127.0.0.1 8080"));
        run_pontoon(&format!("run -d --name c -- {flows} speak 192.0.2.1 7000"));
        let spoken = |name: &str| fs::read_to_string(format!("/run/{name}.said")).unwrap_or_default();
        // Who only listens, and is told nothing by the other side, must hear of the end all the same.
        run_pontoon(&format!("run -d --name quiet -- {flows} listen 192.0.2.1 7001"));
        run_pontoon(&format!("run -d --name served -p 8082:80 -- {flows} hold-quietly 0.0.0.0 80 quiet-in"));
        wait_for(|| run_pontoon("exec served -- ss -Hlnt").contains(":80 "), "a server");
        let quiet = start(&format!("{flows} listen 127.0.0.1 8082"));
        wait_for(|| spoken("in") == "hello" && spoken("out") == "hello", "both to be spoken to");
        wait_for(|| spoken("quiet-in") == "hello" && spoken("quiet-out") == "hello", "both to be spoken to");
        kill_engine();
        let ends = [
            (near, "client of a published port"),
            (far, "host beyond"),
            (quiet, "quiet client"),
            (beyond, "quiet host beyond"),
        ];
        for (child, what) in ends {
            assert_eq!(output(child, what), "reset\n", "{what}");
        }
        for name in ["s", "c", "quiet", "served"] {
            let ended = || run_pontoon("ps -a").lines().any(|line| {
                line.contains("Exited") && line.ends_with(name)
            });
            wait_for(ended, name);
        }
        assert_eq!(run_pontoon("ps -a").matches("Exited (0)").count(), 4, "{}", run_pontoon("ps -a"));
    }

    fn the_keeper_s_end_is_everybody_s {
        run_pontoon("run -d --name a -p 8080:80 -- sleep 600");
        sh(&format!("kill -9 {}", keeper()));
        wait_until_gone();
        assert!(!fs::exists("/run/user/pontoon/state.json").expect("a readable directory"));
        assert_eq!(run_pontoon("run --rm --name a -- echo again"), "again\n");
    }

    /// With keeper and engine, nobody is there to clean up: the next command's engine does.
    fn what_keeper_and_engine_leave_is_cleaned_up_by_the_next_command {
        run_pontoon("run -d --name a -p 8080:80 -- sleep 600");
        let (keeper, engine) = (keeper(), engine());
        sh(&format!("kill -STOP {keeper} {engine} && kill -9 {keeper} {engine}"));
        wait_for(|| try_sh(&format!("kill -0 {keeper} {engine}")).stdout.is_empty(), "both to end");
        assert_eq!(sleepers(), 1, "somebody is left");
        assert_eq!(run_pontoon("run --rm --name a -p 8080:80 -- echo again"), "again\n");
        assert_eq!(sleepers(), 0, "somebody is left");
    }

    fn a_state_that_cannot_be_understood_is_set_aside_and_everything_cleaned_up {
        run_pontoon("network create app");
        run_pontoon("run -d --name a --network app -p 8080:80 -- sleep 600");
        fs::write("/run/user/pontoon/state.json", "{\"schema\":1,").expect("a writable directory");
        kill_engine();
        assert!(log().contains("state.json.damaged-1. Nothing of it is used"), "{}", log());
        wait_for(|| sleepers() == 0, "the container's end");
        assert!(!sh("ss -Hlnt").contains(":8080 "), "the port is free");
        assert_eq!(seen()[0], Value::Array(Vec::new()));
        assert_eq!(run_pontoon("run --rm -p 8080:80 -- echo again"), "again\n");
        sh("rm /run/user/pontoon/state.json.damaged-1");
    }

    fn engines_that_die_at_once_are_started_less_and_less_often {
        run_pontoon("run -d --name a -- sleep 600");
        sleep(LONG_ENOUGH);
        for _ in 0..3 {
            kill_engine();
        }
        let log = log();
        let waits: Vec<_> = log.lines().filter_map(|line| line.split("started again ").nth(1)).collect();
        assert_eq!(waits, ["at once", "in 1 s", "in 2 s"], "{log}");
        let shown = run_pontoon("status");
        assert!(shown.contains("restarts: 3, the last one after signal: 9 (SIGKILL)"), "{shown}");
        run_pontoon("exec a -- true");
    }

    /// Nor while no engine runs.
    fn a_keeper_that_is_told_to_end_leaves_nothing {
        for signal in ["TERM", "INT", "HUP"] {
            run_pontoon("run -d --name a -p 8080:80 -- sleep 600");
            sh(&format!("kill -{signal} {}", keeper()));
            wait_until_gone();
        }
        run_pontoon("run -d --name a -- sleep 600");
        let keeper = keeper();
        // The second one is not started at once.
        kill_engine();
        sh(&format!("kill -9 {} && kill {keeper}", engine()));
        wait_until_gone();
        wait_for(|| sleepers() == 0, "the container's end");
    }

    fn a_service_manager_starts_and_ends_it {
        let unit = include_str!("../../contrib/systemd/pontoon.service");
        let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=%h/.local/bin/pontoon "));
        let mut service = start(&format!("{} {}", environment(), command.expect("a command")));
        wait_for(|| fs::exists("/run/user/pontoon/api.sock").is_ok_and(|there| there), "a socket");
        run_pontoon("run -d --name a -- sleep 600");
        kill_engine();
        run_pontoon("exec a -- true");
        // An engine that a service has started stays without containers.
        run_pontoon("rm -f a");
        assert_eq!(keeper(), service.id());
        sh(&format!("kill {}", service.id()));
        assert!(service.wait().expect("own child").success());
    }

    fn twenty_lives_leave_nothing {
        let files = || sh("find /run/user/pontoon | sort");
        run_pontoon("run --rm -- true");
        run_pontoon("shutdown");
        wait_until_gone();
        let before = files();
        for _ in 0..20 {
            run_pontoon("run -d --name a -p 8080:80 -- sleep 600");
            run_pontoon("run -d --name b -- sleep 600");
            run_pontoon("shutdown");
            wait_until_gone();
        }
        assert_eq!(files(), before);
    }

    fn another_program_takes_over {
        run_pontoon("run -d --name a -p 8080:80 -- sleep 600");
        let before = seen();
        sh(&format!("cp {} /run/pontoon-new", pontoon().display()));
        for (program, why) in [("/bin/true", "not a Pontoon"), ("/run/user", "ermission")] {
            let refused = try_sh(&format!("{} upgrade {program} 2>&1", environment()));
            let said = String::from_utf8_lossy(&refused.stdout).into_owned();
            assert!(!refused.status.success() && said.contains(why), "{said}");
        }
        run_pontoon("upgrade /run/pontoon-new");
        let now = fs::read_link(format!("/proc/{}/exe", engine())).expect("it runs");
        assert_eq!(now.to_str(), Some("/run/pontoon-new"));
        assert_eq!(seen(), before);
        // The one that is started after it is the new program too.
        sleep(LONG_ENOUGH);
        kill_engine();
        let now = fs::read_link(format!("/proc/{}/exe", engine())).expect("it runs");
        assert_eq!(now.to_str(), Some("/run/pontoon-new"));
        run_pontoon("exec a -- true");
        run_pontoon("shutdown");
        sh("rm /run/pontoon-new");
    }
}
