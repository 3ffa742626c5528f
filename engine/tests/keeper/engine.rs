//! What an engine sees of its keeper.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;
use std::{fs, io};

use crossbeam_channel::Receiver;
use pontoon_engine::io::fdpass::Channel;
use pontoon_engine::io::keeper::protocol::{
    Event, Plug, ReplyBody, RequestBody, SandboxId, VERSION,
};
use pontoon_engine::io::keeper::{self, KeeperLink};
use pontoon_engine::io::namespace::{
    Inside, become_root_of_new_user_namespace, enter, in_child, new_network_namespace, owner_of,
};
use pontoon_engine::io::netlink::{Netlink, Watch};
use pontoon_engine::io::shared_rings::SOCKETS;

use crate::PATIENCE;

/// The engine's part: the link, and what the keeper told of the sandbox.
pub(super) struct Engine {
    pub(super) link: KeeperLink,
    pub(super) events: Receiver<Event>,
    pub(super) unprivileged: bool,
    pub(super) net: OwnedFd,
    user: Option<OwnedFd>,
    pub(super) host_net: Option<OwnedFd>,
}

impl Engine {
    #[allow(unsafe_code, reason = "the descriptor is inherited")]
    pub(super) fn open() -> Self {
        use std::os::fd::FromRawFd;
        // SAFETY: the keeper has put the pair's end there, and nobody else takes it.
        let fd = unsafe { OwnedFd::from_raw_fd(keeper::ENGINE_FD) };
        let (link, events) = KeeperLink::open(Channel::from_fd(fd)).unwrap();
        let (reply, fds) = link
            .request(RequestBody::Sandbox { version: VERSION }, &[])
            .unwrap();
        let ReplyBody::Sandbox { unprivileged, .. } = reply else {
            panic!("{reply:?}");
        };
        let made = if unprivileged { 3 } else { 1 };
        assert_eq!(fds.len(), SOCKETS + made);
        let mut fds = fds.into_iter().skip(SOCKETS);
        let net = fds.next().unwrap();
        Self {
            link,
            events,
            unprivileged,
            net,
            user: fds.next(),
            host_net: fds.next(),
        }
    }

    /// A namespace that belongs to the sandbox's user namespace, as a container's does.
    pub(super) fn container(&self) -> OwnedFd {
        let ((), mut fds) = in_child(|| {
            if let Some(user) = &self.user {
                enter(Inside {
                    user: Some(user.as_fd()),
                    net: None,
                })?;
                become_root_of_new_user_namespace()?;
            }
            new_network_namespace()?;
            Ok(((), vec![own_network()?]))
        })
        .unwrap();
        fds.remove(0)
    }

    pub(super) fn plug(
        &self,
        target: &OwnedFd,
        spec: Plug,
    ) -> Result<(SandboxId, u32, usize), String> {
        let reply = self
            .link
            .request(RequestBody::Plug(spec), &[target.as_fd()]);
        match reply.map_err(|e| e.to_string())? {
            (
                ReplyBody::Plugged {
                    sandbox, ifindex, ..
                },
                fds,
            ) => Ok((sandbox, ifindex, fds.len())),
            (other, _) => panic!("{other:?}"),
        }
    }

    pub(super) fn unplug(&self, sandbox: SandboxId, ifindex: u32) {
        let body = RequestBody::Unplug { sandbox, ifindex };
        self.link.request(body, &[]).unwrap();
    }

    /// Names of the interfaces of a namespace.
    pub(super) fn names(&self, net: &OwnedFd) -> Vec<String> {
        self.look(net, |netlink| {
            netlink
                .links()
                .unwrap()
                .into_iter()
                .map(|l| l.name)
                .collect::<Vec<_>>()
        })
    }

    pub(super) fn look<T>(&self, net: &OwnedFd, f: impl FnOnce(&mut Netlink) -> T) -> T
    where
        T: serde::Serialize + serde::de::DeserializeOwned,
    {
        let owner = self.unprivileged.then(|| owner_of(net.as_fd()).unwrap());
        let (seen, _) = in_child(|| {
            let user = owner.as_ref().map(AsFd::as_fd);
            enter(Inside {
                user,
                net: Some(net.as_fd()),
            })?;
            Ok((f(&mut Netlink::open(Watch::Nothing).unwrap()), Vec::new()))
        })
        .unwrap();
        seen
    }

    pub(super) fn wait_gone(&self, mut wanted: BTreeSet<u32>) {
        let end = Instant::now() + PATIENCE;
        while !wanted.is_empty() {
            match self.events.recv_deadline(end) {
                Ok(Event::LinkGone {
                    sandbox: SandboxId::SHARED,
                    ifindex,
                }) => {
                    wanted.remove(&ifindex);
                }
                Ok(_) => {}
                Err(_) => panic!("{} links went without a word", wanted.len()),
            }
        }
    }
}

pub(super) fn own_network() -> io::Result<OwnedFd> {
    Ok(fs::File::open("/proc/self/ns/net")?.into())
}
