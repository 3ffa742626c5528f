//! Ports of the host's that lead to containers.

use std::net::{IpAddr, SocketAddrV4};

use ipnet::{IpNet, Ipv4Net};
use pontoon_nat::{Owner, Published};

use super::{Control, Outcome, broken, unexpected};
use crate::control::Invalid;
use crate::control::api::Reply;
use crate::control::publish::{PublishRange, PublishSpec};
use crate::control::state::{Endpoint, HostPorts, Network, Stopped, Unclaimed, UplinkSpec};
use crate::io::fdpass::MAX_FDS;
use crate::io::keeper::KeeperLink;
use crate::io::keeper::protocol::{HostEndpoint, ReplyBody, RequestBody};
use crate::io::user::{HostSocket, Publication};
use crate::io::worker::Worker;

/// Said of a port whose holder nobody can name.
const UNKNOWN_HOLDER: &str = "another process";
/// Said when sockets found no room here.
const NO_DESCRIPTORS: &str = "Too many open files: the engine needs one for each port; raise the limit \
                              (ulimit -n)";

/// Ports that were claimed for a container, each with the socket that holds it where the uplink takes
/// one. Given up when dropped.
pub(super) enum Claims {
    /// The engine sees to them on the wire.
    OnWire,
    /// Ordinary sockets of the host's, which the keeper binds.
    Sockets(Bound),
}

/// Sockets that the keeper has bound. Left to others when dropped.
pub(super) struct Bound {
    keeper: KeeperLink,
    ports: Vec<HostEndpoint>,
    sockets: Vec<HostSocket>,
}

impl Bound {
    /// The sockets, whose ports somebody else frees from now on.
    fn into_sockets(mut self) -> Vec<HostSocket> {
        self.ports.clear();
        std::mem::take(&mut self.sockets)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.sockets.clear();
        unbind(&self.keeper, &self.ports);
    }
}

/// Has the keeper leave ports to others.
fn unbind(keeper: &KeeperLink, ports: &[HostEndpoint]) {
    for batch in ports.chunks(MAX_FDS) {
        // A keeper that is gone holds none.
        let _ = keeper.request(RequestBody::Unbind(batch.to_vec()), &[]);
    }
}

impl Claims {
    /// No port yet, on this network.
    pub(super) fn none(network: Option<&Network>, keeper: &KeeperLink) -> Self {
        match network.map(|network| &network.uplink) {
            Some(UplinkSpec::User) => Self::Sockets(Bound {
                keeper: keeper.clone(),
                ports: Vec::new(),
                sockets: Vec::new(),
            }),
            Some(UplinkSpec::Device(_) | UplinkSpec::None) | None => Self::OnWire,
        }
    }
}

impl HostPorts for Claims {
    fn claim(&mut self, ports: &[PublishSpec]) -> Result<(), Stopped> {
        let Self::Sockets(bound) = self else {
            return Ok(());
        };
        for (nth, batch) in ports.chunks(MAX_FDS).enumerate() {
            let stopped = |Stopped { at, why }| {
                let at = nth * MAX_FDS + at;
                Stopped { at, why }
            };
            bound.bind(batch).map_err(stopped)?;
        }
        Ok(())
    }

    fn holder(&self, port: &PublishSpec) -> String {
        let Self::Sockets(Bound { keeper, .. }) = self else {
            return UNKNOWN_HOLDER.to_owned();
        };
        let answer = host_endpoint(port).map(|port| keeper.request(RequestBody::Holder(port), &[]));
        match answer {
            Some(Ok((ReplyBody::Holder(Some(holder)), _))) => holder,
            _ => UNKNOWN_HOLDER.to_owned(),
        }
    }
}

impl Bound {
    /// Has the keeper bind ports, as many as one message brings, and adds their sockets.
    fn bind(&mut self, ports: &[PublishSpec]) -> Result<(), Stopped> {
        let refused = |why: String| {
            let why = Unclaimed::Refused(why);
            Stopped { at: 0, why }
        };
        let Some(wanted) = ports.iter().map(host_endpoint).collect::<Option<Vec<_>>>() else {
            return Err(refused("not an IPv4 endpoint".to_owned()));
        };
        let request = RequestBody::Bind(wanted.clone());
        let answer = self.keeper.request(request, &[]);
        let (reply, fds) = answer.map_err(|error| refused(error.to_string()))?;
        let ReplyBody::Bound(stopped) = reply else {
            return Err(refused(unexpected().reason));
        };
        let bound = stopped.as_ref().map_or(ports.len(), |stopped| stopped.at);
        self.ports.extend(&wanted[..bound]);
        if fds.len() != bound {
            return Err(refused(NO_DESCRIPTORS.to_owned()));
        }
        let sockets = ports.iter().zip(fds);
        let sockets = sockets.map(|(port, fd)| HostSocket::from_fd(port.protocol, fd));
        self.sockets.extend(sockets);
        stopped.map_or(Ok(()), Err)
    }
}

