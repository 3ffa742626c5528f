//! End to end: the command line as the user who runs the test, without any namespace prepared.

use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pontoon_tests::e2e::{pontoon, wait_for};

/// A user with an empty runtime directory, and Pontoon's processes in it.
struct User {
    directory: std::path::PathBuf,
}

impl User {
    fn new(test: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("pt-{test}-{}", std::process::id()));
        std::fs::create_dir(&directory).expect("a fresh directory");
        Self { directory }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(pontoon());
        command
            .args(arguments)
            .env("XDG_RUNTIME_DIR", &self.directory)
            .stdin(Stdio::null());
        command
    }

    /// A shell that finds Pontoon as `$PONTOON`.
    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .env("PONTOON", pontoon())
            .env("XDG_RUNTIME_DIR", &self.directory)
            .stdin(Stdio::null());
        command
    }

    fn try_run(&self, arguments: &[&str]) -> Output {
        self.command(arguments)
            .output()
            .expect("pontoon can be run")
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{arguments:?} ({}): {text}{error}",
            output.status
        );
        text
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        assert!(!output.status.success(), "{arguments:?} was accepted");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn processes(&self) -> Vec<String> {
        let marker = format!("XDG_RUNTIME_DIR={}\0", self.directory.display());
        let entries = std::fs::read_dir("/proc")
            .expect("/proc is mounted")
            .flatten();
        entries
            .filter(|entry| {
                let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
                let environment = [&environment[..], b"\0"].concat();
                String::from_utf8_lossy(&environment).contains(&marker)
            })
            .filter(|entry| {
                let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                !stat.contains(") Z ")
            })
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
            .collect()
    }
}

/// Clients that connect and ask for nothing.
struct Silent(Child);

impl Silent {
    fn connect(user: &User, count: usize) -> Self {
        const CONNECT: &str = "import socket, sys\n\
            all = []\n\
            for _ in range(int(sys.argv[2])):\n    \
                s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)\n    \
                s.connect(sys.argv[1])\n    \
                all.append(s)\n\
            print('connected', flush=True)\n\
            sys.stdin.read()";
        let mut program = Command::new("/usr/bin/python3");
        program
            .args(["-c", CONNECT])
            .arg(user.directory.join("pontoon/api.sock"))
            .arg(count.to_string());
        let mut child = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = [0; 10];
        let stdout = child.stdout.as_mut().expect("piped");
        std::io::Read::read_exact(stdout, &mut line).expect("all connect");
        Self(child)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // A test that failed may have left its engine.
        let _ = self.try_run(&["shutdown"]);
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn labels_are_kept_and_shown() {
    let user = User::new("labels");
    user.run(&["network", "create", "net", "--label", "made-by=me"]);
    let labels = ["--label", "tier=front", "-l", "plain"];
    let run = ["run", "-d", "--name", "c1", "--network", "net"];
    user.run(&[&run[..], &labels, &["sleep", "60"]].concat());
    let shown = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&user.run(arguments)).expect("JSON")
    };
    let network = &shown(&["network", "inspect", "net"])[0];
    assert_eq!(network["Labels"]["made-by"], "me");
    let container = &shown(&["ps", "--json"])[0];
    assert_eq!(container["labels"]["tier"], "front");
    assert_eq!(container["labels"]["plain"], "");
    let error = user.refused(&["run", "-l", "=x", "true"]);
    assert!(error.contains("--label: invalid label"), "{error}");
}

