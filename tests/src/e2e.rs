//! Real namespaces, real tools, Pontoon as a black box.
//!
//! A test re-executes itself under `unshare`, so that it has a network, mount and process namespace of
//! its own, and as an ordinary user a user namespace too. Inside it builds
//!
//! ```text
//! c1 c2 c3 (172.18.0.2–4) ── Pontoon, network 172.18.0.0/24 ── up0 192.0.2.1 ══ ext 192.0.2.254
//!                                                                                 lo: 198.51.100.10, .11
//! ```
//!
//! or, when the way out is the user uplink, the same with the host's own sockets in place of the wire
//! ([`Way`]), and after it checks that the engine is still the one that was started, has not grown, and leaves
//! nothing behind when it is told to end. A tool that is missing fails the test.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

mod aftermath;
pub mod containers;
pub mod figures;
mod kernel;
pub mod names;
pub mod process;
pub mod streams;
mod user;

pub use aftermath::leftovers;
pub use user::Ordinary;

const MARKER: &str = "PONTOON_E2E_INSIDE";
/// CPU that an idle engine may use in a second, in clock ticks of 10 ms.
const MAX_IDLE_TICKS: u64 = 3;
/// Growth of the engine that a test may cause, in KiB of resident memory.
const MAX_GROWTH: u64 = 8 << 10;

/// How long to wait for what comes soon.
const PATIENCE: Duration = Duration::from_secs(30);

/// Python program that captures what passes an interface. `tcpdump` and others change their identity
/// first, which an ordinary user's namespace does not allow.
const CAPTURE: &str = include_str!("e2e/capture.py");
/// Python module with what tests of the user uplink have in common.
const OUTWARD: &str = include_str!("e2e/outward.py");
/// Python module with sockets on the wire of every namespace.
const WIRE: &str = include_str!("e2e/wire.py");
/// Python module with ways to reach somebody.
const ISOLATION: &str = include_str!("e2e/isolation.py");
/// Python module with traffic across interfaces that come and go.
const LINKS: &str = include_str!("e2e/links.py");

/// Python module with traffic that the kernel carries.
const OFFLOAD: &str = include_str!("e2e/offload.py");

/// Declares tests that run in the laboratory.
#[macro_export]
macro_rules! laboratory_tests {
    (|$lab:ident| $($(#[$meta:meta])* fn $name:ident $body:block)*) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            $crate::e2e::laboratory(stringify!($name), $crate::e2e::Way::Device, |$lab| $body);
        }
    )*};
}

/// Declares tests that run in the laboratory whose containers speak through the host's own sockets.
#[macro_export]
macro_rules! user_laboratory_tests {
    (|$lab:ident| $($(#[$meta:meta])* fn $name:ident $body:block)*) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            $crate::e2e::laboratory(stringify!($name), $crate::e2e::Way::Sockets, |$lab| $body);
        }
    )*};
}

/// Declares tests that run in namespaces of their own, where they find nothing but tools. The engine that they
/// have started ends with them.
#[macro_export]
macro_rules! namespace_tests {
    ($($(#[$meta:meta])* fn $name:ident $body:block)*) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            $crate::e2e::namespaces(stringify!($name), || {
                $body
                $crate::e2e::run_pontoon("shutdown");
            });
        }
    )*};
}

/// How containers of the laboratory reach what is outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a packet socket on the host's interface.
    Device,
    /// By the host's own sockets. The host has two addresses.
    Sockets,
}

/// Runs `body` inside of the laboratory. `test` is the test's own name.
pub fn laboratory(test: &str, way: Way, body: fn(&Lab)) {
    if std::env::var(MARKER).as_deref() == Ok(test) {
        let lab = Lab::build(way);
        lab.expect_this_engine();
        body(&lab);
        lab.unmute();
        if way == Way::Sockets {
            lab.let_go();
        }
        lab.probe();
        lab.shut_down();
        return;
    }
    reexecute(test);
}

/// Runs `body` in namespaces of its own, without building anything.
pub fn namespaces(test: &str, body: fn()) {
    if std::env::var(MARKER).as_deref() == Ok(test) {
        prepare();
        body();
        return;
    }
    reexecute(test);
}

