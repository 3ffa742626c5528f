//! Containers: plugging namespaces in and out.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use ipnet::IpNet;
use pontoon_nat::Owner;

use super::ports::{Claims, Opening, opening};
use super::{Control, Held, Outcome, Place, broken, ends, random, unexpected, unix_time};
use crate::config::{Guarding, PortConfig, PortId};
use crate::control::Invalid;
use crate::control::api::{AttachSpec, NetworkMode, RemoveMode, Reply};
use crate::control::fault::FaultKind;
use crate::control::naming;
use crate::control::state::{Container, Endpoint, Network, Phase};
use crate::io::keeper::protocol::{Key, Plug, ReplyBody, RequestBody, SandboxId};
use crate::io::packet_socket::{Binding, Protocol, RingSize};
use crate::io::process::{Process, started};
use crate::io::user::Participant;

/// Where an interface's routes lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To its own subnet.
    OnLink,
    /// Everywhere.
    Default,
}

impl Control {
    pub(super) fn attach(&mut self, spec: AttachSpec, fds: Vec<OwnedFd>) -> Outcome<Reply> {
        let Received { net, held } = received(&spec, fds)?;
        let created = unix_time().as_secs();
        let leading = self.state.leading_network(&spec.networks)?;
        let mut claims = Claims::none(leading, &self.keeper);
        let container = self
            .state
            .create_container(spec, created, random()?, &mut claims)?
            .clone();
        let plugged = self
            .check_place(&container, net.as_ref())
            .and_then(|()| self.plug_all(&container, net.as_ref(), claims))
            .and_then(|()| match held {
                Some(held) => self.hold(&container, held),
                None => Ok(()),
            });
        if let Err(error) = plugged {
            self.detach(&container.name);
            self.state.forget(&container.name);
            return Err(error);
        }
        self.had_container = true;
        Ok(Reply::Container(self.state.container_view(&container)?))
    }

    /// Checks that a container that is to be in another's network namespace is there.
    fn check_place(&self, container: &Container, net: Option<&OwnedFd>) -> Outcome<()> {
        let NetworkMode::Container { name } = &container.spec.mode else {
            return Ok(());
        };
        let owner = &self.state.container(name)?.name;
        let held = self.held.get(owner).and_then(|held| held.net.as_ref());
        let same = match (held, net) {
            (Some(held), Some(net)) => is_same(held, net).map_err(broken)?,
            (held, net) => held.is_none() && net.is_none(),
        };
        if same {
            return Ok(());
        }
        let what = format!("container {owner} has ended meanwhile");
        Err(Invalid::conflict("mode", what))
    }

    /// Plugs a new container into all of its networks.
    fn plug_all(
        &mut self,
        container: &Container,
        net: Option<&OwnedFd>,
        claims: Claims,
    ) -> Outcome<()> {
        let Some(target) = net else {
            return Ok(());
        };
        let leading = self.state.leading(container).map(|endpoint| endpoint.port);
        let mut claims = Some(claims);
        for endpoint in &container.endpoints {
            let is_leading = leading == Some(endpoint.port);
            let (route, claims) = match claims.take_if(|_| is_leading) {
                Some(claims) => (Route::Default, claims),
                None => (Route::OnLink, Claims::OnWire),
            };
            self.plug(container, endpoint, target, route, claims)?;
        }
        self.look_around(container)
    }

    pub(super) fn plug(
        &mut self,
        container: &Container,
        endpoint: &Endpoint,
        target: &OwnedFd,
        route: Route,
        claims: Claims,
    ) -> Outcome<()> {
        let network = self.state.network(&endpoint.network)?.clone();
        let address = IpNet::new(endpoint.address.into(), network.subnet.prefix_len());
        let spec = Plug {
            host_ifname: endpoint.host_ifname(),
            ifname: endpoint.ifname.clone(),
            mac: endpoint.mac.to_string(),
            addresses: vec![address.map_err(broken)?],
            gateway: network.default_route().filter(|_| route == Route::Default),
            mtu: network.mtu,
        };
        let request = RequestBody::Plug(spec);
        let (reply, fds) = self
            .keeper
            .request(request, &[target.as_fd()])
            .map_err(broken)?;
        let place = self.place(endpoint.port, reply, fds)?;
        let opening = opening(endpoint, &network, &endpoint.publish, claims);
        self.add_port(container, endpoint, &network, place, opening)
    }

