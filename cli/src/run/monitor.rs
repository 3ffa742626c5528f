//! The monitor of a container.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid};
use pontoon_engine::control::api::{
    AttachSpec, ContainerView, NetworkMode, RemoveMode, Reply, Request,
};
use pontoon_engine::io::control::container_files;
use pontoon_engine::io::control::transport::runtime_directory;
use pontoon_engine::io::fdpass::Channel;
use pontoon_engine::io::process::Process;

use super::first::{self, Home, Plugged, Settled};
use super::watch::{self, fork_here};
use super::{Becoming, Failure, files};
use crate::client::Client;

/// How long the monitor tries to report the command's end.
const REPORT: Duration = Duration::from_secs(5);
/// What the engine calls the place where the user is.
const HOST_NETWORK: &str = "host";
/// How often it tries.
const REPORT_EVERY: Duration = Duration::from_millis(20);

/// Runs a container and waits for it. Returns its exit status.
pub(super) fn in_foreground(
    client: Client,
    spec: AttachSpec,
    becoming: &Becoming,
) -> Result<u8, Failure> {
    let container = Running::start(&client, spec, becoming, |_| ())?;
    drop(client);
    container.wait()
}

/// Runs a container in the background. Returns its id once it runs, and its log, open to be read: the
/// log's name goes when the container ends.
pub(super) fn in_background(
    client: Client,
    spec: AttachSpec,
    becoming: &Becoming,
) -> Result<(String, File), Failure> {
    let (ours, theirs) = Channel::pair()?;
    match fork_here()? {
        ForkResult::Parent { .. } => {
            drop(theirs);
            match ours.receive::<Result<String, String>>()? {
                Some((Ok(id), fds)) => {
                    let log = fds.into_iter().next().ok_or_else(Failure::unexpected)?;
                    Ok((id, log.into()))
                }
                Some((Err(error), _)) => Err(Failure::own("run", error)),
                None => Err(Failure::own("run", "the monitor ended")),
            }
        }
        ForkResult::Child => {
            drop(ours);
            let started = Running::start(&client, spec, becoming, quiet);
            let told = tell(&theirs, &started);
            drop((told, theirs, client));
            let status = started.and_then(Running::wait);
            std::process::exit(status.map_or(1, i32::from));
        }
    }
}

/// Tells the command line how the start went, with the log to read from.
fn tell(caller: &Channel, started: &Result<Running, Failure>) -> std::io::Result<()> {
    let log = started.as_ref().map_err(ToString::to_string);
    let log = log.and_then(|running| {
        let path = running.files.join("log");
        let log = File::open(&path).map_err(|error| format!("{}: {error}", path.display()));
        log.map(|log| (&running.view.id, log))
    });
    match log {
        Ok((id, log)) => caller.send(&Ok::<_, String>(id), &[log.as_fd()]),
        Err(error) => caller.send(&Err::<String, _>(error), &[]),
    }
}

/// Leaves the terminal, and writes to the container's log from then on.
fn quiet(log: &Path) {
    // A monitor that cannot leave the terminal or open its log still does its work.
    let _ = nix::unistd::setsid();
    if let (Ok(null), Ok(log)) = (File::open("/dev/null"), File::create(log)) {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&log);
        let _ = nix::unistd::dup2_stderr(&log);
    }
}

/// A container that runs.
struct Running {
    first: Pid,
    signals: SignalFd,
    view: ContainerView,
    files: PathBuf,
    /// Children from before: the keeper, and those of a shell that has become this process.
    others: Vec<i32>,
}

