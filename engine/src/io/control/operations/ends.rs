//! How containers end: what is done with their processes, and what becomes of them.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Control, Outcome, broken};
use crate::control::Invalid;
use crate::control::api::{Answer, NetworkMode, Reply};
use crate::control::state::{Container, ContainerNumber, Phase};
use crate::io::control::directory::container_files;
use crate::io::control::watch::Role;
use crate::io::keeper::protocol::{Key, RequestBody};
use crate::io::process::Process;

/// How long processes have between SIGTERM and SIGKILL when everything ends.
const END_TOGETHER: Duration = Duration::from_secs(2);
/// How long a process may take to die of SIGKILL.
const KILLED: Duration = Duration::from_secs(5);
/// Shown for a process whose status nobody could tell; what a shell shows for SIGKILL.
pub(in super::super) const UNKNOWN_STATUS: i32 = 137;

/// What is held of a container that `run` has started.
pub(super) struct Held {
    /// Its first process.
    pub(super) process: Process,
    /// Its monitor.
    pub(super) monitor: Process,
    /// The network namespace that it is in; `None` for the user's.
    pub(super) net: Option<OwnedFd>,
    /// Its mount namespace, which is nobody else's; `None` for the user's.
    pub(super) mount: Option<OwnedFd>,
    /// When its first process was started, in clock ticks since the machine was.
    pub(super) since: u64,
}

impl Control {
    /// Holds on to a container's first process and namespace until it has ended.
    pub(super) fn hold(&mut self, container: &Container, held: Held) -> Outcome<()> {
        let number = container.number.0;
        let processes = [&held.process, &held.monitor];
        let kept = self.keeper.keep(Key::Processes(number), &processes);
        kept.map_err(broken)?;
        let namespaces = [
            (Key::Net(number), &held.net),
            (Key::Mount(number), &held.mount),
        ];
        for (key, namespace) in namespaces {
            let namespace: Vec<_> = namespace.iter().collect();
            self.keeper.keep(key, &namespace).map_err(broken)?;
        }
        self.watch_over(container, held)
    }

    /// The same without giving it to the keeper, which has it.
    pub(super) fn watch_over(&mut self, container: &Container, held: Held) -> Outcome<()> {
        for (role, process) in [(Role::First, &held.process), (Role::Monitor, &held.monitor)] {
            let watched = self.watch.add(container.number, role, process);
            watched.map_err(broken)?;
        }
        self.held.insert(container.name.clone(), held);
        Ok(())
    }

    pub(super) fn let_go(&mut self, container: &Container) {
        if let Some(held) = self.held.remove(&container.name) {
            self.watch.remove(&held.process);
            self.watch.remove(&held.monitor);
            let number = container.number.0;
            for key in [Key::Processes(number), Key::Net(number), Key::Mount(number)] {
                self.keeper.let_go(key);
            }
        }
    }

    /// A container's monitor has ended, or its first process a while ago. If nobody has told with which
    /// status, the monitor was killed: what it would have done is done here.
    pub(in super::super) fn unattended(&mut self, number: ContainerNumber) {
        let here = |c: &&Container| c.number == number && c.phase == Phase::Running;
        let Some(container) = self.state.containers().find(here).cloned() else {
            return;
        };
        self.end_rest(&container);
        self.exited(&container.id, UNKNOWN_STATUS);
    }

    /// Ends whatever is left in a container of `run`'s, and removes its files. Who only shares its network
    /// namespace is left alone, and so is whatever runs where the user is.
    pub(super) fn end_rest(&self, container: &Container) {
        let Some(held) = self.held.get(&container.name) else {
            return;
        };
        let shares = container.spec.mode != NetworkMode::Own || self.state.is_shared(container);
        let whole = if shares { &held.mount } else { &held.net };
        if let Some(namespace) = whole {
            let ended = self
                .keeper
                .request(RequestBody::EndProcesses, &[namespace.as_fd()]);
            if let Err(error) = ended {
                log!("container {}: {error}", container.name);
            }
        }
        if let Some(monitor) = container.spec.monitor {
            // Its monitor may have removed them.
            let _ = fs::remove_dir_all(container_files(&self.directory, monitor));
        }
    }

    pub(in super::super) fn exited(&mut self, id: &str, status: i32) -> Reply {
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

    /// Ends all first processes, which get the time of one together, and does the work of monitors that
    /// were killed.
    pub(super) fn end_processes(&self) {
        for held in self.held.values() {
            // A process that cannot be told is killed below.
            let _ = held.process.signal(Signal::SIGTERM);
        }
        let end = Instant::now() + END_TOGETHER;
        for held in self.held.values() {
            let left = end.saturating_duration_since(Instant::now());
            if !held.process.has_ended(left) {
                // There is nobody to tell.
                let _ = kill(&held.process);
            }
        }
        for container in self.state.containers() {
            let held = self.held.get(&container.name);
            if held.is_some_and(|held| held.monitor.has_ended(Duration::ZERO)) {
                self.end_rest(container);
            }
        }
    }

    /// Id and first process of a container.
    pub(in super::super) fn process_of(&self, name: &str) -> Outcome<(String, Process)> {
        let container = self.state.container(name)?;
        let held = self.held.get(&container.name).ok_or_else(|| {
            let what = match container.phase {
                Phase::Exited(_) => "the container has ended already",
                Phase::Running => "the namespace was attached; detach it instead",
            };
            Invalid::conflict("", format!("{name}: {what}"))
        })?;
        let process = held.process.try_clone().map_err(broken)?;
        Ok((container.id.clone(), process))
    }

    /// Whether the container of that id is there and has not ended.
    pub(in super::super) fn runs(&self, id: &str) -> bool {
        let mut containers = self.state.containers();
        containers.any(|c| c.id == id && c.phase == Phase::Running)
    }
}

/// Ends a process: SIGTERM, and SIGKILL after `seconds`.
pub(in super::super) fn stop(process: &Process, seconds: u64) -> Answer {
    process.signal(Signal::SIGTERM).map_err(cannot_end)?;
    if !process.has_ended(Duration::from_secs(seconds)) {
        kill(process)?;
    }
    Ok(Reply::Done)
}

pub(super) fn kill(process: &Process) -> Outcome<()> {
    process.signal(Signal::SIGKILL).map_err(cannot_end)?;
    process.has_ended(KILLED);
    Ok(())
}

fn cannot_end(error: std::io::Error) -> Invalid {
    broken(format!("the container's process cannot be ended: {error}"))
}
