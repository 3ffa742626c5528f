//! What users see while keeper or engine are ended, away or stand still, and of a directory that cannot be used
//! (FLT-02, FLT-11, FLT-19).

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pontoon_tests::e2e::process::engine;
use pontoon_tests::e2e::{environment, leftovers, refused, run_pontoon, sh, try_sh, wait_for};
use serde_json::Value;

const STAND_IN: &str = include_str!("life/stand_in.py");
const DIRECTORY: &str = "/run/user/pontoon";
/// No end may take longer, however busy the machine is. What it takes is measured, not tested.
const LONGEST_END: Duration = Duration::from_secs(10);

fn status() -> Value {
    serde_json::from_str(&run_pontoon("status --json")).expect("JSON")
}

fn keeper() -> u32 {
    status()["keeper"]["pid"].as_u64().expect("a number") as u32
}

fn log() -> String {
    fs::read_to_string(format!("{DIRECTORY}/engine.log")).expect("the engine's log")
}

fn wait_until_gone() {
    wait_for(|| leftovers().is_empty(), "everything to go");
}

fn start(command: &str) -> Child {
    let mut child = Command::new("sh");
    child.args(["-c", &format!("exec env {} {command}", environment())]);
    child.stdin(Stdio::null());
    child.stdout(Stdio::piped()).stderr(Stdio::piped());
    child.spawn().expect("sh can be run")
}

/// Kills engines until the keeper waits for so many seconds before it starts the next one.
fn kill_until_a_pause_of(seconds: u64) {
    let pause = format!("started again in {seconds} s");
    while !log().contains(&pause) {
        let before = log();
        sh(&format!("kill -9 {}", engine()));
        wait_for(|| log() != before, "the keeper to take note");
    }
}

fn inspected(names: &str) -> Value {
    serde_json::from_str(&run_pontoon(&format!("inspect {names}"))).expect("JSON")
}

/// As `ps` shows how a container has ended.
fn has_ended(name: &str, status: u8) -> bool {
    run_pontoon("ps -a")
        .lines()
        .any(|line| line.contains(&format!("Exited ({status})")) && line.ends_with(name))
}

