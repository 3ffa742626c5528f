//! Where the engine and its clients meet: a unix socket in a private directory.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket,
};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Which of a user's engines is meant; the one without a name when it is not set.
pub const INSTANCE: &str = "PONTOON_INSTANCE";

/// Whether the kernel carries flows of an engine that is started: see [`OffloadMode`](crate::config::OffloadMode).
pub const OFFLOAD: &str = "PONTOON_OFFLOAD";

/// Where the engine that is meant keeps its socket and files: `$XDG_RUNTIME_DIR/pontoon`, or a private
/// directory under `/tmp` for users without one; with an [`INSTANCE`], beside it. A relative path counts as
/// none (XDG Base Directory Specification), since the engine works elsewhere.
pub fn runtime_directory() -> PathBuf {
    let instance = std::env::var(INSTANCE).unwrap_or_default();
    let suffix = match instance.as_str() {
        "" => String::new(),
        name => format!("@{name}"),
    };
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(base) if base.is_absolute() => base.join(format!("pontoon{suffix}")),
        _ => PathBuf::from(format!("/tmp/pontoon-{}{suffix}", nix::unistd::getuid())),
    }
}

/// Name of the socket in the runtime directory.
pub const SOCKET: &str = "api.sock";

/// The socket on which the engine listens.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Listens in `directory`, for this user only. The caller holds the directory's lock, so a socket
    /// that is there was left behind.
    ///
    /// # Errors
    /// The path is too long, or the kernel refuses.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let fd = stream()?;
        bind(fd.as_raw_fd(), &address(&path)?)?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private)?;
        listen(&fd, Backlog::new(BACKLOG)?)?;
        Ok(Self { fd, path })
    }

    /// Goes on to listen at a socket of `directory` that an engine before this one has listened at.
    pub fn take_over(fd: OwnedFd, directory: &Path) -> Self {
        let path = directory.join(SOCKET);
        Self { fd, path }
    }

    /// Waits for a client.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        let fd = accept4(self.fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
        Ok(owned(fd))
    }

    /// The socket's path, to be removed at the end.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        listener.fd
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A stream socket.
pub(super) fn stream() -> io::Result<OwnedFd> {
    Ok(socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

/// The address of a socket at `path`.
pub(super) fn address(path: &Path) -> io::Result<UnixAddr> {
    UnixAddr::new(path).map_err(|_| {
        let what = format!(
            "{}: the path is too long for a socket; set XDG_RUNTIME_DIR",
            path.display()
        );
        io::Error::new(io::ErrorKind::InvalidInput, what)
    })
}

#[allow(unsafe_code, reason = "descriptors arrive as numbers")]
fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
