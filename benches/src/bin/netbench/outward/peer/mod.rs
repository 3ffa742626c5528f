//! What joins a container to its host, each built in surroundings of its own.

mod daemon;
mod docker_proxy;
mod kernel;
mod name;
mod pasta;
mod pontoon;
mod ports;
mod rootlesskit;
mod slirp4netns;
mod workload;

use super::Subject;
use super::packages::Packages;
use super::socket_memory::SocketMemory;
use crate::error::{Error, Result};
use crate::lab::{GATEWAY, Lab, MTU, UPLINK_ADDRESS};
use crate::measure::warm_up;
use crate::netns::Netns;
use crate::sandbox::write;
use crate::system::{Endpoints, Engine};
use daemon::Daemon;
pub(crate) use name::{PeerName, Way};
pub(super) use ports::FIRST_OF_MANY;
pub(crate) use ports::Ports;
use ports::SHIFT;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
pub(super) use workload::PROGRAM as PROGRAM_OF_WORKLOADS;

/// How long a peer may take until traffic passes.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Ports of connecting ends: all but the lowest, and free again soon after use, with few that wait. A
/// minute's new connections must not run out of them, and looking for one that is left takes the kernel
/// milliseconds.
const PORT_SETTINGS: [(&str, &str); 3] = [
    ("/proc/sys/net/ipv4/ip_local_port_range", "10000 65535"),
    ("/proc/sys/net/ipv4/tcp_tw_reuse", "1"),
    ("/proc/sys/net/ipv4/tcp_max_tw_buckets", "1000"),
];

/// What every peer is built from.
pub(crate) struct Surroundings {
    /// The peers' programs.
    pub(crate) packages: Packages,
    /// The machine's limits on socket buffers.
    pub(crate) memory: SocketMemory,
    /// The pontoon binary.
    pub(crate) pontoon: PathBuf,
}

/// A peer that runs, and ends when dropped.
pub(crate) struct Running {
    subject: Subject,
    daemons: Vec<Daemon>,
    engine: Option<Engine>,
    container: Container,
    lab: Lab,
}

/// Where the container's end is.
enum Container {
    Host,
    First,
    Process(Netns),
}

impl Surroundings {
    /// Runs `task` with the limits on socket buffers that the peer asks for.
    ///
    /// # Errors
    /// Those of `task`, and when the limits cannot be set.
    pub(crate) fn with_memory_of<T>(
        &self,
        peer: PeerName,
        task: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        match peer {
            PeerName::PastaRaised => self.memory.raised(task),
            _ => task(),
        }
    }
}

impl Running {
    /// Starts a peer with these ports published on the host's address.
    ///
    /// # Errors
    /// With what its programs wrote.
    pub(crate) fn start(subject: Subject, ports: &Ports, from: &Surroundings) -> Result<Self> {
        let mtu = subject.mtu.unwrap_or(MTU);
        let mut running = Self {
            subject,
            daemons: Vec::new(),
            engine: None,
            container: Container::First,
            lab: Lab::create()?,
        };
        match subject.peer {
            PeerName::Loopback => running.container = Container::Host,
            PeerName::KernelBridge => running.bridge(mtu, ports)?,
            PeerName::Slirp4netns => running.slirp4netns(mtu, ports, &from.packages)?,
            PeerName::Pasta | PeerName::PastaRaised => running.pasta(mtu, ports, &from.packages)?,
            PeerName::Rootlesskit => running.rootlesskit(ports, &from.packages)?,
            PeerName::DockerProxy => running.docker_proxy(mtu, ports, &from.packages)?,
            PeerName::Pontoon => running.pontoon(mtu, ports, &from.pontoon)?,
        }
        for namespace in [&running.lab.host, running.container()] {
            let set = |(path, value): &(&str, &str)| write(path, value);
            namespace.run(|| PORT_SETTINGS.iter().try_for_each(set))?;
        }
        Ok(running)
    }

    /// The two ends of a way.
    pub(crate) fn endpoints(&self, way: Way) -> Endpoints<'_> {
        let (host, container) = (&self.lab.host, self.container());
        let (client, server, shift) = match way {
            Way::Outward => (container, host, 0),
            Way::Inward => (host, container, SHIFT),
        };
        Endpoints {
            client,
            server,
            address: match (&self.container, way) {
                (Container::Host, _) => Ipv4Addr::LOCALHOST,
                (Container::First, Way::Outward) => GATEWAY,
                _ => UPLINK_ADDRESS,
            },
            shift,
        }
    }

    /// Waits until TCP and UDP pass on every way.
    ///
    /// # Errors
    /// When they do not in time, or a program has ended, with what it wrote.
    pub(crate) fn await_traffic(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            let tried = self.subject.peer.ways().iter().copied();
            let failed = |way| Some((way, warm_up(self.endpoints(way)).err()?));
            let Some((way, error)) = tried.filter_map(failed).next() else {
                return Ok(());
            };
            self.check()?;
            if start.elapsed() > START_LIMIT {
                return Err(Error::Failed {
                    command: format!("first exchange {} through {}", way.label(), self.subject),
                    output: error.to_string(),
                });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Looks whether all of its programs are alive.
    ///
    /// # Errors
    /// With what the first that is not wrote.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.daemons.iter_mut().try_for_each(Daemon::check)
    }

    /// The processes that work for it: those it was started by, whose descendants do as well.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        let mut roots: Vec<u32> = self.daemons.iter().map(Daemon::pid).collect();
        if let Some(engine) = &self.engine {
            let processes = engine.processes()?;
            roots.extend([processes.engine, processes.keeper]);
        }
        Ok(roots)
    }

    fn container(&self) -> &Netns {
        match &self.container {
            Container::Host => &self.lab.host,
            Container::First => &self.lab.first,
            Container::Process(namespace) => namespace,
        }
    }

    /// Starts a program in the host's namespace.
    fn daemon(&mut self, program: &std::path::Path, arguments: &[String]) -> Result<&mut Daemon> {
        self.daemon_with(program, arguments, &[])
    }

    /// The same with variables in its environment.
    fn daemon_with(
        &mut self,
        program: &std::path::Path,
        arguments: &[String],
        environment: &[(&str, String)],
    ) -> Result<&mut Daemon> {
        let start = || Daemon::start(program, arguments, environment);
        let daemon = self.lab.host.run(start)?;
        let place = self.daemons.len();
        self.daemons.push(daemon);
        Ok(&mut self.daemons[place])
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(engine) = &self.engine {
            let _never_started_at_worst = self.lab.host.run(|| engine.shutdown());
        }
    }
}

/// Words of a command line that are separated by blanks.
fn words(line: &str) -> Vec<String> {
    line.split_ascii_whitespace().map(str::to_owned).collect()
}
