//! Proportional set size: what a group of processes holds of memory, shared pages divided among
//! those that share them.

use super::peer::PROGRAM_OF_WORKLOADS;
use crate::error::{Context, Error, Result};
use crate::machine::kibibytes;
use std::collections::BTreeSet;
use std::fs;

/// The weight of a process, KiB (proc_pid_smaps(5)).
///
/// # Errors
/// When the process has ended or is another user's.
pub(super) fn of_process(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).context(format!("reading {path}"))?;
    kibibytes(&text, "Pss").ok_or_else(|| Error::Unreadable {
        what: path,
        reason: "no Pss in it".to_owned(),
    })
}

/// These processes and all that descend from them, without the containers' own.
pub(super) fn family(roots: &[u32]) -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats: Vec<Stat> = entries
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| Stat::parse(&stat))
        .collect();
    let mut members: BTreeSet<u32> = roots.iter().copied().collect();
    loop {
        let before = members.len();
        let children = stats.iter().filter(|stat| members.contains(&stat.parent));
        let pids: Vec<u32> = children.map(|stat| stat.pid).collect();
        members.extend(pids);
        if members.len() == before {
            break;
        }
    }
    let workloads = stats
        .iter()
        .filter(|stat| stat.name == PROGRAM_OF_WORKLOADS);
    for stat in workloads {
        members.remove(&stat.pid);
    }
    members
}

/// The beginning of /proc/PID/stat (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    pid: u32,
    name: String,
    parent: u32,
}

impl Stat {
    fn parse(stat: &str) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        let (name, fields) = rest.rsplit_once(") ")?;
        Some(Self {
            pid: pid.parse().ok()?,
            name: name.to_owned(),
            parent: fields.split(' ').nth(1)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn stat_with_brackets_in_the_name_is_read() {
        let expected = Stat {
            pid: 4711,
            name: "a) (b".to_owned(),
            parent: 42,
        };
        assert_eq!(Stat::parse("4711 (a) (b) S 42 4711"), Some(expected));
    }

    #[test]
    fn family_holds_children_and_leaves_workloads_out() {
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut workload = Command::new(PROGRAM_OF_WORKLOADS)
            .arg("60")
            .spawn()
            .unwrap();
        let own = std::process::id();
        let found = family(&[own]);
        for process in [&mut child, &mut workload] {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        assert!(found.contains(&own) && found.contains(&child.id()));
        assert!(!found.contains(&workload.id()));
    }
}
