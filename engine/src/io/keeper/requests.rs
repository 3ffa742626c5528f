//! Answering the engine.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::links::Made;
use super::protocol::{FromKeeper, Plug, ReplyBody, Request, RequestBody};
use super::{Keeper, holder, leftovers, plug, ports, uplink};
use crate::io::namespace::Inside;

type Answer = (ReplyBody, Vec<OwnedFd>);

impl Keeper {
    /// Answers one request. `false` when the engine is gone.
    pub(super) fn handle_request(&mut self) -> io::Result<bool> {
        let (Request { id, body }, fds) = match self.link.receive::<Request>() {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(false),
            // What the kernel says of an engine that has ended before it read everything.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error),
        };
        let answered = self.answer(body, fds).and_then(|(reply, fds)| {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            let body = Ok(reply);
            self.link.send(&FromKeeper::Reply { id, body }, &fds)
        });
        if let Err(error) = answered {
            let body = Err(error.to_string());
            // An engine that is gone is noticed at the next turn.
            let _ = self.link.send(&FromKeeper::Reply { id, body }, &[]);
        }
        Ok(true)
    }

    fn answer(&mut self, body: RequestBody, mut fds: Vec<OwnedFd>) -> io::Result<Answer> {
        let bare = |reply| Ok((reply, Vec::new()));
        // The engine has sent it.
        let missing = || {
            let what = "the namespace's descriptor was lost: too many files are open (ulimit -n)";
            io::Error::other(what)
        };
        match body {
            RequestBody::Sandbox => self.describe_sandbox(),
            RequestBody::Plug(spec) => {
                let target = fds.pop().ok_or_else(missing)?;
                self.plug(target.as_fd(), &spec)
            }
            RequestBody::PlugHost(spec) => {
                let target = self.host_namespace()?;
                self.plug(target.as_fd(), &spec)
            }
            RequestBody::PlugHostTap(spec) => {
                let tap = self.plug_host_tap(&spec)?;
                Ok((ReplyBody::Done, vec![tap]))
            }
            RequestBody::Route { ifname, gateway } => {
                let target = fds.pop().ok_or_else(missing)?;
                let inside = self.links.sandbox.inside();
                plug::route(inside, target.as_fd(), &ifname, gateway)?;
                bare(ReplyBody::Done)
            }
            RequestBody::EndProcesses => {
                let target = fds.pop().ok_or_else(missing)?;
                leftovers::end_processes(target.as_fd())?;
                bare(ReplyBody::Done)
            }
            RequestBody::Unplug { sandbox, ifindex } => {
                self.links.unplug(sandbox, ifindex)?;
                bare(ReplyBody::Done)
            }
            RequestBody::OpenUplink { interface } => {
                let (facts, packet) = self.uplinks.open(&interface, self.privilege)?;
                Ok((ReplyBody::Uplink(facts), vec![packet]))
            }
            RequestBody::CloseUplink { interface } => {
                self.uplinks.close(&interface);
                bare(ReplyBody::Done)
            }
            RequestBody::HostRoutes => bare(ReplyBody::HostRoutes(uplink::host_routes()?)),
            RequestBody::Bind(wanted) => {
                let (bound, stopped) = ports::bind_all(&wanted);
                Ok((ReplyBody::Bound(stopped), bound))
            }
            RequestBody::Holder(port) => bare(ReplyBody::Holder(holder::of(&port))),
        }
    }

    fn plug(&mut self, target: BorrowedFd<'_>, spec: &Plug) -> io::Result<Answer> {
        let Made {
            sandbox,
            ifindex,
            packet,
        } = self.links.plug(target, spec)?;
        let reply = ReplyBody::Plugged { sandbox, ifindex };
        Ok((reply, packet.into_iter().collect()))
    }

    fn plug_host_tap(&self, spec: &Plug) -> io::Result<OwnedFd> {
        let target = self.host_namespace()?;
        let inside = Inside {
            user: self.links.sandbox.user.as_ref().map(AsFd::as_fd),
            net: Some(target.as_fd()),
        };
        plug::plug_tap(inside, spec)
    }

    /// Where the host's interfaces belong.
    fn host_namespace(&self) -> io::Result<OwnedFd> {
        match &self.links.sandbox.host_net {
            Some(net) => net.try_clone(),
            None => Ok(std::fs::File::open("/proc/self/ns/net")?.into()),
        }
    }

    fn describe_sandbox(&self) -> io::Result<Answer> {
        let sandbox = &self.links.sandbox;
        let made = [&sandbox.user, &sandbox.host_net].into_iter().flatten();
        let fds = sandbox.packets.iter().chain([&sandbox.net]).chain(made);
        let fds = fds.map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
        let unprivileged = sandbox.user.is_some();
        Ok((ReplyBody::Sandbox { unprivileged }, fds))
    }
}
