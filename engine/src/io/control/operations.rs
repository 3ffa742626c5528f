//! Carrying out what clients ask for.
//!
//! An operation decides in the pure state, asks the keeper for what needs rights, tells the worker, and
//! takes everything back in reverse when one of them fails.

use std::collections::HashMap;
use std::fmt::Display;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Instant, SystemTime};

use ipnet::IpNet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pontoon_nat::{Limits, Owner, Profile, Published};
use pontoon_packet::Endpoint;
use pontoon_switch::LinkState;

use super::Stay;
use crate::config::{
    AddressOwner, Guarding, NetworkConfig, PortConfig, PortId, UplinkConfig, UplinkId,
};
use crate::control::Invalid;
use crate::control::api::{
    Answer, AttachSpec, NetworkSpec, Process, RemoveMode, Reply, Request, StatusView,
};
use crate::control::state::{
    Container, DEFAULT_NETWORK, HostPort, Network, Phase, State, UplinkSpec,
};
use crate::io::keeper::KeeperLink;
use crate::io::keeper::protocol::{Event, Plug, ReplyBody, RequestBody, SandboxId, UplinkFacts};
use crate::io::packet_socket::{Binding, RingSize};
use crate::io::wire::{SocketId, TAP_INDEX};
use crate::io::worker::{Worker, WorkerHandle};
use crate::{Datapath, Seeds};

/// Whether the engine's time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    Stay,
    Now,
}

type Outcome<T> = Result<T, Invalid>;
type Done = Outcome<(Reply, Vec<OwnedFd>)>;

struct OpenUplink {
    id: UplinkId,
    port: PortId,
    socket: SocketId,
    users: usize,
}

#[derive(Clone, Copy)]
struct Place {
    sandbox: SandboxId,
    ifindex: u32,
}

/// Everything that operations need.
pub(super) struct Control {
    state: State,
    keeper: KeeperLink,
    worker: WorkerHandle,
    sandbox: SandboxFds,
    sockets: HashMap<SandboxId, SocketId>,
    places: HashMap<PortId, Place>,
    host_ports: HashMap<String, PortId>,
    taps: HashMap<PortId, SocketId>,
    processes: HashMap<String, OwnedFd>,
    uplinks: HashMap<String, OpenUplink>,
    last_uplink: u32,
    stay: Stay,
    started: Instant,
    had_container: bool,
    ended: bool,
}

struct SandboxFds {
    user: Option<OwnedFd>,
    host_net: Option<OwnedFd>,
}

impl Control {
    /// Asks for the sandbox, starts the worker, and makes the default network.
    pub(super) fn start(keeper: KeeperLink, stay: Stay) -> Outcome<Self> {
        let (reply, fds) = keeper.request(RequestBody::Sandbox, &[]).map_err(broken)?;
        let ReplyBody::Sandbox { unprivileged } = reply else {
            return Err(unexpected());
        };
        let mut fds = fds.into_iter();
        let (Some(packet), Some(_net)) = (fds.next(), fds.next()) else {
            return Err(unexpected());
        };
        let sandbox = SandboxFds {
            user: fds.next(),
            host_net: fds.next(),
        };
        if unprivileged != sandbox.user.is_some() {
            return Err(unexpected());
        }
        let datapath = Datapath::new(Seeds(random()?), Profile::docker0(), Limits::default());
        let (worker, _thread) = Worker::spawn(datapath).map_err(broken)?;
        let shared = worker
            .call(|w, _| w.add_socket(packet, Binding::AllInterfaces, RingSize::SHARED))
            .map_err(broken)?
            .map_err(broken)?;
        let mut control = Self {
            state: State::default(),
            keeper,
            worker,
            sandbox,
            sockets: HashMap::from([(SandboxId::SHARED, shared)]),
            places: HashMap::new(),
            host_ports: HashMap::new(),
            taps: HashMap::new(),
            processes: HashMap::new(),
            uplinks: HashMap::new(),
            last_uplink: 0,
            stay,
            started: Instant::now(),
            had_container: false,
            ended: false,
        };
        let default = NetworkSpec {
            name: DEFAULT_NETWORK.to_owned(),
            ..NetworkSpec::default()
        };
        control.create_network(&default)?;
        Ok(control)
    }

