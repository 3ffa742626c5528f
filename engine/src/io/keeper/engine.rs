//! The engine's process, as its keeper sees it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;

use super::ENGINE_FD;
use super::protocol::VERSION;
use crate::io::fdpass::Channel;
use crate::io::process::Process;

/// The running program's file, whatever has become of its name.
const OWN_FILE: &str = "/proc/self/exe";

/// How engines are started.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program's path.
    pub path: PathBuf,
    /// What makes it an engine.
    pub arguments: Vec<OsString>,
    /// Prints [`VERSION`], as a number, and ends.
    pub version: Vec<OsString>,
    /// The file in which clients find when the next engine is started ([`super::Pause`]).
    pub pause: PathBuf,
}

impl Program {
    /// The file to execute: the one that runs here as long as it is the same program, even if another
    /// one has taken its name.
    fn file(&self, own: &PathBuf) -> PathBuf {
        if self.path != *own {
            return self.path.clone();
        }
        let number = |path: &str| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        match (number(&self.path.to_string_lossy()), number(OWN_FILE)) {
            (Some(named), Some(running)) if named == running => self.path.clone(),
            _ => OWN_FILE.into(),
        }
    }

    /// Starts engines with another program from now on, which must understand this keeper.
    ///
    /// # Errors
    /// It cannot be executed, or is of another version.
    pub(super) fn become_another(&mut self, path: PathBuf) -> io::Result<()> {
        self.check(&path)?;
        self.path = path;
        Ok(())
    }

    fn check(&self, path: &PathBuf) -> io::Result<()> {
        let shown = path.display();
        let output = Command::new(path).args(&self.version).output();
        let output =
            output.map_err(|error| io::Error::new(error.kind(), format!("{shown}: {error}")))?;
        let said = String::from_utf8_lossy(&output.stdout);
        match said.trim().parse::<u32>() {
            Ok(VERSION) if output.status.success() => Ok(()),
            Ok(other) => Err(io::Error::other(format!(
                "{shown} speaks version {other} of the keeper's protocol, and the keeper that runs \
                 version {VERSION}; end everything (pontoon shutdown) and start it with the new program"
            ))),
            Err(_) => Err(io::Error::other(format!(
                "{shown}: not a Pontoon that can take over ({})",
                output.status
            ))),
        }
    }
}

/// How long an engine may live without its keeper: it writes why it ends.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// An engine that runs, or has ended unnoticed.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) link: Channel,
    child: Child,
    pub(super) started: Instant,
}

impl Engine {
    /// Starts one; it finds the pair's other end as descriptor [`ENGINE_FD`].
    pub(super) fn start(program: &Program, own: &PathBuf) -> io::Result<Self> {
        let (link, theirs) = Channel::pair()?;
        let mut command = Command::new(program.file(own));
        command.args(&program.arguments);
        hand_over(&mut command, &theirs);
        Ok(Self {
            link,
            child: command.spawn()?,
            started: Instant::now(),
        })
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for an engine whose end of the pair is closed. One that lives on after it could have said
    /// why is of no use.
    pub(super) fn end(mut self) -> io::Result<ExitStatus> {
        let process = Process::open(self.child.id() as i32);
        if !process.is_ok_and(|process| process.has_ended(LAST_WORDS)) {
            // It may have ended meanwhile.
            let _ = self.child.kill();
        }
        self.child.wait()
    }
}

#[allow(unsafe_code, reason = "pre_exec runs between fork and exec")]
fn hand_over(command: &mut Command, theirs: &Channel) {
    let fd = theirs.as_fd().as_raw_fd();
    // SAFETY: `dup2` and `sigprocmask` are async-signal-safe, and nothing else is called.
    unsafe {
        command.pre_exec(move || {
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
}
