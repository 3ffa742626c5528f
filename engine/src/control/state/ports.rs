//! Published ports.

use super::{Phase, State};
use crate::control::Invalid;
use crate::control::publish::PublishSpec;

/// Ephemeral ports for `-p` without a host port start here; Linux `ip_local_port_range`.
const FIRST_EPHEMERAL: u16 = 32_768;

impl State {
    /// Checks that ports may be published on a network: that it is not an internal one.
    pub(super) fn check_reachable(&self, network: &str) -> Result<(), Invalid> {
        if self.network(network)?.uplink.reaches_outside() {
            return Ok(());
        }
        let others = self.networks().filter(|n| n.uplink.reaches_outside());
        let others: Vec<_> = others.map(|n| n.name.as_str()).collect();
        let use_instead = match &others[..] {
            [] => "publish on a network that is made with --uplink dev:INTERFACE".to_owned(),
            names => format!("publish on one with an uplink: {}", names.join(", ")),
        };
        let what = format!(
            "network {network} has no uplink, so nobody outside could reach the port; {use_instead}"
        );
        Err(Invalid::new("--publish", what))
    }

    /// Fills in the host ports that were left open, and checks that nobody has the others.
    pub(super) fn choose_ports(&self, wanted: &[PublishSpec]) -> Result<Vec<PublishSpec>, Invalid> {
        let mut chosen: Vec<PublishSpec> = Vec::new();
        for spec in wanted {
            let mut spec = spec.clone();
            if spec.address.is_ipv6() {
                let what = format!("{}: only IPv4 addresses are supported", spec.address);
                return Err(Invalid::new("--publish", what));
            }
            let held = |port: u16, chosen: &[PublishSpec]| {
                let other = |p: &&PublishSpec| collides(p, &spec, port);
                let running = self
                    .containers
                    .values()
                    .filter(|c| c.phase == Phase::Running);
                let holder = running
                    .flat_map(|c| c.publish.iter().map(move |p| (p, c.name.as_str())))
                    .find(|(p, _)| other(p))
                    .map(|(_, name)| name.to_owned());
                holder.or_else(|| {
                    chosen
                        .iter()
                        .find(other)
                        .map(|_| "this container".to_owned())
                })
            };
            match spec.host {
                Some(port) => {
                    if let Some(holder) = held(port, &chosen) {
                        let what = format!(
                            "Bind for {}:{port} failed: port is already allocated to {holder}",
                            spec.address
                        );
                        return Err(Invalid::new("--publish", what));
                    }
                }
                None => {
                    let free = (FIRST_EPHEMERAL..=u16::MAX).find(|p| held(*p, &chosen).is_none());
                    let full = || Invalid::new("--publish", "no ephemeral port is free");
                    spec.host = Some(free.ok_or_else(full)?);
                }
            }
            chosen.push(spec);
        }
        Ok(chosen)
    }
}

fn collides(held: &PublishSpec, wanted: &PublishSpec, port: u16) -> bool {
    let same_address = held.address == wanted.address
        || held.address.is_unspecified()
        || wanted.address.is_unspecified();
    held.protocol == wanted.protocol && held.host == Some(port) && same_address
}
