//! Pontoon, driven through its command line alone.

use super::{Endpoints, Route, System};
use crate::error::{Context, Error, Result};
use crate::lab::{FIRST, Lab, MTU, SECOND, SUBNET, UPLINK};
use crate::measure::{TCP_PORTS, UDP_PORTS};
use crate::netns::Netns;
use crate::process::run;
use crate::sandbox::PRIVATE_DIR;
use serde_json::Value;
use std::fs::DirBuilder;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the network that is measured.
const NETWORK: &str = "bench";

/// One engine, found by a runtime directory of its own.
pub(crate) struct Engine {
    binary: PathBuf,
    runtime_dir: PathBuf,
    offload: &'static str,
}

/// The two processes of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Processes {
    /// Carries the packets.
    pub(crate) engine: u32,
    /// Holds the descriptors.
    pub(crate) keeper: u32,
}

impl Engine {
    /// Prepares a runtime directory; nothing is started.
    ///
    /// # Errors
    /// [`Error::MissingPontoon`] when there is no such binary.
    pub(crate) fn new(binary: &Path, name: &str) -> Result<Self> {
        if !binary.is_file() {
            return Err(Error::MissingPontoon {
                path: binary.display().to_string(),
            });
        }
        let runtime_dir = Path::new(PRIVATE_DIR).join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&runtime_dir)
            .context(format!("making {}", runtime_dir.display()))?;
        Ok(Self {
            binary: binary.to_owned(),
            runtime_dir,
            offload: "auto",
        })
    }

    /// The same, started with this choice of `--offload`.
    pub(crate) const fn with_offload(mut self, offload: &'static str) -> Self {
        self.offload = offload;
        self
    }

    /// Makes the measured network, which starts the engine in the calling thread's namespace.
    ///
    /// # Errors
    /// With what `pontoon` wrote.
    pub(crate) fn create_network(&self, subnet: &str, uplink: &str) -> Result<()> {
        let mtu = MTU.to_string();
        let options = ["--subnet", subnet, "--uplink", uplink, "--mtu", &mtu];
        self.pontoon(&[&["network", "create", NETWORK][..], &options[..]].concat())
            .map(drop)
    }

    /// Plugs a namespace into the measured network.
    ///
    /// # Errors
    /// With what `pontoon` wrote.
    pub(crate) fn attach(&self, container: &Netns, name: &str, address: Ipv4Addr) -> Result<()> {
        let (path, address) = (container.path(), address.to_string());
        let place = [
            "--netns",
            &path,
            "--name",
            name,
            "--network",
            NETWORK,
            "--ip",
            &address,
        ];
        self.pontoon(&[&["attach"][..], &place[..]].concat())
            .map(drop)
    }

    /// The processes that work for this engine.
    ///
    /// # Errors
    /// With what `pontoon` wrote, or when the status names no processes.
    pub(crate) fn processes(&self) -> Result<Processes> {
        processes_of(&self.pontoon(&["status", "--json"])?)
    }

    /// Ends engine and keeper.
    ///
    /// # Errors
    /// With what `pontoon` wrote.
    pub(crate) fn shutdown(&self) -> Result<()> {
        self.pontoon(&["shutdown"]).map(drop)
    }

    /// Runs `pontoon` with these arguments and answers what it printed.
    ///
    /// # Errors
    /// With what `pontoon` wrote.
    pub(crate) fn pontoon(&self, arguments: &[&str]) -> Result<String> {
        let (name, runtime_dir) = self.environment();
        run(Command::new(&self.binary)
            .args(["--offload", self.offload])
            .args(arguments)
            .env(name, runtime_dir))
    }

    /// Where its API is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime_dir.join("pontoon/api.sock")
    }

    /// The variable by which `pontoon` finds this engine, and its value.
    pub(crate) fn environment(&self) -> (&'static str, String) {
        ("XDG_RUNTIME_DIR", self.runtime_dir.display().to_string())
    }
}

fn processes_of(status: &str) -> Result<Processes> {
    let unreadable = |reason: String| Error::Unreadable {
        what: "pontoon status --json".to_owned(),
        reason,
    };
    let status: Value =
        serde_json::from_str(status).map_err(|error| unreadable(error.to_string()))?;
    let pid = |process: &str| {
        status
            .pointer(&format!("/{process}/pid"))
            .and_then(Value::as_u64)
            .and_then(|pid| u32::try_from(pid).ok())
            .ok_or_else(|| unreadable(format!("no {process}.pid in it")))
    };
    Ok(Processes {
        engine: pid("engine")?,
        keeper: pid("keeper")?,
    })
}

/// Two containers on a Pontoon network whose uplink is the host's interface.
pub(super) struct Pontoon {
    lab: Lab,
    route: Route,
    engine: Engine,
    carrier: Option<u32>,
}

impl Pontoon {
    pub(super) fn new(lab: Lab, route: Route, engine: Engine) -> Self {
        Self {
            lab,
            route,
            engine,
            carrier: None,
        }
    }
}

impl System for Pontoon {
    fn build(&mut self) -> Result<()> {
        let Self {
            lab,
            route,
            engine,
            carrier,
        } = self;
        lab.host.run(|| {
            engine.create_network(SUBNET, &format!("dev:{UPLINK}"))?;
            engine.attach(&lab.first, "c1", FIRST)?;
            engine.attach(&lab.second, "c2", SECOND)?;
            if *route == Route::Published {
                let tcp = TCP_PORTS.map(|port| format!("{port}:{port}"));
                let udp = UDP_PORTS.map(|port| format!("{port}:{port}/udp"));
                let ports = tcp.iter().chain(&udp).map(String::as_str);
                let publish: Vec<_> = ["publish", "c2"].into_iter().chain(ports).collect();
                engine.pontoon(&publish)?;
            }
            *carrier = Some(engine.processes()?.engine);
            Ok(())
        })
    }

    fn endpoints(&self) -> Endpoints<'_> {
        self.lab.endpoints(self.route)
    }

    fn carrier(&self) -> Option<u32> {
        self.carrier
    }

    fn teardown(&mut self) -> Result<()> {
        self.lab.host.run(|| self.engine.shutdown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_read_from_the_status() {
        let status = r#"{"engine":{"pid":12},"keeper":{"pid":11},"version":"0.1.0"}"#;
        assert_eq!(
            processes_of(status).unwrap(),
            Processes {
                engine: 12,
                keeper: 11
            }
        );
    }

    #[test]
    fn status_without_a_keeper_is_refused() {
        let error = processes_of(r#"{"engine":{"pid":12}}"#)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "output of pontoon status --json: no keeper.pid in it"
        );
    }

    #[test]
    fn missing_binary_is_named_with_advice() {
        let Err(error) = Engine::new(Path::new("/nowhere/pontoon"), "test") else {
            panic!("an engine without a binary")
        };
        assert!(
            error
                .to_string()
                .contains("cargo build --release -p pontoon-cli")
        );
    }
}
