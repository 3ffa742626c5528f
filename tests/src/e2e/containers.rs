//! What tests of containers have in common: how they are looked at, and commands inside of them.

use serde_json::Value;

use super::{environment, run_pontoon, try_sh, wait_for};

/// A container as `ps --json` shows it.
pub fn shown(name: &str) -> Value {
    let all: Value = serde_json::from_str(&run_pontoon("ps -a --json")).expect("JSON");
    let all = all.as_array().expect("a list");
    let own = all.iter().find(|c| c["name"] == name);
    own.unwrap_or_else(|| panic!("no {name} in {all:?}"))
        .clone()
}

/// What a command in a container says; it must succeed.
pub fn exec(name: &str, command: &str) -> String {
    run_pontoon(&format!("exec {name} -- sh -c '{command}'"))
}

/// Whether a command in a container succeeds.
pub fn succeeds(name: &str, command: &str) -> bool {
    let command = format!("{} exec {name} -- sh -c '{command}'", environment());
    try_sh(&command).status.success()
}

/// The line with which `pontoon` refuses.
pub fn refused(arguments: &str) -> String {
    let output = try_sh(&format!("{} {arguments}", environment()));
    assert!(!output.status.success(), "{arguments} was accepted");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A web server in a container, that listens.
pub fn web(name: &str, options: &str) {
    run_pontoon(&format!(
        "run -d --name {name} {options} -- python3 -m http.server 80"
    ));
    wait_for(
        || succeeds(name, "ss -Hlnt | grep -q :80"),
        "the web server",
    );
}
