//! What tests of names have in common: a host whose resolver is the test's own, and containers that ask.

use std::fs;
use std::process::{Child, Command, Stdio};

use super::{run_pontoon, sh, try_sh, wait_for};

const UPSTREAM: &str = include_str!("upstream.py");
/// Whom the host asks.
pub const RESOLVER: &str = "127.0.0.53";
/// What the host's resolver says `www` is.
pub const WWW: &str = "203.0.113.80";
/// A query that waits as long as the name server may take.
pub const DIG: &str = "dig +tries=1 +time=9";

/// A program in the background that ends with its handle.
#[derive(Debug)]
pub struct Program(Child);

impl Program {
    /// Starts a Python program.
    pub fn start(name: &str, text: &str, arguments: &[&str]) -> Self {
        let path = format!("/run/{name}.py");
        fs::write(&path, text).expect("a writable /run");
        let mut program = Command::new("/usr/bin/python3");
        program.arg(path).args(arguments).stdin(Stdio::null());
        Self(program.spawn().expect("python3"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A name server, and what it was asked.
#[derive(Debug)]
pub struct Upstream {
    log: String,
    _program: Program,
}

impl Upstream {
    /// Serves at an address, and says that `www` is `answer`.
    pub fn start(address: &str, answer: &str) -> Self {
        let log = format!("/run/{address}.log");
        let program = Program::start("upstream", UPSTREAM, &[address, &log, answer]);
        wait_for(
            || fs::read_to_string(&log).is_ok_and(|log| log.starts_with("ready\n")),
            "the upstream to listen",
        );
        Self {
            log,
            _program: program,
        }
    }

    /// Transport, name, id and port of each query.
    pub fn asked(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).expect("its log");
        log.lines().skip(1).map(str::to_owned).collect()
    }
}

/// Lets the test write `/etc`, and names the host's resolver there.
pub fn host_that_asks(servers: &[&str]) {
    // What an ordinary user cannot read is not needed.
    try_sh("mkdir /run/etc && cp -a /etc/. /run/etc/");
    sh("mount --bind /run/etc /etc");
    name_servers(servers);
}

/// Names the host's resolvers.
pub fn name_servers(servers: &[&str]) {
    fs::write("/etc/resolv.conf", resolv_conf(servers)).expect("a writable /etc");
}

/// A `resolv.conf` that names these servers.
pub fn resolv_conf(servers: &[&str]) -> String {
    let lines = servers.iter().map(|s| format!("nameserver {s}\n"));
    lines.collect::<String>() + "search lan.example\noptions timeout:9\n"
}

/// Runs a script in a container of its own.
pub fn inside(options: &str, script: &str) -> String {
    run_pontoon(&format!("run --rm {options} -- sh -c '{script}'"))
}

/// A container that does nothing for a minute.
pub fn container(name: &str, options: &str) {
    run_pontoon(&format!("run -d --name {name} {options} -- sleep 60"));
}

/// Ends Pontoon, whose engine must not have panicked.
pub fn shut_down() {
    let log = fs::read_to_string("/run/user/pontoon/engine.log").expect("the engine's log");
    assert!(!log.contains("panicked"), "{log}");
    run_pontoon("shutdown");
}

/// Networks `app`, 172.18.0.0/24, and `vault`, which is internal, with the host's resolver.
pub fn networks() -> Upstream {
    let upstream = Upstream::start(RESOLVER, WWW);
    host_that_asks(&[RESOLVER]);
    run_pontoon("network create app --uplink user --subnet 172.18.0.0/24");
    run_pontoon("network create vault --uplink none --subnet 172.19.0.0/24");
    upstream
}

/// Declares tests in namespaces of their own, at whose end Pontoon is ended.
#[macro_export]
macro_rules! names_tests {
    ($($(#[$meta:meta])* fn $name:ident $body:block)*) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            $crate::e2e::namespaces(stringify!($name), || {
                $body;
                $crate::e2e::names::shut_down();
            });
        }
    )*};
}
