//! What happens, as those who watch are told: the difference between what there was and what there is.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fault::FaultKind;
use super::publish::PublishSpec;
use super::state::{Phase, State};

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A network is there.
    NetworkMade {
        /// 64 digits.
        id: String,
        /// Its name.
        name: String,
    },
    /// A network is gone.
    NetworkRemoved {
        /// 64 digits.
        id: String,
        /// Its name.
        name: String,
    },
    /// A container is plugged in.
    ContainerStarted {
        /// 64 digits.
        id: String,
        /// Its name.
        name: String,
    },
    /// A container has ended, or its namespace was pulled out or is gone.
    ContainerEnded {
        /// 64 digits.
        id: String,
        /// Its name.
        name: String,
        /// Its exit status, where it is still known.
        exit_status: Option<i32>,
    },
    /// A container has joined a network while it ran.
    Connected {
        /// The container's name.
        container: String,
        /// The network's.
        network: String,
    },
    /// A container that goes on has left a network.
    Disconnected {
        /// The container's name.
        container: String,
        /// The network's.
        network: String,
    },
    /// A port is published.
    PortPublished {
        /// The container's name.
        container: String,
        /// Which port.
        port: PublishSpec,
    },
    /// A port is published no more.
    PortUnpublished {
        /// The container's name.
        container: String,
        /// Which port.
        port: PublishSpec,
    },
    /// Something that networks rely on is not as it should be.
    Fault {
        /// Which kind of thing.
        kind: FaultKind,
        /// What.
        what: String,
    },
    /// Something of which a fault told is as it should be again.
    Mended {
        /// What the fault was.
        kind: FaultKind,
        /// What is as it should be.
        what: String,
    },
    /// So many events are missing here: whoever watches did not read them in time.
    Lost {
        /// How many.
        count: u64,
    },
}

/// An event, and when it was noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Unix time, in nanoseconds.
    pub time_nanos: u64,
    /// What has happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What events are about, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    networks: BTreeMap<String, String>,
    containers: BTreeMap<String, Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    name: String,
    phase: Phase,
    networks: Vec<String>,
    ports: Vec<PublishSpec>,
}

impl Snapshot {
    /// What there is.
    pub fn of(state: &State) -> Self {
        let networks = state.networks().map(|n| (n.id.clone(), n.name.clone()));
        let containers = state.containers().map(|container| {
            let places = container.endpoints.iter().map(|e| e.network.clone());
            let seen = Seen {
                name: container.name.clone(),
                phase: container.phase,
                networks: places.collect(),
                ports: container.publish().cloned().collect(),
            };
            (container.id.clone(), seen)
        });
        Self {
            networks: networks.collect(),
            containers: containers.collect(),
        }
    }

    /// What has happened between this and `after`.
    pub fn changes(&self, after: &Self) -> Vec<Event> {
        let mut events = Vec::new();
        for (id, name) in &after.networks {
            if !self.networks.contains_key(id) {
                let (id, name) = (id.clone(), name.clone());
                events.push(Event::NetworkMade { id, name });
            }
        }
        for (id, seen) in &self.containers {
            if seen.runs() && !after.containers.get(id).is_some_and(Seen::runs) {
                seen.end(id, after.containers.get(id), &mut events);
            }
        }
        for (id, seen) in after.containers.iter().filter(|(_, seen)| seen.runs()) {
            match self.containers.get(id) {
                None => seen.begin(id, &mut events),
                Some(before) => before.change(seen, &mut events),
            }
        }
        for (id, name) in &self.networks {
            if !after.networks.contains_key(id) {
                let (id, name) = (id.clone(), name.clone());
                events.push(Event::NetworkRemoved { id, name });
            }
        }
        events
    }
}

impl Seen {
    fn runs(&self) -> bool {
        self.phase == Phase::Running
    }

    fn begin(&self, id: &str, events: &mut Vec<Event>) {
        let (id, name) = (id.to_owned(), self.name.clone());
        events.push(Event::ContainerStarted { id, name });
        events.extend(self.ports.iter().map(|port| self.published(port)));
    }

    fn end(&self, id: &str, after: Option<&Self>, events: &mut Vec<Event>) {
        events.extend(self.ports.iter().map(|port| self.unpublished(port)));
        let exit_status = match after.map(|after| &after.phase) {
            Some(Phase::Exited(status)) => Some(*status),
            _ => None,
        };
        events.push(Event::ContainerEnded {
            id: id.to_owned(),
            name: self.name.clone(),
            exit_status,
        });
    }

    fn change(&self, after: &Self, events: &mut Vec<Event>) {
        let joined = after.networks.iter().filter(|n| !self.networks.contains(n));
        events.extend(joined.map(|network| Event::Connected {
            container: self.name.clone(),
            network: network.clone(),
        }));
        let gone = self.ports.iter().filter(|port| !after.ports.contains(port));
        events.extend(gone.map(|port| self.unpublished(port)));
        let new = after.ports.iter().filter(|port| !self.ports.contains(port));
        events.extend(new.map(|port| self.published(port)));
        let left = self.networks.iter().filter(|n| !after.networks.contains(n));
        events.extend(left.map(|network| Event::Disconnected {
            container: self.name.clone(),
            network: network.clone(),
        }));
    }

    fn published(&self, port: &PublishSpec) -> Event {
        Event::PortPublished {
            container: self.name.clone(),
            port: port.clone(),
        }
    }

    fn unpublished(&self, port: &PublishSpec) -> Event {
        Event::PortUnpublished {
            container: self.name.clone(),
            port: port.clone(),
        }
    }
}