fn reexecute(test: &str) {
    let mut command = Command::new("unshare");
    if !nix_is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(std::env::current_exe().expect("own path"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARKER, test);
    let output = command.output().expect("unshare (util-linux) can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("1 passed"),
        "the test did not run inside:\n{text}"
    );
    // What it has measured, for those who want to see it (--nocapture).
    println!("{text}");
}

fn nix_is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

/// The binary under test: `PONTOON_BIN`, or the one that was built beside the test.
pub fn pontoon() -> PathBuf {
    let beside = || {
        let own = std::env::current_exe().ok()?;
        Some(own.parent()?.parent()?.join("pontoon"))
    };
    let path = std::env::var_os("PONTOON_BIN")
        .map(PathBuf::from)
        .or_else(beside);
    let path = path.expect("a path for the binary");
    assert!(
        path.exists(),
        "{} is missing: build it (cargo build) or set PONTOON_BIN",
        path.display()
    );
    path
}

/// Runs a shell command and returns its standard output; it must succeed.
pub fn sh(command: &str) -> String {
    let output = try_sh(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "`{command}` failed ({}):\n{text}{error}",
        output.status
    );
    text
}

/// Runs a shell command and returns whatever comes of it.
pub fn try_sh(command: &str) -> Output {
    Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .output()
        .expect("sh can be run")
}

fn prepare() {
    sh("mount -t tmpfs none /run && mkdir -p /run/netns /run/user && ip link set lo up");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions("/run/user", private).expect("own directory");
}

/// `pontoon` with these arguments; it must succeed.
pub fn run_pontoon(arguments: &str) -> String {
    sh(&format!("{} {arguments}", environment()))
}

/// What `pontoon` says to arguments that it has to refuse.
pub fn refused(arguments: &str) -> String {
    let output = try_sh(&format!("{} {arguments}", environment()));
    assert!(!output.status.success(), "{arguments} was accepted");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What precedes the arguments of `pontoon` in a shell.
pub fn environment() -> String {
    format!("XDG_RUNTIME_DIR=/run/user {}", pontoon().display())
}

/// A process in the background that ends with its handle.
pub struct Background(Child);

impl Background {
    /// Waits until it ends, and returns whether it did so well.
    pub fn wait(mut self) -> bool {
        self.0.wait().expect("own child").success()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The engine, as its process shows it.
#[derive(Clone, Debug)]
pub struct Engine {
    pid: u32,
    fds: usize,
    rss: u64,
}

/// The laboratory.
pub struct Lab {
    may_grow: Cell<u64>,
    /// The engine that is to be the one at the end.
    expected: RefCell<Option<Engine>>,
}

impl Lab {
    fn build(way: Way) -> Self {
        prepare();
        build_outside();
        let uplink = match way {
            Way::Device => "dev:up0",
            Way::Sockets => user::prepare_host(),
        };
        run_pontoon(&format!(
            "network create net --subnet 172.18.0.0/24 --uplink {uplink}"
        ));
        let lab = Self {
            may_grow: Cell::new(MAX_GROWTH),
            expected: RefCell::new(None),
        };
        for (ns, host) in [("c1", 2), ("c2", 3), ("c3", 4)] {
            lab.attach(ns, host, "");
        }
        lab
    }

    /// The engine that runs now must be the one at the end, and hardly larger.
    pub fn expect_this_engine(&self) {
        self.expected.replace(Some(self.engine()));
    }

    /// Lets the test leave the engine larger by so many KiB.
    pub fn may_grow(&self, kib: u64) {
        self.may_grow.set(kib);
    }

    /// Plugs a namespace in as 172.18.0.`host`.
    pub fn attach(&self, ns: &str, host: u8, options: &str) {
        let target = format!("--netns /run/netns/{ns} --name {ns} --network net");
        run_pontoon(&format!("attach {target} --ip 172.18.0.{host} {options}"));
    }

    /// Pulls a namespace out and plugs it in again with other options.
    pub fn reattach(&self, ns: &str, host: u8, options: &str) {
        run_pontoon(&format!("detach {ns}"));
        self.attach(ns, host, options);
    }

    /// Runs a command in a namespace; it must succeed.
    pub fn run(&self, ns: &str, command: &str) -> String {
        sh(&format!("ip netns exec {ns} sh -c '{command}'"))
    }

    /// Runs a command in a namespace and returns whatever comes of it.
    pub fn try_run(&self, ns: &str, command: &str) -> Output {
        try_sh(&format!("ip netns exec {ns} sh -c '{command}'"))
    }

    /// Starts a command in a namespace.
    pub fn spawn(&self, ns: &str, command: &str) -> Background {
        let mut child = Command::new("ip");
        child.args(["netns", "exec", ns, "sh", "-c", &format!("exec {command}")]);
        child
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Background(child.spawn().expect("ip (iproute2) can be run"))
    }

    /// Starts a server in a namespace and waits until it listens.
    pub fn serve(&self, ns: &str, command: &str, port: u16) -> Background {
        let server = self.spawn(ns, command);
        let listening = format!("ss -Hlntu | grep -q \":{port} \"");
        wait_for(|| self.try_run(ns, &listening).status.success(), command);
        server
    }

    /// Captures what passes an interface until the handle ends; the file is named by `name`.
    pub fn capture(&self, ns: &str, interface: &str, name: &str) -> Background {
        let file = format!("/run/{name}.pcap");
        fs::write("/run/capture.py", CAPTURE).expect("a writable /run");
        let capture = self.spawn(
            ns,
            &format!("/usr/bin/python3 /run/capture.py {interface} {file}"),
        );
        wait_for(
            || fs::metadata(&file).is_ok_and(|m| m.len() >= 24),
            "the capture to begin",
        );
        capture
    }

    /// What a capture holds that passes the filter, a line or more a packet.
    pub fn captured(&self, capture: Background, name: &str, filter: &str) -> String {
        let file = format!("/run/{name}.pcap");
        wait_for_quiet(&file);
        drop(capture);
        // tcpdump gives up root's identity, which a namespace with a single user refuses: it gets a
        // namespace in which it is somebody else.
        let tcpdump = "unshare --user --map-user=1000 tcpdump -n -e -vv -r -";
        sh(&format!("{tcpdump} '{filter}' < {file} 2>/dev/null"))
    }

    /// The hardware address of an interface.
    pub fn mac(&self, ns: &str, interface: &str) -> String {
        let link = if ns.is_empty() {
            "ip".to_owned()
        } else {
            format!("ip -n {ns}")
        };
        let text = sh(&format!("{link} -o link show {interface}"));
        let address = text
            .split("link/ether ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        address.expect("an Ethernet interface").to_owned()
    }

    /// Runs a Python program with scapy in a namespace; it must succeed.
    pub fn scapy(&self, ns: &str, program: &str) -> String {
        let path = format!("/run/{ns}-{}.py", std::process::id());
        let mut text = String::from(
            "import logging; logging.getLogger('scapy').setLevel(logging.CRITICAL)\n\
             from scapy.all import *\nconf.verb = 0\n",
        );
        text.write_str(program).expect("memory");
        fs::write(&path, text).expect("a writable /run");
        sh(&format!("ip netns exec {ns} /usr/bin/python3 {path}"))
    }

    /// Runs a Python program that uses the module `wire`, in the namespace of the laboratory; it must
    /// succeed, within five minutes. The program may be indented as a whole.
    pub fn wire(&self, program: &str) -> String {
        fs::write("/run/wire.py", WIRE).expect("a writable /run");
        let text = format!("from wire import *\n{}", dedent(program));
        fs::write("/run/program.py", text).expect("a writable /run");
        sh(&format!(
            "PONTOON='{}' timeout 300 /usr/bin/python3 /run/program.py",
            environment()
        ))
    }

    /// Runs a Python program that uses the module `isolation`; otherwise as [`Lab::wire`].
    pub fn isolation(&self, program: &str) -> String {
        fs::write("/run/isolation.py", ISOLATION).expect("a writable /run");
        self.wire(&format!("from isolation import *\n{}", dedent(program)))
    }

    /// Runs a Python program that uses the module `links`, and shows what it says; otherwise as [`Lab::wire`].
    pub fn links(&self, program: &str) {
        fs::write("/run/links.py", LINKS).expect("a writable /run");
        let program = format!("from links import *\n{}", dedent(program));
        println!("{}", self.wire(&program));
    }

    /// Runs a Python program that uses the module `offload`; otherwise as [`Lab::links`].
    pub fn offload(&self, program: &str) {
        fs::write("/run/offload.py", OFFLOAD).expect("a writable /run");
        self.links(&format!("from offload import *\n{}", dedent(program)));
    }

    /// Lets the kernel of a namespace hear no IPv4 any more; sockets on the wire still do.
    pub fn mute(&self, ns: &str) {
        let chain = "type filter hook prerouting priority -400; policy drop;";
        let ip = format!("ip netns exec {ns} nft add");
        sh(&format!(
            "{ip} table ip mute && {ip} chain ip mute in '{{ {chain} }}'"
        ));
    }

    /// Lets every kernel hear again.
    fn unmute(&self) {
        for ns in ["c1", "c2", "c3", "ext"] {
            // Most are not mute, and some are gone.
            try_sh(&format!("ip netns exec {ns} nft delete table ip mute"));
        }
    }

    /// How often frames were dropped for reasons whose name begins so.
    pub fn drops(&self, reason: &str) -> u64 {
        let stats = run_pontoon("stats --json");
        let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
        let drops = stats["drops"].as_array().expect("a list");
        let matching = drops
            .iter()
            .filter(|d| d[0].as_str().is_some_and(|n| n.starts_with(reason)));
        matching.filter_map(|d| d[1].as_u64()).sum()
    }

    /// The engine's process.
    pub fn engine(&self) -> Engine {
        let pid = process::engine();
        Engine {
            pid,
            fds: process::descriptors(pid),
            rss: process::rss(pid),
        }
    }

    /// The engine is still the same, has not grown, is idle, and works.
    fn probe(&self) {
        let before = self.expected.borrow().clone();
        let before = before.expect("an engine is expected");
        wait_for_with(
            || self.engine().fds <= before.fds + 5,
            || {
                format!(
                    "descriptors to be no more than {before:?}: {:?}",
                    self.engine()
                )
            },
        );
        let after = self.engine();
        assert_eq!(after.pid, before.pid, "the engine was replaced");
        assert!(
            after.rss <= before.rss + self.may_grow.get(),
            "memory grew: {before:?} → {after:?}"
        );
        self.run("c1", "ping -c1 -W10 192.0.2.254");
        wait_for_idle(after.pid);
        let log = fs::read_to_string("/run/user/pontoon/engine.log").unwrap_or_default();
        assert!(!log.contains("panicked"), "{log}");
    }

    /// Ends Pontoon, of which nothing may be left behind.
    fn shut_down(&self) {
        assert!(!leftovers().is_empty(), "a running engine is not noticed");
        run_pontoon("shutdown");
        wait_for_with(
            || leftovers().is_empty(),
            || format!("an end without leftovers: {:#?}", leftovers()),
        );
    }
}

/// The namespaces, and the network beyond the host.
fn build_outside() {
    for ns in ["c1", "c2", "c3", "ext"] {
        sh(&format!("ip netns add {ns} && ip -n {ns} link set lo up"));
    }
    sh(
        "ip link add up0 type veth peer name eth0 netns ext && ip addr add 192.0.2.1/24 dev up0 \
        && ip link set up0 up && ip route add default via 192.0.2.254",
    );
    sh(
        "ip -n ext addr add 192.0.2.254/24 dev eth0 && ip -n ext link set eth0 up \
        && ip -n ext addr add 198.51.100.10/32 dev lo && ip -n ext addr add 198.51.100.11/32 dev lo",
    );
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", aftermath::report());
        }
    }
}

/// Takes away what all lines are indented by.
fn dedent(text: &str) -> String {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    let common = lines().map(depth).min().unwrap_or(0);
    lines().fold(String::new(), |text, line| text + &line[common..] + "\n")
}

/// Waits for something that comes soon, or fails saying what did not.
pub fn wait_for(done: impl FnMut() -> bool, what: &str) {
    wait_for_with(done, || what.to_owned());
}

/// Waits until a second comes in which a process does nothing; one that spins has none.
pub fn wait_for_idle(pid: u32) {
    let idle = || {
        let before = process::cpu_ticks(pid);
        sleep(Duration::from_secs(1));
        process::cpu_ticks(pid) - before <= MAX_IDLE_TICKS
    };
    wait_for(idle, "a second in which the engine is idle");
}

/// Waits until nothing more is written to a file.
pub fn wait_for_quiet(file: &str) {
    let size = || fs::metadata(file).expect("a file").len();
    let mut last = size();
    let quiet = || {
        sleep(Duration::from_millis(300));
        let before = std::mem::replace(&mut last, size());
        before == last
    };
    wait_for(quiet, &format!("{file} to be whole"));
}

fn wait_for_with(mut done: impl FnMut() -> bool, what: impl Fn() -> String) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for: {}", what());
        sleep(Duration::from_millis(20));
    }
}
