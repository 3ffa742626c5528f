//! The engine process: a worker thread for frames, threads for clients, and what joins them.
//!
//! # Theory of operation
//!
//! [`run`] takes the engine's end of the pair to its keeper, asks for the sandbox, starts the worker,
//! and listens. Each client gets a place (`seats`) and a thread, which reads requests and carries
//! them out under one lock: `operations::Control`. Nothing a client does touches the worker but the
//! closures that operations send it. The main thread waits for events: of the keeper (a link is gone,
//! an uplink has changed), and for the word that it may be time to end.
//!
//! Whoever holds the lock gives it back by telling those who watch (`watchers`) what has changed meanwhile.
//!
//! The engine leaves only while no client has a place, and gives none once it has decided to: a client
//! whose first request is answered has an engine that stays for as long as the connection lasts.

mod clients;
mod directory;
pub mod http;
mod operations;
mod resolvers;
mod routes;
mod seats;
mod store;
pub mod transport;
mod watch;
mod watchers;

use std::fs;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select, unbounded};
use nix::sys::signal::{SigSet, Signal};

use super::alarm::Counts;
use super::fdpass::Channel;
use super::keeper::protocol::{Event, Key};
use super::keeper::{ENGINE_FD, KeeperLink};
use crate::config::OffloadMode;
use crate::control::api::{Answer, Request};
use crate::control::state::ContainerNumber;
use directory::lock;
pub use directory::{container_files, make_private};
use operations::Control;
use seats::Seats;
use transport::Listener;
use watch::Watch;
use watchers::Watchers;

/// How long an engine that was started for a container waits for the first one.
const FIRST_CONTAINER: Duration = Duration::from_secs(30);
/// How often it is looked for meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a monitor may take to tell that its container has ended.
const REPORT: Duration = Duration::from_secs(2);

/// How long the engine stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Until it is told to end.
    Always,
    /// Until the last container goes and no network is left that a user has made.
    WhileUsed,
}

/// What clients' threads tell the main thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// A container or a network may have gone.
    MaybeLeave,
    /// A client has gone.
    ClientGone,
    /// This container's monitor has ended, or its first process a while ago.
    Ended(ContainerNumber),
    /// Everything is to end, or has.
    End,
    /// Another engine is to take over.
    StartAgain,
}

/// How an engine has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With everything that it had.
    InOrder,
    /// So that another one takes over; the process must end at once.
    ForAnother,
}

/// What the threads share.
struct Engine {
    control: Mutex<Control>,
    seats: Seats,
    watchers: Watchers,
}

/// The engine's state in the hands of one thread. Those who watch are told what has changed when it is
/// given back.
struct Hold<'a> {
    control: MutexGuard<'a, Control>,
    watchers: &'a Watchers,
}

impl Engine {
    /// A thread that panicked while it held the lock may have left an operation half done; what there is
    /// is still the best account of what exists.
    fn hold(&self) -> Hold<'_> {
        let control = self.control.lock();
        Hold {
            control: control.unwrap_or_else(PoisonError::into_inner),
            watchers: &self.watchers,
        }
    }
}

impl Deref for Hold<'_> {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl DerefMut for Hold<'_> {
    fn deref_mut(&mut self) -> &mut Control {
        &mut self.control
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.watchers.note(self.control.state());
        let untold = self.control.take_untold();
        untold
            .into_iter()
            .for_each(|event| self.watchers.tell(event));
    }
}

/// Runs the engine until it is told to end, or until its keeper ends.
///
/// # Errors
/// Another engine runs for `directory` ([`io::ErrorKind::AlreadyExists`]), or the keeper, the sockets
/// or the threads cannot be had.
pub fn run(directory: &Path, stay: Stay, offload: OffloadMode) -> io::Result<End> {
    // Before there are threads: they inherit what is blocked.
    let signals = block_signals()?;
    let (keeper, events) = KeeperLink::open(Channel::from_fd(inherited()))?;
    let _lock = have(&keeper, Key::Lock, || lock(directory).map(OwnedFd::from))?;
    let (words, word) = unbounded();
    let watch = Watch::start(words.clone())?;
    let control = Control::start(keeper.clone(), stay, watch, directory.to_owned(), offload);
    let engine = Arc::new(Engine {
        control: Mutex::new(control.map_err(io::Error::other)?),
        seats: Seats::default(),
        watchers: Watchers::default(),
    });
    let (grown, limits) = unbounded();
    let tell = move |counts| {
        // Nobody listens any more to an engine that ends.
        let _ = grown.send(counts);
    };
    engine
        .hold()
        .tell_of_limits(tell)
        .map_err(io::Error::other)?;
    let fd = have(&keeper, Key::Clients, || {
        Listener::open(directory).map(OwnedFd::from)
    })?;
    let listener = Listener::take_over(fd, directory);
    let socket = listener.path().to_owned();
    engine.hold().serving().map_err(io::Error::other)?;
    let told = words.clone();
    thread::Builder::new()
        .name("pontoon-signals".to_owned())
        .spawn(move || {
            // Whatever comes, one is enough.
            let _ = signals.wait();
            let _ = told.send(Word::End);
        })?;
    let shared = Arc::clone(&engine);
    thread::Builder::new()
        .name("pontoon-api".to_owned())
        .spawn(move || clients::serve(&listener, &shared, &words))?;
    if wait(&engine, &events, &word, &limits) == End::ForAnother {
        return Ok(End::ForAnother);
    }
    engine.seats.close();
    // The directory itself stays: the user may have made it.
    let _ = fs::remove_file(socket);
    engine.hold().end_everything();
    Ok(End::InOrder)
}

