//! What a process uses, as the kernel shows it.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::run_pontoon;

/// The engine's process. One that is started again after a while is waited for.
pub fn engine() -> u32 {
    run_pontoon("network ls -q");
    let status = run_pontoon("status --json");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let pid = status["engine"]["pid"].as_u64();
    pid.and_then(|pid| pid.try_into().ok()).expect("a number")
}

/// CPU time used so far, in clock ticks of 10 ms.
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
    // Fields 14 and 15 of proc_pid_stat(5), counted from the third.
    let fields = rest.split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// Open files.
pub fn descriptors(pid: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd"));
    open.expect("it runs").count()
}

/// Open files once nobody's connection to the engine comes or goes any more.
pub fn settled_descriptors(pid: u32) -> usize {
    let (mut seen, mut since) = (descriptors(pid), Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        sleep(Duration::from_millis(20));
        let now = descriptors(pid);
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    seen
}

/// Resident memory, in KiB.
pub fn rss(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).expect("VmRSS")
}
