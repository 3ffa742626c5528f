//! `netbench outward-memory`: what published ports and idle connections cost.

use super::peer::{FIRST_OF_MANY, PeerName, Ports, Running, Surroundings, Way};
use super::{Subject, pss};
use crate::compare::progress;
use crate::error::{Context, Result};
use crate::lab::MTU;
use crate::machine::Machine;
use crate::options::OutwardMemoryOptions;
use crate::system::Endpoints;
use crate::table::Table;
use serde::Serialize;
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
    let (idle, _) = weight_of(&mut start(0)?)?;
    let mut running = start(options.ports)?;
    let (with_ports, processes) = weight_of(&mut running)?;
    let connections = connect(running.endpoints(Way::Inward), options.connections)?;
    let (with_connections, _) = weight_of(&mut running)?;
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
fn weight_of(running: &mut Running) -> Result<(f64, usize)> {
    std::thread::sleep(SETTLE);
    running.check()?;
    let processes = pss::family(&running.processes()?);
    let weights = processes.iter().map(|&pid| pss::of_process(pid));
    let kib = weights.sum::<Result<u64>>()?;
    Ok((kib as f64, processes.len()))
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
