//! Where and when figures were taken.

use serde::Serialize;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine, and what else figures depend on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Kernel release.
    kernel: String,
    /// Processor model.
    processor: String,
    /// Processors that this program may use.
    cores: usize,
    /// Memory, MiB.
    memory_mib: u64,
    /// When the run began, seconds since 1970.
    unix_time: u64,
    /// The same in words, UTC.
    date: String,
    /// How netbench itself was built.
    build: &'static str,
    /// Whether bridged packets pass the kernel's packet filter (the kernel's own setting).
    bridge_nf_call_iptables: Option<String>,
    /// How long an idle virtual processor polls before it halts, ns: what a wake-up costs
    /// depends on it (Linux, Documentation/virt/guest-halt-polling.rst).
    guest_halt_poll_ns: Option<String>,
    congestion_control: &'static str,
}

impl Machine {
    /// Describes this machine at this time.
    pub(crate) fn describe() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let unix_time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |age| age.as_secs());
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: field(&cpuinfo, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kibibytes(&read("/proc/meminfo"), "MemTotal").unwrap_or(0) / 1024,
            unix_time,
            date: utc(unix_time),
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            bridge_nf_call_iptables: setting("/proc/sys/net/bridge/bridge-nf-call-iptables"),
            guest_halt_poll_ns: setting("/sys/module/haltpoll/parameters/guest_halt_poll_ns"),
            congestion_control: crate::measure::CONGESTION_CONTROL,
        }
    }

    /// One line for tables.
    pub(crate) fn label(&self) -> String {
        let Self {
            kernel,
            processor,
            cores,
            memory_mib,
            date,
            ..
        } = self;
        format!("{date}, Linux {kernel}, {cores} × {processor}, {memory_mib} MiB")
    }
}

fn setting(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of the first `name: value` line of a /proc file.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

/// The same for a size in kB, as /proc writes KiB.
pub(crate) fn kibibytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.strip_suffix("kB")?.trim().parse().ok()
}

/// Date and time of day of seconds since 1970, proleptic Gregorian calendar, UTC.
fn utc(unix_time: u64) -> String {
    let (mut year, mut days) = (1970, unix_time / 86_400);
    while days >= days_in(year) {
        days -= days_in(year);
        year += 1;
    }
    let february = days_in(year) - 337;
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute) = (unix_time / 3600 % 24, unix_time / 60 % 60);
    format!(
        "{year}-{month:02}-{:02} {hour:02}:{minute:02} UTC",
        days + 1
    )
}

fn days_in(year: u64) -> u64 {
    let leap = (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    365 + u64::from(leap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_is_read_without_its_padding() {
        let text = "processor\t: 0\nmodel name\t: Fast One\nmodel name\t: Other\n";
        assert_eq!(field(text, "model name"), Some("Fast One"));
        assert_eq!(field(text, "model"), None);
    }

    #[test]
    fn size_is_read_in_kibibytes() {
        assert_eq!(
            kibibytes("VmPeak:\t  20 kB\nVmRSS:\t   1234 kB\n", "VmRSS"),
            Some(1234)
        );
        assert_eq!(kibibytes("VmRSS:\t lots\n", "VmRSS"), None);
    }

    #[test]
    fn dates_follow_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_735_689_599), "2024-12-31 23:59 UTC");
        assert_eq!(utc(1_735_689_600), "2025-01-01 00:00 UTC");
    }
}
