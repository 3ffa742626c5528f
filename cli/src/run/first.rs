//! The first process of a container, until it becomes the command.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getppid, sethostname};
use pontoon_engine::io::fdpass::Channel;
use pontoon_engine::io::namespace::{
    Inside, become_root_of_new_user_namespace, bring_loopback_up, enter, new_network_namespace,
};
use serde::{Deserialize, Serialize};

use super::exec::enter_container;
use super::{Becoming, become_contained, sysfs};
use crate::client::Failure;

/// What the monitor tells the first process once it is plugged in.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plugged {
    /// Files that replace `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.
    pub(super) files: Vec<(String, String)>,
    /// What the container calls itself, where it has a name of its own.
    pub(super) hostname: Option<String>,
}

/// What the first process tells the monitor before: that it is where the command is to run, or why not.
pub(super) type Settled = Result<(), String>;

/// Where the first process makes its home.
#[derive(Debug)]
pub(super) enum Home {
    /// In namespaces of its own, inside of this user namespace if there is one.
    Own(Option<OwnedFd>),
    /// In the network namespace of the container with this first process.
    With(Pid),
    /// Where the user is.
    Here,
}

/// Runs as the first process. Returns only when it cannot become the command.
pub(super) fn run(monitor: &Channel, home: &Home, becoming: &Becoming) -> Result<u8, Failure> {
    let parent = getppid();
    let namespaces = match settle(home) {
        Ok(namespaces) => namespaces,
        Err(why) => {
            // The monitor tells it, to whom it concerns.
            monitor.send(&Settled::Err(why.to_string()), &[])?;
            return Ok(super::super::OWN_ERROR);
        }
    };
    let fds: Vec<_> = namespaces.iter().map(AsFd::as_fd).collect();
    monitor.send(&Settled::Ok(()), &fds)?;
    drop(namespaces);
    let Some((plugged, _)) = monitor.receive::<Plugged>()? else {
        // The monitor has told the user why.
        return Ok(super::super::OWN_ERROR);
    };
    for (path, replacement) in &plugged.files {
        replace(Path::new(path), Path::new(replacement))?;
    }
    if let Some(hostname) = &plugged.hostname {
        sethostname(hostname).map_err(|error| Failure::own("--hostname", error))?;
    }
    if let Some(directory) = &becoming.workdir {
        std::env::set_current_dir(directory)
            .map_err(|error| Failure::own(&directory.display().to_string(), error))?;
    }
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Ok(super::super::OWN_ERROR);
    }
    SigSet::all().thread_unblock()?;
    Ok(become_contained(&becoming.command, &becoming.environment))
}

/// Goes where the command is to run. Returns the network and the mount namespace, unless they are the
/// user's.
fn settle(home: &Home) -> Result<Vec<File>, Failure> {
    match home {
        Home::Own(user) => make_namespaces(user.as_ref())?,
        Home::With(other) => {
            enter_container(*other)?;
            make_mount_namespace()?;
        }
        Home::Here => return Ok(Vec::new()),
    }
    let own = ["net", "mnt"].map(|kind| File::open(format!("/proc/self/ns/{kind}")));
    Ok(own.into_iter().collect::<io::Result<_>>()?)
}

fn make_namespaces(user: Option<&OwnedFd>) -> Result<(), Failure> {
    if let Some(user) = user {
        enter(Inside {
            user: Some(user.as_fd()),
            net: None,
        })?;
        become_root_of_new_user_namespace()?;
    }
    new_network_namespace()?;
    make_mount_namespace()?;
    sysfs::mount_anew();
    bring_loopback_up()?;
    set_sysctls();
    Ok(())
}

/// Makes a mount and a UTS namespace, which begin as what they are here.
fn make_mount_namespace() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .map_err(|error| Failure::own("make a mount and a UTS namespace", error))?;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|error| Failure::own("make mounts private", error))
}

/// Puts a file in another's place, for this container only. A system without that file stays so.
fn replace(path: &Path, replacement: &Path) -> Result<(), Failure> {
    if !path.exists() {
        return Ok(());
    }
    mount(
        Some(replacement),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(|error| Failure::own(&path.display().to_string(), error))
}

/// What Docker sets in a container's network namespace: ports below 1024 and ping for everybody; and no
/// IPv6 on interfaces that are still to come, since no network has it. A container whose `/proc/sys` is
/// not writable goes without.
fn set_sysctls() {
    let settings = [
        ("net/ipv4/ip_unprivileged_port_start", "0"),
        ("net/ipv4/ping_group_range", "0 0"),
        ("net/ipv6/conf/default/disable_ipv6", "1"),
    ];
    for (name, value) in settings {
        let set: io::Result<()> = fs::write(Path::new("/proc/sys").join(name), value);
        drop(set);
    }
}
