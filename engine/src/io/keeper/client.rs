//! The engine's side of the link to its keeper.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::protocol::{Event, FromKeeper, Key, ReplyBody, Request, RequestBody};
use crate::io::fdpass::Channel;

/// How long the keeper may take: it forks a child and talks to the kernel.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The keeper could not, or does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeeperError(pub String);

impl fmt::Display for KeeperError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KeeperError {}

type Answer = Result<(ReplyBody, Vec<OwnedFd>), KeeperError>;

#[derive(Default)]
struct Waiting {
    next_id: u64,
    /// `None` once the keeper is gone.
    answers: Option<HashMap<u64, Sender<Answer>>>,
    /// What nobody waits for any more. The keeper may still do it.
    given_up: HashMap<u64, RequestBody>,
}

/// A link to the keeper that any thread may use.
#[derive(Clone)]
pub struct KeeperLink {
    channel: Arc<Channel>,
    waiting: Arc<Mutex<Waiting>>,
}

impl KeeperLink {
    /// Takes over the engine's end of the pair. Events arrive at the receiver, which is closed when the
    /// keeper ends.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn open(channel: Channel) -> io::Result<(Self, Receiver<Event>)> {
        let (sender, events) = unbounded();
        let waiting = Waiting {
            next_id: 0,
            answers: Some(HashMap::new()),
            given_up: HashMap::new(),
        };
        let link = Self {
            channel: Arc::new(channel),
            waiting: Arc::new(Mutex::new(waiting)),
        };
        let reader = link.clone();
        thread::Builder::new()
            .name("pontoon-keeper".to_owned())
            .spawn(move || reader.read(&sender))
            .map_err(|error| io::Error::new(error.kind(), format!("start a thread: {error}")))?;
        Ok((link, events))
    }

    /// Asks the keeper for something and waits for the answer.
    ///
    /// # Errors
    /// What the keeper says went wrong, or that it is gone or does not answer. What it does after all is
    /// taken back then.
    pub fn request(&self, body: RequestBody, fds: &[BorrowedFd<'_>]) -> Answer {
        let gone = || KeeperError("the keeper is gone".to_owned());
        let (sender, answer) = bounded(1);
        let id = {
            let mut waiting = self.waiting.lock().map_err(|_| gone())?;
            waiting.next_id += 1;
            let id = waiting.next_id;
            waiting
                .answers
                .as_mut()
                .ok_or_else(gone)?
                .insert(id, sender);
            id
        };
        let request = Request { id, body };
        self.channel
            .send(&request, fds)
            .map_err(|error| KeeperError(format!("the keeper cannot be reached: {error}")))?;
        answer
            .recv_timeout(TIMEOUT)
            .unwrap_or_else(|_| self.give_up(request, &answer))
    }

    /// Has the keeper keep duplicates of descriptors for an engine after this one.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn keep(&self, key: Key, fds: &[&impl AsFd]) -> Result<(), KeeperError> {
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        self.request(RequestBody::Keep(key), &fds).map(drop)
    }

    /// What the keeper keeps by a name; nothing where nobody has given it any.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn fetch(&self, key: Key) -> Result<Vec<OwnedFd>, KeeperError> {
        let (_, fds) = self.request(RequestBody::Fetch(key), &[])?;
        Ok(fds)
    }

    /// Has it keep them no longer.
    pub fn let_go(&self, key: Key) {
        // A keeper that is gone keeps nothing.
        let _ = self.request(RequestBody::LetGo(key), &[]);
    }

    /// Waits no longer, unless the answer has come meanwhile.
    fn give_up(&self, request: Request, answer: &Receiver<Answer>) -> Answer {
        if let Ok(mut waiting) = self.waiting.lock()
            && let Some(answers) = &mut waiting.answers
            && answers.remove(&request.id).is_some()
        {
            waiting.given_up.insert(request.id, request.body);
        }
        let silent = || Err(KeeperError("the keeper does not answer".to_owned()));
        answer.try_recv().unwrap_or_else(|_| silent())
    }

    /// An answer that nobody waits for any more: what was done is taken back.
    fn take_back(&self, id: u64, answer: Answer) {
        let Ok(mut waiting) = self.waiting.lock() else {
            return;
        };
        let (Some(body), Ok((reply, fds))) = (waiting.given_up.remove(&id), answer) else {
            return;
        };
        let Some(body) = body.taken_back(&reply, fds.len()) else {
            return;
        };
        // What they stand for is left to others only once nobody has it.
        drop(fds);
        waiting.next_id += 1;
        let id = waiting.next_id;
        // A keeper that is gone has taken everything with it.
        let _ = self.channel.send(&Request { id, body }, &[]);
    }

    fn read(&self, events: &Sender<Event>) {
        while let Ok(Some((message, fds))) = self.channel.receive::<FromKeeper>() {
            match message {
                FromKeeper::Event(event) => {
                    // Nobody listens any more while the engine ends.
                    let _ = events.send(event);
                }
                FromKeeper::Reply { id, body } => {
                    let waiting = self.waiting.lock();
                    let asker = waiting
                        .ok()
                        .and_then(|mut w| w.answers.as_mut()?.remove(&id));
                    let answer = body.map(|b| (b, fds)).map_err(KeeperError);
                    match asker {
                        Some(asker) => {
                            // Who asked takes it, or has it dropped.
                            let _ = asker.send(answer);
                        }
                        None => self.take_back(id, answer),
                    }
                }
            }
        }
        if let Ok(mut waiting) = self.waiting.lock() {
            waiting.answers = None;
        }
    }
}