    /// Notes where the engine's end of an interface lies.
    pub(super) fn place(
        &mut self,
        port: PortId,
        reply: ReplyBody,
        fds: Vec<OwnedFd>,
    ) -> Outcome<Place> {
        let ReplyBody::Plugged {
            sandbox,
            ifindex,
            reach,
        } = reply
        else {
            return Err(unexpected());
        };
        if let Some(packet) = fds.into_iter().next() {
            let socket = self
                .ask(|w, _| {
                    w.add_socket(
                        packet,
                        Binding::AllInterfaces(Protocol::Everything),
                        RingSize::SINGLE,
                    )
                })?
                .map_err(broken)?;
            self.sockets.insert(sandbox, socket);
        }
        let place = Place {
            sandbox,
            ifindex,
            reach,
        };
        self.places.insert(port, place);
        Ok(place)
    }

    pub(super) fn add_port(
        &self,
        container: &Container,
        endpoint: &Endpoint,
        network: &Network,
        place: Place,
        opening: Opening,
    ) -> Outcome<()> {
        let port = endpoint.port;
        let guard = if container.spec.unguarded {
            Guarding::Off
        } else {
            Guarding::On
        };
        let config = PortConfig {
            id: port,
            network: network.number,
            mac: endpoint.mac,
            addresses: vec![endpoint.address.into()],
            mtu: network.mtu,
            guard,
        };
        let participant = participant(container, endpoint, network);
        let socket = *self.sockets.get(&place.sandbox).ok_or_else(unexpected)?;
        self.ask(move |w, _| {
            w.datapath().add_port(config).map_err(broken)?;
            let named = w.names().join(port, &participant);
            named.map_err(|error| Invalid::new("name", error.to_string()))?;
            opening.carry_out(w)?;
            w.datapath().set_reach(port, place.reach);
            w.connect(port, socket, place.ifindex);
            Ok(())
        })?
    }

    /// Pulls out what was attached. A container that `run` has started would run on without a network.
    pub(super) fn pull_out(&mut self, name: &str) -> Outcome<Reply> {
        let container = self.state.container(name)?;
        let name = container.name.clone();
        if container.spec.pid.is_some() {
            let what = match container.phase {
                Phase::Running => "stop it",
                Phase::Exited(_) => "it has ended; remove it with rm",
            };
            let what = format!("{name} was started by run: {what}");
            return Err(Invalid::conflict("", what));
        }
        self.detach(&name);
        self.state.forget(&name);
        Ok(Reply::Done)
    }

    /// Takes a container off its networks: ports, flows, published ports, interfaces.
    pub(super) fn detach(&mut self, name: &str) {
        if let Ok(container) = self.state.container(name).cloned() {
            self.let_go(&container);
            for endpoint in &container.endpoints {
                self.unplug(endpoint.port);
                self.free_ports(&endpoint.publish);
            }
        }
    }

    pub(super) fn unplug(&mut self, port: PortId) {
        let _ = self.worker.call(move |w, _| {
            w.disconnect(port);
            w.unpublish_all(Owner(port.0));
            w.names().leave(port);
            // A port that never came into the datapath has nothing to leave.
            let _ = w.datapath().remove_port(port);
        });
        if let Some(tap) = self.taps.remove(&port) {
            // The interface goes with its last descriptor.
            let _ = self.worker.call(move |w, _| w.remove_socket(tap));
            self.keeper.let_go(Key::Tap(port.0));
        }
        let place = self.places.remove(&port);
        let Some(Place {
            sandbox, ifindex, ..
        }) = place
        else {
            return;
        };
        // The interface may be gone with its namespace already.
        let _ = self
            .keeper
            .request(RequestBody::Unplug { sandbox, ifindex }, &[]);
        if sandbox != SandboxId::SHARED
            && let Some(socket) = self.sockets.remove(&sandbox)
        {
            let _ = self.worker.call(move |w, _| w.remove_socket(socket));
        }
    }

    /// Takes away the interfaces of all containers at once: the kernel waits some twenty milliseconds for each
    /// that goes alone.
    pub(super) fn unplug_all(&mut self) {
        let gone = self.keeper.request(RequestBody::UnplugAll, &[]);
        if gone.is_ok() {
            self.places
                .retain(|_, place| place.sandbox != SandboxId::SHARED);
        }
    }

    pub(super) fn port_at(&self, sandbox: SandboxId, ifindex: u32) -> Option<PortId> {
        let here = |place: &Place| place.sandbox == sandbox && place.ifindex == ifindex;
        self.places
            .iter()
            .find(|(_, place)| here(place))
            .map(|(port, _)| *port)
    }

