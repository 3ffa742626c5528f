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
//! Everything that was made hangs on descriptors, of which the keeper keeps one each: packet sockets with
//! their rings, published ports, uplinks, and what the engine gives it to keep (`vault`). When the engine
//! dies, frames and clients wait there for the next one, which is started at once (`lives`), asks for
//! what it knows of, and has the rest cleaned up. An engine that ends in order ends the keeper too.
//!
//! When the keeper ends, the sandbox's interfaces and with them the containers' end too, and so do the
//! uplinks' shields; the engine reads the end of the pair, and ends as well.

pub mod carrier;
mod client;
mod engine;
mod holder;
mod leftovers;
mod links;
mod lives;
mod pause;
mod plug;
mod ports;
pub mod protocol;
mod requests;
mod uplink;
mod vault;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::namespace::{Privilege, Sandbox};
use carrier::Carrier;
pub use client::{KeeperError, KeeperLink};
use engine::Engine;
pub use engine::Program;
use links::Links;
use lives::Backoff;
pub use pause::{PAUSE, Pause};
use ports::Ports;
use protocol::{Event, FromKeeper, Lives, SandboxId};
use uplink::Uplinks;
use vault::Vault;

/// Number of the descriptor under which the engine finds its end of the pair.
pub const ENGINE_FD: i32 = 3;
/// Exit status of an engine that is to be started again at once.
pub const START_AGAIN: u8 = 76;

/// Engines that may die while everything is to end, before it ends without one.
const LAST_TRIES: u32 = 3;

struct Keeper {
    privilege: Privilege,
    links: Links,
    /// Once an engine has asked for it.
    carrier: Option<Carrier>,
    /// Why there is none, although one has.
    uncarried: Option<String>,
    uplinks: Uplinks,
    ports: Ports,
    vault: Vault,
    /// The path of the program that runs here.
    own: PathBuf,
    program: Program,
    engine: Option<Engine>,
    /// When the next engine is started, if none runs.
    due: Instant,
    backoff: Backoff,
    lives: Lives,
    /// Some engine has served clients.
    served: bool,
    /// The keeper was told to end: how many engines more may try to do that in order.
    last_tries: Option<u32>,
}

/// What has become readable.
enum Ready {
    Engine,
    Signal,
    Links(SandboxId),
    Uplinks,
}

/// Runs the keeper until the engine ends in order, or cannot be started a first time. `program` is how
/// the engine is started; it finds the pair's other end as descriptor [`ENGINE_FD`].
///
/// # Errors
/// The sandbox or the engine cannot be started.
pub fn run(program: Program) -> io::Result<ExitStatus> {
    let signals = block_signals()?;
    let privilege = Privilege::of_this_process()?;
    let sandbox = Sandbox::make(privilege)?;
    let own = std::env::current_exe()?;
    // One that was killed may have left it.
    let _ = std::fs::remove_file(&program.pause);
    let engine = Engine::start(&program, &own)?;
    let mut keeper = Keeper {
        privilege,
        links: Links::new(sandbox, privilege)?,
        carrier: None,
        uncarried: None,
        uplinks: Uplinks::new()?,
        ports: Ports::default(),
        vault: Vault::default(),
        own,
        program,
        engine: Some(engine),
        due: Instant::now(),
        backoff: Backoff::default(),
        lives: Lives {
            keeper: name_of_this_process()?,
            restarts: 0,
            last_end: None,
        },
        served: false,
        last_tries: None,
    };
    keeper.serve(&signals)
}

/// A name that no other process has had since the machine was started, or will have.
fn name_of_this_process() -> io::Result<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let own = std::process::id();
    let started = super::process::started(own as i32)?;
    Ok(format!("{}-{own}-{started}", boot.trim()))
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

impl Keeper {
    /// Waits and answers until the engine ends for good.
    fn serve(&mut self, signals: &SignalFd) -> io::Result<ExitStatus> {
        loop {
            for ready in self.wait(signals)? {
                match ready {
                    Ready::Engine => {
                        if !self.handle_request()
                            && let Some(status) = self.engine_ended()?
                        {
                            return Ok(status);
                        }
                    }
                    Ready::Signal => {
                        while let Ok(Some(_)) = signals.read_signal() {
                            self.shut_down();
                        }
                    }
                    Ready::Links(id) => {
                        let events = self.links.changes(id);
                        self.tell_of_links(events);
                    }
                    Ready::Uplinks => {
                        for facts in self.uplinks.changes() {
                            let facts = self.reach(facts);
                            self.tell(Event::UplinkChanged(facts));
                        }
                    }
                }
            }
            self.start_when_due();
        }
    }