#[test]
fn exit_status_and_output_pass_through_and_everything_goes_afterwards() {
    let user = User::new("status");
    let output = user.try_run(&["run", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(
        (&output.stdout[..], &output.stderr[..]),
        (&b"out\n"[..], &b"err\n"[..])
    );
    let killed = user.try_run(&["run", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(137));
    assert_eq!(
        user.try_run(&["run", "--", "/no/such/program"])
            .status
            .code(),
        Some(127)
    );
    assert_eq!(
        user.try_run(&["run", "--", "/etc/hosts"]).status.code(),
        Some(126)
    );
    assert_eq!(
        user.try_run(&["run", "--network", "nosuch", "--", "true"])
            .status
            .code(),
        Some(125)
    );
    wait_for(
        || user.processes().is_empty(),
        "the engine to leave with its last container",
    );
}

#[test]
fn a_container_has_its_own_network_and_the_users_files() {
    let user = User::new("own");
    let script = "ip -4 -br addr show eth0; ip route; cat /etc/hosts; cat /sys/class/net/eth0/address \
                  2>/dev/null || ip link show eth0; pwd; ping -c1 -W2 172.17.0.1";
    let text = user.run(&[
        "run",
        "--name",
        "box",
        "--ip",
        "172.17.0.9",
        "--",
        "sh",
        "-c",
        script,
    ]);
    for part in [
        "172.17.0.9/16",
        "default via 172.17.0.1",
        "172.17.0.9\tbox",
        "1 received",
    ] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    let here = std::env::current_dir().expect("a directory");
    assert!(text.contains(&here.display().to_string()), "{text}");
}

/// The kernel's list of interfaces is the container's, and the control groups are still where programs look.
#[test]
fn sys_shows_the_containers_own_interfaces() {
    let user = User::new("sysfs");
    user.run(&["run", "-d", "--name", "box", "--", "sleep", "60"]);
    let script = "ls /sys/class/net; ls /sys/fs/cgroup";
    let groups = user.shell("ls /sys/fs/cgroup").output().expect("sh");
    let groups = String::from_utf8(groups.stdout).expect("names");
    let expected = format!("eth0\nlo\n{groups}");
    let shared = ["run", "--rm", "--network", "container:box"];
    for inside in [&["run", "--rm"][..], &["exec", "box"], &shared] {
        let command = [inside, &["--", "sh", "-c", script]].concat();
        assert_eq!(user.run(&command), expected, "{inside:?}");
    }
    let alone = [
        "run",
        "--rm",
        "--network",
        "none",
        "--",
        "ls",
        "/sys/class/net",
    ];
    assert_eq!(user.run(&alone), "lo\n");
    user.run(&["shutdown"]);
}

/// Which engine a container is on is no part of its environment, however it was said.
#[test]
fn a_container_inherits_the_users_environment_and_none_of_pontoons() {
    let user = User::new("environment");
    let script = "echo ${PONTOON_INSTANCE-unset} $KEPT";
    let run = |arguments: &[&str]| {
        let mut command = user.command(&[arguments, &["--", "sh", "-c", script]].concat());
        let output = command.env("KEPT", "kept").output().expect("pontoon");
        String::from_utf8(output.stdout).expect("text")
    };
    let on = |arguments: &[&str]| run(&[&["--instance", "other"], arguments].concat());
    user.run(&[
        "--instance",
        "other",
        "run",
        "-d",
        "--name",
        "box",
        "sleep",
        "60",
    ]);
    assert_eq!(on(&["run", "--rm"]), "unset kept\n");
    assert_eq!(on(&["exec", "box"]), "unset kept\n");
    let asked = on(&["run", "--rm", "-e", "PONTOON_INSTANCE=mine"]);
    assert_eq!(asked, "mine kept\n");
    user.run(&["--instance", "other", "shutdown"]);
}

#[test]
fn two_containers_reach_each_other_and_exec_enters_one() {
    let user = User::new("two");
    user.run(&["run", "-d", "--name", "one", "--", "sleep", "60"]);
    let text = user.run(&["run", "--", "ping", "-c2", "-i0.2", "-W2", "172.17.0.2"]);
    assert!(text.contains("2 received"), "{text}");
    assert!(
        user.run(&["exec", "one", "--", "ip", "-br", "addr"])
            .contains("172.17.0.2")
    );
    assert_eq!(
        user.try_run(&["exec", "one", "--", "sh", "-c", "exit 5"])
            .status
            .code(),
        Some(5)
    );
    let ps = user.run(&["ps"]);
    assert!(ps.contains("one") && ps.contains("Up "), "{ps}");
    user.run(&["stop", "-t", "5", "one"]);
    wait_for(|| user.processes().is_empty(), "everything to end");
}

#[test]
fn signals_reach_the_command_once() {
    let user = User::new("signals");
    let script = "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = user
        .command(&["run", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("pontoon can be run");
    let mut stdout = child.stdout.take().expect("piped");
    let mut ready = [0; 6];
    std::io::Read::read_exact(&mut stdout, &mut ready).expect("a line");
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill")
            .success()
    );
    let status = child.wait().expect("own child");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut text).expect("text");
    assert_eq!((status.code(), text.as_str()), (Some(3), "got\n"));
}

#[test]
fn what_a_command_leaves_behind_ends_with_it() {
    let user = User::new("orphans");
    user.run(&["run", "--", "sh", "-c", "setsid sleep 1000 & sleep 0.1"]);
    wait_for(
        || user.processes().is_empty(),
        "the orphan and the engine to end",
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of what is refused")]
fn names_addresses_and_ports_are_checked() {
    let user = User::new("bad");
    user.run(&[
        "network",
        "create",
        "lab",
        "--subnet",
        "10.99.0.0/24",
        "--uplink",
        "none",
    ]);
    user.run(&[
        "run",
        "-d",
        "--name",
        "one",
        "--network",
        "lab",
        "--",
        "sleep",
        "60",
    ]);
    let long = "x".repeat(4096);
    let cases: &[(&[&str], &str)] = &[
        (&["run", "--name", "one", "--", "true"], "already in use"),
        (&["run", "--name", "../x", "--", "true"], "invalid name"),
        (&["run", "--name", &long, "--", "true"], "invalid name"),
        (
            &["run", "--network", "lab", "--ip", "10.98.0.1", "--", "true"],
            "not in the network's subnet",
        ),
        (
            &["run", "--network", "lab", "--ip", "10.99.0.1", "--", "true"],
            "already in use",
        ),
        (
            &[
                "run",
                "--network",
                "lab",
                "--mac-address",
                "01:00:00:00:00:01",
                "--",
                "true",
            ],
            "not a single",
        ),
        (
            &["run", "--network", "lab", "-p", "8080:80", "--", "true"],
            "network lab has no uplink",
        ),
        (
            &["run", "-p", "65536:80", "--", "true"],
            "Invalid hostPort: 65536",
        ),
        (
            &["run", "-p", "8080-80", "--", "true"],
            "Invalid containerPort",
        ),
        (
            &["run", "--add-host", "x:notanip", "--", "true"],
            "expected NAME:ADDRESS",
        ),
        (
            &["run", "--add-host", "x\ny:192.0.2.1", "--", "true"],
            "expected NAME:ADDRESS",
        ),
        (&["network", "create", "lab"], "already exists"),
        (
            &["network", "create", "a", "--subnet", "10.99.0.0/25"],
            "overlaps",
        ),
        (
            &["network", "create", "a", "--subnet", "10.98.0.1/24"],
            "host bits",
        ),
        (
            &["network", "create", "a", "--subnet", "10.98.0.0/31"],
            "prefix length",
        ),
        (
            &[
                "network",
                "create",
                "a",
                "--subnet",
                "10.98.0.0/24",
                "--gateway",
                "10.97.0.1",
            ],
            "not in the subnet",
        ),
        (
            &["network", "create", "a", "--mtu", "100"],
            "must be from 576",
        ),
        (
            &["network", "create", "a", "--uplink", "eth0"],
            "expected user, dev:INTERFACE or none",
        ),
        (&["network", "rm", "lab"], "active endpoints"),
        (&["network", "rm", "bridge"], "pre-defined"),
        (&["rm", "one"], "running container"),
        (&["rm", "nosuch"], "No such container"),
        (&["exec", "nosuch", "--", "true"], "No such container"),
    ];
    for (arguments, expected) in cases {
        let error = user.refused(arguments);
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "one line: {error}");
    }
    assert_eq!(
        user.run(&["ps", "-a", "-q"]).lines().count(),
        1,
        "nothing half done is left"
    );
    user.run(&["rm", "-f", "one"]);
    user.run(&["network", "rm", "lab"]);
    user.run(&["shutdown"]);
    wait_for(|| user.processes().is_empty(), "everything to end");
}

#[test]
fn a_namespace_that_somebody_else_made_is_plugged_in_and_its_death_noticed() {
    let user = User::new("attach");
    let mut foreign = Command::new("unshare");
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    foreign.args(if root {
        &["-n"][..]
    } else {
        &["-U", "-r", "-n"][..]
    });
    let mut holder = foreign
        .args(["sleep", "60"])
        .spawn()
        .expect("unshare (util-linux)");
    let pid = holder.id().to_string();
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    wait_for(
        || namespace(&pid).is_some_and(|there| Some(there) != namespace("self")),
        "the namespace",
    );
    user.run(&[
        "attach",
        "--pid",
        &pid,
        "--name",
        "foreign",
        "--ip",
        "172.17.0.50",
    ]);
    let text = user.run(&["run", "--", "ping", "-c2", "-i0.2", "-W2", "172.17.0.50"]);
    assert!(text.contains("2 received"), "{text}");
    assert!(user.run(&["ps"]).contains("Attached"));
    let again = user.refused(&["attach", "--pid", &pid, "--name", "twice"]);
    assert!(again.contains("exists already"), "{again}");
    holder.kill().expect("own child");
    holder.wait().expect("own child");
    wait_for(
        || user.processes().is_empty(),
        "the engine to leave with its last container",
    );
}

#[test]
fn the_host_has_a_place_on_the_network() {
    let user = User::new("host");
    user.run(&[
        "network",
        "create",
        "lab",
        "--subnet",
        "10.96.0.0/24",
        "--host-port",
        "veth",
    ]);
    user.run(&[
        "run",
        "-d",
        "--name",
        "one",
        "--network",
        "lab",
        "--",
        "sleep",
        "60",
    ]);
    let text = user.run(&["host", "--", "ping", "-c2", "-i0.2", "-W2", "10.96.0.2"]);
    assert!(text.contains("2 received"), "{text}");
    let text = user.run(&[
        "exec",
        "one",
        "--",
        "ping",
        "-c2",
        "-i0.2",
        "-W2",
        "10.96.0.1",
    ]);
    assert!(text.contains("2 received"), "{text}");
    user.run(&["shutdown"]);
    let links = Command::new("ip")
        .args(["-o", "link"])
        .output()
        .expect("ip (iproute2)");
    assert!(
        !String::from_utf8_lossy(&links.stdout).contains("pontoon"),
        "an interface is left"
    );
}

#[test]
fn twenty_starts_and_stops_leave_nothing() {
    let user = User::new("cycles");
    for _ in 0..20 {
        user.run(&["run", "-d", "--name", "a", "--", "sleep", "60"]);
        user.run(&["shutdown"]);
        assert_eq!(user.processes(), [""; 0]);
    }
    let left: Vec<_> = std::fs::read_dir(user.directory.join("pontoon"))
        .expect("the runtime directory")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !matches!(name.as_str(), "lock" | "engine.log"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_engine_has_no_rights_and_its_socket_is_private() {
    let user = User::new("rights");
    user.run(&["run", "-d", "--name", "a", "--", "sleep", "60"]);
    let status: serde_json::Value =
        serde_json::from_str(&user.run(&["status", "--json"])).expect("JSON");
    let pid = status["engine"]["pid"].as_u64().expect("a number");
    let process = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("own process");
    let line = |name: &str| {
        process
            .lines()
            .find(|l| l.starts_with(name))
            .expect("a line")
            .to_owned()
    };
    for set in ["CapEff:", "CapPrm:", "CapInh:"] {
        assert!(line(set).ends_with("0000000000000000"), "{}", line(set));
    }
    assert!(line("NoNewPrivs:").ends_with('1'));
    let socket = std::fs::metadata(user.directory.join("pontoon/api.sock")).expect("the socket");
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&socket.permissions()) & 0o777,
        0o600
    );
}

#[test]
fn the_demo_holds() {
    let user = User::new("demo");
    let text = user.run(&["demo"]);
    assert!(text.contains("4 of 4 scenarios hold"), "{text}");
}

#[test]
fn more_containers_run_than_the_engine_has_clients() {
    const CONTAINERS: usize = 70;
    let user = User::new("many");
    user.run(&["network", "create", "keep"]);
    for n in 0..CONTAINERS {
        let name = format!("c{n}");
        user.run(&["run", "-d", "--name", &name, "--", "sleep", "100"]);
    }
    assert_eq!(user.run(&["ps", "-q"]).lines().count(), CONTAINERS);
    user.run(&["shutdown"]);
}

#[test]
fn the_status_of_a_long_run_is_kept() {
    // Longer than the engine's patience with a silent client.
    let user = User::new("long");
    user.run(&["network", "create", "keep"]);
    let script = "sleep 61; exit 3";
    user.run(&["run", "-d", "--name", "long", "--", "sh", "-c", script]);
    sleep(Duration::from_secs(61));
    let kept = || user.run(&["ps", "-a"]).contains("Exited (3)");
    wait_for(kept, "the status");
    user.run(&["shutdown"]);
}

#[test]
fn engines_that_leave_and_start_at_once_fail_nobody() {
    let user = User::new("race");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..15 {
                    user.run(&["run", "--rm", "--", "true"]);
                }
            });
        }
    });
    wait_for(|| user.processes().is_empty(), "the last engine to leave");
}

