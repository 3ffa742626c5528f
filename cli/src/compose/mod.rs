//! `up` and `down`: networks and containers from a file in compose's shape.
//!
//! ```text
//! yaml → fields → file (service, network) → project ─┐
//!                          engine's listings → seen ─┴→ plan: steps → carry_out → follow
//! ```
//!
//! Everything up to the plan is pure. What was made is found again by its labels: the project's name, and
//! a digest of what was asked for, which tells what a changed file changes.

mod carry_out;
mod difference;
mod env_file;
mod fields;
mod file;
#[cfg(test)]
mod file_tests;
mod follow;
mod interpolate;
mod interrupt;
mod joins;
mod lines;
mod naming;
mod network;
mod order;
mod plan;
#[cfg(test)]
mod plan_tests;
mod ports;
mod progress;
mod project;
mod seen;
mod service;
mod source;
mod words;
mod yaml;

use serde_json::json;

use crate::args::{Down, Up};
use crate::client::{Client, Failure};
use crate::start;
use carry_out::carry_out;
use interrupt::Interrupts;
use plan::{Orphans, Step};
use progress::Progress;
use source::Source;

/// `up`.
pub(crate) fn up(args: &Up) -> Result<u8, Failure> {
    start::close_inherited()?;
    let project = Source::find(args.topology.path())?.project(args.topology.project.as_deref())?;
    let name = project.name.clone();
    let containers = project.containers.iter();
    let containers: Vec<_> = containers.map(|c| c.name.clone()).collect();
    let orphans = match args.remove_orphans {
        true => Orphans::Remove,
        false => Orphans::Leave,
    };
    let seen = seen::ask(&start::engine_for_user()?)?;
    let plan = plan::up(project, &seen, orphans).map_err(|why| Failure::own(&name, why))?;
    for orphan in &plan.orphans {
        eprintln!(
            "pontoon: {orphan} is of {name} but not in the file; --remove-orphans removes it"
        );
    }
    let changes = plan.steps.iter().any(Step::is_change);
    let interrupts = Interrupts::listen()?;
    let mut progress = Progress::default();
    let logs = carry_out(plan.steps, &interrupts, &mut progress).map_err(|error| {
        let made = progress.made();
        let down = format!("`pontoon down --project {name}` takes away what there is of it");
        Failure::own(&error.to_string(), format!("\nmade before: {made}; {down}"))
    })?;
    if !changes {
        eprintln!("{name}: nothing changed");
    }
    if args.json {
        let done = progress.lines();
        println!(
            "{}",
            json!({ "project": name, "changed": changes, "done": done })
        );
    }
    if args.detach {
        return Ok(0);
    }
    follow::follow(&containers, &name, logs, &interrupts)
}

/// `down`.
pub(crate) fn down(args: &Down) -> Result<u8, Failure> {
    let name = match &args.topology.project {
        Some(name) => name.clone(),
        None => Source::find(args.topology.path())?.name()?,
    };
    let Some(client) = Client::try_open()? else {
        eprintln!("{name}: nothing is there, no engine runs");
        return Ok(0);
    };
    let steps = plan::down(&name, &seen::ask(&client)?);
    if steps.is_empty() {
        eprintln!("{name}: nothing is there");
    }
    carry_out(steps, &Interrupts::listen()?, &mut Progress::default())?;
    Ok(0)
}
