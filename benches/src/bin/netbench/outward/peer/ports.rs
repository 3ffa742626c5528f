//! The ports that a peer publishes.

use crate::measure::{TCP_PORTS, UDP_PORTS};

/// How far a published port of the host lies above the container's.
pub(super) const SHIFT: u16 = 1000;

/// First of many published ports, in the container.
pub(in crate::outward) const FIRST_OF_MANY: u16 = 20_000;

/// The container's ports that are published.
pub(crate) struct Ports {
    pub(super) tcp: Vec<u16>,
    pub(super) udp: Vec<u16>,
}

impl Ports {
    /// Those on which measurements listen.
    pub(crate) fn measured() -> Self {
        Self {
            tcp: TCP_PORTS.to_vec(),
            udp: UDP_PORTS.to_vec(),
        }
    }

    /// So many TCP ports in a row.
    pub(crate) fn many(count: u16) -> Self {
        Self {
            tcp: (FIRST_OF_MANY..FIRST_OF_MANY + count).collect(),
            udp: Vec::new(),
        }
    }

    /// Each as protocol, the host's port and the container's.
    pub(super) fn published(&self) -> impl Iterator<Item = (&'static str, u16, u16)> {
        let of = |protocol, ports: &[u16]| -> Vec<_> {
            let shifted = |&port: &u16| (protocol, port + SHIFT, port);
            ports.iter().map(shifted).collect()
        };
        of("tcp", &self.tcp).into_iter().chain(of("udp", &self.udp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_of_the_host_lie_above_the_containers() {
        let ports = Ports {
            tcp: vec![80],
            udp: vec![53],
        };
        let published: Vec<_> = ports.published().collect();
        assert_eq!(published, [("tcp", 1080, 80), ("udp", 1053, 53)]);
    }
}
