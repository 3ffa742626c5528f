//! The namespaces in which everything is built: a user namespace where one is needed, and a
//! network and a mount namespace of our own.

use crate::error::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{getegid, geteuid};
use std::fs;

/// Directory that is empty and private inside the sandbox; it goes with the mount namespace.
pub(crate) const PRIVATE_DIR: &str = "/run";

/// Moves this process, which must have one thread only, into namespaces of its own. With the
/// rights of root no user namespace is made; otherwise the caller becomes root in a new one.
///
/// # Errors
/// When the kernel refuses (user namespaces switched off, more than one thread) or `/run` cannot
/// be covered.
pub(crate) fn enter() -> Result<()> {
    let own = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    match unshare(own) {
        Ok(()) => {}
        Err(Errno::EPERM) => enter_as_user(own)?,
        Err(error) => Err(error).context("making a network and a mount namespace")?,
    }
    cover_private_dir()?;
    raise_descriptor_limit()
}

fn enter_as_user(own: CloneFlags) -> Result<()> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | own).context(
        "making a user namespace (is it allowed? see user.max_user_namespaces and \
         kernel.unprivileged_userns_clone)",
    )?;
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {user} 1"))?;
    write("/proc/self/gid_map", &format!("0 {group} 1"))
}

/// Writes a file of /proc.
pub(crate) fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).context(format!("writing {text:?} to {path}"))
}

fn cover_private_dir() -> Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("making mounts private")?;
    mount(
        Some("netbench"),
        PRIVATE_DIR,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=0700"),
    )
    .context(format!("mounting a private {PRIVATE_DIR}"))
}

/// A thousand namespaces are a thousand descriptors.
fn raise_descriptor_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("reading the descriptor limit")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the descriptor limit")
}
