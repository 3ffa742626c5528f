//! End to end: what the command line and the API are asked for and cannot be. Tests are named after the checks they
//! show.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output};

use pontoon_tests::e2e::{pontoon, refused, run_pontoon, sh, try_sh};

/// `pontoon` with exactly these arguments, which a shell could not pass on.
fn said_to(arguments: &[&[u8]]) -> Output {
    let mut command = Command::new(pontoon());
    command.args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
    command.env("XDG_RUNTIME_DIR", "/run/user");
    command.output().expect("pontoon can be run")
}

/// What there is: networks, containers and published ports.
fn everything() -> String {
    ["network ls", "ps -a --json", "port one"]
        .map(run_pontoon)
        .concat()
}

/// Values of an option that are refused, each in a line with the option's name and what is said.
const VALUES: [(&str, &[(&str, &str)]); 5] = [
    (
        "run --rm --network lab --publish=VALUE -- true",
        &[
            ("-1:80", "--publish: Invalid hostPort: -1"),
            ("0:80", "--publish: Invalid hostPort: 0"),
            ("65536:80", "--publish: Invalid hostPort: 65536"),
            ("80:65536", "--publish: Invalid containerPort: 65536"),
            ("8080:-1", "--publish: Invalid containerPort: -1"),
            ("8080-80:80", "--publish: Invalid hostPort: 8080-80"),
            (
                "8080-8090:80-81",
                "--publish: Invalid ranges specified for container and host Ports: 80-81 and 8080-8090",
            ),
            ("8080:80/xyz", "--publish: Invalid proto: xyz"),
            ("1.2.3:80:80", "--publish: Invalid ip address: 1.2.3"),
            (
                "9000:91",
                "--publish: Bind for 0.0.0.0:9000/tcp failed: port is already allocated to one",
            ),
            ("", "--publish: No port specified"),
            ("80\n80", "--publish: Invalid containerPort: 80\\n80"),
        ],
    ),
    (
        "network create a --subnet=VALUE",
        &[
            (
                "10.99.0.0/25",
                "--subnet: Pool overlaps with other one on this address space: 10.99.0.0/25",
            ),
            (
                "10.99.0.0/16",
                "--subnet: Pool overlaps with other one on this address space: 10.99.0.0/16",
            ),
            ("10.98.0.0/31", "--subnet: invalid subnet 10.98.0.0/31"),
            ("10.98.0.0/32", "--subnet: invalid subnet 10.98.0.0/32"),
            ("10.98.0.5/24", "10.98.0.5/24: it has host bits set"),
            ("fd00::/64", "--subnet: invalid subnet fd00::/64: only IPv4"),
            ("127.0.0.0/8", "--subnet: invalid subnet 127.0.0.0/8"),
            ("10.98.0.0", "--subnet: invalid subnet 10.98.0.0: expected"),
            ("", "--subnet: invalid subnet : expected"),
        ],
    ),
    (
        "network create a --subnet 10.98.0.0/24 --gateway=VALUE",
        &[
            (
                "10.97.0.1",
                "--gateway: no matching subnet for gateway 10.97.0.1",
            ),
            ("10.98.0.0", "--gateway: 10.98.0.0: not a host's address"),
            (
                "10.98.0.255",
                "--gateway: 10.98.0.255: not a host's address",
            ),
            (
                "fd00::1",
                "--gateway: no matching subnet for gateway fd00::1",
            ),
        ],
    ),
    (
        "run --rm --network lab --ip=VALUE -- true",
        &[
            ("10.99.0.9", "--ip: 10.99.0.9: Address already in use"),
            ("10.99.0.1", "--ip: 10.99.0.1: Address already in use"),
            ("10.99.0.0", "--ip: 10.99.0.0: not a host's address"),
            ("10.99.0.255", "--ip: 10.99.0.255: not a host's address"),
            ("10.98.0.1", "--ip: 10.98.0.1: not in the network's subnet"),
            ("fd00::1", "--ip: fd00::1: only IPv4"),
        ],
    ),
    (
        "run --rm --network lab --mac-address=VALUE -- true",
        &[
            (
                "02:00:00:00:00:09",
                "--mac-address: 02:00:00:00:00:09: already in use",
            ),
            (
                "02:42:0a:63:00:01",
                "--mac-address: 02:42:0a:63:00:01: already in use",
            ),
            (
                "01:00:00:00:00:01",
                "--mac-address: 01:00:00:00:00:01: not a single host's",
            ),
            (
                "00:00:00:00:00:00",
                "--mac-address: 00:00:00:00:00:00: not a single host's",
            ),
            ("02:00", "--mac-address: 02:00: expected"),
            ("", "--mac-address: : expected"),
        ],
    ),
];

/// Names that nothing can have, and how they are shown.
fn bad_names() -> Vec<(Vec<u8>, &'static str)> {
    let long = "x".repeat(4096);
    let names = [
        ("", "\"\""),
        (long.as_str(), "\"xxxxxxxx"),
        ("../x", "\"../x\""),
        ("a/b", "\"a/b\""),
        ("a\nb", "\"a\\nb\""),
        ("a b", "\"a b\""),
        ("-", "\"-\""),
        ("\u{2603}", "\"\\u{2603}\""),
    ];
    names
        .map(|(name, shown)| (name.as_bytes().to_vec(), shown))
        .to_vec()
}

