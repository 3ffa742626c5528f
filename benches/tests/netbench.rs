//! Runs netbench itself on the systems that need nothing but a kernel.

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
    let file = json_file(systems);
    let selection = format!("--rounds 1 --seconds 1 --systems {systems} --only {only}");
    let output = netbench(&format!("{selection} --json {}", file.display()));
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
