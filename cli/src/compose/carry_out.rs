//! Carrying steps out, with the functions that `network create`, `run`, `stop` and `rm` use.

use std::fs::File;
use std::thread;
use std::time::Duration;

use pontoon_engine::control::api::{ContainerView, RemoveMode, Reply, Request};

use super::interrupt::Interrupts;
use super::plan::Step;
use super::progress::{CREATED, Progress, STARTED};
use crate::client::{Client, Failure};
use crate::{network, run};

/// Seconds between SIGTERM and SIGKILL, as `stop` has them.
pub(super) const PATIENCE: u64 = 10;
/// How often is looked whether a container has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The logs of containers that were started, by name.
pub(super) type Logs = Vec<(String, File)>;

/// Carries steps out until one fails.
pub(super) fn carry_out(
    steps: Vec<Step>,
    interrupts: &Interrupts,
    progress: &mut Progress,
) -> Result<Logs, Failure> {
    let mut logs = Vec::new();
    for step in steps {
        if interrupts.came()?.is_some() {
            return Err(Failure::own("interrupted", "what was to come is left out"));
        }
        match step {
            Step::Stop { name } => {
                let seconds = PATIENCE;
                let request = Request::Stop {
                    name: name.clone(),
                    seconds,
                };
                ask("container", &name, &request)?;
                progress.container(&name, "Stopped");
            }
            Step::Remove { name } => {
                let mode = RemoveMode::Force;
                let request = Request::Remove {
                    name: name.clone(),
                    mode,
                };
                ask("container", &name, &request)?;
                progress.container(&name, "Removed");
            }
            Step::RemoveNetwork { name } => {
                let request = Request::RemoveNetwork { name: name.clone() };
                ask("network", &name, &request)?;
                progress.network(&name, "Removed");
            }
            Step::CreateNetwork(args) => {
                let name = args.name.clone();
                network::create(*args).map_err(|error| of("network", &name, &error))?;
                progress.network(&name, CREATED);
            }
            Step::Await { name } => await_end(&name, interrupts)?,
            Step::Start { name, run } => {
                let started = run::in_background(*run);
                let (_, log) = started.map_err(|error| of("container", &name, &error))?;
                progress.container(&name, STARTED);
                logs.push((name, log));
            }
            Step::Keep { name } => progress.container(&name, state(&container(&name)?)),
        }
    }
    Ok(logs)
}

/// A container as the engine shows it.
pub(super) fn container(name: &str) -> Result<ContainerView, Failure> {
    let name = name.to_owned();
    match Client::open()?.ask(&Request::Container { name })? {
        Reply::Container(container) => Ok(container),
        _ => Err(Failure::unexpected()),
    }
}

const fn state(container: &ContainerView) -> &'static str {
    match container.exit_status {
        None => "Running",
        Some(_) => "Exited",
    }
}

fn ask(kind: &str, name: &str, request: &Request) -> Result<(), Failure> {
    let answer = Client::open()?.ask(request);
    answer.map(drop).map_err(|error| of(kind, name, &error))
}

fn of(kind: &str, name: &str, error: &Failure) -> Failure {
    Failure::own(&format!("{kind} {name}"), error)
}

/// Waits until a container has ended with status 0.
fn await_end(name: &str, interrupts: &Interrupts) -> Result<(), Failure> {
    loop {
        match container(name)?.exit_status {
            Some(0) => return Ok(()),
            Some(status) => {
                let what = format!("ended with status {status}; others wait for its success");
                return Err(Failure::own(&format!("container {name}"), what));
            }
            None if interrupts.came()?.is_some() => {
                let what = format!("while waiting for the end of {name}");
                return Err(Failure::own("interrupted", what));
            }
            None => thread::sleep(LOOK_EVERY),
        }
    }
}