impl Running {
    /// Starts the first process, has it plugged in, and lets it become the command. `settle` is called
    /// in the monitor before, with the path of the container's log.
    fn start(
        client: &Client,
        mut spec: AttachSpec,
        becoming: &Becoming,
        settle: impl FnOnce(&Path),
    ) -> Result<Self, Failure> {
        let home = find_home(client, &spec)?;
        let files = container_files(&runtime_directory(), std::process::id());
        fs::create_dir_all(&files)?;
        settle(&files.join("log"));
        let signals = watch::signals()?;
        nix::sys::prctl::set_child_subreaper(true)?;
        let (ours, theirs) = Channel::pair()?;
        let others = children();
        let first = match fork_here()? {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                drop(ours);
                let code = first::run(&theirs, &home, becoming).unwrap_or_else(|error| {
                    eprintln!("pontoon: {error}");
                    super::super::OWN_ERROR
                });
                std::process::exit(i32::from(code));
            }
        };
        drop(theirs);
        let plugged = plug(client, &ours, first, &mut spec).and_then(|view| {
            let settled = settle_in(&ours, &view, becoming, &files, &home);
            if settled.is_err() {
                // The first error is the one to tell.
                let _ = client.ask(&Request::Remove {
                    name: view.id.clone(),
                    mode: RemoveMode::Force,
                });
            }
            settled.map(|()| view)
        });
        match plugged {
            Ok(view) => Ok(Self {
                first,
                signals,
                view,
                files,
                others,
            }),
            Err(error) => {
                drop(ours);
                let _ = waitpid(first, None);
                let _ = fs::remove_dir_all(&files);
                Err(error)
            }
        }
    }

    /// Passes signals on until the command has ended, ends what it left behind, and reports.
    ///
    /// No connection is held meanwhile: the engine serves a bounded number, and closes silent ones.
    fn wait(self) -> Result<u8, Failure> {
        let status = watch::wait_for(self.first, &self.signals, None)?;
        end_leftovers(&self.others);
        self.report(status);
        let _ = fs::remove_dir_all(&self.files);
        Ok(status)
    }

    /// Tells the engine that the command has ended. It may have been told to end meanwhile, or have
    /// more clients than it serves; the command's status counts, whatever comes of this.
    fn report(&self, status: u8) {
        let exited = Request::Exited {
            id: self.view.id.clone(),
            status: i32::from(status),
        };
        let end = Instant::now() + REPORT;
        while let Ok(Some(client)) = Client::try_open() {
            if client.ask(&exited).is_ok() || Instant::now() > end {
                return;
            }
            thread::sleep(REPORT_EVERY);
        }
    }
}

/// Where the first process is to go. Who is to be with one that is where the user is, is so too.
fn find_home(client: &Client, spec: &AttachSpec) -> Result<Home, Failure> {
    match &spec.mode {
        NetworkMode::Own => {
            let (reply, fds) = client.exchange(&Request::Namespaces, &[])?;
            let Reply::Namespaces { unprivileged } = reply else {
                return Err(Failure::unexpected());
            };
            Ok(Home::Own(fds.into_iter().next().filter(|_| unprivileged)))
        }
        NetworkMode::Host => Ok(Home::Here),
        NetworkMode::Container { name } => {
            let name = name.clone();
            let Reply::Container(other) = client.ask(&Request::Container { name })? else {
                return Err(Failure::unexpected());
            };
            if other.network == HOST_NETWORK {
                return Ok(Home::Here);
            }
            let ended = || {
                let what = "cannot join network of a container that does not run here";
                Failure::own(what, &other.id)
            };
            Ok(Home::With(Pid::from_raw(other.pid.ok_or_else(ended)?)))
        }
    }
}

/// Has the first process plugged in.
fn plug(
    client: &Client,
    first: &Channel,
    pid: Pid,
    spec: &mut AttachSpec,
) -> Result<ContainerView, Failure> {
    let fds = match first.receive::<Settled>()? {
        Some((Ok(()), fds)) => fds,
        Some((Err(why), _)) => return Err(Failure::plain(&why)),
        None => return Err(Failure::own("run", "the first process has died")),
    };
    spec.pid = Some(pid.as_raw());
    spec.monitor = Some(std::process::id());
    let process = Process::open(pid.as_raw())?;
    let request = Request::Attach(spec.clone());
    let own = Process::open(Pid::this().as_raw())?;
    let namespaces = fds.iter().map(AsFd::as_fd);
    let fds: Vec<_> = namespaces.chain([process.as_fd(), own.as_fd()]).collect();
    let (reply, _) = client.exchange(&request, &fds)?;
    let Reply::Container(view) = reply else {
        return Err(Failure::unexpected());
    };
    Ok(view)
}

/// Tells the first process that it is plugged in, gives it its files, and waits until it has become the
/// command, or has failed to: whoever enters its namespaces from then on finds them settled.
fn settle_in(
    first: &Channel,
    view: &ContainerView,
    becoming: &Becoming,
    files: &Path,
    home: &Home,
) -> Result<(), Failure> {
    let plugged = match home {
        Home::Own(_) => Plugged {
            files: files::write(files, view, becoming)?,
            hostname: Some(view.hostname.clone()),
        },
        Home::With(_) | Home::Here => Plugged {
            files: Vec::new(),
            hostname: None,
        },
    };
    first.send(&plugged, &[])?;
    // It says nothing more: its end closes when it executes the command, or ends. Its status will tell.
    let _ = first.receive::<()>();
    Ok(())
}

/// Ends the processes that the command left behind, and theirs, which all become this one's children.
fn end_leftovers(others: &[i32]) {
    loop {
        let mut left = children();
        left.retain(|pid| !others.contains(pid));
        for pid in &left {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if left.is_empty() || waitpid(None, None).is_err() {
            return;
        }
    }
}

fn children() -> Vec<i32> {
    let own = std::process::id();
    let path = format!("/proc/{own}/task/{own}/children");
    let pids = fs::read_to_string(path).unwrap_or_default();
    let pids = pids.split_whitespace();
    pids.filter_map(|pid| pid.parse().ok()).collect()
}
