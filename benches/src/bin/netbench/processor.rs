//! Processor time of the process that carries the packets: evidence that it did.

use crate::error::Result;
use crate::measure::{Metric, Reading};
use std::fs;
use std::time::Instant;

/// Runs a measurement and adds how much of a processor `carrier` used meanwhile.
///
/// # Errors
/// Those of the measurement.
pub(crate) fn watch(
    carrier: Option<u32>,
    measurement: impl FnOnce() -> Result<Vec<Reading>>,
) -> Result<Vec<Reading>> {
    let (start, before) = (Instant::now(), carrier.and_then(nanoseconds));
    let mut readings = measurement()?;
    if let Some((before, after)) = before.zip(carrier.and_then(nanoseconds)) {
        let busy = after.saturating_sub(before) as f64 / 1e9;
        let value = busy / start.elapsed().as_secs_f64() * 100.0;
        readings.push(Reading {
            metric: Metric::Processor,
            value,
        });
    }
    Ok(readings)
}

/// What the threads of a process have run so far, ns.
fn nanoseconds(pid: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .map(|schedstat| running_time(&schedstat))
        .sum()
}

/// The first field of schedstat (Linux, Documentation/scheduler/sched-stats.rst), ns.
fn running_time(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_time_is_the_first_field() {
        assert_eq!(running_time("1163548 84 3\n"), Some(1_163_548));
        assert_eq!(running_time(""), None);
    }

    #[test]
    fn own_work_is_seen() {
        let readings = watch(Some(std::process::id()), || {
            let start = Instant::now();
            while start.elapsed().as_millis() < 20 {}
            Ok(Vec::new())
        });
        assert!(readings.unwrap()[0].value > 10.0);
    }

    #[test]
    fn kernel_is_not_watched() {
        assert_eq!(watch(None, || Ok(Vec::new())).unwrap(), []);
    }
}
