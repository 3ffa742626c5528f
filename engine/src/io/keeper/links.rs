//! The engine's ends of interfaces: in the sandbox, and in namespaces for those of others.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::plug::{self, Foreign};
use super::protocol::{Event, Plug, SandboxId};
use super::vault::Kept;
use crate::carried::Reach;
use crate::io::namespace::{Inside, Privilege, Sandbox};
use crate::io::netlink::{Change, Link, Netlink};
use crate::io::spare::Spare;

/// Descriptors that deleting an interface takes: a pair for the child, which closes one of them again.
pub(super) const TO_UNPLUG: usize = 2;

struct Foreigner {
    ifindex: u32,
    packet: OwnedFd,
    watch: Netlink,
    user: OwnedFd,
    net: OwnedFd,
}

/// All of them, and what is heard of them.
pub(super) struct Links {
    privilege: Privilege,
    pub(super) sandbox: Sandbox,
    watch: Netlink,
    /// Those in the sandbox, by index.
    shared: BTreeMap<u32, Kept<Reach>>,
    foreign: BTreeMap<SandboxId, Kept<Foreigner>>,
    next_foreign: u32,
    /// Given up to delete an interface when there is no other descriptor: nobody else would.
    spare: Spare,
}

/// An interface that was made.
pub(super) struct Made {
    pub(super) sandbox: SandboxId,
    pub(super) ifindex: u32,
    /// Who can move frames from it and to it.
    pub(super) reach: Reach,
    /// A packet socket, unless it lies in the sandbox.
    pub(super) packet: Option<OwnedFd>,
}

impl Links {
    pub(super) fn new(sandbox: Sandbox, privilege: Privilege) -> io::Result<Self> {
        Ok(Self {
            privilege,
            watch: Netlink::from_fd(sandbox.watch.try_clone()?),
            sandbox,
            shared: BTreeMap::new(),
            foreign: BTreeMap::new(),
            next_foreign: 1,
            spare: Spare::keep(TO_UNPLUG),
        })
    }

    /// What becomes readable when there are [changes](Self::changes) in a namespace.
    pub(super) fn watches(&self) -> impl Iterator<Item = (SandboxId, BorrowedFd<'_>)> {
        let foreign = self.foreign.iter();
        let foreign = foreign.map(|(id, f)| (*id, f.thing.watch.as_fd()));
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
                self.shared.insert(ifindex, Kept::claimed(Reach::Engine));
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
                let foreigner = Foreigner {
                    ifindex,
                    packet: packet.try_clone()?,
                    watch: Netlink::from_fd(watch),
                    user,
                    net,
                };
                self.foreign.insert(id, Kept::claimed(foreigner));
                (id, Some(packet))
            }
        };
        Ok(Made {
            sandbox,
            ifindex,
            reach: Reach::Engine,
            packet,
        })
    }

    /// The kernel can move frames from an interface in the sandbox and to it.
    pub(super) fn within_reach(&mut self, made: &mut Made) {
        if let Some(kept) = self.shared.get_mut(&made.ifindex) {
            kept.thing = Reach::Kernel;
            made.reach = Reach::Kernel;
        }
    }

    /// Hands out again what an engine before has had.
    ///
    /// # Errors
    /// It is gone, or no descriptor is free.
    pub(super) fn replug(&mut self, id: SandboxId, ifindex: u32) -> io::Result<Made> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the interface is gone");
        let (reach, packet) = if id == SandboxId::SHARED {
            let kept = self.shared.get_mut(&ifindex).ok_or_else(gone)?;
            kept.claimed = true;
            (kept.thing, None)
        } else {
            let kept = self.foreign.get_mut(&id).ok_or_else(gone)?;
            kept.claimed = true;
            (Reach::Engine, Some(kept.thing.packet.try_clone()?))
        };
        Ok(Made {
            sandbox: id,
            ifindex,
            reach,
            packet,
        })
    }

    /// The engine that had all of them is gone.
    pub(super) fn disown(&mut self) {
        self.shared
            .values_mut()
            .for_each(|kept| kept.claimed = false);
        self.foreign
            .values_mut()
            .for_each(|kept| kept.claimed = false);
    }

    /// Deletes what the engine that runs does not have. Returns how the rest stands.
    pub(super) fn tidy(&mut self) -> Vec<Event> {
        let shared = self.shared.iter().filter(|(_, kept)| !kept.claimed);
        let shared = shared.map(|(ifindex, _)| (SandboxId::SHARED, *ifindex));
        let foreign = self.foreign.iter().filter(|(_, kept)| !kept.claimed);
        let foreign = foreign.map(|(id, kept)| (*id, kept.thing.ifindex));
        for (id, ifindex) in shared.chain(foreign).collect::<Vec<_>>() {
            // A namespace that cannot be entered any more has taken its interfaces with it.
            let _ = self.unplug(id, ifindex);
            self.forget(id, ifindex);
        }
        self.look_again()
    }

    /// Deletes an interface.
    ///
    /// # Errors
    /// Its namespace cannot be entered any more.
    pub(super) fn unplug(&mut self, id: SandboxId, ifindex: u32) -> io::Result<()> {
        let inside = match self.foreign.get(&id) {
            _ if id == SandboxId::SHARED => self.sandbox.inside(),
            Some(Kept { thing, .. }) => Inside {
                user: Some(thing.user.as_fd()),
                net: Some(thing.net.as_fd()),
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

    /// Deletes all interfaces of the sandbox.
    ///
    /// # Errors
    /// It cannot be entered any more.
    pub(super) fn unplug_all(&mut self) -> io::Result<()> {
        self.spare.give_up();
        let done = plug::unplug_all(self.sandbox.inside());
        self.spare.fill();
        if done.is_ok() {
            self.shared.clear();
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
            Some(kept) => &mut kept.thing.watch,
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
        let known = self.shared.keys().copied();
        let gone: Vec<u32> = known.filter(|index| !present.contains(index)).collect();
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