    /// Takes note of the engine's end. Returns its status when it is for good.
    fn engine_ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(engine) = self.engine.take() else {
            return Ok(None);
        };
        let (pid, life) = (engine.pid(), engine.started.elapsed());
        let status = engine.end()?;
        if status.success() || !self.served {
            return Ok(Some(status));
        }
        if self.last_tries == Some(0) {
            // Nobody else would end what runs in containers.
            self.vault.disown();
            self.tidy_vault();
            return Ok(Some(status));
        }
        let again = status.code() == Some(i32::from(START_AGAIN));
        let wait = if again {
            Duration::ZERO
        } else {
            self.backoff.ended(life)
        };
        let when = match wait.as_secs() {
            0 => "at once".to_owned(),
            seconds => format!("in {seconds} s"),
        };
        log!(
            "the engine (process {pid}) has ended after {} s ({status}); it is started again {when}",
            life.as_secs()
        );
        self.lives.restarts += 1;
        self.lives.last_end = Some(status.to_string());
        self.pause(wait);
        self.links.disown();
        self.uplinks.disown();
        self.ports.disown();
        self.vault.disown();
        if self.last_tries.is_some() {
            self.shut_down();
        }
        Ok(None)
    }

    fn start_when_due(&mut self) {
        if self.engine.is_some() || Instant::now() < self.due {
            return;
        }
        match Engine::start(&self.program, &self.own) {
            Ok(engine) => {
                self.engine = Some(engine);
                // There may be none.
                let _ = std::fs::remove_file(&self.program.pause);
            }
            Err(error) => {
                let wait = self.backoff.ended(Duration::ZERO);
                self.pause(wait);
                let (path, seconds) = (self.program.path.display(), wait.as_secs());
                log!("start the engine {path}: {error}; tried again in {seconds} s");
            }
        }
    }

    /// Waits with the next engine, and lets clients know.
    fn pause(&mut self, wait: Duration) {
        self.due = Instant::now() + wait;
        if wait.is_zero() {
            return;
        }
        let last_end = self.lives.last_end.as_deref().unwrap_or_default();
        let told = Pause::begin(self.lives.restarts, last_end, wait)
            .and_then(|pause| pause.tell(&self.program.pause));
        if let Err(error) = told {
            log!("{}: {error}", self.program.pause.display());
        }
    }

    /// Has the engine end everything; one is started for that if none runs.
    fn shut_down(&mut self) {
        let tries = self.last_tries.unwrap_or(LAST_TRIES);
        self.last_tries = Some(tries.saturating_sub(1));
        self.due = Instant::now();
        self.start_when_due();
        self.tell(Event::ShutDown);
    }

    fn wait(&self, signals: &SignalFd) -> io::Result<Vec<Ready>> {
        let watches = self.links.watches();
        let watches = watches.map(|(id, fd)| (fd, Ready::Links(id)));
        let engine = self.engine.as_ref();
        let engine = engine.map(|engine| (engine.link.as_fd(), Ready::Engine));
        let fixed = [
            (signals.as_fd(), Ready::Signal),
            (self.uplinks.as_fd(), Ready::Uplinks),
        ];
        let (fds, kinds): (Vec<_>, Vec<_>) = engine.into_iter().chain(fixed).chain(watches).unzip();
        let mut polled: Vec<_> = fds
            .into_iter()
            .map(|fd: BorrowedFd<'_>| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut polled, self.patience()) {
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

    /// How long there is nothing to do unless something happens.
    fn patience(&self) -> PollTimeout {
        if self.engine.is_some() {
            return PollTimeout::NONE;
        }
        let left = self.due.saturating_duration_since(Instant::now());
        // Rounded up, so that the time has come when it has passed.
        let left = left + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    }

    /// An interface that has gone is looked at no more.
    fn tell_of_links(&mut self, events: Vec<Event>) {
        for event in events {
            if let (Some(carrier), Event::LinkGone { sandbox, ifindex }) =
                (&mut self.carrier, &event)
                && *sandbox == SandboxId::SHARED
            {
                carrier.unwatch(*ifindex);
            }
            self.tell(event);
        }
    }

    fn tell(&self, event: Event) {
        if let Some(engine) = &self.engine {
            // An engine that is gone is noticed at the next turn.
            let _ = engine.link.send(&FromKeeper::Event(event), &[]);
        }
    }
}