#[test]
fn an_engine_that_a_container_started_leaves_after_the_last_network() {
    let user = User::new("last");
    user.run(&["run", "-d", "--name", "a", "--", "sleep", "60"]);
    user.run(&["network", "create", "lab"]);
    user.run(&["rm", "-f", "a"]);
    user.run(&["network", "rm", "lab"]);
    wait_for(|| user.processes().is_empty(), "the engine to leave");
}

#[test]
fn a_container_that_was_stopped_has_stopped() {
    let user = User::new("stopped");
    user.run(&["network", "create", "keep"]);
    // What the command leaves behind keeps its monitor busy.
    let ready = user.directory.join("ready");
    let script = format!(
        "trap 'exit 3' TERM; for i in $(seq 40); do setsid sleep 100 & done; touch {}; wait",
        ready.display()
    );
    for _ in 0..10 {
        user.run(&["run", "-d", "--name", "a", "--", "sh", "-c", &script]);
        wait_for(|| ready.exists(), "the command");
        std::fs::remove_file(&ready).expect("own file");
        user.run(&["stop", "a"]);
        let ps = user.run(&["ps", "-a"]);
        assert!(ps.contains("Exited (3)"), "{ps}");
        user.run(&["rm", "a"]);
    }
    user.run(&["shutdown"]);
}

