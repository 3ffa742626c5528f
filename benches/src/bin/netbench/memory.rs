//! `netbench memory`: what many attached ports cost.

use crate::compare::progress;
use crate::error::{Context, Error, Result};
use crate::machine::{Machine, kibibytes};
use crate::netns::Netns;
use crate::options::MemoryOptions;
use crate::system::Engine;
use crate::table::Table;
use serde::Serialize;
use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// A network with room for every port.
const SUBNET: &str = "10.88.0.0/16";

/// Address of the first port, as a number: 10.88.0.2.
const FIRST_ADDRESS: u32 = 0x0a58_0002;

/// Most that the engine may hold resident beside its rings, MiB (design, section "Budgets").
const ENGINE_BUDGET: f64 = 15.0;

/// Most that everything may hold with up to a thousand ports, MiB (design, section "Budgets").
const TOTAL_BUDGET: f64 = 512.0;

/// Time for the processes to come to rest before they are weighed.
const SETTLE: Duration = Duration::from_millis(500);

/// What `netbench memory` found; its JSON form is what `--json` writes.
#[derive(Serialize)]
pub(crate) struct MemoryReport {
    machine: Machine,
    /// Making the network, which starts the engine, ms.
    start_ms: f64,
    weights: Vec<Weight>,
}

/// Memory of both processes with a number of attached ports.
#[derive(Debug, Serialize)]
struct Weight {
    ports: u16,
    /// Resident memory of the engine without its rings, MiB.
    engine_mib: f64,
    /// Receive rings mapped by the engine, MiB.
    rings_mib: f64,
    /// Resident memory of the keeper, MiB.
    keeper_mib: f64,
    /// Everything, MiB.
    total_mib: f64,
    /// Whether both budgets hold.
    within_budget: bool,
    /// The very first `pontoon attach` of the run, ms.
    first_attach_ms: f64,
    /// The `pontoon attach` that made this number of ports, ms.
    last_attach_ms: f64,
}

/// Attaches ports up to each of the wanted numbers and weighs the processes there.
///
/// # Errors
/// When an attach fails or the processes cannot be looked at.
pub(crate) fn run(options: &MemoryOptions) -> Result<MemoryReport> {
    let machine = Machine::describe();
    let engine = Engine::new(&options.common.pontoon()?, "memory")?;
    let start = Instant::now();
    engine.create_network(SUBNET, "none")?;
    let start_ms = milliseconds(start);
    let weights = weigh_at(&engine, &options.ports)?;
    engine.shutdown()?;
    Ok(MemoryReport {
        machine,
        start_ms,
        weights,
    })
}

