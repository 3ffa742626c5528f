//! docker-proxy: one process per published port, as dockerd starts it (libnetwork,
//! cmd/proxy and portmapper/proxy_linux.go).

use super::super::packages::Packages;
use super::{Ports, Running, words};
use crate::error::Result;
use crate::lab::{FIRST, UPLINK_ADDRESS};

/// What it writes to its descriptor 3 once it listens.
const READY: u8 = b'0';

impl Running {
    /// Joins the first container to a bridge and puts a proxy in front of each of its ports.
    pub(super) fn docker_proxy(
        &mut self,
        mtu: u16,
        ports: &Ports,
        packages: &Packages,
    ) -> Result<()> {
        self.join_bridge(mtu)?;
        let program = packages.program("docker-proxy")?;
        for (protocol, host, container) in ports.published() {
            let arguments = words(&format!(
                "-proto {protocol} -host-ip {UPLINK_ADDRESS} -host-port {host} \
                 -container-ip {FIRST} -container-port {container}"
            ));
            self.daemon(&program, &arguments)?.await_ready(READY)?;
        }
        Ok(())
    }
}
