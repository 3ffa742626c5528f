//! Ports of the host's that lead to containers.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddrV4};

use pontoon_nat::{Owner, Published};
use pontoon_packet::Endpoint;

use super::{Control, Outcome, broken};
use crate::control::api::Reply;
use crate::control::publish::{PublishRange, PublishSpec};
use crate::control::state::{Container, HostPorts, Network, Unclaimed, UplinkSpec};
use crate::io::control::holder;
use crate::io::user::{HostSocket, Publication};
use crate::io::worker::Worker;

/// Ports that were claimed for a container, each with the socket that holds it where the uplink takes
/// one. Given up when dropped.
pub(super) enum Claims {
    /// The engine sees to them on the wire.
    OnWire,
    /// Ordinary sockets of the host's.
    Sockets(Vec<HostSocket>),
}

impl Claims {
    /// No port yet, on a network with this uplink.
    pub(super) const fn none(uplink: &UplinkSpec) -> Self {
        match uplink {
            UplinkSpec::User => Self::Sockets(Vec::new()),
            UplinkSpec::Device(_) | UplinkSpec::None => Self::OnWire,
        }
    }
}

impl HostPorts for Claims {
    fn claim(&mut self, port: &PublishSpec) -> Result<(), Unclaimed> {
        let Self::Sockets(sockets) = self else {
            return Ok(());
        };
        let (IpAddr::V4(address), Some(number)) = (port.address, port.host) else {
            return Err(Unclaimed::Refused("not an IPv4 endpoint".to_owned()));
        };
        let bound = HostSocket::bind(SocketAddrV4::new(address, number), port.protocol);
        sockets.push(bound.map_err(unclaimed)?);
        Ok(())
    }

    fn holder(&self, port: &PublishSpec) -> String {
        holder::of(port)
    }
}

fn unclaimed(error: io::Error) -> Unclaimed {
    let why = match (error.kind(), error.raw_os_error()) {
        (ErrorKind::AddrInUse, _) => return Unclaimed::Taken,
        (ErrorKind::AddrNotAvailable, _) => "the host has no such address".to_owned(),
        (ErrorKind::PermissionDenied, _) => format!(
            "{error}: ports below net.ipv4.ip_unprivileged_port_start take CAP_NET_BIND_SERVICE"
        ),
        (_, Some(libc::EMFILE)) => {
            format!("{error}: each port takes one; raise the limit (ulimit -n)")
        }
        _ => error.to_string(),
    };
    Unclaimed::Refused(why)
}

impl Control {
    pub(super) fn publish(&mut self, name: &str, wanted: &[PublishRange]) -> Outcome<Reply> {
        let container = self.state.container(name)?.clone();
        let network = self.state.network(&container.network)?.clone();
        let mut claims = Claims::none(&network.uplink);
        let chosen = self.state.publish(&container.name, wanted, &mut claims)?;
        let opening = opening(&container, &network, &chosen, claims);
        let opened = self.ask(|w, _| opening.carry_out(w)).and_then(|done| done);
        if let Err(error) = opened {
            self.state
                .retract(&container.name, |port| chosen.contains(port));
            return Err(error);
        }
        Ok(Reply::Ports(chosen))
    }

    pub(super) fn unpublish(&mut self, name: &str, wanted: &[PublishRange]) -> Outcome<Reply> {
        let container = self.state.container(name)?.clone();
        let gateway = self.state.network(&container.network)?.gateway;
        let gone = self.state.unpublish(&container.name, wanted)?;
        let published: Vec<_> = published(&container, &gone).collect();
        self.ask(move |w, _| {
            w.unpublish(&published);
            for port in published {
                w.datapath().unpublish(&port);
                w.datapath().unpublish(&Published {
                    addr: gateway.into(),
                    ..port
                });
            }
        })?;
        Ok(Reply::Ports(gone))
    }
}

/// What the worker is to do so that clients of some ports are served.
pub(super) enum Opening {
    OnWire(Vec<Published>),
    Sockets(Vec<(Publication, HostSocket)>),
}

/// Joins claims to the container that they were made for.
pub(super) fn opening(
    container: &Container,
    network: &Network,
    ports: &[PublishSpec],
    claims: Claims,
) -> Opening {
    let published = published(container, ports);
    let sockets = match claims {
        Claims::OnWire => return Opening::OnWire(published.collect()),
        Claims::Sockets(sockets) => sockets,
    };
    let publications = published.map(|published| Publication {
        published,
        subnet: network.subnet.into(),
        gateway: network.gateway.into(),
    });
    Opening::Sockets(publications.zip(sockets).collect())
}

impl Opening {
    /// Opens all ports, or none.
    pub(super) fn carry_out(self, worker: &mut Worker) -> Outcome<()> {
        let ports = match self {
            Self::Sockets(ports) => return worker.publish(ports).map_err(broken),
            Self::OnWire(ports) => ports,
        };
        for (nth, port) in ports.iter().enumerate() {
            if let Err(error) = worker.datapath().publish(port.clone()) {
                for done in &ports[..nth] {
                    worker.datapath().unpublish(done);
                }
                return Err(broken(error));
            }
        }
        Ok(())
    }
}

fn published<'a>(
    container: &Container,
    ports: &'a [PublishSpec],
) -> impl Iterator<Item = Published> + 'a {
    let (address, owner) = (container.address, Owner(container.port.0));
    ports.iter().filter_map(move |spec| {
        Some(Published {
            protocol: spec.protocol,
            addr: spec.address,
            port: spec.host?,
            target: Endpoint::new(address.into(), spec.container),
            owner,
        })
    })
}