    pub(super) fn link_gone(&mut self, sandbox: SandboxId, ifindex: u32) {
        let Some(port) = self.port_at(sandbox, ifindex) else {
            return;
        };
        let gone = self.state.endpoint_at(port);
        let gone = gone.map(|(c, e)| (c.name.clone(), e.network.clone()));
        let published = self.state.endpoint_at(port).map(|(_, e)| e.publish.clone());
        self.unplug(port);
        self.free_ports(&published.unwrap_or_default());
        let Some((name, network)) = gone else {
            return;
        };
        // One that `run` has started is there as long as its first process is.
        match self.held.get(&name) {
            None => self.link_lost(&name, &network),
            Some(held) if held.process.has_ended(Duration::ZERO) => {}
            Some(_) => {
                let what = format!("the container {name} has lost its interface on {network}");
                self.fault(FaultKind::InterfaceLost, what);
            }
        }
    }

    /// A namespace that others made has lost an interface; with the last one it is gone.
    fn link_lost(&mut self, name: &str, network: &str) {
        // It was there a moment ago.
        let _ = self.state.disconnect(name, network);
        let left = self.state.container(name);
        if left.is_ok_and(|container| container.endpoints.is_empty()) {
            self.state.forget(name);
        }
    }

    pub(super) fn remove(&mut self, name: &str, mode: RemoveMode) -> Outcome<Reply> {
        let container = self.state.container(name)?.clone();
        if container.phase == Phase::Running {
            if mode == RemoveMode::Stopped {
                let what = format!(
                    "You cannot remove a running container {}. Stop the container before attempting \
                     removal or force remove",
                    container.id
                );
                return Err(Invalid::conflict("", what));
            }
            if let Some(held) = self.held.get(&container.name) {
                // It may have left the namespace.
                ends::kill(&held.process)?;
            }
            self.end_rest(&container);
        }
        self.detach(&container.name);
        self.state.forget(&container.name);
        Ok(Reply::Done)
    }
}

/// What came along with the request to attach a namespace.
struct Received {
    /// The network namespace; `None` for the user's.
    net: Option<OwnedFd>,
    /// Set for a container of `run`'s.
    held: Option<Held>,
}

fn received(spec: &AttachSpec, fds: Vec<OwnedFd>) -> Outcome<Received> {
    let mut fds = fds.into_iter();
    let wrong = |what: &str| Invalid::new("request", what);
    if spec.pid.is_none() {
        let missing = || Invalid::new("request", "no network namespace came with the request");
        let net = fds.next().ok_or_else(missing)?;
        if spec.mode != NetworkMode::Own || fds.next().is_some() {
            return Err(wrong("a process is named and came along, or neither"));
        }
        let (net, held) = (Some(net), None);
        return Ok(Received { net, held });
    }
    let namespaces = match (&spec.mode, fds.len()) {
        // Whom it is to be with may be where the user is.
        (NetworkMode::Host, _) | (NetworkMode::Container { .. }, 2) => None,
        (NetworkMode::Own | NetworkMode::Container { .. }, _) => fds.next().zip(fds.next()),
    };
    let processes = fds.next().zip(fds.next());
    let (process, monitor) =
        processes.ok_or_else(|| wrong("a first process and its monitor must come along"))?;
    let (net, mount) = namespaces.unzip();
    let kept = net.as_ref().map(OwnedFd::try_clone).transpose();
    let held = Held {
        process: Process::from_fd(process),
        monitor: Process::from_fd(monitor),
        net: kept.map_err(broken)?,
        mount,
        since: spec.pid.map_or(Ok(0), started).unwrap_or(0),
    };
    let held = Some(held);
    Ok(Received { net, held })
}

/// Whether two descriptors are of the same namespace.
fn is_same(one: &OwnedFd, other: &OwnedFd) -> std::io::Result<bool> {
    let identity = |fd: &OwnedFd| {
        let metadata = File::from(fd.try_clone()?).metadata()?;
        Ok::<_, std::io::Error>((metadata.dev(), metadata.ino()))
    };
    Ok(identity(one)? == identity(other)?)
}

/// What the name server is to know of a container.
fn participant(container: &Container, endpoint: &Endpoint, network: &Network) -> Participant {
    let names = naming::names(container, endpoint)
        .into_iter()
        .map(str::to_owned);
    let servers = &container.spec.naming.servers;
    Participant {
        zone: naming::zone_id(network),
        addr: endpoint.address.into(),
        names: names.collect(),
        upstreams: naming::upstreams(servers, &network.subnet.into()),
    }
}