/// What the keeper keeps by a name, or something new that it keeps from now on.
fn have(
    keeper: &KeeperLink,
    key: Key,
    make: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<OwnedFd> {
    let kept = keeper.fetch(key).map_err(io::Error::other)?;
    if let Some(fd) = kept.into_iter().next() {
        return Ok(fd);
    }
    let fd = make()?;
    keeper.keep(key, &[&fd]).map_err(io::Error::other)?;
    Ok(fd)
}

/// Waits for what ends the engine, and passes on what the keeper reports.
fn wait(
    engine: &Engine,
    events: &Receiver<Event>,
    words: &Receiver<Word>,
    limits: &Receiver<Counts>,
) -> End {
    let first = crossbeam_channel::after(FIRST_CONTAINER);
    let mut due = false;
    loop {
        select! {
            recv(events) -> event => match event {
                Ok(Event::ShutDown) | Err(_) => return End::InOrder,
                Ok(event) => {
                    let leave = engine.hold().handle_event(event);
                    due |= leave == operations::Leave::Now;
                }
            },
            recv(words) -> word => match word {
                Ok(Word::MaybeLeave) => due = true,
                Ok(Word::ClientGone) => {}
                Ok(Word::Ended(container)) => {
                    let mut control = engine.hold();
                    control.unattended(container);
                    control.save();
                    due = true;
                }
                Ok(Word::StartAgain) => return End::ForAnother,
                Ok(Word::End) | Err(_) => return End::InOrder,
            },
            recv(limits) -> grown => match grown {
                Ok(grown) => engine.watchers.tell_of_limits(&grown),
                // The worker has ended.
                Err(_) => return End::InOrder,
            },
            recv(first) -> _ => due = true,
        }
        if due && engine.seats.close_unless(|| engine.hold().is_used()) {
            return End::InOrder;
        }
    }
}

fn answer(
    engine: &Engine,
    request: Request,
    fds: Vec<OwnedFd>,
) -> (Answer, Vec<OwnedFd>, Option<Word>) {
    let word = match request {
        Request::ShutDown => {
            engine.seats.close();
            Some(Word::End)
        }
        Request::Upgrade { .. } => Some(Word::StartAgain),
        Request::Attach(_)
        | Request::Detach { .. }
        | Request::Exited { .. }
        | Request::Stop { .. }
        | Request::Remove { .. }
        | Request::RemoveNetwork { .. }
        | Request::PruneNetworks(_) => Some(Word::MaybeLeave),
        _ => None,
    };
    // Waiting for a process to end must not hold up other clients.
    if let Request::Stop { name, seconds } = &request {
        return (stop(engine, name, *seconds), Vec::new(), word);
    }
    match engine.hold().carry_out(request, fds) {
        Ok((reply, fds)) => (Ok(reply), fds, word),
        Err(error) => (
            Err(error),
            Vec::new(),
            word.filter(|word| *word == Word::MaybeLeave),
        ),
    }
}

/// Ends a container's process, and waits until its monitor has told with which status.
fn stop(engine: &Engine, name: &str, seconds: u64) -> Answer {
    let (id, process) = engine.hold().process_of(name)?;
    let reply = operations::stop(&process, seconds)?;
    let end = Instant::now() + REPORT;
    while engine.hold().runs(&id) {
        if Instant::now() > end {
            let mut control = engine.hold();
            control.exited(&id, operations::UNKNOWN_STATUS);
            control.save();
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(reply)
}

/// Signals that end the engine as `shutdown` does.
fn block_signals() -> io::Result<SigSet> {
    let set: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
        .into_iter()
        .collect();
    set.thread_block()?;
    Ok(set)
}

#[allow(
    unsafe_code,
    reason = "the keeper leaves a descriptor under a known number"
)]
fn inherited() -> OwnedFd {
    // SAFETY: the keeper has put its socket there, and nothing else in this process uses the number.
    unsafe { OwnedFd::from_raw_fd(ENGINE_FD) }
}
