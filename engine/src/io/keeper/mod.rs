//! The keeper: a small process that owns what the engine must not be able to make.
//!
//! # Theory of operation
//!
//! The keeper is started where the user stands, stays there, and has one thread. It makes the sandbox,
//! starts the engine with one end of a socket pair, and then waits for four things: requests of the
//! engine, changes of links in the sandbox, changes of uplinks, signals. It parses no packet.
//!
//! | stage | who | what it may do |
//! |---|---|---|
//! | start | keeper | what the user may |
//! | make the sandbox | child | root of a new user namespace; ends |
//! | run | keeper | what the user may; holds the sandbox's descriptors |
//! | plug, unplug | child | root inside the sandbox's (or a foreign) user namespace; ends |
//! | all packet work | engine | nothing: no capability, no new privileges |
//!
//! Everything that was made hangs on descriptors: when the keeper ends, the sandbox's interfaces and
//! with them the containers' end too, and so do the uplinks' shields. When the engine ends, so does the
//! keeper; when the keeper ends, the engine reads the end of the pair and ends as well.

mod client;
mod leftovers;
mod plug;
pub mod protocol;
mod uplink;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::fdpass::Channel;
use super::namespace::{Inside, Privilege, Sandbox};
use super::netlink::{Change, Link, Netlink};
pub use client::{KeeperError, KeeperLink};
use plug::Foreign;
use protocol::{Event, FromKeeper, Plug, ReplyBody, Request, RequestBody, SandboxId};
use uplink::Uplinks;

/// Number of the descriptor under which the engine finds its end of the pair.
pub const ENGINE_FD: i32 = 3;

struct Foreigner {
    watch: Netlink,
    user: OwnedFd,
    net: OwnedFd,
}

struct Keeper {
    privilege: Privilege,
    sandbox: Sandbox,
    watch: Netlink,
    /// Indices of the engine's ends in the sandbox.
    links: BTreeSet<u32>,
    foreign: BTreeMap<SandboxId, Foreigner>,
    next_foreign: u32,
    uplinks: Uplinks,
    link: Channel,
}

/// What has become readable.
enum Ready {
    Engine,
    Signal,
    Sandbox(SandboxId),
    Uplinks,
}

/// Runs the keeper until the engine ends. `engine` is the command that starts the engine; it finds the
/// pair's other end as descriptor [`ENGINE_FD`].
///
/// # Errors
/// The sandbox or the engine cannot be started.
pub fn run(engine: Command) -> io::Result<ExitStatus> {
    let signals = block_signals()?;
    let privilege = Privilege::of_this_process()?;
    let mut sandbox = Sandbox::make(privilege)?;
    let (link, theirs) = Channel::pair()?;
    let mut child = start(engine, &theirs)?;
    drop(theirs);
    let watch = Netlink::from_fd(std::mem::replace(
        &mut sandbox.watch,
        link.as_fd().try_clone_to_owned()?,
    ));
    let mut keeper = Keeper {
        privilege,
        sandbox,
        watch,
        links: BTreeSet::new(),
        foreign: BTreeMap::new(),
        next_foreign: 1,
        uplinks: Uplinks::new()?,
        link,
    };
    keeper.serve(&signals)?;
    child.wait()
}

/// Signals that end the keeper are read like everything else it waits for.
fn block_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.add(Signal::SIGHUP);
    set.thread_block()?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

