//! `exec`: a command in the namespaces of a container. It ends with the container.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{ForkResult, Pid, getpid, getppid};
use pontoon_engine::control::api::{Reply, Request};
use pontoon_engine::io::namespace::{Inside, enter};
use pontoon_engine::io::process::Process;

use super::watch::{self, fork_here};
use super::{Failure, become_contained};
use crate::args::Exec;
use crate::client::Client;

/// `exec`.
pub(crate) fn exec(args: &Exec) -> Result<u8, Failure> {
    let client = Client::open()?;
    let request = Request::Container {
        name: args.name.clone(),
    };
    let Reply::Container(container) = client.ask(&request)? else {
        return Err(Failure::unexpected());
    };
    drop(client);
    let pid = container.pid.map(Pid::from_raw).ok_or_else(|| {
        Failure::own(
            &container.name,
            "has no process of its own here (it was attached or has ended)",
        )
    })?;
    let container = Process::open(pid.as_raw())?;
    let (signals, parent) = (watch::signals()?, getpid());
    match fork_here()? {
        ForkResult::Parent { child } => watch::wait_for(child, &signals, Some(container)),
        ForkResult::Child => {
            let code = become_inside(pid, parent, &args.command).unwrap_or_else(|error| {
                eprintln!("pontoon: {error}");
                crate::OWN_ERROR
            });
            std::process::exit(i32::from(code));
        }
    }
}

/// Returns only when it cannot become the command.
fn become_inside(container: Pid, parent: Pid, command: &[String]) -> Result<u8, Failure> {
    enter_container(container)?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Ok(crate::OWN_ERROR);
    }
    SigSet::all().thread_unblock()?;
    Ok(become_contained(command, &[]))
}

/// Enters the namespaces of a container's first process.
pub(super) fn enter_container(pid: Pid) -> Result<(), Failure> {
    let here = std::env::current_dir();
    // Those that this process is in already need no entering, and may not be entered.
    let open = |kind: &str| {
        let path = format!("/proc/{pid}/ns/{kind}");
        let there = File::open(&path).map_err(|error| Failure::own(&path, error))?;
        let own = std::fs::metadata(format!("/proc/self/ns/{kind}"))?;
        let same = own.ino() == there.metadata()?.ino();
        Ok::<_, Failure>((!same).then_some(there))
    };
    let (user, net) = (open("user")?, open("net")?);
    let (mount, uts) = (open("mnt")?, open("uts")?);
    enter(Inside {
        user: user.as_ref().map(AsFd::as_fd),
        net: net.as_ref().map(AsFd::as_fd),
    })?;
    if let Some(uts) = uts {
        nix::sched::setns(uts, nix::sched::CloneFlags::CLONE_NEWUTS)
            .map_err(|error| Failure::own("enter the UTS namespace", error))?;
    }
    if let Some(mount) = mount {
        nix::sched::setns(mount, nix::sched::CloneFlags::CLONE_NEWNS)
            .map_err(|error| Failure::own("enter the mount namespace", error))?;
    }
    // Entering it leads to its root, where a directory that is not there any more leaves the command.
    if let Ok(here) = here {
        let _ = std::env::set_current_dir(here);
    }
    Ok(())
}