    /// Whether there is a reason to stay.
    pub(super) fn is_used(&self) -> bool {
        let made = self
            .state
            .networks()
            .any(|network| network.name != DEFAULT_NETWORK);
        self.stay == Stay::Always || self.state.running() > 0 || made
    }

    pub(super) fn carry_out(&mut self, request: Request, fds: Vec<OwnedFd>) -> Done {
        let reply = match request {
            Request::Namespaces => return self.namespaces(),
            Request::Attach(spec) => self.attach(spec, fds)?,
            Request::Detach { name } => {
                let name = self.state.container(&name)?.name.clone();
                self.detach(&name);
                self.state.forget(&name);
                Reply::Done
            }
            Request::Exited { id, status } => self.exited(&id, status),
            Request::Containers => {
                let all: Outcome<Vec<_>> = self
                    .state
                    .containers()
                    .map(|c| self.state.container_view(c))
                    .collect();
                Reply::Containers(all?)
            }
            Request::Container { name } => {
                let container = self.state.container(&name)?;
                Reply::Container(self.state.container_view(container)?)
            }
            Request::Stop { .. } => return Err(unexpected()),
            Request::Remove { name, mode } => self.remove(&name, mode)?,
            Request::CreateNetwork(spec) => self.create_network(&spec)?,
            Request::Networks => {
                let views = self.state.networks().map(|n| self.state.network_view(n));
                Reply::Networks(views.collect())
            }
            Request::RemoveNetwork { name } => self.remove_network(&name)?,
            Request::Fdb => Reply::Fdb(self.ask(|w, now| w.datapath().fdb(now))?),
            Request::Neighbours => {
                Reply::Neighbours(self.ask(|w, now| w.datapath().neighbours(now))?)
            }
            Request::Flows => Reply::Flows(self.ask(|w, now| w.datapath().flows(now))?),
            Request::Stats => self.stats()?,
            Request::Status => self.status()?,
            Request::ShutDown => {
                self.end_everything();
                Reply::Done
            }
        };
        Ok((reply, Vec::new()))
    }

    /// What the keeper reports.
    pub(super) fn handle_event(&mut self, event: Event) -> Leave {
        match event {
            Event::LinkGone { sandbox, ifindex } => self.link_gone(sandbox, ifindex),
            Event::LinkState {
                sandbox,
                ifindex,
                running,
                mtu,
            } => {
                if let Some(port) = self.port_at(sandbox, ifindex) {
                    let state = if running {
                        LinkState::Up
                    } else {
                        LinkState::Down
                    };
                    let changed = self.worker.call(move |w, _| {
                        let up = w.datapath().set_link(port, state);
                        up.and_then(|()| w.datapath().set_mtu(port, mtu))
                    });
                    // A port that is being pulled out has nothing to change.
                    drop(changed);
                }
            }
            Event::UplinkChanged { interface, facts } => self.uplink_changed(&interface, facts),
            Event::ShutDown => return Leave::Now,
        }
        if self.had_container && !self.is_used() {
            Leave::Now
        } else {
            Leave::Stay
        }
    }

    /// Ends every container that `run` has started, and lets go of everything.
    pub(super) fn end_everything(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let names: Vec<_> = self.state.containers().map(|c| c.name.clone()).collect();
        for name in &names {
            if let Some(process) = self.processes.get(name) {
                // A process that has ended needs no signal.
                let _ = stop(process, 2);
            }
            self.detach(name);
            self.state.forget(name);
        }
        self.worker.stop();
    }

    /// The first process of a container.
    pub(super) fn process_of(&self, name: &str) -> Outcome<OwnedFd> {
        let container = self.state.container(name)?;
        let process = self.processes.get(&container.name).ok_or_else(|| {
            let what = match container.phase {
                Phase::Exited(_) => "the container has ended already",
                Phase::Running => "the namespace was attached; detach it instead",
            };
            Invalid::new("", format!("{name}: {what}"))
        })?;
        process.try_clone().map_err(broken)
    }

