//! Figures that commands and tools print.

use serde_json::Value;

use super::run_pontoon;

/// What a command of Pontoon's prints as JSON.
pub fn json(arguments: &str) -> Value {
    serde_json::from_str(&run_pontoon(arguments)).expect("JSON")
}

/// A counter of `stats`; 0 while it has not counted anything.
pub fn counter(name: &str) -> u64 {
    let stats = json("stats --json");
    let counters = stats["counters"].as_array().expect("a list").iter();
    counters
        .filter(|c| c[0] == name)
        .filter_map(|c| c[1].as_u64())
        .sum()
}

/// Bytes that have arrived, as `iperf3 -J` says.
pub fn received(report: &str) -> u64 {
    let report: Value = serde_json::from_str(report).expect("JSON");
    report["end"]["sum_received"]["bytes"]
        .as_u64()
        .expect("bytes")
}
