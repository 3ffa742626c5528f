//! The keeper: a small process that owns what the engine must not be able to make.
//!
//! # Theory of operation
//!
//! The keeper is started where the user stands, stays there, and has one thread. It makes the sandbox,
//! starts the engine with one end of a socket pair, and then waits for four things: requests of the
//! engine, changes of links in the sandbox, changes of uplinks, signals. It parses no packet. The host's
//! sockets of published ports are bound by it and passed on, since the engine may not bind all of them.
//!
//! | stage | who | what it may do |
//! |---|---|---|
//! | start | keeper | what the user may |
//! | make the sandbox | child | root of a new user namespace; ends |
//! | run | keeper | what the user may; holds the sandbox's descriptors, binds published ports |
//! | plug, unplug | child | root inside the sandbox's (or a foreign) user namespace; ends |
//! | all packet work | engine | nothing: no capability, no new privileges |
//!
//! Everything that was made hangs on descriptors: when the keeper ends, the sandbox's interfaces and
//! with them the containers' end too, and so do the uplinks' shields. When the engine ends, so does the
//! keeper; when the keeper ends, the engine reads the end of the pair and ends as well.

mod client;
mod holder;
mod leftovers;
mod links;
mod plug;
mod ports;
pub mod protocol;
mod requests;
mod uplink;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::fdpass::Channel;
use super::namespace::{Privilege, Sandbox};
pub use client::{KeeperError, KeeperLink};
use links::Links;
use protocol::{Event, FromKeeper, SandboxId};
use uplink::Uplinks;

/// Number of the descriptor under which the engine finds its end of the pair.
pub const ENGINE_FD: i32 = 3;

struct Keeper {
    privilege: Privilege,
    links: Links,
    uplinks: Uplinks,
    link: Channel,
}

/// What has become readable.
enum Ready {
    Engine,
    Signal,
    Links(SandboxId),
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
    let sandbox = Sandbox::make(privilege)?;
    let (link, theirs) = Channel::pair()?;
    let mut child = start(engine, &theirs)?;
    drop(theirs);
    let mut keeper = Keeper {
        privilege,
        links: Links::new(sandbox, privilege)?,
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
                    Ready::Links(id) => {
                        let events = self.links.changes(id);
                        events.into_iter().for_each(|event| self.tell(event));
                    }
                    Ready::Uplinks => {
                        let events = self.uplinks.changes();
                        events.into_iter().for_each(|event| self.tell(event));
                    }
                }
            }
        }
    }

    fn wait(&self, signals: &SignalFd) -> io::Result<Vec<Ready>> {
        let watches = self.links.watches();
        let watches = watches.map(|(id, fd)| (fd, Ready::Links(id)));
        let fixed = [
            (self.link.as_fd(), Ready::Engine),
            (signals.as_fd(), Ready::Signal),
            (self.uplinks.as_fd(), Ready::Uplinks),
        ];
        let (fds, kinds): (Vec<_>, Vec<_>) = fixed.into_iter().chain(watches).unzip();
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

    fn tell(&self, event: Event) {
        // An engine that is gone is noticed at the next turn.
        let _ = self.link.send(&FromKeeper::Event(event), &[]);
    }
}
