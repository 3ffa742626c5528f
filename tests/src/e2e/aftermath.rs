//! What is to be seen after a test: the state of the engine when it failed, and what is left behind
//! when it has ended.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::{environment, try_sh};

/// Tables and log of the engine, for whoever has to find out why a test failed.
pub(super) fn report() -> String {
    let mut text = String::from("── the laboratory when the test failed\n");
    for listing in ["status", "fdb", "arp", "flows", "stats"] {
        let output = try_sh(&format!(
            "timeout 5 env {} {listing} 2>&1 | head -50",
            environment()
        ));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let _ = writeln!(text, "── pontoon {listing}\n{said}");
    }
    let log = fs::read_to_string("/run/user/pontoon/engine.log");
    let log = log.unwrap_or_else(|error| error.to_string());
    let _ = writeln!(text, "── engine.log\n{log}");
    text
}

/// Processes, namespaces, interfaces, sockets and filters that Pontoon has made and that are there.
pub fn leftovers() -> Vec<String> {
    let mut found = processes();
    found.extend(lines(
        "ip netns exec c1 ip netns list-id",
        "namespace of c1's peer",
    ));
    found.extend(lines(
        "ip -o link show type veth | grep -v up0",
        "interface",
    ));
    found.extend(lines("ip -n c1 -o link show type veth", "interface in c1"));
    found.extend(lines("nft list tables", "filter"));
    found.extend(lines(
        "grep nsfs /proc/self/mountinfo | grep -v /run/netns/",
        "mount",
    ));
    if Path::new("/run/user/pontoon/api.sock").exists() {
        found.push("socket: /run/user/pontoon/api.sock".to_owned());
    }
    found
}

fn lines(command: &str, kind: &str) -> Vec<String> {
    let output = try_sh(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| format!("{kind}: {line}")).collect()
}

/// Processes of the laboratory's process namespace that bear the product's name and live.
fn processes() -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    entries
        .filter_map(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let lives = !stat.contains(") Z ");
            (lives && stat.contains("(pontoon")).then(|| format!("process: {stat:.60}"))
        })
        .collect()
}