#[test]
fn silent_clients_keep_nobody_out() {
    let user = User::new("silent");
    user.run(&["network", "create", "keep"]);
    let silent = Silent::connect(&user, 64);
    sleep(Duration::from_millis(1500));
    let ask = |_| {
        let start = Instant::now();
        user.run(&["network", "ls"]);
        start.elapsed()
    };
    let mut times: Vec<_> = (0..9).map(ask).collect();
    times.sort();
    // A machine that is busy stretches some; whoever is kept out waits a second each time.
    assert!(times[4] < Duration::from_millis(500), "{times:?}");
    drop(silent);
    user.run(&["shutdown"]);
}

/// The engine's process, and what its descriptors are numbered.
fn descriptors(user: &User) -> (String, Vec<usize>) {
    let status: serde_json::Value =
        serde_json::from_str(&user.run(&["status", "--json"])).expect("JSON");
    let engine = status["engine"]["pid"].to_string();
    let files = std::fs::read_dir(format!("/proc/{engine}/fd")).expect("own process");
    let names = files.flatten().map(|file| file.file_name());
    let numbers = names.filter_map(|name| name.to_str()?.parse().ok());
    (engine, numbers.collect())
}

/// Sets the soft limit of open files.
fn limit_files(pid: &str, soft: usize) {
    let limits = format!("--nofile={soft}:");
    let done = Command::new("prlimit")
        .args(["--pid", pid, &limits])
        .status();
    assert!(done.expect("prlimit (util-linux)").success());
}