pontoon_tests::namespace_tests! {
    /// Also the second time, at once. HUP ends as the others do: there is nothing to read again.
    fn flt_02_signals_end_everything_in_order {
        sh("ip netns add c1");
        let mut longest = Duration::ZERO;
        for whom in ["keeper", "engine"] {
            for signals in ["TERM", "INT", "HUP", "TERM TERM", "TERM INT HUP"] {
                let mut service = start("keeper");
                wait_for(|| try_sh(&format!("{} status", environment())).status.success(), "an engine");
                run_pontoon("run -d -p 8080:80 -- sleep 600");
                run_pontoon("attach --netns /run/netns/c1 --name c1 -p 8081:81");
                assert!(sh("ss -Hlnt").contains(":8080 "));
                let pid = if whom == "keeper" { service.id() } else { engine() };
                let began = Instant::now();
                for signal in signals.split(' ') {
                    // It may have ended of the first already.
                    try_sh(&format!("kill -{signal} {pid}"));
                }
                let status = service.wait().expect("own child");
                longest = longest.max(began.elapsed());
                assert!(status.success(), "{whom} {signals}: {status}");
                wait_until_gone();
                assert_eq!(sh("ss -Hlntu"), "", "{whom} {signals}");
                assert!(!sh("ps -eo comm").contains("sleep"), "{whom} {signals}");
            }
        }
        println!("longest end: {longest:?}");
        assert!(longest <= LONGEST_END, "{longest:?}");
    }

    fn who_waits_for_an_engine_is_told_for_how_long {
        run_pontoon("run -d --name a -- sleep 600");
        kill_until_a_pause_of(8);
        let began = Instant::now();
        let said_of_it = refused("status");
        println!("status has answered after {:?}", began.elapsed());
        let words = "pontoon: the engine has died ";
        assert!(said_of_it.starts_with(words) && said_of_it.contains("signal: 9 (SIGKILL)"), "{said_of_it}");
        let listed = start("ps --json").wait_with_output().expect("own child");
        let error = String::from_utf8_lossy(&listed.stderr).into_owned();
        assert!(listed.status.success() && error.starts_with(words), "{error}");
        assert!(error.contains("; the next start is in "), "{error}");
        let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        assert_eq!(listed[0]["name"], "a");
        run_pontoon("status");
        assert!(!fs::exists(format!("{DIRECTORY}/pause.json")).expect("a directory"));
    }

    /// A stand-in takes the engine's place, and ends in the middle of the first request of each command.
    fn what_only_looks_is_asked_again_when_the_engine_dies {
        fs::write("/run/stand_in.py", STAND_IN).expect("a writable /run");
        sh(&format!("mkdir -m 0700 {DIRECTORY}"));
        let mut engine = Command::new("/usr/bin/python3");
        let mut engine = engine.args(["/run/stand_in.py", DIRECTORY]).spawn().expect("python3");
        wait_for(|| fs::exists(format!("{DIRECTORY}/api.sock")).is_ok_and(|there| there), "a socket");
        assert_eq!(run_pontoon("ps --json").trim(), "[]");
        let asked = || fs::read_to_string("/run/asked").unwrap_or_default();
        assert_eq!(asked().matches("GET /v1/containers").count(), 2, "{}", asked());
        let said = refused("network rm some");
        assert!(said.contains("is not known (`pontoon ps -a` and `pontoon network ls` show it)"), "{said}");
        assert_eq!(asked().matches("DELETE /v1/networks/some").count(), 1, "{}", asked());
        engine.kill().expect("own child");
        engine.wait().expect("own child");
    }

    /// Frames pass; what changes nothing is answered; what does fails after a while, and can be had later.
    fn flt_11_a_keeper_that_stands_still_is_noticed_by_who_needs_it {
        run_pontoon("run -d --name a -- sleep 600");
        run_pontoon("run -d --name b -- sleep 600");
        let keeper = keeper();
        sh(&format!("kill -STOP {keeper}"));
        run_pontoon("exec a -- ping -c1 -W5 172.17.0.3");
        assert!(run_pontoon("ps").contains('b'));
        let said = refused("publish a 8080:80");
        println!("{said}");
        assert!(said.contains("the keeper does not answer"), "{said}");
        sh(&format!("kill -CONT {keeper}"));
        // What the keeper has done after all is taken back.
        wait_for(|| try_sh(&format!("{} publish a 8080:80", environment())).status.success(), "the port");
        assert!(sh("ss -Hlnt").contains(":8080 "));
        run_pontoon("unpublish a 8080:80");
        assert!(!sh("ss -Hlnt").contains(":8080 "));
    }

    fn flt_11_who_asks_an_engine_that_stands_still_is_told {
        run_pontoon("run -d --name a -- sleep 600");
        let engine = engine();
        sh(&format!("kill -STOP {engine}"));
        let mut asks = start("ps --json");
        let mut told = String::new();
        let errors = asks.stderr.take().expect("piped");
        BufReader::new(errors).read_line(&mut told).expect("a line");
        assert_eq!(told, "pontoon: the engine does not answer yet; it is waited for\n");
        sh(&format!("kill -CONT {engine}"));
        let listed = asks.wait_with_output().expect("own child");
        assert!(listed.status.success() && !listed.stdout.is_empty(), "{listed:?}");
    }

    fn containers_of_every_mode_outlive_the_engine {
        let waits = "sh -c 'trap \"exit 7\" TERM; while :; do sleep 0.1; done'";
        run_pontoon("network create app --subnet 172.18.0.0/24");
        for (name, network) in [("h", "host"), ("n", "none"), ("web", "app"), ("side", "container:web")] {
            run_pontoon(&format!("run -d --name {name} --network {network} -- {waits}"));
        }
        let before = inspected("h n web side");
        kill_until_a_pause_of(1);
        wait_for(|| inspected("h n web side") == before, "everything to be as it was");
        assert_eq!(run_pontoon("exec h -- readlink /proc/self/ns/net"), sh("readlink /proc/self/ns/net"));
        assert_eq!(run_pontoon("exec n -- ip -o link").lines().count(), 1);
        assert!(run_pontoon("exec side -- ip -o addr show eth0").contains("172.18.0.2/24"));
        run_pontoon("exec side -- ping -c1 -W5 172.18.0.1");
        // Who joins later does as before.
        run_pontoon("run --rm --network container:web -- ping -c1 -W5 172.18.0.1");
        for name in ["h", "n", "web"] {
            run_pontoon(&format!("stop -t 20 {name}"));
            assert!(has_ended(name, 7), "{}", run_pontoon("ps -a"));
        }
        // As in Docker, who shared lives on, with a loopback; over another engine's death, too.
        for _ in 0..2 {
            assert_eq!(run_pontoon("exec side -- ip -o link").lines().count(), 1);
            sh(&format!("kill -9 {}", engine()));
        }
        run_pontoon("stop -t 20 side");
        assert!(has_ended("side", 7), "{}", run_pontoon("ps -a"));
        run_pontoon("rm h n web side");
        run_pontoon("network rm app");
    }

    /// The leader, a sharer, and one in each other mode; who ends them tells the next engine how.
    fn containers_that_end_while_no_engine_runs_have_ended_for_the_next_one {
        let modes = [("h", "host"), ("n", "none"), ("web", "bridge"), ("side", "container:web"), ("stays", "container:web")];
        for (name, network) in modes {
            run_pontoon(&format!("run -d --name {name} --network {network} -- sleep 600"));
        }
        let pids = inspected("h n web side");
        let pids = pids.as_array().expect("a list").iter().map(|c| c["State"]["Pid"].to_string());
        let pids: Vec<_> = pids.collect();
        kill_until_a_pause_of(1);
        sh(&format!("kill {}", pids.join(" ")));
        for (name, _) in &modes[..4] {
            wait_for(|| has_ended(name, 143), name);
        }
        assert_eq!(run_pontoon("exec stays -- ip -o link").lines().count(), 1);
        run_pontoon("rm -f stays h n web side");
    }
}
