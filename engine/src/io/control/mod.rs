//! The engine process: a worker thread for frames, threads for clients, and what joins them.
//!
//! # Theory of operation
//!
//! [`run`] takes the engine's end of the pair to its keeper, asks for the sandbox, starts the worker,
//! and listens. Each client gets a thread (at most `MAX_CLIENTS`), which reads requests and carries
//! them out under one lock: `operations::Control`. Nothing a client does touches the worker but the
//! closures that operations send it. The main thread waits for events: of the keeper (a link is gone,
//! an uplink has changed), and for the word that it is time to end.

mod operations;
pub mod transport;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select, unbounded};
use nix::fcntl::{Flock, FlockArg};

use super::fdpass::Channel;
use super::keeper::protocol::Event;
use super::keeper::{ENGINE_FD, KeeperLink};
use crate::control::Invalid;
use crate::control::api::{Answer, Request};
use operations::Control;
use transport::{Connection, Listener, MAX_REQUEST};

/// Clients that are served at once.
const MAX_CLIENTS: usize = 64;
/// How long a client may be silent before its connection is closed.
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);
/// How long an engine that was started for a container waits for the first one.
const FIRST_CONTAINER: Duration = Duration::from_secs(30);

/// How long the engine stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Until it is told to end.
    Always,
    /// Until the last container goes and no network is left that a user has made.
    WhileUsed,
}

/// What ends the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// A container has gone.
    MaybeLeave,
    /// Everything has been ended.
    End,
}

/// Runs the engine until it is told to end, or until its keeper ends.
///
/// # Errors
/// Another engine runs for `directory`, or the keeper, the sockets or the threads cannot be had.
pub fn run(directory: &Path, stay: Stay) -> io::Result<()> {
    let _lock = lock(directory)?;
    let (keeper, events) = KeeperLink::open(Channel::from_fd(inherited()))?;
    let control = Arc::new(Mutex::new(
        Control::start(keeper, stay).map_err(io::Error::other)?,
    ));
    let listener = Listener::open(directory)?;
    let socket = listener.path().to_owned();
    let (words, word) = unbounded();
    let shared = Arc::clone(&control);
    thread::Builder::new()
        .name("pontoon-api".to_owned())
        .spawn(move || serve(&listener, &shared, &words))?;
    wait(&control, &events, &word);
    hold(&control).end_everything();
    remove(&socket);
    Ok(())
}

/// Waits for what ends the engine, and passes on what the keeper reports.
fn wait(control: &Mutex<Control>, events: &Receiver<Event>, words: &Receiver<Word>) {
    let first = crossbeam_channel::after(FIRST_CONTAINER);
    loop {
        select! {
            recv(events) -> event => match event {
                Ok(Event::ShutDown) | Err(_) => return,
                Ok(event) => {
                    if hold(control).handle_event(event) == operations::Leave::Now {
                        return;
                    }
                }
            },
            recv(words) -> word => match word {
                Ok(Word::MaybeLeave) if hold(control).is_used() => {}
                Ok(_) | Err(_) => return,
            },
            recv(first) -> _ => {
                if !hold(control).is_used() {
                    return;
                }
            }
        }
    }
}

fn serve(listener: &Listener, control: &Arc<Mutex<Control>>, words: &Sender<Word>) {
    let clients = Arc::new(AtomicUsize::new(0));
    let own = nix::unistd::getuid().as_raw();
    while let Ok(connection) = listener.accept() {
        // A client that is gone already, or is somebody else's, is not served.
        let trusted = connection.peer().is_ok_and(|uid| uid == own || uid == 0);
        if !trusted || connection.set_patience(CLIENT_PATIENCE).is_err() {
            continue;
        }
        if clients.fetch_add(1, Ordering::Relaxed) >= MAX_CLIENTS {
            clients.fetch_sub(1, Ordering::Relaxed);
            let answer: Answer = Err(Invalid::new("", "too many clients"));
            let _ = connection.send(&answer, &[]);
            continue;
        }
        let (control, words) = (Arc::clone(control), words.clone());
        let counter = Arc::clone(&clients);
        let spawned = thread::Builder::new()
            .name("pontoon-client".to_owned())
            .spawn(move || {
                converse(&connection, &control, &words);
                counter.fetch_sub(1, Ordering::Relaxed);
            });
        if spawned.is_err() {
            clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn converse(connection: &Connection, control: &Mutex<Control>, words: &Sender<Word>) {
    loop {
        let (answer, fds, word) = match connection.receive::<Request>(MAX_REQUEST) {
            Ok(None) => return,
            Ok(Some((request, fds))) => answer(control, request, fds),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                let reason = format!("the request cannot be understood: {error}");
                (Err(Invalid::new("request", reason)), Vec::new(), None)
            }
        };
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let sent = connection.send(&answer, &fds);
        if let Some(word) = word {
            // The main thread may have gone for another reason.
            let _ = words.send(word);
        }
        if sent.is_err() {
            return;
        }
    }
}

fn answer(
    control: &Mutex<Control>,
    request: Request,
    fds: Vec<OwnedFd>,
) -> (Answer, Vec<OwnedFd>, Option<Word>) {
    let word = match request {
        Request::ShutDown => Some(Word::End),
        Request::Attach(_)
        | Request::Detach { .. }
        | Request::Exited { .. }
        | Request::Remove { .. } => Some(Word::MaybeLeave),
        _ => None,
    };
    // Waiting for a process to end must not hold up other clients.
    if let Request::Stop { name, seconds } = &request {
        let process = hold(control).process_of(name);
        let stopped = process.and_then(|process| operations::stop(&process, *seconds));
        return (stopped, Vec::new(), None);
    }
    match hold(control).carry_out(request, fds) {
        Ok((reply, fds)) => (Ok(reply), fds, word),
        Err(error) => (
            Err(error),
            Vec::new(),
            word.filter(|word| *word == Word::MaybeLeave),
        ),
    }
}

/// A thread that panicked while it held the lock may have left an operation half done; what there is
/// is still the best account of what exists.
fn hold(control: &Mutex<Control>) -> MutexGuard<'_, Control> {
    control
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Makes the runtime directory and takes its lock.
fn lock(directory: &Path) -> io::Result<Flock<File>> {
    make_private(directory)?;
    let file = File::create(directory.join("lock"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| io::Error::new(io::ErrorKind::AlreadyExists, "an engine runs already"))
}

/// Makes a directory that only this user can look into.
///
/// # Errors
/// It belongs to somebody else, or cannot be made.
pub fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
    })?;
    let metadata = fs::symlink_metadata(directory)?;
    if !metadata.is_dir() || metadata.uid() != nix::unistd::getuid().as_raw() {
        let what = format!(
            "{}: belongs to another user; set XDG_RUNTIME_DIR to a directory of your own",
            directory.display()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    Ok(())
}

fn remove(socket: &PathBuf) {
    // The directory itself stays: the user may have made it.
    let _ = fs::remove_file(socket);
}

#[allow(
    unsafe_code,
    reason = "the keeper leaves a descriptor under a known number"
)]
fn inherited() -> OwnedFd {
    // SAFETY: the keeper has put its socket there, and nothing else in this process uses the number.
    unsafe { OwnedFd::from_raw_fd(ENGINE_FD) }
}