#[test]
fn an_engine_that_is_short_of_files_loses_no_container() {
    let user = User::new("files");
    user.run(&["run", "-d", "--name", "a", "--", "sleep", "60"]);
    let (engine, open) = descriptors(&user);
    limit_files(&engine, open.len() + 2);
    let clients = Silent::connect(&user, 8);
    sleep(Duration::from_millis(300));
    drop(clients);
    limit_files(&engine, 1024);
    assert!(user.run(&["ps"]).contains("Up "));
    user.run(&["shutdown"]);
}

#[test]
fn a_client_for_which_there_is_no_descriptor_is_told_so() {
    let user = User::new("spare");
    user.run(&["run", "-d", "--name", "a", "--", "sleep", "60"]);
    let (engine, open) = descriptors(&user);
    let numbers = open.iter().max().expect("some are open") + 1;
    limit_files(&engine, numbers);
    // As many as fill the gaps, and some that find none.
    let clients = Silent::connect(&user, numbers - open.len() + 4);
    for _ in 0..3 {
        let said = user.refused(&["ps"]);
        assert!(
            said.contains("too many files are open in the engine"),
            "{said}"
        );
        assert!(said.contains("ulimit -n"), "{said}");
    }
    drop(clients);
    wait_for(
        || user.try_run(&["ps"]).status.success(),
        "a descriptor that those clients had",
    );
    user.run(&["shutdown"]);
}