    fn ask<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Worker, pontoon_packet::Timestamp) -> R + Send + 'static,
    ) -> Outcome<R> {
        self.worker.call(f).map_err(broken)
    }

    fn namespaces(&self) -> Done {
        let both = [&self.sandbox.user, &self.sandbox.host_net];
        let fds: Result<Vec<_>, _> = both.into_iter().flatten().map(OwnedFd::try_clone).collect();
        let unprivileged = self.sandbox.user.is_some();
        Ok((Reply::Namespaces { unprivileged }, fds.map_err(broken)?))
    }

    fn attach(&mut self, spec: AttachSpec, fds: Vec<OwnedFd>) -> Outcome<Reply> {
        let mut fds = fds.into_iter();
        let missing = || Invalid::new("--netns", "no network namespace came with the request");
        let target = fds.next().ok_or_else(missing)?;
        let created = unix_time();
        let container = self
            .state
            .create_container(spec, created, random()?)?
            .clone();
        match self.plug(&container, &target) {
            Ok(()) => {}
            Err(error) => {
                self.state.forget(&container.name);
                return Err(error);
            }
        }
        if let Some(process) = fds.next() {
            self.processes.insert(container.name.clone(), process);
        }
        self.had_container = true;
        Ok(Reply::Container(self.state.container_view(&container)?))
    }

    fn plug(&mut self, container: &Container, target: &OwnedFd) -> Outcome<()> {
        let network = self.state.network(&container.network)?.clone();
        let address = IpNet::new(container.address.into(), network.subnet.prefix_len());
        let spec = Plug {
            host_ifname: container.host_ifname(),
            ifname: container.spec.ifname.clone(),
            mac: container.mac.to_string(),
            addresses: vec![address.map_err(broken)?],
            gateway: Some(network.gateway.into()),
            mtu: network.mtu,
        };
        let request = RequestBody::Plug(spec);
        let (reply, fds) = self
            .keeper
            .request(request, &[target.as_fd()])
            .map_err(broken)?;
        let place = self.place(container.port, reply, fds)?;
        let added = self.add_port(container, &network, place);
        if added.is_err() {
            self.unplug(container.port);
        }
        added
    }

    /// Notes where the engine's end of an interface lies.
    fn place(&mut self, port: PortId, reply: ReplyBody, fds: Vec<OwnedFd>) -> Outcome<Place> {
        let ReplyBody::Plugged { sandbox, ifindex } = reply else {
            return Err(unexpected());
        };
        if let Some(packet) = fds.into_iter().next() {
            let socket = self
                .ask(|w, _| w.add_socket(packet, Binding::AllInterfaces, RingSize::SINGLE))?
                .map_err(broken)?;
            self.sockets.insert(sandbox, socket);
        }
        let place = Place { sandbox, ifindex };
        self.places.insert(port, place);
        Ok(place)
    }

    fn add_port(&self, container: &Container, network: &Network, place: Place) -> Outcome<()> {
        let port = container.port;
        let guard = if container.spec.unguarded {
            Guarding::Off
        } else {
            Guarding::On
        };
        let config = PortConfig {
            id: port,
            network: network.number,
            mac: container.mac,
            addresses: vec![container.address.into()],
            mtu: network.mtu,
            guard,
        };
        let published: Vec<_> = published(container).collect();
        let socket = *self.sockets.get(&place.sandbox).ok_or_else(unexpected)?;
        self.ask(move |w, _| {
            w.datapath().add_port(config)?;
            for port in published {
                w.datapath().publish(port)?;
            }
            w.connect(port, socket, place.ifindex);
            Ok(())
        })?
        .map_err(|error: crate::config::ConfigError| broken(error))
    }

    /// Takes a container off its network: port, flows, published ports, interface.
    fn detach(&mut self, name: &str) {
        if let Ok(container) = self.state.container(name).cloned() {
            self.processes.remove(&container.name);
            self.unplug(container.port);
        }
    }

    fn unplug(&mut self, port: PortId) {
        let _ = self.worker.call(move |w, _| {
            w.disconnect(port);
            // A port that never came into the datapath has nothing to leave.
            let _ = w.datapath().remove_port(port);
        });
        if let Some(tap) = self.taps.remove(&port) {
            // The interface goes with its last descriptor.
            let _ = self.worker.call(move |w, _| w.remove_socket(tap));
        }
        let Some(Place { sandbox, ifindex }) = self.places.remove(&port) else {
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

    fn port_at(&self, sandbox: SandboxId, ifindex: u32) -> Option<PortId> {
        let here = |place: &Place| place.sandbox == sandbox && place.ifindex == ifindex;
        self.places
            .iter()
            .find(|(_, place)| here(place))
            .map(|(port, _)| *port)
    }

    fn link_gone(&mut self, sandbox: SandboxId, ifindex: u32) {
        let Some(port) = self.port_at(sandbox, ifindex) else {
            return;
        };
        let gone = self.state.containers().find(|c| c.port == port).cloned();
        self.unplug(port);
        if let Some(container) = gone {
            self.processes.remove(&container.name);
            // What the process ended with is not known here; its monitor tells if it can.
            if container.spec.pid.is_none() || container.spec.remove {
                self.state.forget(&container.name);
            } else {
                self.state.end(&container.name, UNKNOWN_STATUS);
            }
        }
    }

    fn exited(&mut self, id: &str, status: i32) -> Reply {
        let found = self.state.containers().find(|c| c.id == id).cloned();
        if let Some(container) = found {
            self.detach(&container.name);
            if container.spec.remove {
                self.state.forget(&container.name);
            } else {
                self.state.end(&container.name, status);
            }
        }
        Reply::Done
    }

    fn remove(&mut self, name: &str, mode: RemoveMode) -> Outcome<Reply> {
        let container = self.state.container(name)?.clone();
        if container.phase == Phase::Running {
            if mode == RemoveMode::Stopped {
                let what = format!(
                    "You cannot remove a running container {}. Stop the container before attempting \
                     removal or force remove",
                    container.id
                );
                return Err(Invalid::new("", what));
            }
            if let Some(process) = self.processes.get(&container.name) {
                signal(process, libc::SIGKILL)?;
            }
        }
        self.detach(&container.name);
        self.state.forget(&container.name);
        Ok(Reply::Done)
    }

    fn create_network(&mut self, spec: &NetworkSpec) -> Outcome<Reply> {
        let (reply, _) = self
            .keeper
            .request(RequestBody::HostRoutes, &[])
            .map_err(broken)?;
        let ReplyBody::HostRoutes(routes) = reply else {
            return Err(unexpected());
        };
        let network = self.state.create_network(spec, &routes, random()?)?.clone();
        let made = self.make_network(&network);
        if let Err(error) = made {
            self.unmake_network(&network);
            let _ = self.state.remove_network(&network.name);
            return Err(error);
        }
        Ok(Reply::Network(self.state.network_view(&network)))
    }

    fn make_network(&mut self, network: &Network) -> Outcome<()> {
        let uplink = match &network.uplink {
            UplinkSpec::None => None,
            UplinkSpec::Device(interface) => Some(self.use_uplink(interface)?),
        };
        let config = NetworkConfig {
            id: network.number,
            subnet: network.subnet.into(),
            gateway: network.gateway.into(),
            gateway_mac: network.gateway_mac(),
            mtu: network.mtu,
            uplink,
        };
        self.ask(move |w, _| w.datapath().add_network(config))?
            .map_err(broken)?;
        match network.host_port {
            None => Ok(()),
            Some(HostPort::Veth) => self.plug_host(network),
            Some(HostPort::Tap) => self.plug_host_tap(network),
        }
    }

    fn unmake_network(&mut self, network: &Network) {
        if let Some(port) = self.host_ports.remove(&network.name) {
            self.unplug(port);
        }
        let number = network.number;
        let _ = self
            .worker
            .call(move |w, _| w.datapath().remove_network(number));
        if let UplinkSpec::Device(interface) = &network.uplink {
            self.leave_uplink(interface);
        }
    }

    fn remove_network(&mut self, name: &str) -> Outcome<Reply> {
        if name == DEFAULT_NETWORK {
            let what = format!("{name} is a pre-defined network and cannot be removed");
            return Err(Invalid::new("", what));
        }
        let network = self.state.remove_network(name)?;
        self.unmake_network(&network);
        Ok(Reply::Done)
    }

    fn plug_host(&mut self, network: &Network) -> Outcome<()> {
        let port = self.state.next_port();
        let request = RequestBody::PlugHost(host_plug(network)?);
        let (reply, fds) = self.keeper.request(request, &[]).map_err(broken)?;
        let place = self.place(port, reply, fds)?;
        let socket = *self.sockets.get(&place.sandbox).ok_or_else(unexpected)?;
        self.connect_host(network, port, socket, place.ifindex)
    }

    fn plug_host_tap(&mut self, network: &Network) -> Outcome<()> {
        let port = self.state.next_port();
        let request = RequestBody::PlugHostTap(host_plug(network)?);
        let (_, fds) = self.keeper.request(request, &[]).map_err(broken)?;
        let tap = fds.into_iter().next().ok_or_else(unexpected)?;
        let socket = self.ask(|w, _| w.add_tap(tap))?.map_err(broken)?;
        self.taps.insert(port, socket);
        self.connect_host(network, port, socket, TAP_INDEX)
    }

    fn connect_host(
        &mut self,
        network: &Network,
        port: PortId,
        socket: SocketId,
        ifindex: u32,
    ) -> Outcome<()> {
        self.host_ports.insert(network.name.clone(), port);
        let (number, mtu) = (network.number, network.mtu);
        self.ask(move |w, _| {
            w.datapath().add_host_port(port, number, mtu)?;
            w.connect(port, socket, ifindex);
            Ok(())
        })?
        .map_err(|error: crate::config::ConfigError| broken(error))
    }

    fn use_uplink(&mut self, interface: &str) -> Outcome<UplinkId> {
        if let Some(open) = self.uplinks.get_mut(interface) {
            open.users += 1;
            return Ok(open.id);
        }
        let request = RequestBody::OpenUplink {
            interface: interface.to_owned(),
        };
        let (reply, fds) = self
            .keeper
            .request(request, &[])
            .map_err(|error| Invalid::new("--uplink", error.0))?;
        let (ReplyBody::Uplink(facts), Some(packet)) = (reply, fds.into_iter().next()) else {
            return Err(unexpected());
        };
        self.last_uplink += 1;
        let (id, port) = (UplinkId(self.last_uplink), self.state.next_port());
        let config = uplink_config(id, port, &facts)?;
        let ifindex = facts.ifindex;
        let socket = self
            .ask(move |w, _| {
                let size = RingSize::SHARED;
                let socket = w.add_socket(packet, Binding::Interface(ifindex), size)?;
                if let Err(error) = w.datapath().add_uplink(config) {
                    w.remove_socket(socket);
                    return Err(std::io::Error::other(error));
                }
                w.connect(port, socket, ifindex);
                Ok(socket)
            })?
            .map_err(broken);
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => {
                let close = RequestBody::CloseUplink {
                    interface: interface.to_owned(),
                };
                let _ = self.keeper.request(close, &[]);
                return Err(error);
            }
        };
        if let Some(why) = &facts.unshielded {
            eprintln!("uplink dev:{interface}: the kernel may answer for translated flows: {why}");
        }
        self.uplinks.insert(
            interface.to_owned(),
            OpenUplink {
                id,
                port,
                socket,
                users: 1,
            },
        );
        Ok(id)
    }

    fn leave_uplink(&mut self, interface: &str) {
        let Some(open) = self.uplinks.get_mut(interface) else {
            return;
        };
        open.users -= 1;
        if open.users > 0 {
            return;
        }
        let (id, port, socket) = (open.id, open.port, open.socket);
        self.uplinks.remove(interface);
        let _ = self.worker.call(move |w, _| {
            w.disconnect(port);
            let _ = w.datapath().remove_uplink(id);
            w.remove_socket(socket);
        });
        let close = RequestBody::CloseUplink {
            interface: interface.to_owned(),
        };
        let _ = self.keeper.request(close, &[]);
    }

    fn uplink_changed(&mut self, interface: &str, facts: Option<UplinkFacts>) {
        let Some(open) = self.uplinks.get(interface) else {
            return;
        };
        let (id, port) = (open.id, open.port);
        let Some(facts) = facts else {
            let _ = self
                .worker
                .call(move |w, _| w.datapath().set_link(port, LinkState::Down));
            return;
        };
        let state = if facts.running {
            LinkState::Up
        } else {
            LinkState::Down
        };
        if let Ok(config) = uplink_config(id, port, &facts) {
            let _ = self.worker.call(move |w, _| {
                let updated = w.datapath().update_uplink(config);
                updated.and_then(|()| w.datapath().set_link(port, state))
            });
        }
    }

    fn stats(&self) -> Outcome<Reply> {
        let (mut stats, sockets) = self.ask(|w, _| (w.datapath().stats(), w.socket_counters()))?;
        let sum = |of: fn(&crate::io::wire::SocketCounters) -> u64| sockets.iter().map(of).sum();
        let mut add = |name: &str, value: u64| stats.counters.push((name.to_owned(), value));
        add("ring.lost", sum(|s| s.lost));
        add("ring.truncated", sum(|s| s.truncated));
        add("ring.unheard", sum(|s| s.unheard));
        for (errno, count) in sockets.iter().flat_map(|s| &s.refused) {
            add(
                &format!("send.refused.{}", nix::Error::from_raw(*errno)),
                *count,
            );
        }
        Ok(Reply::Stats(stats))
    }

    fn status(&self) -> Outcome<Reply> {
        let ring_bytes = self.ask(|w, _| w.socket_counters().iter().map(|s| s.ring_bytes).sum())?;
        let running = self
            .state
            .containers()
            .filter(|c| c.phase == Phase::Running);
        let ports: Outcome<Vec<_>> = running.map(|c| self.state.container_view(c)).collect();
        Ok(Reply::Status(Box::new(StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: Process {
                pid: std::process::id(),
            },
            keeper: Process {
                pid: std::os::unix::process::parent_id(),
            },
            uptime: self.started.elapsed().as_secs(),
            unprivileged: self.sandbox.user.is_some(),
            ring_bytes,
            networks: self
                .state
                .networks()
                .map(|n| self.state.network_view(n))
                .collect(),
            ports: ports?,
        })))
    }
}