fn weigh_at(engine: &Engine, stops: &[u16]) -> Result<Vec<Weight>> {
    let (mut containers, mut attach_ms, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for &ports in stops {
        progress(&format!("attaching up to {ports} ports"));
        for index in attach_ms.len()..usize::from(ports) {
            containers.push(Netns::create()?);
            attach_ms.push(timed_attach(engine, &containers[index], index)?);
        }
        weights.push(weigh(engine, ports, &attach_ms)?);
    }
    Ok(weights)
}

fn timed_attach(engine: &Engine, container: &Netns, index: usize) -> Result<f64> {
    let start = Instant::now();
    engine.attach(container, &format!("c{index}"), address(index))?;
    Ok(milliseconds(start))
}

fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::from(FIRST_ADDRESS + u32::try_from(index).unwrap_or(u32::MAX - FIRST_ADDRESS))
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn weigh(engine: &Engine, ports: u16, attach_ms: &[f64]) -> Result<Weight> {
    std::thread::sleep(SETTLE);
    let processes = engine.processes()?;
    let maps = proc_file(processes.engine, "smaps")?;
    let (rings, resident_rings) = (rings(&maps, "Size"), rings(&maps, "Rss"));
    let engine_kib = resident(processes.engine)? - resident_rings;
    let keeper_kib = resident(processes.keeper)?;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let total_mib = mib(engine_kib + rings + keeper_kib);
    Ok(Weight {
        ports,
        engine_mib: mib(engine_kib),
        rings_mib: mib(rings),
        keeper_mib: mib(keeper_kib),
        total_mib,
        within_budget: mib(engine_kib) <= ENGINE_BUDGET && total_mib <= TOTAL_BUDGET,
        first_attach_ms: attach_ms.first().copied().unwrap_or_default(),
        last_attach_ms: attach_ms.last().copied().unwrap_or_default(),
    })
}

fn proc_file(pid: u32, name: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{name}");
    fs::read_to_string(&path).context(format!("reading {path}"))
}

/// Resident memory of a process, KiB.
fn resident(pid: u32) -> Result<u64> {
    kibibytes(&proc_file(pid, "status")?, "VmRSS").ok_or_else(|| Error::Unreadable {
        what: format!("/proc/{pid}/status"),
        reason: "no VmRSS in it".to_owned(),
    })
}

/// Adds up a field of those mappings in an smaps file that belong to sockets, KiB: packet rings.
fn rings(smaps: &str, field: &str) -> u64 {
    let mut of_socket = false;
    let mut sum = 0;
    for line in smaps.lines() {
        if is_mapping(line) {
            of_socket = line.contains(" socket:[");
        } else if of_socket {
            sum += kibibytes(line, field).unwrap_or(0);
        }
    }
    sum
}

/// Whether an smaps line opens a mapping: `start-end perms offset dev inode name`.
fn is_mapping(line: &str) -> bool {
    line.split(' ')
        .next()
        .is_some_and(|range| range.contains('-') && !range.ends_with(':'))
}

impl MemoryReport {
    /// The report as text.
    pub(crate) fn render(&self) -> String {
        let mut table = Table::new([
            "ports",
            "engine MiB",
            "rings MiB",
            "keeper MiB",
            "total MiB",
            "first attach ms",
            "last attach ms",
            "budget",
        ]);
        for weight in &self.weights {
            let number = |value: f64| format!("{value:.1}");
            table.push([
                weight.ports.to_string(),
                number(weight.engine_mib),
                number(weight.rings_mib),
                number(weight.keeper_mib),
                number(weight.total_mib),
                number(weight.first_attach_ms),
                number(weight.last_attach_ms),
                if weight.within_budget {
                    "met"
                } else {
                    "MISSED"
                }
                .to_owned(),
            ]);
        }
        let Self {
            machine, start_ms, ..
        } = self;
        let budgets = format!(
            "Budgets: engine ≤ {ENGINE_BUDGET} MiB beside its rings, everything ≤ {TOTAL_BUDGET} \
             MiB."
        );
        let start = format!("Network made and engine started in {start_ms:.1} ms.");
        format!(
            "{}\n\n{}\n{budgets}\n{start}\n",
            machine.label(),
            table.render()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
7f00-7f80 rw-s 00000000 00:08 4711                       socket:[4711]
Size:               8192 kB
Rss:                4096 kB
VmFlags: rd wr sh mr
7f80-7f90 rw-p 00000000 00:00 0                          [heap]
Size:                100 kB
Rss:                  50 kB
7f90-7fa0 rw-s 00000000 00:08 4712                       socket:[4712]
Size:                 64 kB
Rss:                  64 kB
";

    #[test]
    fn rings_are_the_mappings_of_sockets() {
        assert_eq!(rings(SMAPS, "Size"), 8192 + 64);
        assert_eq!(rings(SMAPS, "Rss"), 4096 + 64);
    }

    #[test]
    fn addresses_follow_each_other_over_a_byte_boundary() {
        assert_eq!(address(0), Ipv4Addr::new(10, 88, 0, 2));
        assert_eq!(address(254), Ipv4Addr::new(10, 88, 1, 0));
        assert_eq!(address(999), Ipv4Addr::new(10, 88, 3, 233));
    }

    #[test]
    fn report_shows_a_missed_budget() {
        let weight = Weight {
            ports: 2,
            engine_mib: 15.1,
            rings_mib: 8.0,
            keeper_mib: 2.0,
            total_mib: 25.1,
            within_budget: false,
            first_attach_ms: 10.0,
            last_attach_ms: 11.0,
        };
        let report = MemoryReport {
            machine: Machine::describe(),
            start_ms: 30.0,
            weights: vec![weight],
        };
        assert!(
            report
                .render()
                .contains("| 2     | 15.1       | 8.0       | 2.0        | 25.1")
        );
        assert!(report.render().contains("MISSED"));
    }
}
