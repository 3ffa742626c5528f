//! netbench compares whole networks: Pontoon, driven through its command line, and the kernel's
//! bridge, router and masquerade, side by side in network namespaces.
//!
//! The program runs itself again under a supervisor (`supervisor`), moves into namespaces of its
//! own (`sandbox`) and builds for each system (`system`) the same surroundings (`lab`). Systems
//! stay up during the whole run and are measured (`measure`) in alternation (`compare`), so that
//! a slow minute of the machine falls on all of them. `results` pairs the values of a round,
//! `budget` judges the ratios, `report` shows them.

#![forbid(unsafe_code)]

mod budget;
mod compare;
mod error;
mod lab;
mod machine;
mod measure;
mod memory;
mod netns;
mod options;
mod process;
mod processor;
mod report;
mod results;
mod sandbox;
mod statistics;
mod supervisor;
mod system;
mod table;

use clap::Parser;
use error::Result;
use machine::Machine;
use options::{Command, CompareOptions, MemoryOptions, Options};
use report::{Report, write_json};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = if supervisor::is_inside() {
        run(&options)
    } else {
        supervisor::supervise().map(ExitCode::from)
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("netbench: {error}");
        ExitCode::FAILURE
    })
}

fn run(options: &Options) -> Result<ExitCode> {
    supervisor::settle_inside()?;
    sandbox::enter()?;
    match &options.command {
        None => compare_systems(&options.compare),
        Some(Command::Memory(options)) => measure_memory(options),
    }
}

fn compare_systems(options: &CompareOptions) -> Result<ExitCode> {
    let machine = Machine::describe();
    let report = Report::new(machine, options, compare::run(options)?);
    print!("{}", report.render());
    if let Some(path) = &options.common.json {
        write_json(path, &report)?;
    }
    Ok(if report.is_complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn measure_memory(options: &MemoryOptions) -> Result<ExitCode> {
    let report = memory::run(options)?;
    print!("{}", report.render());
    if let Some(path) = &options.common.json {
        write_json(path, &report)?;
    }
    Ok(ExitCode::SUCCESS)
}
