//! Clients: who is let in, and the conversation with each.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::seats::Refused;
use super::transport::{Connection, Listener, MAX_REQUEST};
use super::{Engine, Word, answer};
use crate::control::Invalid;
use crate::control::api::{Answer, Request};
use crate::io::spare::Spare;

/// How long a client may be silent before its connection is closed.
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);
/// What a client is told when there is a descriptor for it, and no other.
const NO_DESCRIPTORS: &str = "too many files are open in the engine for it to serve one more client; \
                              end containers or raise the limit (ulimit -n)";
/// Pause after a client could not be let in: files or memory are short.
const SHORTAGE: Duration = Duration::from_millis(20);

/// Takes clients in for as long as the engine lives.
pub(super) fn serve(listener: &Listener, engine: &Arc<Engine>, words: &Sender<Word>) {
    let own = nix::unistd::getuid().as_raw();
    let mut spare = Spare::keep(1);
    loop {
        let Ok(connection) = listener.accept() else {
            // Giving up would end the engine and with it every container.
            if spare.is_whole() {
                spare.give_up();
            } else {
                thread::sleep(SHORTAGE);
            }
            continue;
        };
        spare.fill();
        // A client that is gone already, or is somebody else's, is not served.
        let trusted = connection.peer().is_ok_and(|uid| uid == own || uid == 0);
        if !trusted || connection.set_patience(CLIENT_PATIENCE).is_err() {
            continue;
        }
        if spare.is_whole() {
            admit(connection, engine, words);
        } else {
            refuse(&connection, NO_DESCRIPTORS);
        }
    }
}

fn refuse(connection: &Connection, why: &str) {
    let answer: Answer = Err(Invalid::new("", why));
    connection.refuse(&answer);
}

fn admit(connection: Connection, engine: &Arc<Engine>, words: &Sender<Word>) {
    let connection = Arc::new(connection);
    let seat = match engine.seats.take(&connection) {
        Ok(seat) => seat,
        Err(Refused::Closed) => return,
        Err(Refused::Full) => {
            refuse(&connection, "too many clients; try again");
            return;
        }
    };
    let (shared, words) = (Arc::clone(engine), words.clone());
    let spawned = thread::Builder::new()
        .name("pontoon-client".to_owned())
        .spawn(move || {
            converse(&connection, seat, &shared, &words);
            shared.seats.leave(seat);
            // The main thread may have gone for another reason.
            let _ = words.send(Word::ClientGone);
        });
    if spawned.is_err() {
        engine.seats.leave(seat);
    }
}

fn converse(connection: &Connection, seat: u64, engine: &Engine, words: &Sender<Word>) {
    loop {
        let received = connection.receive::<Request>(MAX_REQUEST);
        engine.seats.serve(seat);
        let (request, fds) = match received {
            Ok(None) => return,
            Ok(Some(request)) => request,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                let reason = format!("the request cannot be understood: {error}");
                let answer: Answer = Err(Invalid::new("request", reason));
                // What comes after it would be taken for requests.
                let _ = connection.send(&answer, &[]);
                return;
            }
        };
        let (answer, fds, word) = answer(engine, request, fds);
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let sent = connection.send(&answer, &fds);
        if let Some(word) = word {
            // The main thread may have gone for another reason.
            let _ = words.send(word);
        }
        if sent.is_err() {
            return;
        }
        engine.seats.served(seat);
    }
}
