//! What runs short, and what is left over.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use pontoon_engine::io::keeper::protocol::{RequestBody, VERSION};
use pontoon_engine::io::uplink_sockets::SOCKETS;

use crate::engine::{Engine, own_network};
use crate::plugs::spec;
use crate::{carrier, ports, uplinks, wrapped};

/// The lowest number that a process has no file for.
fn free_number(pid: &str) -> u64 {
    free_number_after(pid, 0)
}

/// The lowest one but so many.
fn free_number_after(pid: &str, others: usize) -> u64 {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let names = open.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let taken: BTreeSet<u64> = names.map(|name| name.parse().unwrap()).collect();
    let mut free = (0..).filter(|number| !taken.contains(number));
    free.nth(others).unwrap()
}

fn limit_files(pid: &str, files: u64) {
    let soft = format!("--nofile={files}:");
    let done = wrapped("prlimit", &["--pid", pid, &soft]).status();
    assert!(done.unwrap().success());
}

pub(super) fn short_keeper(engine: &Engine) {
    let keeper = nix::unistd::getppid().to_string();
    let limit = |files| limit_files(&keeper, files);
    let target = engine.container();
    limit(free_number(&keeper));
    let error = engine.plug(&target, spec("p1")).unwrap_err();
    assert!(error.contains("too many files"), "{error}");
    let error = engine.link.request(RequestBody::HostRoutes, &[]);
    assert!(error.is_err(), "no descriptor was free");
    let (fds, stopped) = ports::bind(engine, &ports::ports(3));
    assert_eq!(fds.len(), 0);
    let why = format!("{stopped:?}");
    assert!(why.contains("ulimit -n"), "{why}");
    limit(1024);
    let (fds, stopped) = ports::bind(engine, &ports::ports(3));
    assert_eq!((fds.len(), stopped), (3, None));
    let (sandbox, ifindex, _) = engine.plug(&target, spec("p1")).unwrap();
    limit(free_number(&keeper));
    engine.unplug(sandbox, ifindex);
    assert_eq!(
        engine.names(&target),
        ["lo"],
        "the interface is gone all the same"
    );
    limit(1024);
}

/// However few files there are while an uplink is opened and closed, nothing is in the way of the next one who opens it.
pub(super) fn short_uplink(engine: &Engine) {
    carrier::raise(engine);
    let outside = engine.container();
    uplinks::wire(&outside);
    uplinks::await_carrier(&outside);
    let keeper = nix::unistd::getppid().to_string();
    let limit = |files| limit_files(&keeper, files);
    // More is not needed.
    for files in 0..2 * SOCKETS + 8 {
        limit(free_number_after(&keeper, files));
        let _ = uplinks::try_to_open(engine, "up0");
        limit(1024);
        let (facts, _fds) = uplinks::open_uplink(engine, "up0");
        assert!(facts.reached_by.is_some(), "after {files} files: {facts:?}");
        limit(free_number(&keeper));
        uplinks::close(engine, "up0");
        limit(1024);
        assert_eq!(engine.names(&engine.net), ["lo"], "after {files} files");
    }
    uplinks::unwire();
}

pub(super) fn short_engine(engine: &Engine) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let limit = |files| setrlimit(Resource::RLIMIT_NOFILE, files, hard).unwrap();
    const SANDBOX: RequestBody = RequestBody::Sandbox { version: VERSION };
    let free = free_number("self");
    limit(free);
    let (_, fds) = engine.link.request(SANDBOX, &[]).unwrap();
    limit(soft);
    assert_eq!(fds.len(), 0, "the answer came without descriptors");
    let (_, fds) = engine.link.request(SANDBOX, &[]).unwrap();
    assert!(fds.len() >= 2);
    limit(free);
    let (fds, stopped) = ports::bind(engine, &ports::ports(3));
    limit(soft);
    assert_eq!((fds.len(), stopped), (0, None));
    ports::unbind(engine, &ports::ports(3));
    let (fds, _) = ports::bind(engine, &ports::ports(3));
    assert_eq!(fds.len(), 3, "nothing was left");
}

pub(super) fn leftovers_(engine: &Engine) {
    leftovers(engine);
}

pub(super) fn leftovers(engine: &Engine) {
    // Each holder makes a namespace, says so, and has a child that stays when its parent has gone.
    const HOLD: &str = "sleep 60 & echo ready; wait";
    let hold = || {
        let user = if engine.unprivileged {
            &["--user", "--map-root-user", "--net"][..]
        } else {
            &["--net"]
        };
        let mut holder = wrapped("unshare", user);
        let holder = holder
            .args(["sh", "-c", HOLD])
            .stdout(std::process::Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut line = [0; 6];
        holder
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut line)
            .unwrap();
        let net: OwnedFd = fs::File::open(format!("/proc/{}/ns/net", holder.id()))
            .unwrap()
            .into();
        (holder, net)
    };
    let ((mut first, net), (mut other, _)) = (hold(), hold());
    let inside = |net: &OwnedFd| {
        let wanted = nix::sys::stat::fstat(net).unwrap().st_ino;
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let there = |path: std::path::PathBuf| {
            fs::metadata(path).is_ok_and(|m| std::os::unix::fs::MetadataExt::ino(&m) == wanted)
        };
        processes
            .filter(|entry| there(entry.path().join("ns/net")))
            .count()
    };
    assert_eq!(inside(&net), 2, "the shell and what it has started");
    let end = |net: &OwnedFd| {
        engine
            .link
            .request(RequestBody::EndProcesses, &[net.as_fd()])
    };
    end(&net).unwrap();
    assert_eq!(inside(&net), 0);
    assert!(!first.wait().unwrap().success());
    assert!(other.try_wait().unwrap().is_none(), "it runs on");
    end(&net).unwrap();
    let error = end(&own_network().unwrap()).unwrap_err().to_string();
    assert!(error.contains("the keeper's own"), "{error}");
    let net = fs::File::open(format!("/proc/{}/ns/net", other.id()))
        .unwrap()
        .into();
    end(&net).unwrap();
    other.wait().unwrap();
}
