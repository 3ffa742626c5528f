//! Pontoon's user uplink, driven through its command line alone.

use super::workload::Workload;
use super::{Container, Ports, Running, words};
use crate::error::Result;
use crate::lab::UPLINK_ADDRESS;
use crate::netns::Netns;
use crate::system::Engine;
use std::path::Path;

/// Name of the network that is measured.
const NETWORK: &str = "bench";

impl Running {
    /// A container on a network whose uplink is the user's.
    pub(super) fn pontoon(&mut self, mtu: u16, ports: &Ports, binary: &Path) -> Result<()> {
        let workload = Workload::new();
        let engine = &*self.engine.insert(Engine::new(
            binary,
            &format!("outward-{}", workload.mark()),
        )?);
        let create = format!("network create {NETWORK} --uplink user --mtu {mtu}");
        let mut line = format!("run --network {NETWORK}");
        for (protocol, host, container) in ports.published() {
            line += &format!(" --publish {UPLINK_ADDRESS}:{host}:{container}/{protocol}");
        }
        line += &format!(" -- {}", workload.line());
        let environment = [engine.environment()];
        let create: Vec<&str> = create.split(' ').collect();
        self.lab.host.run(|| engine.pontoon(&create))?;
        let container = self.daemon_with(binary, &words(&line), &environment)?;
        let pid = workload.await_start(|| container.check())?;
        self.container = Container::Process(Netns::of_process(pid)?);
        Ok(())
    }
}
