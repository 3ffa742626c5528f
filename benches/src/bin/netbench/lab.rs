//! The namespaces around a system under test, the same for each: two containers, the host that
//! carries their network, and an outside host behind the host's interface `up0`.
//!
//! ```text
//!  first 10.88.0.2 ──┐
//!                    host: bridge 10.88.0.1 ── up0 192.0.2.1 ──── outside 192.0.2.254
//!  second 10.88.0.3 ─┘
//! ```

use crate::error::Result;
use crate::netns::Netns;
use crate::process::{locate, run};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

/// The containers' network.
pub(crate) const SUBNET: &str = "10.88.0.0/24";
/// The host's address in the containers' network.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// Address of the first container.
pub(crate) const FIRST: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
/// Address of the second container.
pub(crate) const SECOND: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 3);
/// The host's interface towards the outside.
pub(crate) const UPLINK: &str = "up0";
/// The host's address towards the outside (TEST-NET-1, RFC 5737).
pub(crate) const UPLINK_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Address of the outside host.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// MTU of every link, in bytes.
pub(crate) const MTU: u16 = 1500;

/// The namespaces of one system.
pub(crate) struct Lab {
    /// Where the system under test works.
    pub(crate) host: Netns,
    /// The container that starts every exchange.
    pub(crate) first: Netns,
    /// The container that answers on the bridge.
    pub(crate) second: Netns,
    /// The host that answers beyond the uplink.
    pub(crate) outside: Netns,
    ip: PathBuf,
}

impl Lab {
    /// Makes the namespaces and the link between host and outside. The containers are still
    /// without a network.
    ///
    /// # Errors
    /// When `ip` is missing or the kernel refuses.
    pub(crate) fn create() -> Result<Self> {
        let lab = Self {
            host: Netns::create()?,
            first: Netns::create()?,
            second: Netns::create()?,
            outside: Netns::create()?,
            ip: locate("ip", "iproute2")?,
        };
        for namespace in [&lab.host, &lab.first, &lab.second, &lab.outside] {
            lab.ip(namespace, "link set lo up")?;
        }
        lab.connect(UPLINK, &lab.outside)?;
        lab.ip(
            &lab.host,
            &format!("address add {UPLINK_ADDRESS}/24 dev {UPLINK}"),
        )?;
        lab.ip(&lab.host, &format!("route add default via {OUTSIDE}"))?;
        lab.ip(&lab.outside, &format!("address add {OUTSIDE}/24 dev eth0"))?;
        Ok(lab)
    }

    /// Joins `host_end` on the host to `eth0` in another namespace by a veth pair, both ends up.
    ///
    /// # Errors
    /// When the kernel has no veth or the name is taken.
    pub(crate) fn connect(&self, host_end: &str, other: &Netns) -> Result<()> {
        let peer = format!("peer name eth0 mtu {MTU} netns {}", other.path());
        self.ip(
            &self.host,
            &format!("link add {host_end} mtu {MTU} type veth {peer}"),
        )?;
        self.ip(&self.host, &format!("link set {host_end} up"))?;
        self.ip(other, "link set eth0 up")
    }

    /// Runs `ip` inside a namespace; `arguments` are separated by blanks.
    ///
    /// # Errors
    /// With what `ip` wrote.
    pub(crate) fn ip(&self, namespace: &Netns, arguments: &str) -> Result<()> {
        let mut command = Command::new(&self.ip);
        namespace.run(|| run(command.args(arguments.split(' '))).map(drop))
    }
}
