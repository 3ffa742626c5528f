//! netbench compares whole networks: Pontoon, driven through its command line, and the kernel's
//! bridge, router and masquerade, side by side in network namespaces.
//!
//! The program runs itself again under a supervisor (`supervisor`), moves into namespaces of its
//! own (`sandbox`) and builds for each system (`system`) the same surroundings (`lab`). Systems
//! stay up during the whole run and are measured (`measure`) in alternation (`compare`), so that
//! a slow minute of the machine falls on all of them. `results` pairs the values of a round,
//! `budget` judges the ratios, `report` shows them. `outward` does the same for the ways between
//! a container and its host, where other programs than the kernel are Pontoon's peers; `clients`
//! measures what clients of the API cost.

#![forbid(unsafe_code)]

mod budget;
mod clients;
mod compare;
mod error;
mod lab;
mod machine;
mod measure;
mod memory;
mod netns;
mod options;
mod outward;
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
use options::{
    ClientsOptions, Command, CompareOptions, MemoryOptions, Options, OutwardMemoryOptions,
    OutwardOptions,
};
use outward::{OutwardReport, Packages, PeerName, SocketMemory, Surroundings};
use report::{Report, write_json};
use std::path::{Path, PathBuf};
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
    match &options.command {
        None => compare_systems(&options.compare),
        Some(Command::Memory(options)) => measure_memory(options),
        Some(Command::Clients(options)) => measure_clients(options),
        Some(Command::Outward(options)) => measure_outward(options),
        Some(Command::OutwardMemory(options)) => weigh_outward(options),
    }
}

fn compare_systems(options: &CompareOptions) -> Result<ExitCode> {
    sandbox::enter()?;
    let machine = Machine::describe();
    let report = Report::new(machine, options, compare::run(options)?);
    print!("{}", report.render());
    if let Some(path) = &options.common.json {
        write_json(path, &report)?;
    }
    Ok(exit_code(report.is_complete()))
}

fn measure_memory(options: &MemoryOptions) -> Result<ExitCode> {
    sandbox::enter()?;
    let report = memory::run(options)?;
    print!("{}", report.render());
    if let Some(path) = &options.common.json {
        write_json(path, &report)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure_clients(options: &ClientsOptions) -> Result<ExitCode> {
    sandbox::enter()?;
    let report = clients::run(options)?;
    print!("{}", report.render());
    if let Some(path) = &options.common.json {
        write_json(path, &report)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure_outward(options: &OutwardOptions) -> Result<ExitCode> {
    let surroundings = surroundings(&options.cache, &options.peers(), options.common.pontoon()?)?;
    let machine = Machine::describe();
    let outcome = outward::run(options, &surroundings)?;
    let report = OutwardReport::new(machine, surroundings.packages.names(), options, outcome);
    print!("{}", report.render());
    if let Some(path) = &options.common.json {
        write_json(path, &report)?;
    }
    Ok(exit_code(report.is_complete()))
}

fn weigh_outward(options: &OutwardMemoryOptions) -> Result<ExitCode> {
    let surroundings = surroundings(&options.cache, &options.peers(), options.common.pontoon()?)?;
    let report = outward::weigh(options, &surroundings)?;
    print!("{}", report.render());
    if let Some(path) = &options.common.json {
        write_json(path, &report)?;
    }
    Ok(exit_code(report.is_complete()))
}

/// Fetches what needs the machine's own network, then leaves it.
fn surroundings(cache: &Path, peers: &[PeerName], pontoon: PathBuf) -> Result<Surroundings> {
    let packages = Packages::provide(cache, peers)?;
    let memory = SocketMemory::find()?;
    sandbox::enter()?;
    Ok(Surroundings {
        packages,
        memory,
        pontoon,
    })
}

fn exit_code(is_complete: bool) -> ExitCode {
    if is_complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
