//! `netbench outward-memory`: what published ports and idle connections cost.

use super::Subject;
use super::peer::{
    FIRST_OF_MANY, PROGRAM_OF_WORKLOADS, PeerName, Ports, Running, Surroundings, Way,
};
use crate::compare::progress;
use crate::error::{Context, Error, Result};
use crate::lab::MTU;
use crate::machine::{Machine, kibibytes};
use crate::options::OutwardMemoryOptions;
use crate::system::Endpoints;
use crate::table::Table;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

/// Time for the processes to come to rest before they are weighed.
const SETTLE: Duration = Duration::from_secs(1);

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most that Pontoon may need for a published port, KiB (design, section "Budgets").
const PORT_BUDGET: f64 = 4.0;

/// What a run found; its JSON form is what `--json` writes.
#[derive(Serialize)]
pub(crate) struct WeighReport {
    machine: Machine,
    packages: Vec<String>,
    ports: u16,
    connections: u16,
    weights: Vec<Weight>,
    failures: Vec<String>,
}

/// Proportional set size (proc_pid_smaps(5)) of all processes of a peer, KiB.
#[derive(Debug, Serialize)]
struct Weight {
    peer: PeerName,
    /// Without published ports.
    idle: f64,
    /// With many published ports.
    with_ports: f64,
    /// With many idle connections through one of them as well.
    with_connections: f64,
    /// Processes with many published ports.
    processes: usize,
    /// What one port adds.
    per_port: f64,
    /// What one connection adds.
    per_connection: f64,
}

/// Weighs each of the chosen peers.
///
/// # Errors
/// Never for a single peer: what could not be weighed is listed in the report.
pub(crate) fn run(
    options: &OutwardMemoryOptions,
    surroundings: &Surroundings,
) -> Result<WeighReport> {
    let mut report = WeighReport {
        machine: Machine::describe(),
        packages: surroundings.packages.names().to_vec(),
        ports: options.ports,
        connections: options.connections,
        weights: Vec::new(),
        failures: Vec::new(),
    };
    for peer in options.peers() {
        progress(&format!("weighing {}", peer.label()));
        match weigh(peer, options, surroundings) {
            Ok(weight) => report.weights.push(weight),
            Err(error) => report.failures.push(format!("{}: {error}", peer.label())),
        }
    }
    Ok(report)
}

fn weigh(
    peer: PeerName,
    options: &OutwardMemoryOptions,
    surroundings: &Surroundings,
) -> Result<Weight> {
    let subject = Subject {
        peer,
        mtu: Some(MTU),
    };
    let start = |count| Running::start(subject, &Ports::many(count), surroundings);
    let (idle, _) = pss(&mut start(0)?)?;
    let mut running = start(options.ports)?;
    let (with_ports, processes) = pss(&mut running)?;
    let connections = connect(running.endpoints(Way::Inward), options.connections)?;
    let (with_connections, _) = pss(&mut running)?;
    drop(connections);
    Ok(Weight {
        peer,
        idle,
        with_ports,
        with_connections,
        processes,
        per_port: (with_ports - idle) / f64::from(options.ports),
        per_connection: (with_connections - with_ports) / f64::from(options.connections),
    })
}

/// Opens connections through a published port; each has carried a byte.
fn connect(ends: Endpoints<'_>, count: u16) -> Result<Vec<(TcpStream, TcpStream)>> {
    let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, FIRST_OF_MANY)).context("listening");
    let listener = ends.server.run(bind)?;
    let open = || {
        let address = ends.target(FIRST_OF_MANY).into();
        let mut client = TcpStream::connect_timeout(&address, PATIENCE)?;
        client.write_all(&[1])?;
        let (mut server, _) = listener.accept()?;
        server.read_exact(&mut [0])?;
        Ok::<_, std::io::Error>((client, server))
    };
    let open_all = || {
        (0..count)
            .map(|_| open().context("opening a connection"))
            .collect()
    };
    ends.client.run(open_all)
}

/// The weight of all processes of a peer, KiB, and how many they are.
fn pss(running: &mut Running) -> Result<(f64, usize)> {
    std::thread::sleep(SETTLE);
    running.check()?;
    let processes = family(&running.processes()?);
    let of = |pid: &u32| -> Result<u64> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).context(format!("reading {path}"))?;
        kibibytes(&text, "Pss").ok_or_else(|| Error::Unreadable {
            what: path,
            reason: "no Pss in it".to_owned(),
        })
    };
    let kib: u64 = processes.iter().map(of).sum::<Result<u64>>()?;
    Ok((kib as f64, processes.len()))
}

/// These processes and all that descend from them, without the containers' own.
fn family(roots: &[u32]) -> BTreeSet<u32> {
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

impl WeighReport {
    /// Whether every peer could be weighed.
    pub(crate) fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    /// The report as text.
    pub(crate) fn render(&self) -> String {
        let mut table = Table::new([
            "peer",
            "idle MiB",
            "with ports MiB",
            "with connections MiB",
            "processes",
            "KiB a port",
            "KiB a connection",
            "budget",
        ]);
        for weight in &self.weights {
            let mib = |kib: f64| format!("{:.1}", kib / 1024.0);
            table.push([
                weight.peer.label().to_owned(),
                mib(weight.idle),
                mib(weight.with_ports),
                mib(weight.with_connections),
                weight.processes.to_string(),
                format!("{:.2}", weight.per_port),
                format!("{:.2}", weight.per_connection),
                weight.verdict().to_owned(),
            ]);
        }
        let Self {
            ports, connections, ..
        } = self;
        let mut text = format!(
            "{}\n{}\n{ports} published ports, {connections} idle connections, PSS\n\n{}\n\
             Budget: a port of Pontoon ≤ {PORT_BUDGET} KiB.\n",
            self.machine.label(),
            self.packages.join(", "),
            table.render()
        );
        if !self.is_complete() {
            text += &format!("\nFailed:\n{}\n", self.failures.join("\n"));
        }
        text
    }
}

impl Weight {
    fn verdict(&self) -> &'static str {
        match self.peer {
            PeerName::Pontoon if self.per_port <= PORT_BUDGET => "met",
            PeerName::Pontoon => "MISSED",
            _ => "-",
        }
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
