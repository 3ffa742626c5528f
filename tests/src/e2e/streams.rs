//! Streams of bytes between namespaces, and for how long one stood still.

use std::fs;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use super::sh;

const METER: &str = include_str!("meter.py");

/// Streams that are on their way.
pub struct Streams {
    count: usize,
    meter: JoinHandle<String>,
}

impl Streams {
    /// Has them run for a while, each `NAME:FROM:TO:ADDRESS:PORT:LISTEN` as in `meter.py`.
    pub fn start(time: Duration, streams: &[&str]) -> Self {
        fs::write("/run/meter.py", METER).expect("a writable /run");
        let seconds = time.as_secs();
        let command = format!(
            "/usr/bin/python3 /run/meter.py {seconds} '{}'",
            streams.join("' '")
        );
        Self {
            count: streams.len(),
            meter: spawn(move || sh(&command)),
        }
    }

    /// The longest time for which one of them stood still. Fails if one was lost.
    pub fn longest_gap(self) -> Duration {
        let told = self.meter.join().expect("no stream was lost");
        println!("{told}");
        let gaps = told
            .lines()
            .filter_map(|line| line.split(" gap ").nth(1)?.split(' ').next());
        let gaps: Vec<u64> = gaps.map(|gap| gap.parse().expect("a number")).collect();
        assert_eq!(gaps.len(), self.count, "{told}");
        Duration::from_millis(gaps.into_iter().max().expect("streams"))
    }
}
