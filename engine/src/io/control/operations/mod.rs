//! Carrying out what clients ask for.
//!
//! An operation decides in the pure state, asks the keeper for what needs rights, tells the worker, and
//! takes everything back in reverse when one of them fails.

mod connect;
mod containers;
mod ends;
mod flows;
mod glance;
mod lead;
mod life;
mod networks;
mod ports;
mod uplinks;

use std::collections::HashMap;
use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use pontoon_nat::{Limits, Profile};
use pontoon_switch::LinkState;

use super::store::Store;
use super::watch::Watch;
use super::{Stay, resolvers};
use crate::carried::Reach;
use crate::config::{OffloadMode, PortId, UplinkId};
use crate::control::api::{NetworkSpec, OffloadView, Reply, Request};
use crate::control::fault::FaultKind;
use crate::control::state::{DEFAULT_NETWORK, State};
use crate::control::{Invalid, event};
use crate::io::alarm::Counts;
use crate::io::carrier::Carrier;
use crate::io::keeper::KeeperLink;
use crate::io::keeper::protocol::{
    CarrierRequest, Event, Lives, ReplyBody, RequestBody, SandboxId, VERSION,
};
use crate::io::shared_rings::{Hearing, SOCKETS};
use crate::io::wire::SocketId;
use crate::io::worker::{Worker, WorkerHandle};
use crate::{Datapath, Seeds};
use ends::Held;
pub(super) use ends::{UNKNOWN_STATUS, stop};
use flows::Left;

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
    /// Whether its interface runs; `None` when it is gone.
    running: Option<bool>,
}

#[derive(Clone, Copy)]
struct Place {
    sandbox: SandboxId,
    ifindex: u32,
    reach: Reach,
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
    /// By name; of containers that `run` has started and that have not ended.
    held: HashMap<String, Held>,
    watch: Watch,
    directory: PathBuf,
    store: Store,
    lives: Lives,
    offload: OffloadView,
    left: Option<Left>,
    /// The plan of what the kernel carries that is known to hold.
    plan: u64,
    uplinks: HashMap<String, OpenUplink>,
    last_uplink: u32,
    stay: Stay,
    started: Instant,
    had_container: bool,
    ended: bool,
    /// Events that are no changes of the state, until somebody tells them.
    untold: Vec<event::Event>,
}

struct SandboxFds {
    user: Option<OwnedFd>,
    host_net: Option<OwnedFd>,
}

