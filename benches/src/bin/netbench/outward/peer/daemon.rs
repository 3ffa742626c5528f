//! A program of a peer that runs until it is dropped.

use crate::error::{Context, Error, Result};
use crate::sandbox::PRIVATE_DIR;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Gives the program our pipe as descriptor 3, where slirp4netns and docker-proxy tell that they
/// are ready, and its own output to the log.
const WRAPPER: &str = r#"exec "$0" "$@" 3>&1 1>&2"#;

/// Most that is shown of a log, bytes from its end.
const SHOWN: usize = 400;

/// Logs so far: each has a number.
static LOGS: AtomicU32 = AtomicU32::new(0);

/// A started program.
pub(super) struct Daemon {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program in the calling thread's namespace.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(
        program: &Path,
        arguments: &[String],
        environment: &[(&str, String)],
    ) -> Result<Self> {
        let number = LOGS.fetch_add(1, Ordering::Relaxed);
        let log = Path::new(PRIVATE_DIR).join(format!("daemon-{number}.log"));
        let file = File::create(&log).context(format!("making {}", log.display()))?;
        let child = Command::new("sh")
            .args(["-c", WRAPPER])
            .arg(program)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .context(format!("starting {}", program.display()))?;
        let name = program.file_name().unwrap_or(program.as_os_str());
        Ok(Self {
            child,
            name: name.to_string_lossy().into_owned(),
            log,
        })
    }

    /// Waits until the program writes `sign` to its descriptor 3.
    ///
    /// # Errors
    /// When it writes something else or ends, with what it wrote.
    pub(super) fn await_ready(&mut self, sign: u8) -> Result<()> {
        let mut byte = [0];
        let pipe = self.child.stdout.as_mut();
        let count = pipe.map_or(Ok(0), |pipe| pipe.read(&mut byte));
        match count.context(format!("waiting for {}", self.name))? {
            1 if byte[0] == sign => Ok(()),
            _ => Err(self.failure()),
        }
    }

    /// Looks whether the program is alive.
    ///
    /// # Errors
    /// When it is not, with what it wrote.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.child.try_wait().context("waiting for a program")? {
            None => Ok(()),
            Some(_) => Err(self.failure()),
        }
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn failure(&self) -> Error {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let mut start = text.len().saturating_sub(SHOWN);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        Error::Failed {
            command: self.name.clone(),
            output: text[start..].trim().replace('\n', "; "),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ended_by_itself = self.child.kill();
        let _status = self.child.wait();
        let _nothing_depends_on_it = fs::remove_file(&self.log);
    }
}