/// The one line of a refusal.
fn line(output: &Output, status: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        (output.status.code(), text.lines().count()),
        (Some(status), 1),
        "{text}"
    );
    assert!(text.len() < 400, "{text}");
    text
}

/// Pontoon's own errors have status 125 in `run`, as Docker's.
fn status(command: &str) -> i32 {
    if command.starts_with("run") { 125 } else { 1 }
}

pontoon_tests::namespace_tests! {
    /// BAD-06: what no field can hold is refused in one line that names field and value, and nothing is left of it.
    fn bad_06_every_field_is_checked {
        run_pontoon("network create lab --subnet 10.99.0.0/24");
        run_pontoon("run -d --name one --network lab --ip 10.99.0.9 --mac-address 02:00:00:00:00:09 -p 9000:90 -- sleep 600");
        let before = everything();
        for (command, values) in VALUES {
            for (value, what) in values {
                let arguments: Vec<_> = command.split(' ').map(|word| word.replace("VALUE", value)).collect();
                let arguments: Vec<_> = arguments.iter().map(String::as_bytes).collect();
                let said = line(&said_to(&arguments), status(command));
                assert!(said.contains(what), "{command} {value}: {said}");
            }
        }
        for (name, shown) in bad_names() {
            let named = [b"--name=", name.as_slice()].concat();
            for (arguments, field) in [
                (vec![&b"network"[..], b"create", b"--", &name], "NETWORK"),
                (vec![b"run", b"--rm", &named, b"--network", b"lab", b"--", b"true"], "--name"),
                (vec![b"attach", b"--netns", b"/proc/self/ns/net", &named, b"--network", b"lab"], "--name"),
            ] {
                let said = line(&said_to(&arguments), if arguments[0] == b"run" { 125 } else { 1 });
                assert!(said.contains(&format!("{field}: invalid name {shown}")), "{said}");
            }
        }
        for (arguments, what) in [
            (vec![&b"network"[..], b"create", b"lab"], "lab already exists"),
            (vec![b"run", b"--rm", b"--name", b"one", b"--", b"true"], "\"one\" is already in use"),
        ] {
            let said = line(&said_to(&arguments), if arguments[0] == b"run" { 125 } else { 1 });
            assert!(said.contains(what), "{said}");
        }
        for arguments in [vec![&b"network"[..], b"create", b"\xff\xfe"], vec![b"run", b"--name=\xff", b"true"]] {
            let output = said_to(&arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(2) && said.starts_with("error: invalid UTF-8"), "{said}");
        }
        assert_eq!(everything(), before, "nothing half done is left");
    }

    /// BAD-08: a directory too long for a socket is refused before anything is started.
    fn bad_08_a_path_too_long_for_a_socket_is_refused {
        let long = format!("/run/user/{}", "x".repeat(120));
        sh(&format!("mkdir -m 0700 {long}"));
        for (arguments, status) in [("run --rm -- true", 125), ("network create x", 1), ("ps", 1)] {
            let output = try_sh(&format!("XDG_RUNTIME_DIR={long} {} {arguments}", pontoon().display()));
            let said = line(&output, status);
            assert!(said.contains("xxxx"), "{said}");
        }
        let processes = sh("cat /proc/[0-9]*/stat 2>/dev/null | grep -c '(pontoon' || true");
        assert_eq!(processes.trim(), "0");
    }

    /// BAD-10: what is done twice, to what is missing, or too early is refused in the same words each time.
    fn bad_10_twice_missing_and_out_of_order {
        run_pontoon("network create net");
        run_pontoon("network create other");
        run_pontoon("run -d --name a --network net -- sleep 600");
        run_pontoon("run -d --name b --network container:a -- sleep 600");
        run_pontoon("publish a 9000:90");
        run_pontoon("network connect other a");
        for (arguments, what) in [
            ("network rm net", "has active endpoints"),
            ("network create net", "already exists"),
            ("network rm missing", "missing"),
            ("network connect other a", "already"),
            ("network connect missing a", "missing"),
            ("network connect other missing", "missing"),
            ("network disconnect bridge a", "is not connected"),
            ("publish a 9000:90", "already allocated"),
            ("publish missing 9001:90", "missing"),
            ("unpublish a 9001:90", "9001"),
            ("rm a", "running"),
            ("detach a", "a"),
            ("stop missing", "missing"),
            ("rm missing", "missing"),
            ("exec missing -- true", "missing"),
            ("inspect missing", "missing"),
        ] {
            let first = refused(arguments);
            assert!(first.contains(what), "{arguments}: {first}");
            assert_eq!(refused(arguments), first, "{arguments}: the second time");
        }
        for arguments in ["stop -t 5 a b", "rm a b", "network rm net other"] {
            run_pontoon(arguments);
            let again = refused(arguments);
            assert_eq!(again.lines().count(), 2, "{arguments}: a line for each: {again}");
            assert_eq!(refused(arguments), again);
        }
        assert_eq!(run_pontoon("ps -a --json"), "[]\n");
    }
}
