//! Clients: who is let in, and the conversation with each.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;
use nix::sys::socket::{getsockopt, sockopt};

use super::http::{Chunks, Fault, Response, Wire, receive};
use super::routes::{LINES, Refusal, Wanted, document, read};
use super::seats::Refused;
use super::transport::Listener;
use super::watchers::Queue;
use super::{Engine, Word, answer};
use crate::control::api::Reply;
use crate::io::spare::Spare;

/// How long a client may be silent before its connection is closed.
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);
/// What a client is told when there is a descriptor for it, and no other.
const NO_DESCRIPTORS: &str = "too many files are open in the engine for it to serve one more client; \
                              end containers or raise the limit (ulimit -n)";
/// Pause after a client could not be let in: files or memory are short.
const SHORTAGE: Duration = Duration::from_millis(20);
/// How long a client that is not heard any more may go on talking.
const UNHEARD: Duration = Duration::from_secs(1);

/// Takes clients in for as long as the engine lives.
pub(super) fn serve(listener: &Listener, engine: &Arc<Engine>, words: &Sender<Word>) {
    let own = nix::unistd::getuid().as_raw();
    let mut spare = Spare::keep(1);
    loop {
        let Ok(socket) = listener.accept() else {
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
        let trusted = peer(&socket).is_some_and(|uid| is_trusted(uid, own));
        let Some(wire) = trusted.then(|| Wire::new(socket)).and_then(Result::ok) else {
            continue;
        };
        if spare.is_whole() {
            admit(wire, engine, words);
        } else {
            turn_away(wire, NO_DESCRIPTORS);
        }
    }
}

/// The engine serves the user who runs it, and root, who could do without its leave.
const fn is_trusted(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

/// User id of the other side.
fn peer(socket: &OwnedFd) -> Option<u32> {
    let credentials = getsockopt(socket, sockopt::PeerCredentials);
    credentials.ok().map(|credentials| credentials.uid())
}

/// Tells a client why it is not served. Nobody waits for it.
fn turn_away(wire: Wire, why: &str) {
    // It may have gone already.
    let _ = refusal(Refusal::new(503, "", why)).send(&wire, true);
    wire.turn_away(Duration::ZERO);
}

fn admit(wire: Wire, engine: &Arc<Engine>, words: &Sender<Word>) {
    let seat = match engine.seats.take(wire.socket()) {
        Ok(seat) => seat,
        Err(Refused::Closed) => return,
        Err(Refused::Full) => {
            turn_away(wire, "too many clients; try again");
            return;
        }
    };
    let (shared, words) = (Arc::clone(engine), words.clone());
    let spawned = thread::Builder::new()
        .name("pontoon-client".to_owned())
        .spawn(move || {
            converse(wire, seat, &shared, &words);
            shared.seats.leave(seat);
            // The main thread may have gone for another reason.
            let _ = words.send(Word::ClientGone);
        });
    if spawned.is_err() {
        engine.seats.leave(seat);
    }
}

fn converse(mut wire: Wire, seat: u64, engine: &Engine, words: &Sender<Word>) {
    loop {
        let received = receive(&mut wire, CLIENT_PATIENCE);
        engine.seats.serve(seat);
        let received = match received {
            Ok(received) => received,
            Err(Fault::Wrong(status, why)) => {
                // It may have gone already.
                let _ = refusal(Refusal::new(status, "request", why)).send(&wire, true);
                return wire.turn_away(UNHEARD);
            }
            Err(Fault::Ended | Fault::Late | Fault::Io(_)) => return,
        };
        let closes = received.closes;
        let (response, word) = match read(received) {
            Ok(Wanted::Events) => match watch(engine) {
                Ok(queue) => return stream(&wire, &queue),
                Err(why) => (refusal(why), None),
            },
            wanted => respond(engine, wanted),
        };
        let sent = response.send(&wire, closes);
        if let Some(word) = word {
            // The main thread may have gone for another reason.
            let _ = words.send(word);
        }
        if sent.is_err() || closes {
            return;
        }
        engine.seats.served(seat);
    }
}

/// Begins to collect events for a client.
fn watch(engine: &Engine) -> Result<Arc<Queue>, Refusal> {
    let joined = engine.watchers.join(engine.hold().state());
    let joined = joined.map_err(|error| Refusal::new(503, "", error.to_string()))?;
    joined.ok_or_else(|| Refusal::new(429, "", "too many clients watch already; try again"))
}

/// Sends events as they happen, until the client has gone or does not read.
fn stream(wire: &Wire, queue: &Queue) {
    let mut sent = Chunks::begin(wire, LINES);
    while let Ok(chunks) = &sent {
        let lines = queue.take();
        if !lines.is_empty() {
            sent = chunks.send(&lines);
        } else if !wire.outlasts(queue.as_fd()) {
            return;
        }
    }
}

/// Does what a client asks for.
fn respond(engine: &Engine, wanted: Result<Wanted, Refusal>) -> (Response, Option<Word>) {
    let (request, fds, status) = match wanted {
        Ok(Wanted::Request(request, fds, status)) => (request, fds, status),
        Ok(Wanted::Document | Wanted::Events) => return (json(200, &document(), Vec::new()), None),
        Err(why) => return (refusal(why), None),
    };
    let (answer, fds, word) = answer(engine, *request, fds);
    let response = match answer {
        Ok(Reply::Done) => Response {
            status: 204,
            allow: None,
            body: None,
            fds,
        },
        Ok(reply) => json(status, &reply, fds),
        Err(why) => refusal(why.into()),
    };
    (response, word)
}

fn json(status: u16, value: &impl serde::Serialize, fds: Vec<OwnedFd>) -> Response {
    let body = serde_json::to_vec(value);
    Response {
        status,
        allow: None,
        body: Some(body.expect("what is answered has no keys but strings")),
        fds,
    }
}

fn refusal(refusal: Refusal) -> Response {
    Response {
        allow: refusal.allow,
        ..json(refusal.status, &refusal.why, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::is_trusted;

    #[test]
    fn nobody_is_served_but_the_user_and_root() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000) && is_trusted(0, 0));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0) && !is_trusted(65534, 1000));
    }
}