fn host_endpoint(port: &PublishSpec) -> Option<HostEndpoint> {
    let (IpAddr::V4(address), Some(number)) = (port.address, port.host) else {
        return None;
    };
    Some(HostEndpoint {
        address: SocketAddrV4::new(address, number),
        protocol: port.protocol,
    })
}

impl Control {
    pub(super) fn publish(&mut self, name: &str, wanted: &[PublishRange]) -> Outcome<Reply> {
        let container = self.state.container(name)?.clone();
        let endpoint = self.state.leading(&container).ok_or_else(|| {
            let what = format!(
                "{} has no network that a port could lead to",
                container.name
            );
            Invalid::new("ports", what)
        })?;
        let network = self.state.network(&endpoint.network)?.clone();
        let mut claims = Claims::none(Some(&network), &self.keeper);
        let chosen = self.state.publish(&container.name, wanted, &mut claims)?;
        let opening = opening(endpoint, &network, &chosen, claims);
        let opened = self.ask(|w, _| opening.carry_out(w)).and_then(|done| done);
        if let Err(error) = opened {
            self.free_ports(&chosen);
            self.state
                .retract(&container.name, |port| chosen.contains(port));
            return Err(error);
        }
        Ok(Reply::Ports(chosen))
    }

    pub(super) fn unpublish(&mut self, name: &str, wanted: &[PublishRange]) -> Outcome<Reply> {
        let container = self.state.container(name)?.clone();
        let gone = self.state.unpublish(&container.name, wanted)?;
        for endpoint in &container.endpoints {
            let led_here = |port: &&PublishSpec| endpoint.publish.contains(port);
            let ports: Vec<_> = gone.iter().filter(led_here).cloned().collect();
            self.shut(endpoint, &ports)?;
            self.free_ports(&ports);
        }
        Ok(Reply::Ports(gone))
    }

    /// Serves no clients of these ports any more.
    pub(super) fn shut(&self, endpoint: &Endpoint, ports: &[PublishSpec]) -> Outcome<()> {
        let gateway = self.state.network(&endpoint.network)?.gateway;
        let published: Vec<_> = published(endpoint, ports).collect();
        self.ask(move |w, _| {
            w.unpublish(&published);
            for port in published {
                w.datapath().unpublish(&port);
                w.datapath().unpublish(&Published {
                    addr: gateway.into(),
                    ..port
                });
            }
        })
    }

    /// Leaves ports of the host's to others, once the worker has closed their sockets.
    pub(super) fn free_ports(&self, ports: &[PublishSpec]) {
        let ports: Vec<_> = ports.iter().filter_map(host_endpoint).collect();
        unbind(&self.keeper, &ports);
    }
}

/// What the worker is to do so that clients of some ports are served.
pub(super) enum Opening {
    OnWire(Vec<Published>),
    Sockets(Vec<(Publication, HostSocket)>),
}

/// Joins claims to the place that they were made for.
pub(super) fn opening(
    endpoint: &Endpoint,
    network: &Network,
    ports: &[PublishSpec],
    claims: Claims,
) -> Opening {
    let published = published(endpoint, ports);
    let sockets = match claims {
        Claims::OnWire => return Opening::OnWire(published.collect()),
        Claims::Sockets(bound) => bound.into_sockets(),
    };
    let publications = published.map(|port| publication(network, port));
    Opening::Sockets(publications.zip(sockets).collect())
}

/// A port of the host's, and how clients of it appear on a network.
pub(super) fn publication(network: &Network, published: Published) -> Publication {
    Publication {
        published,
        subnet: answered_at_gateway(network),
        gateway: network.gateway.into(),
    }
}

/// The clients whom a container could not answer under their own name: those of its own link, and without a
/// default route everybody.
fn answered_at_gateway(network: &Network) -> IpNet {
    let everybody = IpNet::V4(Ipv4Net::default());
    network
        .default_route()
        .map_or(everybody, |_| network.subnet.into())
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

/// Ports as they lead to a place.
pub(super) fn published<'a>(
    endpoint: &Endpoint,
    ports: &'a [PublishSpec],
) -> impl Iterator<Item = Published> + use<'a> {
    let (address, owner) = (endpoint.address, Owner(endpoint.port.0));
    ports.iter().filter_map(move |spec| {
        Some(Published {
            protocol: spec.protocol,
            addr: spec.address,
            port: spec.host?,
            target: pontoon_packet::Endpoint::new(address.into(), spec.container),
            owner,
        })
    })
}
