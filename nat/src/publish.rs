//! Published ports.

use core::fmt;
use core::net::IpAddr;

use ahash::RandomState;
use hashbrown::HashMap;
use pontoon_packet::{Endpoint, parse::protocol};

use crate::{Owner, Tuple};

/// A port that leads to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// The address it is published on; unspecified for every address of the engine.
    pub addr: IpAddr,
    /// The port that clients use.
    pub port: u16,
    /// The container's endpoint.
    pub target: Endpoint,
    /// The container.
    pub owner: Owner,
}

/// The port is published already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishError {
    /// What stands in the way.
    pub holder: Published,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Published {
            protocol,
            addr,
            port,
            target,
            ..
        } = &self.holder;
        let name = if *protocol == protocol::UDP {
            "udp"
        } else {
            "tcp"
        };
        let at = Endpoint::new(*addr, *port);
        write!(f, "port {at}/{name} is already published to {target}")
    }
}

impl core::error::Error for PublishError {}

/// All published ports. Filled by the control side only, so it needs no cap.
#[derive(Debug)]
pub(crate) struct PublishedPorts {
    ports: HashMap<(u8, u16), Vec<Published>, RandomState>,
}

impl PublishedPorts {
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self {
            ports: HashMap::with_hasher(hasher),
        }
    }

    pub(crate) fn insert(&mut self, published: Published) -> Result<(), PublishError> {
        let same_port = self
            .ports
            .entry((published.protocol, published.port))
            .or_default();
        let clash = |other: &&Published| {
            other.addr == published.addr
                || other.addr.is_unspecified()
                || published.addr.is_unspecified()
        };
        if let Some(holder) = same_port.iter().find(clash) {
            return Err(PublishError {
                holder: holder.clone(),
            });
        }
        same_port.push(published);
        Ok(())
    }

    pub(crate) fn remove(&mut self, published: &Published) {
        let key = (published.protocol, published.port);
        if let Some(same_port) = self.ports.get_mut(&key) {
            same_port.retain(|other| other != published);
            if same_port.is_empty() {
                self.ports.remove(&key);
            }
        }
    }

    pub(crate) fn remove_owner(&mut self, owner: Owner) {
        self.ports.retain(|_, same_port| {
            same_port.retain(|published| published.owner != owner);
            !same_port.is_empty()
        });
    }

    /// Who gets what is sent to that endpoint.
    pub(crate) fn lookup(&self, tuple: &Tuple) -> Option<&Published> {
        let same_port = self.ports.get(&(tuple.protocol, tuple.dst.port))?;
        same_port
            .iter()
            .find(|p| p.addr == tuple.dst.addr || p.addr.is_unspecified())
    }

    /// The endpoint is published, or may be.
    pub(crate) fn holds(&self, protocol: u8, end: Endpoint) -> bool {
        self.ports
            .get(&(protocol, end.port))
            .is_some_and(|same_port| {
                same_port
                    .iter()
                    .any(|p| p.addr == end.addr || p.addr.is_unspecified())
            })
    }
}
