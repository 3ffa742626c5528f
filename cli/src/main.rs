//! `pontoon`: containers' networks without root.
#![deny(unsafe_code)]

mod args;
mod client;
mod compose;
mod demo;
mod events;
mod inspect;
mod network;
mod options;
mod ports;
mod ps;
mod run;
mod show;
mod start;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use pontoon_engine::config::OffloadMode;
use pontoon_engine::control::api::{AttachSpec, Naming, RemoveMode, Reply, Request};
use pontoon_engine::control::labels;
use pontoon_engine::io::control::transport::{INSTANCE, OFFLOAD, runtime_directory};

use args::{Attach, Cli, Command, Listing};
use client::{Client, Failure};

/// Exit status of Pontoon's own errors in `run` and `exec`, as Docker's.
const OWN_ERROR: u8 = 125;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(name) = &cli.instance {
        hand_down(INSTANCE, name);
    }
    if let Some(mode) = cli.offload {
        hand_down(OFFLOAD, &mode.to_string());
    }
    if !matches!(cli.command, Command::Keeper { .. } | Command::Engine { .. }) {
        end_with_the_reader();
    }
    let own_error = match &cli.command {
        Command::Run(_) | Command::Exec(_) => OWN_ERROR,
        _ => 1,
    };
    match dispatch(cli.command, cli.offload.unwrap_or_default()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // The standard error of keeper and engine is a file, whose disk may be full.
            let _ = writeln!(std::io::stderr(), "pontoon: {error}");
            ExitCode::from(own_error)
        }
    }
}

/// A listing whose reader has gone ends quietly, as every filter does. Sockets are written with
/// `MSG_NOSIGNAL`, so an engine that has gone is still an error that is told.
#[allow(unsafe_code, reason = "a signal's disposition is the whole process's")]
fn end_with_the_reader() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default disposition runs no code of ours.
    let restored = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    debug_assert!(restored.is_ok());
}

/// Keeper and engine inherit which instance they are, and what they are told.
#[allow(unsafe_code, reason = "the environment is the whole process's")]
fn hand_down(name: &str, value: &str) {
    // SAFETY: this process has a single thread yet.
    unsafe { std::env::set_var(name, value) };
}

fn dispatch(command: Command, offload: OffloadMode) -> Result<u8, Failure> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Exec(args) => run::exec(&args),
        Command::Host(args) => run::host(&args),
        Command::Attach(args) => attach(args),
        Command::Detach { name } => act(Request::Detach { name }),
        Command::Ps(args) => ps::list(&Client::open()?, &args),
        Command::Stop { names, time } => each(names, |name| Request::Stop {
            name,
            seconds: time,
        }),
        Command::Rm { names, force } => {
            let mode = if force {
                RemoveMode::Force
            } else {
                RemoveMode::Stopped
            };
            each(names, |name| Request::Remove { name, mode })
        }
        Command::Publish(args) => ports::publish(args),
        Command::Unpublish(args) => act(Request::Unpublish {
            ports: args::publish(&args.ports)?,
            name: args.name,
        }),
        Command::Inspect { names, format } => {
            inspect::containers(&Client::open()?, names, format.as_deref())
        }
        Command::Port {
            name,
            port,
            listing,
        } => ports::port(name, port.as_deref(), &listing),
        Command::Network(command) => network::dispatch(command),
        Command::Fdb(listing) => show::fdb(&Client::open()?, &listing),
        Command::Arp(listing) => show::neighbours(&Client::open()?, &listing),
        Command::Flows(listing) => show::flows(&Client::open()?, &listing),
        Command::Stats(listing) => show::stats(&Client::open()?, &listing),
        Command::Events(listing) => events::watch(&listing),
        Command::Status(listing) => show::status(&Client::open_now()?, &listing),
        Command::Up(args) => compose::up(&args),
        Command::Down(args) => compose::down(&args),
        Command::Shutdown => start::shut_down(),
        Command::Upgrade { program } => start::upgrade(program),
        Command::Demo { inside: false } => demo::run(),
        Command::Demo { inside: true } => demo::inside(),
        Command::Keeper { leave } => start::keeper(leave),
        Command::Engine { protocol: true, .. } => Ok(start::engine_protocol()),
        Command::Engine { leave, .. } => start::engine(leave, offload),
    }
}

fn attach(args: Attach) -> Result<u8, Failure> {
    let path = match (&args.netns, args.pid) {
        (Some(path), _) => path.clone(),
        (None, Some(pid)) => format!("/proc/{pid}/ns/net").into(),
        (None, None) => return Err(Failure::own("attach", "give --netns PATH or --pid PID")),
    };
    let target = std::fs::File::open(&path)
        .map_err(|error| Failure::own(&format!("network namespace {}", path.display()), error))?;
    if !is_network_namespace(&target) {
        return Err(Failure::own(
            &path.display().to_string(),
            "not a network namespace",
        ));
    }
    let client = start::engine_for_container()?;
    let (mode, networks) = args.join.places(args.ifname)?;
    let spec = AttachSpec {
        name: Some(args.name),
        mode,
        networks,
        publish: args::publish(&args.join.publish)?,
        command: String::new(),
        pid: None,
        monitor: None,
        remove: true,
        unguarded: args.join.no_guard,
        naming: Naming {
            hostname: None,
            servers: args.join.dns,
        },
        labels: labels::parse(&args.join.label)?,
    };
    let fds = [std::os::fd::AsFd::as_fd(&target)];
    let (reply, _) = client.exchange(&Request::Attach(spec), &fds)?;
    let Reply::Container(container) = reply else {
        return Err(Failure::unexpected());
    };
    println!("{}", container.id);
    Ok(0)
}

/// `NS_GET_NSTYPE` of ioctl_ns(2).
#[allow(unsafe_code, reason = "the ioctl has no wrapper")]
fn is_network_namespace(file: &std::fs::File) -> bool {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the descriptor is open; the call takes no pointer.
    let kind = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(file), NS_GET_NSTYPE) };
    kind == libc::CLONE_NEWNET
}

fn act(request: Request) -> Result<u8, Failure> {
    Client::open()?.ask(&request)?;
    Ok(0)
}

/// Does the same to several things, goes on after an error, and prints the names of those that worked.
fn each(names: Vec<String>, request: impl Fn(String) -> Request) -> Result<u8, Failure> {
    let client = Client::open()?;
    let mut code = 0;
    for name in names {
        match client.ask(&request(name.clone())) {
            Ok(_) => println!("{name}"),
            Err(error) => {
                eprintln!("pontoon: {error}");
                code = 1;
            }
        }
    }
    Ok(code)
}

/// Whether a listing is for machines.
fn is_json(listing: &Listing) -> bool {
    listing.json
}

/// The engine's directory, for messages.
fn directory() -> String {
    runtime_directory().display().to_string()
}
