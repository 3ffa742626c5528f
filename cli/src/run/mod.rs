//! `run`, `exec` and `host`: commands in namespaces.
//!
//! `run` is two processes. The *monitor* stays where the user is: it asks the engine to plug the
//! container in, passes signals on, waits, and reports. The *first process* enters the sandbox's user
//! namespace, makes its own namespaces inside of it, hands its network namespace to the monitor, waits
//! until it is plugged in, and becomes the command.
//!
//! `exec` is two processes as well, so that its command ends with the container.
//!
//! The monitor is a child subreaper: when the command ends, whatever it left behind is ended too, and
//! with the last process the namespace goes.

mod exec;
mod files;
mod first;
mod monitor;
mod sysfs;
mod watch;

use std::ffi::CString;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use pontoon_engine::control::api::{AttachSpec, Naming, NetworkMode, Reply, Request};
use pontoon_engine::control::labels;
use pontoon_engine::io::control::transport::{INSTANCE, OFFLOAD};
use pontoon_engine::io::namespace::{Inside, enter};

use crate::args::{Host, Run, publish};
use crate::client::{Client, Failure};
use crate::start;
pub(crate) use exec::exec;

/// The command cannot be executed; Docker's and every shell's exit status for it.
const CANNOT_EXECUTE: u8 = 126;
/// The command does not exist.
const NOT_FOUND: u8 = 127;

/// What stands for the host's address in `--add-host`, as in Docker: that of its loopback where it is
/// open, else the gateway's.
const HOST_GATEWAY: &str = "host-gateway";

/// What the first process is to become.
struct Becoming {
    command: Vec<String>,
    environment: Vec<(String, String)>,
    workdir: Option<std::path::PathBuf>,
    add_host: Vec<(String, String)>,
    resolver: files::Resolver,
}

/// `run`.
pub(crate) fn run(args: Run) -> Result<u8, Failure> {
    if args.detach {
        start::close_inherited()?;
        let (id, _) = in_background(args)?;
        println!("{id}");
        return Ok(0);
    }
    let (spec, becoming) = read(args)?;
    monitor::in_foreground(start::engine_for_container()?, spec, &becoming)
}

/// Runs a container in the background. Returns its id, and its log, open to be read.
pub(crate) fn in_background(args: Run) -> Result<(String, File), Failure> {
    let (spec, becoming) = read(args)?;
    monitor::in_background(start::engine_for_container()?, spec, &becoming)
}

/// What the arguments of `run` ask for.
fn read(args: Run) -> Result<(AttachSpec, Becoming), Failure> {
    let becoming = Becoming {
        environment: pairs("--env", &args.env, '=')?,
        add_host: hosts(&args.add_host)?,
        resolver: files::Resolver {
            servers: args.join.dns.clone(),
            search: words("--dns-search", args.dns_search)?,
            options: words("--dns-option", args.dns_option)?,
        },
        workdir: args.workdir,
        command: args.command,
    };
    let (mode, networks) = args.join.places(None)?;
    if mode != NetworkMode::Own && !becoming.add_host.is_empty() {
        let what = "conflicting options: custom host-to-IP mapping and the network mode.";
        return Err(Failure::plain(what));
    }
    let spec = AttachSpec {
        name: args.name,
        mode,
        networks,
        publish: publish(&args.join.publish)?,
        command: becoming.command.join(" "),
        pid: None,
        monitor: None,
        remove: args.rm,
        unguarded: args.join.no_guard,
        naming: Naming {
            hostname: args.hostname,
            servers: args.join.dns,
        },
        labels: labels::parse(&args.join.label)?,
    };
    Ok((spec, becoming))
}

/// `host`.
pub(crate) fn host(args: &Host) -> Result<u8, Failure> {
    let client = Client::open()?;
    let (reply, fds) = client.exchange(&Request::Namespaces, &[])?;
    let Reply::Namespaces { unprivileged } = reply else {
        return Err(Failure::unexpected());
    };
    if unprivileged {
        let [user, net] = &fds[..] else {
            return Err(Failure::unexpected());
        };
        enter(Inside {
            user: Some(user.as_fd()),
            net: Some(net.as_fd()),
        })?;
    }
    Ok(become_command(&args.command, |_| {}))
}

/// Replaces this process by a container's command, in the user's environment but for what is Pontoon's
/// own there; returns only the exit status for its failure.
fn become_contained(command: &[String], environment: &[(String, String)]) -> u8 {
    become_command(command, |next| {
        let asked_for = environment.iter().map(|(name, value)| (name, value));
        next.env_remove(INSTANCE).env_remove(OFFLOAD);
        next.envs(asked_for);
    })
}

/// Replaces this process by a command; returns only the exit status for its failure.
fn become_command(command: &[String], settle: impl FnOnce(&mut Command)) -> u8 {
    let Some((program, arguments)) = command.split_first() else {
        return NOT_FOUND;
    };
    let mut next = Command::new(program);
    next.args(arguments);
    settle(&mut next);
    let error = next.exec();
    eprintln!("pontoon: exec {}: {error}", program.escape_default());
    if error.kind() == std::io::ErrorKind::NotFound {
        NOT_FOUND
    } else {
        CANNOT_EXECUTE
    }
}

/// Reads `--add-host` arguments.
fn hosts(texts: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let hosts = pairs("--add-host", texts, ':')?;
    for (name, address) in &hosts {
        let known = address == HOST_GATEWAY || address.parse::<IpAddr>().is_ok();
        if !known || name.contains(char::is_whitespace) {
            let shown = format!("{}:{}", name.escape_default(), address.escape_default());
            let why = format!("{shown}: expected NAME:ADDRESS or NAME:{HOST_GATEWAY}");
            return Err(Failure::own("--add-host", why));
        }
    }
    Ok(hosts)
}

/// Checks what becomes words of a line in a file.
fn words(field: &str, words: Vec<String>) -> Result<Vec<String>, Failure> {
    let is_word = |word: &&String| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic());
    match words.iter().find(|word| !is_word(word)) {
        None => Ok(words),
        Some(other) => {
            let why = format!("{}: expected one word of ASCII", other.escape_default());
            Err(Failure::own(field, why))
        }
    }
}

/// Splits `NAME=VALUE` arguments.
fn pairs(field: &str, texts: &[String], at: char) -> Result<Vec<(String, String)>, Failure> {
    let split = |text: &String| match text.split_once(at) {
        Some((name, value)) if !name.is_empty() && CString::new(text.as_str()).is_ok() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(Failure::own(
            field,
            format!("{}: expected NAME{at}VALUE", text.escape_default()),
        )),
    };
    texts.iter().map(split).collect()
}
