//! Answering the engine.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::carrier::Carrier;
use super::links::Made;
use super::protocol::{
    CarrierRequest, FromKeeper, Key, Plug, ReplyBody, Request, RequestBody, SandboxId, UplinkFacts,
    VERSION,
};
use super::{Keeper, holder, leftovers, plug, uplink};
use crate::io::fdpass::MAX_FDS;
use crate::io::namespace::Inside;

type Answer = (ReplyBody, Vec<OwnedFd>);

impl Keeper {
    /// Answers one request. `false` when the engine is gone, or cannot be understood.
    pub(super) fn handle_request(&mut self) -> bool {
        let Some(engine) = &self.engine else {
            return false;
        };
        let (Request { id, body }, fds) = match engine.link.receive::<Request>() {
            Ok(Some(request)) => request,
            Ok(None) => return false,
            // What the kernel says of an engine that has ended before it read everything.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return false,
            Err(error) => {
                log!("a request of the engine's cannot be understood: {error}");
                return false;
            }
        };
        let answered = self.answer(body, fds).and_then(|(reply, fds)| {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            self.reply(id, Ok(reply), &fds)
        });
        if let Err(error) = answered {
            // An engine that is gone is noticed at the next turn.
            let _ = self.reply(id, Err(error.to_string()), &[]);
        }
        true
    }

    fn reply(
        &self,
        id: u64,
        body: Result<ReplyBody, String>,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        match &self.engine {
            Some(engine) => engine.link.send(&FromKeeper::Reply { id, body }, fds),
            None => Ok(()),
        }
    }

    fn answer(&mut self, body: RequestBody, mut fds: Vec<OwnedFd>) -> io::Result<Answer> {
        let bare = |reply| Ok((reply, Vec::new()));
        match body {
            RequestBody::Sandbox { version } => self.describe_sandbox(version),
            RequestBody::Keep(key) => {
                self.vault.keep(key, fds);
                bare(ReplyBody::Done)
            }
            RequestBody::Fetch(key) => Ok((ReplyBody::Done, self.vault.fetch(key)?)),
            RequestBody::LetGo(key) => {
                self.vault.let_go(key);
                bare(ReplyBody::Done)
            }
            RequestBody::Serving => {
                self.tidy();
                bare(ReplyBody::Done)
            }
            RequestBody::Program(path) => done(self.program.become_another(path)?),
            RequestBody::Replug { sandbox, ifindex } => {
                self.links.replug(sandbox, ifindex).map(plugged)
            }
            RequestBody::Plug(spec) => self.plug(sent(fds.pop())?.as_fd(), &spec),
            RequestBody::PlugHost(spec) => self.plug(self.host_namespace()?.as_fd(), &spec),
            RequestBody::PlugHostTap(spec) => {
                Ok((ReplyBody::Done, vec![self.plug_host_tap(&spec)?]))
            }
            RequestBody::Route { ifname, gateway } => {
                let (inside, target) = (self.links.sandbox.inside(), sent(fds.pop())?);
                done(plug::route(inside, target.as_fd(), &ifname, gateway)?)
            }
            RequestBody::EndProcesses => done(leftovers::end_processes(sent(fds.pop())?.as_fd())?),
            RequestBody::EndLeftover { pid, since } => done(leftovers::end_leftover(pid, since)?),
            RequestBody::Unplug { sandbox, ifindex } => done(self.links.unplug(sandbox, ifindex)?),
            RequestBody::UnplugAll => done(self.links.unplug_all()?),
            RequestBody::OpenUplink { interface } => {
                let (facts, packets) = self.uplinks.open(&interface, self.privilege)?;
                Ok((ReplyBody::Uplink(self.reach(facts)), packets))
            }
            RequestBody::LeaveUntranslated { interface, subnets } => {
                done(self.uplinks.leave_untranslated(&interface, subnets)?)
            }
            RequestBody::CloseUplink { interface } => {
                self.close_uplink(&interface);
                bare(ReplyBody::Done)
            }
            RequestBody::HostRoutes => bare(ReplyBody::HostRoutes(uplink::host_routes()?)),
            RequestBody::Carrier(request) => self.carry(request),
            RequestBody::Bind(wanted) if wanted.len() > MAX_FDS => Err(too_many()),
            RequestBody::Bind(wanted) => {
                let (bound, stopped) = self.ports.bind(&wanted);
                Ok((ReplyBody::Bound(stopped), bound))
            }
            RequestBody::Unbind(gone) => {
                self.ports.unbind(&gone);
                bare(ReplyBody::Done)
            }
            RequestBody::Holder(port) => bare(ReplyBody::Holder(holder::of(&port))),
        }
    }

    fn plug(&mut self, target: BorrowedFd<'_>, spec: &Plug) -> io::Result<Answer> {
        let mut made = self.links.plug(target, spec)?;
        if let (Some(carrier), SandboxId::SHARED) = (&mut self.carrier, made.sandbox) {
            if let Err(error) = carrier.watch(&spec.host_ifname, made.ifindex) {
                // The engine counts on its rules: it would hear tagged frames twice.
                self.links.unplug(made.sandbox, made.ifindex)?;
                return Err(unwatched(&spec.host_ifname, &error));
            }
            self.links.within_reach(&mut made);
        }
        Ok(plugged(made))
    }