/// Shown for a process whose status nobody could tell; what a shell shows for SIGKILL.
const UNKNOWN_STATUS: i32 = 137;

/// Ends a process: SIGTERM, and SIGKILL after `seconds`.
pub(super) fn stop(process: &OwnedFd, seconds: u64) -> Answer {
    signal(process, libc::SIGTERM)?;
    if !has_ended(process, seconds.saturating_mul(1000)) {
        signal(process, libc::SIGKILL)?;
        has_ended(process, 5000);
    }
    Ok(Reply::Done)
}

fn has_ended(process: &OwnedFd, millis: u64) -> bool {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX));
    poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX)).is_ok_and(|ready| ready > 0)
}

#[allow(unsafe_code, reason = "pidfd_send_signal has no wrapper")]
fn signal(process: &OwnedFd, number: i32) -> Outcome<()> {
    // SAFETY: the descriptor is open; a null pointer asks for default information.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match std::io::Error::last_os_error() {
        _ if result == 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        error => Err(broken(format!(
            "the container's process cannot be ended: {error}"
        ))),
    }
}

/// The host's interface on a network: it has the gateway's addresses.
fn host_plug(network: &Network) -> Outcome<Plug> {
    let address = IpNet::new(network.gateway.into(), network.subnet.prefix_len());
    Ok(Plug {
        host_ifname: format!("pth{}", network.number.0),
        ifname: network.host_interface(),
        mac: network.gateway_mac().to_string(),
        addresses: vec![address.map_err(broken)?],
        gateway: None,
        mtu: network.mtu,
    })
}

fn published(container: &Container) -> impl Iterator<Item = Published> {
    container.publish.iter().filter_map(|spec| {
        Some(Published {
            protocol: spec.protocol,
            addr: spec.address,
            port: spec.host?,
            target: Endpoint::new(container.address.into(), spec.container),
            owner: Owner(container.port.0),
        })
    })
}

fn uplink_config(id: UplinkId, port: PortId, facts: &UplinkFacts) -> Outcome<UplinkConfig> {
    Ok(UplinkConfig {
        id,
        port,
        mac: facts.mac.parse().map_err(broken)?,
        addresses: facts.addresses.clone(),
        gateway: facts.gateway,
        mtu: facts.mtu,
        address_owner: AddressOwner::Kernel,
    })
}

fn random() -> Outcome<[u64; 4]> {
    let mut bytes = [0; 32];
    let file = std::fs::File::open("/dev/urandom");
    file.and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .map_err(broken)?;
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = chunk
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte));
    }
    Ok(words)
}

fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

fn broken(error: impl Display) -> Invalid {
    Invalid::new("", error.to_string())
}

fn unexpected() -> Invalid {
    Invalid::new("", "the keeper gave an answer to something else")
}
