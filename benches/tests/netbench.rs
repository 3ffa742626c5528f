//! Runs netbench itself: on the systems that need nothing but a kernel, and on the programs that
//! are Pontoon's peers, which it fetches from Debian.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where what it needs is missing"
)]

use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

fn netbench(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netbench"));
    command.args(arguments.split(' ')).output().unwrap()
}

fn json_file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("netbench-{}-{name}.json", std::process::id()))
}

/// Runs a selection for one round of a second and answers the JSON report.
fn report(systems: &str, only: &str) -> Value {
    let selection = format!("--rounds 1 --seconds 1 --systems {systems} --only {only}");
    json_of(systems, &selection)
}

/// The same between container and host; packages are kept beside what Cargo builds.
fn outward_report(peers: &str, only: &str) -> Value {
    let selection = "outward --rounds 1 --seconds 1 --mtu 1500";
    let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/packages");
    let line = format!("{selection} --peers {peers} --only {only} --cache {cache}");
    json_of(&format!("outward-{peers}"), &line)
}

/// Runs netbench and answers the JSON report.
fn json_of(name: &str, line: &str) -> Value {
    let file = json_file(name);
    let output = netbench(&format!("{line} --json {}", file.display()));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(file).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn median(report: &Value, measure: &str, metric: &str) -> f64 {
    let figures = report["figures"].as_array().unwrap();
    let figure = figures
        .iter()
        .find(|f| f["measure"] == measure && f["metric"] == metric);
    figure.unwrap_or_else(|| panic!("no {metric} of {measure} in {report}"))["summary"]["median"]
        .as_f64()
        .unwrap()
}

#[test]
fn kernel_bridge_is_built_and_measured() {
    let report = report("kernel-bridge", "tcp-1,udp-64,tcp-rr");
    assert!(median(&report, "tcp-1", "throughput") > 0.1);
    assert!(median(&report, "udp-64", "received") > 1.0);
    assert!(median(&report, "tcp-rr", "median") <= median(&report, "tcp-rr", "p99"));
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
}

#[test]
fn kernel_masquerade_carries_both_directions() {
    let report = report("kernel-nat", "tcp-4-reverse,udp-1400-reverse,udp-rr");
    assert!(median(&report, "tcp-4-reverse", "throughput") > 0.1);
    assert!(median(&report, "udp-1400-reverse", "received") > 1.0);
    assert!(median(&report, "udp-rr", "median") > 0.0);
}

#[test]
fn missing_pontoon_fails_with_advice() {
    let output = netbench("--systems pontoon --pontoon /nowhere/pontoon");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        complaint.contains("cargo build --release -p pontoon-cli"),
        "{complaint}"
    );
}

/// Rights of root in a user namespace alone: over neither the machine's network nor its settings.
#[test]
fn root_of_a_user_namespace_can_measure() {
    let line = "--rounds 1 --seconds 1 --systems kernel-bridge --only tcp-rr";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", env!("CARGO_BIN_EXE_netbench")])
        .args(line.split(' '))
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
}

/// The median of a figure between container and host.
fn outward_median(report: &Value, peer: &str, way: &str, metric: &str) -> f64 {
    let figures = report["figures"].as_array().unwrap();
    let figure = figures
        .iter()
        .find(|f| f["peer"] == peer && f["way"] == way && f["metric"] == metric);
    figure.unwrap_or_else(|| panic!("no {metric} of {peer} {way} in {report}"))["summary"]["median"]
        .as_f64()
        .unwrap()
}

#[test]
fn kernel_bridge_is_measured_between_container_and_host() {
    let report = outward_report("loopback,kernel-bridge", "tcp-4,udp-64,tcp-rr,connect-16");
    for way in ["outward", "inward"] {
        let median = |metric| outward_median(&report, "kernel-bridge", way, metric);
        assert!(median("throughput") > 0.1);
        assert!(median("received") > 1.0);
        assert!(median("median") <= median("p99"));
        assert!(median("connections") > 10.0);
    }
    assert!(outward_median(&report, "loopback", "outward", "connections") > 10.0);
}

#[test]
fn peers_are_fetched_started_and_measured() {
    let report = outward_report("slirp4netns,pasta,rootlesskit,docker-proxy", "connect-1");
    for peer in ["slirp4netns", "pasta", "rootlesskit", "docker-proxy"] {
        assert!(outward_median(&report, peer, "inward", "connections") > 10.0);
    }
    for peer in ["slirp4netns", "pasta"] {
        assert!(outward_median(&report, peer, "outward", "connections") > 10.0);
    }
    let packages = report["packages"].as_array().unwrap();
    let passt = |name: &Value| name.as_str().unwrap().starts_with("passt_");
    assert!(packages.iter().any(passt), "{packages:?}");
}

#[test]
fn peer_that_cannot_be_built_is_listed_and_fails_the_run() {
    let selection = "outward --peers loopback,pontoon --only connect-1 --rounds 1 --seconds 1";
    let output = netbench(&format!("{selection} --pontoon /nowhere/pontoon"));
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    assert!(
        report.contains("cargo build --release -p pontoon-cli"),
        "{report}"
    );
    assert!(report.contains("| loopback |"), "{report}");
}