    fn carry(&mut self, request: CarrierRequest) -> io::Result<Answer> {
        match request {
            CarrierRequest::Raise => done(self.have_carrier()?),
            CarrierRequest::Change { plan, leave, carry } => {
                done(self.carrier()?.change(plan, &leave, &carry)?)
            }
            CarrierRequest::LeaveAll { plan } => done(self.carrier()?.leave_all(plan)?),
            CarrierRequest::Ended => {
                let (carried, more) = self.carrier()?.ended();
                Ok((ReplyBody::Carried { carried, more }, Vec::new()))
            }
            CarrierRequest::Read { page } => {
                let (carried, more) = self.carrier()?.carried(page)?;
                Ok((ReplyBody::Carried { carried, more }, Vec::new()))
            }
        }
    }

    /// Makes the carrier. Where that was refused once it stays so: the packet sockets hear everything since.
    fn have_carrier(&mut self) -> io::Result<()> {
        if self.uncarried.is_none()
            && let Err(error) = self.raise_carrier()
        {
            log!("flows are not carried by the kernel: {error}");
            self.uncarried = Some(error.to_string());
        }
        let refusal = self.uncarried.clone().map(io::Error::other);
        refusal.map_or(Ok(()), Err)
    }

    /// Makes the carrier, unless an engine before has had it made: what that has had carried goes on until
    /// this one serves.
    fn raise_carrier(&mut self) -> io::Result<()> {
        if self.carrier.is_some() {
            return Ok(());
        }
        let tables = self.links.sandbox.tables.as_ref();
        let tables = tables.map_err(|why| io::Error::other(why.clone()))?;
        self.carrier = Some(Carrier::raise(tables.try_clone()?)?);
        Ok(())
    }

    /// The engine that serves from now on has nothing carried yet.
    fn leave_what_was_carried(&mut self) {
        if let Some(carrier) = &mut self.carrier
            && let Err(error) = carrier.begin_anew()
        {
            log!("flows of an engine before are still carried: {error}");
        }
    }

    /// Has the kernel reach an uplink from the sandbox, as far as it can.
    pub(super) fn reach(&mut self, facts: UplinkFacts) -> UplinkFacts {
        let Some(carrier) = &mut self.carrier else {
            return facts;
        };
        let interface = facts.interface.clone();
        let reached = carrier.reach(&self.links.sandbox, &facts);
        let noted = self.uplinks.reached_by(&interface, reached);
        noted.unwrap_or(facts)
    }

    fn close_uplink(&mut self, interface: &str) {
        self.uplinks.close(interface);
        if let Some(carrier) = &mut self.carrier {
            carrier.lose(&self.links.sandbox, interface);
        }
    }

    fn carrier(&mut self) -> io::Result<&mut Carrier> {
        let none = || io::Error::other("nobody has asked for a carrier");
        self.carrier.as_mut().ok_or_else(none)
    }

    /// The engine serves: cleans up what an engine before has had, and this one has not asked for.
    fn tidy(&mut self) {
        self.served = true;
        self.tidy_vault();
        self.ports.tidy();
        for interface in self.uplinks.unclaimed() {
            self.close_uplink(&interface);
        }
        self.leave_what_was_carried();
        let events = self.links.tidy();
        self.tell_of_links(events);
    }

    /// The same for what was given to be kept.
    pub(super) fn tidy_vault(&mut self) {
        for (key, fds) in self.vault.unclaimed() {
            // Nobody but the container's own processes are in its mount namespace.
            let (Key::Mount(number), Some(mount)) = (key, fds.first()) else {
                continue;
            };
            if let Err(error) = leftovers::end_processes(mount.as_fd()) {
                log!("container {number} of an engine before: {error}");
            }
        }
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

    fn describe_sandbox(&self, version: u32) -> io::Result<Answer> {
        if version != VERSION {
            let what = format!("the engine speaks version {version}, its keeper version {VERSION}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        let sandbox = &self.links.sandbox;
        let made = [&sandbox.user, &sandbox.host_net].into_iter().flatten();
        let fds = sandbox.packets.iter().chain([&sandbox.net]).chain(made);
        let fds = fds.map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
        let unprivileged = sandbox.user.is_some();
        let lives = self.lives.clone();
        let reply = ReplyBody::Sandbox {
            unprivileged,
            lives,
        };
        Ok((reply, fds))
    }
}

/// What the engine has sent with a request.
fn sent(fd: Option<OwnedFd>) -> io::Result<OwnedFd> {
    fd.ok_or_else(|| {
        let what = "the namespace's descriptor was lost: too many files are open (ulimit -n)";
        io::Error::other(what)
    })
}

fn unwatched(interface: &str, error: &io::Error) -> io::Error {
    let what = format!("have nf_tables look at the frames of {interface}: {error}");
    io::Error::new(error.kind(), what)
}

fn too_many() -> io::Error {
    let what = "so many ports are too large a request";
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn done((): ()) -> io::Result<Answer> {
    Ok((ReplyBody::Done, Vec::new()))
}

fn plugged(made: Made) -> Answer {
    let Made {
        sandbox,
        ifindex,
        reach,
        packet,
    } = made;
    let reply = ReplyBody::Plugged {
        sandbox,
        ifindex,
        reach,
    };
    (reply, packet.into_iter().collect())
}
