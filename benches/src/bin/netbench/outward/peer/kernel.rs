//! The kernel's bridge with the rules by which Docker publishes ports.

use super::{Ports, Running};
use crate::error::Result;
use crate::lab::{FIRST, GATEWAY, UPLINK_ADDRESS};
use crate::process::{locate, run};
use std::process::Command;

impl Running {
    /// Joins the first container to a bridge of the host and publishes its ports by DNAT.
    pub(super) fn bridge(&mut self, mtu: u16, ports: &Ports) -> Result<()> {
        self.join_bridge(mtu)?;
        let rules: Vec<String> = ports
            .published()
            .map(|(protocol, host, container)| {
                format!(
                    "ip daddr {UPLINK_ADDRESS} {protocol} dport {host} dnat to {FIRST}:{container};"
                )
            })
            .collect();
        let table = format!(
            "table ip nat {{ chain output {{ type nat hook output priority -100; {} }}; }};",
            rules.join(" ")
        );
        let nft = locate("nft", "nftables")?;
        let set = || run(Command::new(nft).arg(table)).map(drop);
        self.lab.host.run(set)
    }

    /// Joins the first container to a bridge of the host.
    pub(super) fn join_bridge(&mut self, mtu: u16) -> Result<()> {
        let (lab, host, first) = (&self.lab, &self.lab.host, &self.lab.first);
        lab.connect("p1", first)?;
        for line in [
            format!("link add br0 mtu {mtu} type bridge"),
            format!("address add {GATEWAY}/24 dev br0"),
            "link set br0 up".to_owned(),
            format!("link set p1 mtu {mtu} master br0"),
        ] {
            lab.ip(host, &line)?;
        }
        for line in [
            format!("link set eth0 mtu {mtu}"),
            format!("address add {FIRST}/24 dev eth0"),
            format!("route add default via {GATEWAY}"),
        ] {
            lab.ip(first, &line)?;
        }
        Ok(())
    }
}
