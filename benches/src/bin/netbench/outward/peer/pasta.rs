//! pasta of the passt package, with the addresses that RootlessKit gives it.

use super::super::packages::Packages;
use super::workload::Workload;
use super::{Container, Ports, Running, words};
use crate::error::{Context, Result};
use crate::lab::UPLINK_ADDRESS;
use crate::netns::Netns;
use crate::process::locate;
use std::fs;

/// The third field of /proc/self/uid_map where no user namespace is in between
/// (user_namespaces(7)).
const ALL_USERS: &str = "4294967295";

impl Running {
    /// A container process with pasta as its only way out.
    pub(super) fn pasta(&mut self, mtu: u16, ports: &Ports, packages: &Packages) -> Result<()> {
        let pid = self.container_process(&Workload::new())?;
        let arguments = words(&format!(
            "--foreground --stderr --quiet {} --ipv4-only --config-net --ns-ifname eth0 \
             --address 10.0.2.100 --netmask 24 --gateway 10.0.2.2 --mtu {mtu} --no-map-gw \
             --tcp-ports {} --udp-ports {} --tcp-ns none --udp-ns none {pid}",
            as_root()?,
            forwards(ports, "tcp"),
            forwards(ports, "udp"),
        ));
        self.daemon(&packages.program("pasta")?, &arguments)
            .map(drop)
    }

    /// Starts a process in a user and a network namespace of its own, which become the
    /// container's: pasta gives up every right over the namespaces it was started in.
    pub(super) fn container_process(&mut self, workload: &Workload) -> Result<u32> {
        let line = format!("--user --map-root-user --net {}", workload.line());
        let process = self.daemon(&locate("unshare", "util-linux")?, &words(&line))?;
        let pid = workload.await_start(|| process.check())?;
        self.container = Container::Process(Netns::of_process(pid)?);
        Ok(pid)
    }
}

/// Keeps pasta from becoming `nobody` when the machine's root starts it.
fn as_root() -> Result<&'static str> {
    let map = fs::read_to_string("/proc/self/uid_map").context("reading /proc/self/uid_map")?;
    let is_root = map.split_ascii_whitespace().nth(2) == Some(ALL_USERS);
    Ok(if is_root { "--runas 0" } else { "" })
}

/// The specification of the published ports of a protocol (pasta(1), `--tcp-ports`).
fn forwards(ports: &Ports, wanted: &str) -> String {
    let of_protocol = ports
        .published()
        .filter(|(protocol, ..)| *protocol == wanted);
    let pairs: Vec<String> = of_protocol
        .map(|(_, host, container)| format!("{host}:{container}"))
        .collect();
    if pairs.is_empty() {
        return "none".to_owned();
    }
    format!("{UPLINK_ADDRESS}/{}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_name_the_address_once() {
        let ports = Ports {
            tcp: vec![80, 81],
            udp: Vec::new(),
        };
        assert_eq!(forwards(&ports, "tcp"), "192.0.2.1/1080:80,1081:81");
        assert_eq!(forwards(&ports, "udp"), "none");
    }
}
