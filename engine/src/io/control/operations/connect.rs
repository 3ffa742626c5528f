//! Networks that a running container joins and leaves.

use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::containers::Route;
use super::ports::Claims;
use super::{Control, Outcome, broken};
use crate::control::api::{EndpointSpec, Reply};
use crate::control::state::{Container, Endpoint};
use crate::control::{Invalid, files, naming};
use crate::io::control::directory::container_files;
use crate::io::keeper::protocol::RequestBody;

/// A file of a container that is longer is left as it is, in bytes.
const MAX_FILE: u64 = 64 << 10;

impl Control {
    /// Gives a container one more network.
    pub(super) fn connect(&mut self, name: &str, spec: &EndpointSpec) -> Outcome<Reply> {
        let before = self.state.container(name)?.clone();
        before.check_own_namespace()?;
        let net = self.namespace_of(&before)?;
        let endpoint = self.state.connect(&before.name, spec)?;
        let container = self.state.container(&before.name)?.clone();
        let connected = self
            .plug(&container, &endpoint, &net, Route::OnLink, Claims::OnWire)
            .and_then(|()| self.settle(&before, &container, &net))
            .and_then(|()| self.lead_ports(&container.name, None));
        if let Err(error) = connected {
            // It was there a moment ago, and what was before still is: nothing new can go wrong.
            let gone = self.state.disconnect(&before.name, &endpoint.network);
            let _ = self.settle(&container, &before, &net);
            let _ = self.lead_ports(&before.name, gone.as_ref().ok());
            self.unplug(endpoint.port);
            return Err(error);
        }
        self.edit(&container, "hosts", |hosts| {
            let names = format!("{} {}", container.name, container.hostname());
            files::with_address(hosts, endpoint.address.into(), &names)
        });
        Ok(Reply::Done)
    }

    /// Takes a container off a network. What leads there leads by another one of its networks from then on.
    pub(super) fn disconnect(&mut self, name: &str, network: &str) -> Outcome<Reply> {
        let before = self.state.container(name)?.clone();
        if !before.runs() {
            self.state.disconnect(&before.name, network)?;
            return Ok(Reply::Done);
        }
        let net = self.namespace_of(&before)?;
        let endpoint = self.state.disconnect(&before.name, network)?;
        let container = self.state.container(&before.name)?.clone();
        // Clients of published ports are to find the way back when they are led elsewhere.
        let settled = self.settle(&before, &container, &net);
        let led = self.lead_ports(&container.name, Some(&endpoint));
        let led = led.map_err(|error| Invalid {
            reason: format!(
                "{} has left {}; its ports wait to be led elsewhere: {}",
                container.name, endpoint.network, error.reason
            ),
            ..error
        });
        self.unplug(endpoint.port);
        self.edit(&container, "hosts", |hosts| {
            files::without_address(hosts, endpoint.address.into())
        });
        settled.and(led)?;
        Ok(Reply::Done)
    }

    /// The network namespace of a container that `run` has started. Nobody keeps others': they end when
    /// their makers let go of them.
    fn namespace_of(&self, container: &Container) -> Outcome<OwnedFd> {
        let held = self.held.get(&container.name).ok_or_else(|| {
            let what = if container.runs() {
                "was attached: detach it, and attach it with the networks that it is to have"
            } else {
                "has ended already"
            };
            Invalid::conflict("", format!("{} {what}", container.name))
        })?;
        let net = held.net.as_ref().map(OwnedFd::try_clone).transpose();
        let missing = || Invalid::conflict("", format!("{} is where you are", container.name));
        net.map_err(broken)?.ok_or_else(missing)
    }

    /// Lets routes and names of a container be those of the networks that it has now.
    fn settle(&mut self, before: &Container, now: &Container, net: &OwnedFd) -> Outcome<()> {
        self.look_around(now)?;
        let Some(leading) = self.state.leading(now) else {
            return Ok(());
        };
        let led = self.state.leading(before).map(|endpoint| endpoint.port);
        if led == Some(leading.port) {
            return Ok(());
        }
        let network = self.state.network(&leading.network)?;
        let gateway = IpAddr::V4(network.gateway);
        let ifname = leading.ifname.clone();
        // One that led elsewhere went with its interface.
        if let Some(gateway) = network.default_route() {
            let request = RequestBody::Route { ifname, gateway };
            self.keeper
                .request(request, &[net.as_fd()])
                .map_err(broken)?;
        }
        let networks = self.state.networks();
        let gateways: Vec<IpAddr> = networks.map(|n| n.gateway.into()).collect();
        self.edit(now, "resolv.conf", |conf| {
            files::with_name_server(conf, |address| gateways.contains(&address), gateway)
        });
        Ok(())
    }

    /// Lets a container find the names of all its networks, whichever of them it asks.
    pub(super) fn look_around(&self, container: &Container) -> Outcome<()> {
        let zone = |e: &Endpoint| {
            Some((
                e.port,
                naming::zone_id(self.state.network(&e.network).ok()?),
            ))
        };
        let places: Vec<_> = container.endpoints.iter().filter_map(zone).collect();
        self.ask(move |w, _| {
            for (port, zone) in &places {
                let others = places.iter().map(|(_, other)| *other);
                let others: Vec<_> = others.filter(|other| other != zone).collect();
                w.names().look_into(*port, &others);
            }
        })
    }

    /// Changes a file that a container has instead of the host's. It is written in its place: a mount
    /// leads to it. A container without such a file, or with a strange one, keeps what it has.
    fn edit(&self, container: &Container, name: &str, change: impl FnOnce(&str) -> String) {
        let Some(monitor) = container.spec.monitor else {
            return;
        };
        let path = container_files(&self.directory, monitor).join(name);
        if let Err(error) = rewrite(&path, change) {
            log!("{}: {error}", path.display());
        }
    }
}

fn rewrite(path: &Path, change: impl FnOnce(&str) -> String) -> std::io::Result<()> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Ok(());
    }
    let text = fs::read_to_string(path)?;
    fs::write(path, change(&text))
}
