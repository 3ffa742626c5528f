//! The runtime directory: private, and one engine's at a time.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::http::Connection;
use crate::control::api::Request;

/// How long an engine waits for another one that is leaving.
const TAKEOVER: Duration = Duration::from_secs(10);
/// How often it looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long another engine may take to say that it serves.
const HELLO: Duration = Duration::from_secs(1);

/// Makes the runtime directory and takes its lock. An engine that holds it but serves nobody is leaving.
/// The lock is the open file's: whoever has a duplicate of its descriptor holds it.
pub(super) fn lock(directory: &Path) -> io::Result<File> {
    make_private(directory)?;
    let path = directory.join("lock");
    let file = File::create(&path)?;
    let end = Instant::now() + TAKEOVER;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if serves(directory) {
            let what = "an engine runs already";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        if Instant::now() > end {
            let what = format!("{}: held by an engine that does not answer", path.display());
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn serves(directory: &Path) -> bool {
    let answer =
        Connection::open(directory).and_then(|mut engine| engine.ask(&Request::Hello, &[], HELLO));
    matches!(answer, Ok(Some(_)))
}

/// Where the files of the container with this monitor are: what it has instead of the host's, and its log.
pub fn container_files(directory: &Path, monitor: u32) -> PathBuf {
    directory.join(format!("run-{monitor}"))
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
