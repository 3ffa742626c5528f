//! Talking to the engine.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_engine::control::Invalid;
use pontoon_engine::control::api::{Answer, Reply, Request};
use pontoon_engine::io::control::http::{Connection, Lines};
use pontoon_engine::io::control::transport::runtime_directory;
use pontoon_engine::io::keeper::{PAUSE, Pause};

use crate::options;

/// Why a command fails: what, where, why.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// `what` could not be done because of `why`.
    pub(crate) fn own(what: &str, why: impl fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }

    /// What went wrong needs no more words.
    pub(crate) fn plain(what: &str) -> Self {
        Self(what.to_owned())
    }

    /// The engine answered something else.
    pub(crate) fn unexpected() -> Self {
        Self("the engine gave an answer to something else; is it of another version?".to_owned())
    }

    /// The engine has ended before it has answered.
    fn unanswered() -> Self {
        let what = "the engine has ended before it has answered; whether it has done what was asked for is \
                    not known (`pontoon ps -a` and `pontoon network ls` show it)";
        Self(what.to_owned())
    }

    /// No engine runs.
    pub(crate) fn no_engine() -> Self {
        Self(format!(
            "no engine runs in {}; `pontoon run` and `pontoon network create` start one",
            crate::directory()
        ))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Invalid> for Failure {
    fn from(error: Invalid) -> Self {
        Self(options::told(error, None))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<nix::Error> for Failure {
    fn from(error: nix::Error) -> Self {
        Self(error.to_string())
    }
}

/// How long an engine that has died is waited for to be followed by another.
const SUCCESSION: Duration = Duration::from_secs(5);
/// How often it is tried meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// How long an engine may be silent before it is looked whether one runs at all.
const GLANCE: Duration = Duration::from_millis(300);
/// How long one that runs may be silent before whoever waits is told.
const SILENCE: Duration = Duration::from_secs(5);

/// What has come of saying hello.
enum Greeting {
    Answered(Client),
    /// The engine has gone without an answer.
    Gone,
    /// Nobody listens.
    Nobody,
    /// Somebody will listen, but nobody answers yet.
    Silent,
}

/// What to do while no engine runs, but one will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paused {
    Wait,
    Fail,
}

/// An answer and its descriptors.
type Exchanged = Option<(Answer, Vec<OwnedFd>)>;

/// A connection to the engine.
pub(crate) struct Client(RefCell<Connection>);

impl Client {
    /// Connects to the engine that runs.
    pub(crate) fn open() -> Result<Self, Failure> {
        Self::try_open()?.ok_or_else(Failure::no_engine)
    }

    /// The same, but an engine that is started again only after a while is not waited for.
    pub(crate) fn open_now() -> Result<Self, Failure> {
        Self::greet_until_answered(Paused::Fail)?.ok_or_else(Failure::no_engine)
    }

    /// Connects to the engine, if one runs and is not about to end. It stays while the client does, unless
    /// it dies. One that dies before it has answered is followed by another, which is waited for; one that
    /// ends in order stops to listen.
    pub(crate) fn try_open() -> Result<Option<Self>, Failure> {
        Self::greet_until_answered(Paused::Wait)
    }

    fn greet_until_answered(paused: Paused) -> Result<Option<Self>, Failure> {
        let (mut patience, mut end) = (GLANCE, Instant::now() + SUCCESSION);
        loop {
            match Self::greet(patience)? {
                Greeting::Silent => {
                    patience = explain_silence(patience, paused)?;
                    end = Instant::now() + patience + SUCCESSION;
                }
                Greeting::Answered(client) => return Ok(Some(client)),
                Greeting::Nobody => return Ok(None),
                Greeting::Gone if Instant::now() > end => return Ok(None),
                Greeting::Gone => thread::sleep(ASK_EVERY),
            }
        }
    }

    fn greet(patience: Duration) -> Result<Greeting, Failure> {
        let greeted = Connection::open(&runtime_directory()).and_then(|mut connection| {
            let answer = connection.ask(&Request::Hello, &[], patience)?;
            Ok((connection, answer))
        });
        match greeted {
            Ok((connection, Some((answer, _)))) => answer
                .map(|_| Greeting::Answered(Self(RefCell::new(connection))))
                .map_err(Failure::from),
            Ok((_, None)) => Ok(Greeting::Gone),
            Err(error) if is_absent(&error) => Ok(Greeting::Nobody),
            Err(error) if is_gone(&error) => Ok(Greeting::Gone),
            Err(error) if is_late(&error) && patience < Request::Hello.patience() => {
                Ok(Greeting::Silent)
            }
            Err(error) => Err(Failure::own(&crate::directory(), error)),
        }
    }

    /// Watches what happens from now on.
    pub(crate) fn watch(self) -> Result<Lines, Failure> {
        let lost = |error| Failure::own("the engine does not answer", error);
        let answer = self.0.into_inner().watch(Request::Hello.patience());
        match answer.map_err(lost)? {
            Some(lines) => Ok(lines?),
            None => Err(Failure("the engine has ended".to_owned())),
        }
    }

    /// Asks for something.
    pub(crate) fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        self.exchange(request, &[]).map(|(reply, _)| reply)
    }

    /// Asks for something, with descriptors both ways. What only looks is asked again of the next engine when
    /// this one dies.
    pub(crate) fn exchange(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), Failure> {
        let mut answer = self.try_exchange(request, fds)?;
        if answer.is_none() && request.only_looks() {
            self.0.replace(Self::open()?.0.into_inner());
            answer = self.try_exchange(request, fds)?;
        }
        let (answer, fds) = answer.ok_or_else(Failure::unanswered)?;
        let refused = |error| Failure(options::told(error, Some(request)));
        Ok((answer.map_err(refused)?, fds))
    }

    /// `None` when the engine has gone without an answer.
    fn try_exchange(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Exchanged, Failure> {
        let mut connection = self.0.borrow_mut();
        match connection.ask(request, fds, request.patience()) {
            Err(error) if is_gone(&error) => Ok(None),
            answer => answer.map_err(|error| Failure::own("the engine does not answer", error)),
        }
    }
}

/// Says why nobody has answered for so long, if that is known or it was long. Returns how long to wait next.
fn explain_silence(waited: Duration, paused: Paused) -> Result<Duration, Failure> {
    match Pause::read(&runtime_directory().join(PAUSE)) {
        Some(pause) if paused == Paused::Fail => return Err(Failure(pause.to_string())),
        Some(pause) => eprintln!("pontoon: {pause}"),
        None if waited < SILENCE => return Ok(SILENCE),
        None => eprintln!("pontoon: the engine does not answer yet; it is waited for"),
    }
    Ok(Request::Hello.patience())
}

fn is_late(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// The engine has ended, or was killed, since it was connected to.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
    )
}
