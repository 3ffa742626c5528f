//! The keeper against a real kernel: sandbox, plugs, uplinks, and what is left afterwards.
//!
//! This program plays all parts. A test starts it again as keeper ([`keeper_part`]), which starts it
//! again as engine ([`engine_part`]), which carries a scenario out over the link.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod carrier;
mod engine;
mod plugs;
mod ports;
mod shortage;
mod uplinks;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use pontoon_engine::io::keeper::protocol::Event;
use pontoon_engine::io::keeper::{self, Program};
use pontoon_engine::io::netlink::{Netlink, Watch};

use carrier::{carried_by_root, carried_flows, interface_refused, interfaces_again};
use engine::Engine;
use plugs::{
    death, foreign, host_port, host_port_, many_deaths, plug_and_unplug, plug_and_unplug_,
    start_namespace, taken_name, unplug_all,
};
use ports::{many_ports, privileged_ports, taken_ports};
use shortage::{leftovers, leftovers_, short_engine, short_keeper, short_uplink};
use uplinks::{shared_uplink, shield, uplink_goes, uplink_named_carry, uplink_refused};

const SCENARIO: &str = "PONTOON_TEST_SCENARIO";
const NOBODY: &str = "65534";
const PATIENCE: Duration = Duration::from_secs(30);

/// As whom the keeper runs.
#[derive(Clone, Copy)]
enum As {
    /// Without any capability.
    Ordinary,
    /// As root of a network namespace.
    Administrator,
}

/// Runs a scenario in a keeper and an engine of its own.
fn run(scenario: &str, who: As) {
    let directory =
        env::temp_dir().join(format!("pontoon-keeper-{}-{scenario}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let program = directory.join("keeper-test");
    // Not by this process: what another test starts meanwhile would hold the copy open for writing
    // until it has become its own program, and nobody could execute the copy (ETXTBSY).
    let copied = Command::new("cp")
        .arg(env::current_exe().unwrap())
        .arg(&program)
        .status();
    assert!(copied.unwrap().success(), "cp {}", program.display());
    let root = nix::unistd::geteuid().is_root();
    let mut command = match who {
        As::Ordinary if root => wrapped(
            "setpriv",
            &["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"],
        ),
        As::Ordinary => Command::new("env"),
        As::Administrator if root => wrapped("unshare", &["--net", "--"]),
        As::Administrator => wrapped("unshare", &["--user", "--map-root-user", "--net", "--"]),
    };
    // The keeper has one thread; the test harness has another, which must not take its signals.
    command.args(["env", "--block-signal=TERM"]);
    command.arg(&program).args(part("keeper_part"));
    let output = command
        .env(SCENARIO, scenario)
        .current_dir("/")
        .output()
        .unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scenario}: {stdout}{stderr}");
    assert!(
        stdout.contains("1 passed"),
        "{scenario} did not run: {stdout}"
    );
}

fn wrapped(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn part(name: &str) -> [&str; 5] {
    [
        "--exact",
        name,
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]
}

macro_rules! scenarios {
    ($($test:ident: $scenario:ident as $who:ident;)*) => {
        $(#[test] fn $test() { run(stringify!($scenario), As::$who); })*

        #[test]
        #[ignore = "started by the other tests"]
        fn engine_part() {
            let scenario = env::var(SCENARIO).expect("started by another test");
            match scenario.as_str() {
                $(stringify!($scenario) => $scenario(&Engine::open()),)*
                _ => panic!("no scenario {scenario}"),
            }
        }
    };
}

scenarios! {
    a_namespace_is_plugged_and_unplugged: plug_and_unplug as Ordinary;
    a_namespace_is_plugged_and_unplugged_by_root: plug_and_unplug_ as Administrator;
    all_namespaces_are_unplugged_at_once: unplug_all as Ordinary;
    a_name_that_is_taken_is_refused_and_leaves_nothing: taken_name as Ordinary;
    a_namespace_of_another_user_namespace_gets_a_socket_of_its_own: foreign as Ordinary;
    a_namespace_without_rights_is_refused_with_the_reason: start_namespace as Ordinary;
    two_keepers_share_an_uplink: shared_uplink as Administrator;
    a_namespace_that_dies_is_told: death as Ordinary;
    namespaces_that_die_all_at_once_are_all_told: many_deaths as Ordinary;
    a_carried_flow_takes_no_engine: carried_flows as Ordinary;
    a_carried_flow_takes_no_engine_of_roots: carried_by_root as Administrator;
    interfaces_come_again_and_nothing_is_left: interfaces_again as Ordinary;
    an_interface_that_cannot_be_looked_at_is_refused: interface_refused as Ordinary;
    the_host_port_of_an_ordinary_user_is_apart: host_port as Ordinary;
    the_host_port_of_root_is_where_the_keeper_was_started: host_port_ as Administrator;
    an_uplink_that_goes_leaves_nothing_that_looks_at_it: uplink_goes as Administrator;
    an_uplink_has_the_name_of_a_chain: uplink_named_carry as Administrator;
    an_uplink_needs_rights: uplink_refused as Ordinary;
    the_shield_silences_the_kernel_only_where_nobody_listens: shield as Administrator;
    ports_that_take_a_right_are_bound_by_root: privileged_ports as Administrator;
    ports_are_bound_up_to_the_one_that_is_taken_whose_holder_is_told: taken_ports as Administrator;
    as_many_ports_are_bound_as_a_message_has_room_for: many_ports as Administrator;
    a_signal_is_told_to_the_engine: signal as Ordinary;
    a_keeper_that_is_short_of_files_refuses_and_goes_on: short_keeper as Ordinary;
    an_uplink_that_was_short_of_files_is_reached_the_next_time: short_uplink as Administrator;
    an_engine_that_is_short_of_files_keeps_its_keeper: short_engine as Ordinary;
    what_is_left_in_a_namespace_is_ended_and_nothing_else: leftovers as Ordinary;
    what_is_left_in_a_namespace_is_ended_by_root: leftovers_ as Administrator;
}

#[test]
#[ignore = "started by the other tests"]
fn keeper_part() {
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let links = || {
        let links = Netlink::open(Watch::Nothing).unwrap().links().unwrap();
        links.into_iter().map(|l| l.name).collect::<BTreeSet<_>>()
    };
    let (fds, names) = (open(), links());
    let engine = match env::var(SCENARIO).unwrap().as_str() {
        DEAF => deaf_engine(),
        _ => program(env::current_exe().unwrap(), &part("engine_part")),
    };
    let status = keeper::run(engine).unwrap();
    assert!(status.success(), "the engine's part failed");
    assert_eq!(open(), fds, "no descriptor is left");
    eventually("no interface is left", || links() == names);
}

const DEAF: &str = "deaf";

/// Ends while the keeper's word that it was told to end waits to be read.
fn deaf_engine() -> Program {
    program("sh".into(), &["-c", "kill -TERM $PPID; sleep 0.3"])
}

fn program(path: PathBuf, arguments: &[&str]) -> Program {
    Program {
        pause: env::temp_dir().join("pontoon-pause.json"),
        path,
        arguments: arguments.iter().map(Into::into).collect(),
        version: Vec::new(),
    }
}

#[test]
fn an_engine_that_ends_without_listening_is_an_end() {
    run(DEAF, As::Ordinary);
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn signal(engine: &Engine) {
    let keeper = nix::unistd::getppid();
    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGTERM).unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        match engine.events.recv_deadline(end) {
            Ok(Event::ShutDown) => return,
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
