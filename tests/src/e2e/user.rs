//! What only the laboratory has whose containers speak through the host's own sockets.

use std::fs;
use std::process::{Command, Output, Stdio};

use super::{Background, Lab, OUTWARD, dedent, environment, pontoon, sh, try_sh};

/// Gives the host a second address. Returns the name of the uplink.
pub(super) fn prepare_host() -> &'static str {
    sh("ip addr add 192.0.2.2/24 dev up0");
    "user"
}

impl Lab {
    /// Takes every container out, with all that it holds of the engine, and plugs one in again.
    pub(super) fn let_go(&self) {
        for ns in ["c1", "c2", "c3"] {
            // A test may have taken some out.
            try_sh(&format!("{} detach {ns}", environment()));
        }
        self.attach("c1", 2, "");
        self.allow_pings();
    }

    /// Lets the host's users send pings, which a new namespace does not.
    pub fn allow_pings(&self) {
        sh("sysctl -qw net.ipv4.ping_group_range='0 0'");
    }

    /// Runs a Python program that uses the module `outward`; otherwise as [`Lab::wire`].
    pub fn outward(&self, program: &str) -> String {
        fs::write("/run/outward.py", OUTWARD).expect("a writable /run");
        self.wire(&format!(
            "from outward import *\n{}\nfinish()\n",
            dedent(program)
        ))
    }
}

/// Somebody without any right over the host's network: another user, in a user namespace of its own.
#[derive(Debug)]
pub struct Ordinary(());

impl Ordinary {
    /// The user, with a runtime directory.
    #[expect(
        clippy::new_without_default,
        reason = "it makes a directory, which a default should not"
    )]
    pub fn new() -> Self {
        sh("mkdir -p -m 0700 /run/ordinary");
        Self(())
    }

    /// Runs a shell script that finds Pontoon as `$PONTOON`, and returns whatever comes of it.
    pub fn try_run(&self, script: &str) -> Output {
        self.command(script).output().expect("unshare can be run")
    }

    /// Runs a shell script; it must succeed.
    pub fn run(&self, script: &str) -> String {
        let output = self.try_run(script);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{script}`:\n{text}{error}");
        text
    }

    /// Starts a shell script whose output goes to `/run/ordinary/log`.
    pub fn spawn(&self, script: &str) -> Background {
        let log = fs::File::create("/run/ordinary/log").expect("a writable /run");
        let copy = log.try_clone().expect("a descriptor");
        let mut command = self.command(script);
        command.stdout(log).stderr(copy);
        Background(command.spawn().expect("unshare can be run"))
    }

    /// What the script has said that was started last.
    pub fn log(&self) -> String {
        fs::read_to_string("/run/ordinary/log").expect("a script that was started")
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-user=1000", "--map-group=1000"])
            .args(["sh", "-c", script])
            .env("PONTOON", pontoon())
            .env("XDG_RUNTIME_DIR", "/run/ordinary")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        // A test that failed may have left its engine.
        let _ = self.try_run("$PONTOON shutdown");
    }
}