impl Control {
    /// Asks for the sandbox, starts the worker, and makes the default network, or takes over what an
    /// engine before this one has had.
    pub(super) fn start(
        keeper: KeeperLink,
        stay: Stay,
        watch: Watch,
        directory: PathBuf,
        offload: OffloadMode,
    ) -> Outcome<Self> {
        let request = RequestBody::Sandbox { version: VERSION };
        let (reply, fds) = keeper.request(request, &[]).map_err(broken)?;
        let ReplyBody::Sandbox {
            unprivileged,
            lives,
        } = reply
        else {
            return Err(unexpected());
        };
        let mut fds = fds.into_iter();
        let packets: Vec<_> = fds.by_ref().take(SOCKETS).collect();
        let (SOCKETS, Some(_net)) = (packets.len(), fds.next()) else {
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
        let offload = raise_carrier(&keeper, offload);
        let shared = hear(&worker, packets, &offload)?;
        resolvers::follow(worker.clone()).map_err(broken)?;
        let mut control = Self {
            state: State::default(),
            keeper,
            worker,
            sandbox,
            sockets: HashMap::from([(SandboxId::SHARED, shared)]),
            places: HashMap::new(),
            host_ports: HashMap::new(),
            taps: HashMap::new(),
            held: HashMap::new(),
            watch,
            store: Store::new(&directory),
            directory,
            lives,
            offload,
            left: None,
            plan: 0,
            uplinks: HashMap::new(),
            last_uplink: 0,
            stay,
            started: Instant::now(),
            had_container: false,
            ended: false,
            untold: Vec::new(),
        };
        control.begin()?;
        control.save();
        Ok(control)
    }

    fn begin(&mut self) -> Outcome<()> {
        match self.store.load() {
            Some((record, state)) if record.keeper == self.lives.keeper => {
                return self.take_over(&record, state);
            }
            Some((record, _)) => self.end_leftovers(&record),
            None => {}
        }
        self.open_user_uplink()?;
        let default = NetworkSpec {
            name: DEFAULT_NETWORK.to_owned(),
            ..NetworkSpec::default()
        };
        self.create_network(&default)?;
        self.take_up_flows()
    }

    fn open_user_uplink(&mut self) -> Outcome<()> {
        let port = self.state.next_port();
        self.ask(move |w, _| w.datapath().open_user_uplink(port))?
            .map_err(broken)
    }

    /// Clients are served from now on. What the engine before this one has had, and nobody knows of, goes.
    pub(super) fn serving(&mut self) -> Outcome<()> {
        self.leave_flows()?;
        let told = self.keeper.request(RequestBody::Serving, &[]);
        told.map(drop).map_err(broken)?;
        if !self.offload.active {
            return Ok(());
        }
        let carrier = Carrier::start(self.keeper.clone(), self.worker.clone()).map_err(broken)?;
        self.ask(|w, _| w.carry_by(carrier))
    }

    /// What there is.
    pub(super) const fn state(&self) -> &State {
        &self.state
    }

    /// Events that are no changes of the state, since they were taken last.
    pub(super) fn take_untold(&mut self) -> Vec<event::Event> {
        std::mem::take(&mut self.untold)
    }

    /// Takes note of something that went wrong without anybody having asked for it.
    fn fault(&mut self, kind: FaultKind, what: String) {
        log!("{what}");
        self.untold.push(event::Event::Fault { kind, what });
    }

    /// Has the worker tell when tables had no room.
    pub(super) fn tell_of_limits(&self, tell: impl Fn(Counts) + Send + 'static) -> Outcome<()> {
        self.ask(|w, _| w.tell_of_limits(tell))
    }

    /// Whether there is a reason to stay.
    pub(super) fn is_used(&self) -> bool {
        let made = self
            .state
            .networks()
            .any(|network| network.name != DEFAULT_NETWORK);
        self.stay == Stay::Always || self.state.running() > 0 || made
    }

    /// Does what a client wants; what has changed is written down before it is answered.
    pub(super) fn carry_out(&mut self, request: Request, fds: Vec<OwnedFd>) -> Done {
        let looks = request.only_looks();
        let done = self.dispatch(request, fds);
        if !looks {
            self.save();
        }
        done
    }

    fn dispatch(&mut self, request: Request, fds: Vec<OwnedFd>) -> Done {
        let reply = match request {
            Request::Hello => Reply::Done,
            Request::Namespaces => return self.namespaces(),
            Request::Attach(spec) => self.attach(spec, fds)?,
            Request::Detach { name } => self.pull_out(&name)?,
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
            Request::Publish { name, ports } => self.publish(&name, &ports).map_err(of_ports)?,
            Request::Unpublish { name, ports } => self.unpublish(&name, &ports)?,
            Request::Connect { name, endpoint } => self.connect(&name, &endpoint)?,
            Request::Disconnect { name, network } => self.disconnect(&name, &network)?,
            Request::CreateNetwork(spec) => self.create_network(&spec)?,
            Request::Networks => {
                let views = self.state.networks().map(|n| self.state.network_view(n));
                Reply::Networks(views.collect())
            }
            Request::Network { name } => {
                let network = self.state.network(&name)?;
                Reply::Network(self.state.network_view(network))
            }
            Request::RemoveNetwork { name } => self.remove_network(&name)?,
            Request::PruneNetworks(filter) => self.prune_networks(&filter)?,
            Request::Fdb => Reply::Fdb(self.ask(|w, now| w.datapath().fdb(now))?),
            Request::Neighbours => {
                Reply::Neighbours(self.ask(|w, now| w.datapath().neighbours(now))?)
            }
            Request::Flows => Reply::Flows(self.flows()?),
            Request::Stats => self.stats()?,
            Request::Status => self.status()?,
            Request::Upgrade { program } => self.upgrade(program)?,
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
            Event::UplinkChanged(facts) => self.uplink_changed(&facts),
            Event::ShutDown => return Leave::Now,
        }
        self.save();
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
        self.end_processes();
        self.unplug_all();
        let names: Vec<_> = self.state.containers().map(|c| c.name.clone()).collect();
        for name in &names {
            self.detach(name);
            self.state.forget(name);
        }
        let networks: Vec<_> = self.state.networks().cloned().collect();
        for network in &networks {
            self.unmake_network(network);
        }
        self.worker.stop();
        self.store.remove();
    }

    fn ask<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Worker, pontoon_packet::Timestamp) -> R + Send + 'static,
    ) -> Outcome<R> {
        self.worker.call(f).map_err(broken)
    }

    /// Has the keeper start engines with another program from now on.
    fn upgrade(&self, program: PathBuf) -> Outcome<Reply> {
        let request = RequestBody::Program(program);
        let told = self.keeper.request(request, &[]);
        told.map(|_| Reply::Done)
            .map_err(|error| Invalid::new("PROGRAM", error.0))
    }

    fn namespaces(&self) -> Done {
        let both = [&self.sandbox.user, &self.sandbox.host_net];
        let fds: Result<Vec<_>, _> = both.into_iter().flatten().map(OwnedFd::try_clone).collect();
        let unprivileged = self.sandbox.user.is_some();
        Ok((Reply::Namespaces { unprivileged }, fds.map_err(broken)?))
    }
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

fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

fn broken(error: impl Display) -> Invalid {
    Invalid::broken(error.to_string())
}

/// What a container publishes when it is made is called otherwise than what it publishes later.
fn of_ports(error: Invalid) -> Invalid {
    match error.field.as_str() {
        "publish" => error.of("ports"),
        _ => error,
    }
}

fn unexpected() -> Invalid {
    Invalid::broken("the keeper gave an answer to something else")
}

/// Has the worker hear the sandbox.
fn hear(worker: &WorkerHandle, packets: Vec<OwnedFd>, offload: &OffloadView) -> Outcome<SocketId> {
    let hearing = if offload.active {
        Hearing::Apart
    } else {
        Hearing::Everything
    };
    let socket = worker.call(move |w, _| w.add_shared(packets, hearing));
    socket.map_err(broken)?.map_err(broken)
}

/// Asks for a carrier. Without one the engine hears everything itself.
fn raise_carrier(keeper: &KeeperLink, mode: OffloadMode) -> OffloadView {
    let refusal = match mode {
        OffloadMode::Auto => keeper
            .request(RequestBody::Carrier(CarrierRequest::Raise), &[])
            .err(),
        OffloadMode::Off => None,
    };
    OffloadView {
        mode,
        active: mode == OffloadMode::Auto && refusal.is_none(),
        why: refusal.map(|error| error.0),
    }
}