#[test]
fn the_container_that_started_the_engine_takes_nobody_with_it() {
    let user = User::new("first");
    let mut first = user
        .command(&["run", "--", "cat"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("pontoon can be run");
    wait_for(
        || user.try_run(&["ps", "-q"]).stdout.len() > 10,
        "the container",
    );
    user.run(&["run", "-d", "--name", "b", "--", "sleep", "60"]);
    drop(first.stdin.take());
    assert!(first.wait().expect("own child").success());
    sleep(Duration::from_millis(300));
    assert!(user.run(&["ps"]).contains("Up "));
    user.run(&["shutdown"]);
}

#[test]
fn a_shell_that_becomes_a_container_keeps_its_jobs() {
    let user = User::new("jobs");
    let script = "sleep 60 & echo $!; exec \"$PONTOON\" run -- true";
    let mut shell = user.shell(script);
    let mut shell = shell.stdout(Stdio::piped()).spawn().expect("sh");
    let mut job = String::new();
    let mut stdout = std::io::BufReader::new(shell.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut stdout, &mut job).expect("text");
    assert!(shell.wait().expect("own child").success());
    let ended = Command::new("kill").arg(job.trim()).status();
    assert!(ended.expect("kill").success(), "the job was still there");
}

#[test]
fn a_listing_whose_reader_is_gone_ends_quietly() {
    let user = User::new("pipe");
    user.run(&["network", "create", "keep"]);
    let mut listing = user.command(&["network", "ls", "--json"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = listing.stdout(writer).output().expect("pontoon can be run");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    user.run(&["shutdown"]);
}

#[test]
fn what_runs_on_holds_none_of_its_callers_files() {
    let user = User::new("held");
    let script = "exec 9>\"$XDG_RUNTIME_DIR/held\"; \"$PONTOON\" run -d -- sleep 60";
    let status = user.shell(script).stdout(Stdio::null()).status();
    assert!(status.expect("sh").success());
    let held = user.directory.join("held");
    // One that is becoming the command shows nothing for a moment.
    wait_for(
        || user.processes().len() == 4,
        "keeper, engine, monitor, command",
    );
    for process in user.processes() {
        let files = std::fs::read_dir(format!("/proc/{process}/fd")).expect("own process");
        let holds = files
            .flatten()
            .any(|file| std::fs::read_link(file.path()).is_ok_and(|path| path == held));
        assert!(!holds, "process {process} holds it");
    }
    user.run(&["shutdown"]);
}

#[test]
fn a_command_gets_its_callers_files_and_no_others() {
    let user = User::new("given");
    user.run(&["network", "create", "keep"]);
    let list = "exec 9</dev/null; exec ls /proc/self/fd";
    let files = |before: &str| {
        let script = format!("exec 8</dev/null; exec {before} sh -c \"$0\"");
        let mut shell = user.shell(&script);
        let output = shell.arg(list).stdin(Stdio::null()).output().expect("sh");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let without = files("");
    assert!(without.contains("8\n9\n"), "{without}");
    assert_eq!(files("\"$PONTOON\" run --"), without);
    user.run(&["shutdown"]);
}

#[test]
fn an_engine_that_is_told_to_end_ends_everything() {
    for (signal, test) in [("TERM", "term"), ("INT", "int"), ("HUP", "hup")] {
        let user = User::new(test);
        user.run(&["run", "-d", "--name", "a", "--", "sleep", "60"]);
        let status: serde_json::Value =
            serde_json::from_str(&user.run(&["status", "--json"])).expect("JSON");
        let engine = status["engine"]["pid"].to_string();
        let sent = Command::new("kill").args(["-s", signal, &engine]).status();
        assert!(sent.expect("kill").success());
        wait_for(|| user.processes().is_empty(), "everything to end");
        assert!(!user.directory.join("pontoon/api.sock").exists());
    }
}

#[test]
fn a_command_of_another_identity_can_read_its_files() {
    let user = User::new("umask");
    let script = "umask 077; \"$PONTOON\" run -- stat -c %a /etc/hosts /etc/resolv.conf";
    let output = user.shell(script).output().expect("sh");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "644\n644\n");
}

#[test]
fn a_container_that_cannot_be_settled_is_not_left() {
    let user = User::new("unsettled");
    user.run(&["network", "create", "keep"]);
    // Room for the directory of a container, but for no file: nothing can be written there.
    let script = "ulimit -f 0; trap '' XFSZ; \"$PONTOON\" run --name a -- true";
    let output = user.shell(script).output().expect("sh");
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(user.run(&["ps", "-a", "-q"]), "");
    user.run(&["shutdown"]);
}

#[test]
fn what_is_no_network_namespace_is_not_attached() {
    let user = User::new("nons");
    for path in ["/etc/hosts", "/proc/self/ns/user"] {
        let error = user.refused(&["attach", "--netns", path, "--name", "a"]);
        assert!(error.contains("not a network namespace"), "{error}");
    }
    assert_eq!(user.processes(), [""; 0], "nothing was started for it");
}

#[test]
fn what_was_executed_in_a_container_ends_with_it() {
    let user = User::new("execs");
    user.run(&["run", "-d", "--name", "a", "--", "sleep", "60"]);
    let mut child = user
        .command(&["exec", "a", "--", "sh", "-c", "echo ready; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("pontoon can be run");
    let mut line = [0; 6];
    let stdout = child.stdout.as_mut().expect("piped");
    std::io::Read::read_exact(stdout, &mut line).expect("a line");
    user.run(&["rm", "-f", "a"]);
    assert_eq!(child.wait().expect("own child").code(), Some(137));
    wait_for(|| user.processes().is_empty(), "everything to end");
}

#[test]
fn exec_passes_signals_and_works_where_the_user_is() {
    let user = User::new("execsig");
    user.run(&["run", "-d", "--name", "a", "--", "sleep", "60"]);
    let script = "trap 'exit 4' TERM; pwd; while :; do sleep 0.05; done";
    let mut child = user
        .command(&["exec", "a", "--", "sh", "-c", script])
        .current_dir("/usr")
        .stdout(Stdio::piped())
        .spawn()
        .expect("pontoon can be run");
    let mut line = [0; 5];
    let stdout = child.stdout.as_mut().expect("piped");
    std::io::Read::read_exact(stdout, &mut line).expect("a line");
    assert_eq!(&line, b"/usr\n");
    let sent = Command::new("kill").arg(child.id().to_string()).status();
    assert!(sent.expect("kill").success());
    assert_eq!(child.wait().expect("own child").code(), Some(4));
    user.run(&["shutdown"]);
}

impl User {
    /// The process that runs `pontoon run` for the container whose first process is `pid`.
    fn monitor_of(&self, name: &str) -> String {
        let ps = self.run(&["ps", "--json"]);
        let ps: serde_json::Value = serde_json::from_str(&ps).expect("JSON");
        let all = ps.as_array().expect("a list");
        let container = all.iter().find(|c| c["name"] == name).expect("it runs");
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", container["pid"]));
        let stat = stat.expect("own process");
        let (_, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
        rest.split(' ').nth(1).expect("its parent").to_owned()
    }

    /// Names in the runtime directory of what belongs to containers.
    fn files(&self) -> Vec<String> {
        let directory = std::fs::read_dir(self.directory.join("pontoon")).expect("a directory");
        let names = directory.flatten().map(|entry| entry.file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("run-")).collect()
    }
}

fn kill(signal: &str, pid: &str) {
    let sent = Command::new("kill").args(["-s", signal, pid]).status();
    assert!(sent.expect("kill").success());
}

#[test]
fn a_container_whose_monitor_was_killed_ends_and_leaves_nothing() {
    let user = User::new("nomonitor");
    user.run(&["network", "create", "keep"]);
    let idle = user.processes().len();
    let script = "for i in 1 2 3; do setsid sleep 1000 & done; wait";
    for ip in ["172.17.0.9", "172.17.0.9"] {
        let run = ["run", "-d", "--name", "a", "--ip", ip];
        user.run(&[&run[..], &["--", "sh", "-c", script]].concat());
        wait_for(|| user.processes().len() == idle + 5, "three orphans to be");
        assert_eq!(user.files().len(), 1);
        kill("KILL", &user.monitor_of("a"));
        let exited = || user.run(&["ps", "-a"]).contains("Exited (137)");
        wait_for(exited, "the end to be noticed");
        assert_eq!(user.processes().len(), idle, "the orphans have ended");
        assert_eq!(user.files(), [""; 0]);
        // Its address is free again, and so is its name once it is removed.
        user.run(&["rm", "a"]);
    }
    user.run(&["shutdown"]);
}

#[test]
fn a_command_that_outlives_its_monitor_is_ended() {
    let user = User::new("outlives");
    user.run(&["network", "create", "keep"]);
    let idle = user.processes().len();
    let command = ["setpriv", "--pdeathsig", "clear", "sleep", "1000"];
    user.run(&[&["run", "-d", "--name", "a", "--"][..], &command].concat());
    let name =
        |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    wait_for(
        || user.processes().iter().any(|pid| name(pid) == "sleep\n"),
        "the command to be",
    );
    kill("KILL", &user.monitor_of("a"));
    let exited = || user.run(&["ps", "-a"]).contains("Exited (137)");
    wait_for(exited, "the end to be noticed");
    assert_eq!(user.processes().len(), idle, "the command has ended");
    user.run(&["shutdown"]);
}

#[test]
fn an_engine_whose_last_monitor_was_killed_leaves() {
    let user = User::new("lastmonitor");
    let script = "setsid sleep 1000 & wait";
    user.run(&["run", "-d", "--rm", "--name", "a", "--", "sh", "-c", script]);
    kill("KILL", &user.monitor_of("a"));
    wait_for(|| user.processes().is_empty(), "everything to end");
}

#[test]
fn nothing_is_left_when_everything_ends_right_after_a_monitor_was_killed() {
    for (last, test) in [
        (&["shutdown"][..], "endall"),
        (&["rm", "-f", "a"], "endone"),
    ] {
        let user = User::new(test);
        let script = "setsid sleep 1000 & wait";
        user.run(&["run", "-d", "--name", "a", "--", "sh", "-c", script]);
        wait_for(|| user.processes().len() == 5, "the orphan to be");
        kill("KILL", &user.monitor_of("a"));
        user.run(last);
        assert_eq!(user.files(), [""; 0], "{last:?}");
        wait_for(|| user.processes().is_empty(), "everything to end");
    }
}

#[test]
fn what_run_has_started_is_stopped_and_not_detached() {
    let user = User::new("undetached");
    user.run(&["network", "create", "keep"]);
    user.run(&["run", "-d", "--name", "a", "--", "sleep", "60"]);
    let error = user.refused(&["detach", "a"]);
    assert!(error.contains("a was started by run: stop it"), "{error}");
    assert!(user.run(&["ps"]).contains("Up "));
    user.run(&["stop", "a"]);
    let error = user.refused(&["detach", "a"]);
    assert!(error.contains("remove it with rm"), "{error}");
    user.run(&["rm", "a"]);
    user.run(&["shutdown"]);
}

#[test]
fn a_container_that_deletes_its_interface_is_still_listed() {
    let user = User::new("unplugged");
    user.run(&["network", "create", "keep"]);
    let script = "ip link del eth0 && echo gone; exec sleep 60";
    let mut child = user
        .command(&["run", "--name", "a", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("pontoon can be run");
    let mut line = [0; 5];
    let stdout = child.stdout.as_mut().expect("piped");
    std::io::Read::read_exact(stdout, &mut line).expect("a line");
    sleep(Duration::from_millis(300));
    assert!(user.run(&["ps"]).contains("Up "));
    user.run(&["stop", "a"]);
    assert_eq!(child.wait().expect("own child").code(), Some(143));
    assert!(user.run(&["ps", "-a"]).contains("Exited (143)"));
    user.run(&["shutdown"]);
}

#[test]
fn engines_of_several_names_stand_side_by_side() {
    let user = User::new("instance");
    user.run(&["network", "create", "here"]);
    user.run(&["--instance", "other", "network", "create", "there"]);
    let named = user
        .command(&["network", "ls", "-q"])
        .env("PONTOON_INSTANCE", "other")
        .output();
    assert!(named.expect("pontoon can be run").status.success());
    let status = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&user.run(arguments)).expect("JSON")
    };
    let here = status(&["status", "--json"]);
    let there = status(&["status", "--json", "--instance", "other"]);
    assert_ne!(here["engine"], there["engine"]);
    assert!(!here.to_string().contains("there") && there.to_string().contains("there"));
    let said = user.refused(&["--instance", "../x", "status"]);
    assert!(said.contains("--instance"), "{said}");
    user.run(&["shutdown"]);
    user.run(&["--instance", "other", "run", "--rm", "--", "true"]);
    assert!(!user.processes().is_empty(), "the other goes on");
    user.run(&["--instance", "other", "shutdown"]);
    assert!(user.processes().is_empty());
}

/// The next line that somebody who watches is shown.
fn next_event(events: &mut impl std::io::BufRead) -> serde_json::Value {
    let mut line = String::new();
    events.read_line(&mut line).expect("events go on");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// What has happened, to whom, and with which status.
fn in_words(event: &serde_json::Value) -> String {
    assert!(event["time_nanos"].as_u64() > Some(0), "{event}");
    let name = event["name"].as_str().or(event["container"].as_str());
    let kind = event["event"].as_str().expect("a kind");
    let status = event["exit_status"].as_i64();
    let status = status.map_or_else(String::new, |status| format!(" {status}"));
    format!("{kind} {}{status}", name.expect("a name"))
}

#[test]
fn what_happens_is_told_to_those_who_watch() {
    let user = User::new("events");
    user.run(&["network", "create", "first"]);
    let mut events = user.command(&["events", "--json"]);
    let mut events = events
        .stdout(Stdio::piped())
        .spawn()
        .expect("pontoon can be run");
    let mut told = std::io::BufReader::new(events.stdout.take().expect("piped"));
    // Until it watches there is nothing to see: whatever is seen first says that it does.
    let watches = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !watches.load(std::sync::atomic::Ordering::Relaxed) {
                user.run(&["network", "create", "again"]);
                user.run(&["network", "rm", "again"]);
            }
        });
        assert_eq!(next_event(&mut told)["name"], "again");
        watches.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    user.run(&["network", "create", "second"]);
    let run = [
        "run",
        "--name",
        "c",
        "--network",
        "second",
        "-p",
        "127.0.0.1::80",
    ];
    let status = user
        .try_run(&[&run[..], &["--", "sh", "-c", "exit 3"]].concat())
        .status;
    assert_eq!(status.code(), Some(3));
    user.run(&["rm", "c"]);
    user.run(&["network", "rm", "second"]);
    let mut seen = Vec::new();
    while seen.last() != Some(&"network_removed second".to_owned()) {
        seen.push(in_words(&next_event(&mut told)));
    }
    seen.retain(|event| !event.ends_with("again"));
    let expected = [
        "network_made second",
        "container_started c",
        "port_published c",
        "port_unpublished c",
        "container_ended c 3",
        "network_removed second",
    ];
    assert_eq!(seen, expected);
    user.run(&["shutdown"]);
    assert!(
        events.wait().expect("own child").success(),
        "it ends with the engine"
    );
}