#[allow(unsafe_code, reason = "pre_exec runs between fork and exec")]
fn start(mut engine: Command, link: &Channel) -> io::Result<Child> {
    let fd = link.as_fd().as_raw_fd();
    // SAFETY: `dup2` and `sigprocmask` are async-signal-safe, and nothing else is called.
    unsafe {
        engine.pre_exec(move || {
            SigSet::all().thread_unblock()?;
            if libc::dup2(fd, ENGINE_FD) < 0 {
                return Err(io::Error::last_os_error());
            }
            // A descriptor that is already in place would keep its close-on-exec flag.
            if fd == ENGINE_FD && libc::fcntl(fd, libc::F_SETFD, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    engine.spawn()
}

impl Keeper {
    /// Waits and answers until the engine ends.
    fn serve(&mut self, signals: &SignalFd) -> io::Result<()> {
        loop {
            for ready in self.wait(signals)? {
                match ready {
                    Ready::Engine => {
                        if !self.handle_request()? {
                            return Ok(());
                        }
                    }
                    Ready::Signal => {
                        while let Ok(Some(_)) = signals.read_signal() {
                            self.tell(Event::ShutDown);
                        }
                    }
                    Ready::Sandbox(id) => self.handle_changes(id),
                    Ready::Uplinks => {
                        for event in self.uplinks.changes() {
                            self.tell(event);
                        }
                    }
                }
            }
        }
    }

    fn wait(&self, signals: &SignalFd) -> io::Result<Vec<Ready>> {
        let shared = [(self.watch.as_fd(), Ready::Sandbox(SandboxId::SHARED))];
        let foreign = self
            .foreign
            .iter()
            .map(|(id, f)| (f.watch.as_fd(), Ready::Sandbox(*id)));
        let fixed = [
            (self.link.as_fd(), Ready::Engine),
            (signals.as_fd(), Ready::Signal),
            (self.uplinks.as_fd(), Ready::Uplinks),
        ];
        let (fds, kinds): (Vec<_>, Vec<_>) = fixed.into_iter().chain(shared).chain(foreign).unzip();
        let mut polled: Vec<_> = fds
            .into_iter()
            .map(|fd: BorrowedFd<'_>| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        Ok(polled
            .iter()
            .zip(kinds)
            .filter(|(fd, _)| ready(fd))
            .map(|(_, kind)| kind)
            .collect())
    }

    /// Answers one request. `false` when the engine is gone.
    fn handle_request(&mut self) -> io::Result<bool> {
        let (Request { id, body }, fds) = match self.link.receive::<Request>() {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(false),
            // What the kernel says of an engine that has ended before it read everything.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error),
        };
        let (body, fds) = match self.answer(body, fds) {
            Ok((reply, fds)) => (Ok(reply), fds),
            Err(error) => (Err(error.to_string()), Vec::new()),
        };
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        // An engine that is gone is noticed at the next turn.
        let _ = self.link.send(&FromKeeper::Reply { id, body }, &fds);
        Ok(true)
    }

    fn answer(
        &mut self,
        body: RequestBody,
        mut fds: Vec<OwnedFd>,
    ) -> io::Result<(ReplyBody, Vec<OwnedFd>)> {
        let done = (ReplyBody::Done, Vec::new());
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
                let target = self.host_namespace()?;
                let user = self.sandbox.user.as_ref().map(AsFd::as_fd);
                let tap = plug::plug_tap(
                    Inside {
                        user,
                        net: Some(target.as_fd()),
                    },
                    &spec,
                )?;
                Ok((ReplyBody::Done, vec![tap]))
            }
            RequestBody::EndProcesses => {
                let target = fds.pop().ok_or_else(missing)?;
                leftovers::end_processes(target.as_fd()).map(|()| done)
            }
            RequestBody::Unplug { sandbox, ifindex } => {
                self.unplug(sandbox, ifindex).map(|()| done)
            }
            RequestBody::OpenUplink { interface } => {
                let (facts, packet) = self.uplinks.open(&interface, self.privilege)?;
                Ok((ReplyBody::Uplink(facts), vec![packet]))
            }
            RequestBody::CloseUplink { interface } => {
                self.uplinks.close(&interface);
                Ok(done)
            }
            RequestBody::HostRoutes => {
                Ok((ReplyBody::HostRoutes(uplink::host_routes()?), Vec::new()))
            }
        }
    }

    /// Where the host's interfaces belong.
    fn host_namespace(&self) -> io::Result<OwnedFd> {
        match &self.sandbox.host_net {
            Some(net) => net.try_clone(),
            None => Ok(std::fs::File::open("/proc/self/ns/net")?.into()),
        }
    }

    fn describe_sandbox(&self) -> io::Result<(ReplyBody, Vec<OwnedFd>)> {
        let mut fds = vec![
            self.sandbox.packet.try_clone()?,
            self.sandbox.net.try_clone()?,
        ];
        for fd in [&self.sandbox.user, &self.sandbox.host_net]
            .into_iter()
            .flatten()
        {
            fds.push(fd.try_clone()?);
        }
        Ok((
            ReplyBody::Sandbox {
                unprivileged: self.sandbox.user.is_some(),
            },
            fds,
        ))
    }

    fn plug(
        &mut self,
        target: BorrowedFd<'_>,
        spec: &Plug,
    ) -> io::Result<(ReplyBody, Vec<OwnedFd>)> {
        let plugged = plug::plug(&self.sandbox, self.privilege, target, spec)?;
        let (sandbox, fds) = match plugged.foreign {
            None => {
                self.links.insert(plugged.ifindex);
                (SandboxId::SHARED, Vec::new())
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
                (id, vec![packet])
            }
        };
        Ok((
            ReplyBody::Plugged {
                sandbox,
                ifindex: plugged.ifindex,
            },
            fds,
        ))
    }

    fn unplug(&mut self, id: SandboxId, ifindex: u32) -> io::Result<()> {
        if id == SandboxId::SHARED {
            self.links.remove(&ifindex);
            return plug::unplug(self.sandbox.inside(), ifindex);
        }
        let Some(foreigner) = self.foreign.remove(&id) else {
            return Ok(());
        };
        let inside = Inside {
            user: Some(foreigner.user.as_fd()),
            net: Some(foreigner.net.as_fd()),
        };
        plug::unplug(inside, ifindex)
    }

    fn handle_changes(&mut self, sandbox: SandboxId) {
        let watch = match self.foreign.get_mut(&sandbox) {
            Some(foreigner) => &mut foreigner.watch,
            None if sandbox == SandboxId::SHARED => &mut self.watch,
            // A request that was answered in the same turn has taken it away.
            None => return,
        };
        let changes = watch.changes();
        let lost = changes.contains(&None);
        for change in changes.into_iter().flatten() {
            match change {
                Change::LinkGone(ifindex) => self.link_gone(sandbox, ifindex),
                Change::Link(link) => self.tell(link_state(sandbox, &link)),
                Change::AddressOrRoute => {}
            }
        }
        if lost && sandbox == SandboxId::SHARED {
            self.look_again();
        }
    }

    fn link_gone(&mut self, sandbox: SandboxId, ifindex: u32) {
        self.foreign.remove(&sandbox);
        if sandbox == SandboxId::SHARED {
            self.links.remove(&ifindex);
        }
        self.tell(Event::LinkGone { sandbox, ifindex });
    }

    /// Tells how the sandbox's links stand, after the kernel had more to say than its socket holds.
    fn look_again(&mut self) {
        let Ok(there) = plug::links(self.sandbox.inside()) else {
            return;
        };
        let present: BTreeSet<u32> = there.iter().map(|link| link.index).collect();
        let gone: Vec<u32> = self.links.difference(&present).copied().collect();
        for ifindex in gone {
            self.link_gone(SandboxId::SHARED, ifindex);
        }
        for link in &there {
            self.tell(link_state(SandboxId::SHARED, link));
        }
    }

    fn tell(&self, event: Event) {
        // An engine that is gone is noticed at the next turn.
        let _ = self.link.send(&FromKeeper::Event(event), &[]);
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
