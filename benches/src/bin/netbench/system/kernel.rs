//! The kernel's own bridge, router and nftables masquerade: what docker0 is made of.

use super::{Endpoints, Route, System};
use crate::error::Result;
use crate::lab::{FIRST, GATEWAY, Lab, MTU, SECOND, SUBNET, UPLINK};
use crate::measure::{TCP_PORTS, UDP_PORTS};
use crate::netns::Netns;
use crate::process::{locate, run};
use crate::sandbox;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

/// A Linux bridge with two containers; but for [`Route::Bridged`] also forwarding and NAT.
pub(super) struct Kernel {
    lab: Lab,
    route: Route,
    nft: PathBuf,
}

impl Kernel {
    pub(super) fn new(lab: Lab, route: Route) -> Result<Self> {
        Ok(Self {
            lab,
            route,
            nft: locate("nft", "nftables")?,
        })
    }

    fn bridge(&self) -> Result<()> {
        let host = &self.lab.host;
        self.lab
            .ip(host, &format!("link add br0 mtu {MTU} type bridge"))?;
        self.lab
            .ip(host, &format!("address add {GATEWAY}/24 dev br0"))?;
        self.lab.ip(host, "link set br0 up")?;
        self.plug("p1", &self.lab.first, FIRST)?;
        self.plug("p2", &self.lab.second, SECOND)
    }

    fn plug(&self, port: &str, container: &Netns, address: Ipv4Addr) -> Result<()> {
        self.lab.connect(port, container)?;
        self.lab
            .ip(&self.lab.host, &format!("link set {port} master br0"))?;
        self.lab
            .ip(container, &format!("address add {address}/24 dev eth0"))?;
        self.lab
            .ip(container, &format!("route add default via {GATEWAY}"))
    }

    /// The rules that Docker makes for docker0, without those for published ports.
    fn masquerade(&self) -> Result<()> {
        let rules = format!(
            "table ip nat {{ chain postrouting {{ \
             type nat hook postrouting priority srcnat; \
             ip saddr {SUBNET} oifname \"{UPLINK}\" masquerade; }}; }};"
        );
        self.route_by(rules)
    }

    /// The rule that Docker makes for each published port, as one.
    fn publish(&self) -> Result<()> {
        let list = |ports: &[u16]| {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            ports.join(", ")
        };
        let rules = format!(
            "table ip nat {{ chain prerouting {{ \
             type nat hook prerouting priority dstnat; \
             iifname \"{UPLINK}\" tcp dport {{ {} }} dnat to {SECOND}; \
             iifname \"{UPLINK}\" udp dport {{ {} }} dnat to {SECOND}; }}; }};",
            list(&TCP_PORTS),
            list(&UDP_PORTS),
        );
        self.route_by(rules)
    }

    fn route_by(&self, rules: String) -> Result<()> {
        self.lab.host.run(|| {
            sandbox::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            run(Command::new(&self.nft).arg(rules)).map(drop)
        })
    }
}

impl System for Kernel {
    fn build(&mut self) -> Result<()> {
        self.bridge()?;
        match self.route {
            Route::Bridged => Ok(()),
            Route::Masqueraded => self.masquerade(),
            Route::Published => self.publish(),
        }
    }

    fn endpoints(&self) -> Endpoints<'_> {
        self.lab.endpoints(self.route)
    }

    fn carrier(&self) -> Option<u32> {
        None
    }

    fn teardown(&mut self) -> Result<()> {
        self.lab.ip(&self.lab.host, "link delete br0")
    }
}
