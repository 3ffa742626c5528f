//! The engine's ends of interfaces: in the sandbox, and in namespaces for those of others.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::plug::{self, Foreign};
use super::protocol::{Event, Plug, SandboxId};
use crate::io::namespace::{Inside, Privilege, Sandbox};
use crate::io::netlink::{Change, Link, Netlink};
use crate::io::spare::Spare;

/// Descriptors that deleting an interface takes: a pair for the child, which closes one of them again.
const TO_UNPLUG: usize = 2;

struct Foreigner {
    watch: Netlink,
    user: OwnedFd,
    net: OwnedFd,
}

/// All of them, and what is heard of them.
pub(super) struct Links {
    privilege: Privilege,
    pub(super) sandbox: Sandbox,
    watch: Netlink,
    /// Indices of those in the sandbox.
    shared: BTreeSet<u32>,
    foreign: BTreeMap<SandboxId, Foreigner>,
    next_foreign: u32,
    /// Given up to delete an interface when there is no other descriptor: nobody else would.
    spare: Spare,
}

/// An interface that was made.
pub(super) struct Made {
    pub(super) sandbox: SandboxId,
    pub(super) ifindex: u32,
    /// A packet socket, unless it lies in the sandbox.
    pub(super) packet: Option<OwnedFd>,
}

impl Links {
    pub(super) fn new(sandbox: Sandbox, privilege: Privilege) -> io::Result<Self> {
        Ok(Self {
            privilege,
            watch: Netlink::from_fd(sandbox.watch.try_clone()?),
            sandbox,
            shared: BTreeSet::new(),
            foreign: BTreeMap::new(),
            next_foreign: 1,
            spare: Spare::keep(TO_UNPLUG),
        })
    }

    /// What becomes readable when there are [changes](Self::changes) in a namespace.
    pub(super) fn watches(&self) -> impl Iterator<Item = (SandboxId, BorrowedFd<'_>)> {
        let foreign = self.foreign.iter().map(|(id, f)| (*id, f.watch.as_fd()));
        [(SandboxId::SHARED, self.watch.as_fd())]
            .into_iter()
            .chain(foreign)
    }

    /// Connects a namespace.
    ///
    /// # Errors
    /// See [`plug::plug`].
    pub(super) fn plug(&mut self, target: BorrowedFd<'_>, spec: &Plug) -> io::Result<Made> {
        let plugged = plug::plug(&self.sandbox, self.privilege, target, spec)?;
        let ifindex = plugged.ifindex;
        let (sandbox, packet) = match plugged.foreign {
            None => {
                self.shared.insert(ifindex);
                (SandboxId::SHARED, None)
            }
            Some(Foreign {
                packet,
                watch,
                user,
                net,
            }) => {
                let id = SandboxId(self.next_foreign);
                self.next_foreign += 1;
                let watch = Netlink::from_fd(watch);
                self.foreign.insert(id, Foreigner { watch, user, net });
                (id, Some(packet))
            }
        };
        Ok(Made {
            sandbox,
            ifindex,
            packet,
        })
    }

    /// Deletes an interface.
    ///
    /// # Errors
    /// Its namespace cannot be entered any more.
    pub(super) fn unplug(&mut self, id: SandboxId, ifindex: u32) -> io::Result<()> {
        let inside = match self.foreign.get(&id) {
            _ if id == SandboxId::SHARED => self.sandbox.inside(),
            Some(foreigner) => Inside {
                user: Some(foreigner.user.as_fd()),
                net: Some(foreigner.net.as_fd()),
            },
            None => return Ok(()),
        };
        self.spare.give_up();
        let done = plug::unplug(inside, ifindex);
        self.spare.fill();
        if done.is_ok() {
            self.forget(id, ifindex);
        }
        done
    }

    fn forget(&mut self, id: SandboxId, ifindex: u32) {
        self.foreign.remove(&id);
        if id == SandboxId::SHARED {
            self.shared.remove(&ifindex);
        }
    }

    /// What has changed in a namespace.
    pub(super) fn changes(&mut self, id: SandboxId) -> Vec<Event> {
        let watch = match self.foreign.get_mut(&id) {
            Some(foreigner) => &mut foreigner.watch,
            None if id == SandboxId::SHARED => &mut self.watch,
            // A request that was answered in the same turn has taken it away.
            None => return Vec::new(),
        };
        let changes = watch.changes();
        let lost = changes.contains(&None);
        let told = changes.into_iter().flatten();
        let mut events: Vec<_> = told.filter_map(|change| self.event(id, change)).collect();
        if lost && id == SandboxId::SHARED {
            events.extend(self.look_again());
        }
        events
    }

    fn event(&mut self, id: SandboxId, change: Change) -> Option<Event> {
        match change {
            Change::LinkGone(ifindex) => Some(self.link_gone(id, ifindex)),
            Change::Link(link) => Some(link_state(id, &link)),
            Change::AddressOrRoute => None,
        }
    }

    fn link_gone(&mut self, id: SandboxId, ifindex: u32) -> Event {
        self.forget(id, ifindex);
        Event::LinkGone {
            sandbox: id,
            ifindex,
        }
    }

    /// How the sandbox's links stand, after the kernel had more to say than its socket holds.
    fn look_again(&mut self) -> Vec<Event> {
        let Ok(there) = plug::links(self.sandbox.inside()) else {
            return Vec::new();
        };
        let present: BTreeSet<u32> = there.iter().map(|link| link.index).collect();
        let gone: Vec<u32> = self.shared.difference(&present).copied().collect();
        let gone = gone
            .into_iter()
            .map(|ifindex| self.link_gone(SandboxId::SHARED, ifindex));
        let mut events: Vec<_> = gone.collect();
        events.extend(there.iter().map(|link| link_state(SandboxId::SHARED, link)));
        events
    }
}

fn link_state(sandbox: SandboxId, link: &Link) -> Event {
    Event::LinkState {
        sandbox,
        ifindex: link.index,
        running: link.running,
        mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
    }
}
