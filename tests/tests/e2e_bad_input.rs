//! End to end: files that are no topology, and surroundings in which Pontoon cannot be. Tests are named after the
//! checks they show.

use std::collections::BTreeSet;
use std::fs;
use std::process::Output;

use pontoon_tests::e2e::{Ordinary, environment, pontoon, run_pontoon, sh, try_sh, wait_for};

/// Python program that runs a command on a kernel which refuses system calls.
const CONFINED: &str = include_str!("../src/e2e/confined.py");

/// A file that is refused, the line that is named, and what is said of it.
type Bad = (Vec<u8>, usize, &'static str);

const GOOD: &str = "services:\n  a: {command: sleep 60}\n";

/// What is no topology file.
fn bad_files() -> Vec<Bad> {
    let text = |text: &str| text.as_bytes().to_vec();
    let utf16: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain(GOOD.encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    let mut huge = GOOD.as_bytes().to_vec();
    huge.resize(100 << 20, b'#');
    let nested = |open: &str| text(&format!("{GOOD}x-deep: {}", open.repeat(100_000)));
    vec![
        (text(&format!("{GOOD}    bogus: 1\n")), 3, "not YAML"),
        (
            text("services:\n  a:\n    command: true\n    bogus: 1\n"),
            4,
            "services.a.bogus: unknown key",
        ),
        (
            text("services:\n  a:\n    command: {x: 1}\n"),
            3,
            "services.a.command: expected",
        ),
        (text("services: [a]\n"), 1, "services: expected"),
        (
            text(&format!("{GOOD}  a: {{command: true}}\n")),
            3,
            "a is there twice",
        ),
        (
            text(&format!("{GOOD}services: {{}}\n")),
            3,
            "services is there twice",
        ),
        (text("services:\n\ta: {command: true}\n"), 2, "not YAML"),
        (
            text("services:\n  a:\n \u{feff}   command: true\n"),
            3,
            "byte order mark",
        ),
        (nested("["), 3, ""),
        (nested("{a: "), 3, "nested"),
        (text("services:\n  a: {command: \"\0\"}\n"), 2, "not YAML"),
        (
            b"services:\n  a: {command: \"\xff\"}\n".to_vec(),
            2,
            "not UTF-8",
        ),
        (utf16, 1, "not UTF-8"),
        (huge, 1, "1048576"),
        (Vec::new(), 1, "empty"),
    ]
}

/// `up` with a file, in a quarter of a gigabyte; it must be refused. What it says.
fn refused_file(path: &str) -> String {
    let output = try_sh(&format!(
        "cd /run/project && ulimit -v 262144 && {} up -d -f {path}",
        environment()
    ));
    assert_eq!(output.status.code(), Some(1), "{path}");
    one_line(&output)
}

/// The one line on standard error.
fn one_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.starts_with("pontoon: ") && !text[1..].contains("pontoon: "),
        "{text}"
    );
    text
}

/// `pontoon` where these system calls are refused.
fn confined(rules: &str, arguments: &str) -> Output {
    fs::write("/run/confined.py", CONFINED).expect("a writable /run");
    let python = "XDG_RUNTIME_DIR=/run/user timeout 60 /usr/bin/python3";
    try_sh(&format!(
        "{python} /run/confined.py {rules} -- {} {arguments}",
        pontoon().display()
    ))
}

/// What there is of Pontoon: processes, interfaces, and files beside its log and lock.
fn remains() -> BTreeSet<String> {
    let processes =
        sh("cat /proc/[0-9]*/stat 2>/dev/null | grep -v ') Z ' | grep -o '(pontoon[^)]*)' || true");
    let links = sh("ip -o link | grep -v ' lo:' || true");
    let files = sh(
        "find /run/user /run/ordinary -name 'engine.log' -o -name lock -o -type f -print -o -type s -print 2>/dev/null || true",
    );
    [processes, links, files]
        .iter()
        .flat_map(|text| text.lines())
        .map(str::to_owned)
        .collect()
}

fn nothing_remains(after: &str) {
    wait_for(
        || remains().is_empty(),
        &format!("an end without leftovers after {after}"),
    );
}

/// A container is refused in one line that says this, in the foreground and in the background.
fn refuses_containers(rules: &str, what: &str) {
    for arguments in ["run --rm -- echo ran", "run -d -- sleep 60"] {
        let output = confined(rules, arguments);
        let line = one_line(&output);
        assert!(line.contains(what), "{rules}: {line}");
        assert_eq!(output.status.code(), Some(125), "{rules}: {line}");
        // An engine that was started for it waits for another one.
        let listed = try_sh(&format!("{} ps -a --json", environment()));
        assert!(
            !listed.status.success() || listed.stdout == b"[]\n",
            "{rules}: {listed:?}"
        );
        run_pontoon("shutdown");
        nothing_remains(&format!("{rules} {arguments}"));
    }
}

/// An engine is refused in one line that says this, and so are containers.
fn refuses_everything(rules: &str, what: &str) {
    let output = confined(rules, "network create x");
    let line = one_line(&output);
    assert!(line.contains(what), "{rules}: {line}");
    assert_eq!(output.status.code(), Some(1), "{rules}: {line}");
    nothing_remains(rules);
    refuses_containers(rules, what);
}

/// A container runs.
fn runs(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "ran\n", "{}", String::from_utf8_lossy(&output.stderr));
}

pontoon_tests::namespace_tests! {
    /// BAD-07: a bad file is refused with its line, in bounded memory, and the project that runs stays as it is.
    fn bad_07_what_is_no_topology_is_refused_with_its_line {
        let write = |bytes: &[u8]| fs::write("/run/project/pontoon.yaml", bytes).expect("a writable /run");
        let up = || sh(&format!("cd /run/project && {} up -d 2>&1", environment()));
        sh("mkdir /run/project");
        write(GOOD.as_bytes());
        assert!(up().contains("Container project-a-1  Started"));
        assert!(!remains().is_empty(), "a running engine is noticed");
        let containers = || run_pontoon("inspect project-a-1 -f '{{.Id}} {{.State.Pid}}'");
        let before = containers();
        for (bytes, line, what) in bad_files() {
            write(&bytes);
            let said = refused_file("pontoon.yaml");
            assert!(said.starts_with(&format!("pontoon: pontoon.yaml:{line}: ")) && said.contains(what), "{what}: {said}");
        }
        for path in ["/dev/zero", "/run", "missing.yaml"] {
            assert!(refused_file(path).contains(path));
        }
        assert_eq!(containers(), before);
        write(&[b"\xef\xbb\xbf", GOOD.as_bytes()].concat());
        let again = up();
        assert!(again.contains("project: nothing changed"), "a byte order mark may begin a file: {again}");
    }

    /// BAD-12: a kernel or a filter that refuses what Pontoon needs is told in one line; nothing is left.
    fn bad_12_what_is_refused_is_told_in_one_line {
        runs(&confined("", "run --rm -- echo ran"));
        for (rules, what) in [
            ("socket:17=EPERM", "open a packet socket"),
            ("socket:17=EAFNOSUPPORT", "open a packet socket"),
            ("unshare=EPERM", "make a network namespace"),
            ("'unshare:&0x40000000=EPERM'", "make a network namespace"),
            ("close_range=ENOSYS", "Linux 5.9"),
            ("clone3=EPERM", "start a thread"),
        ] {
            refuses_everything(rules, what);
        }
        for (rules, what) in [
            ("pidfd_open=ENOSYS", "Linux 5.9"),
            ("setns=EPERM", "enter the network namespace"),
            ("mount=EPERM", "make mounts private"),
        ] {
            refuses_containers(rules, what);
        }
        // What an older kernel lacks and nobody misses.
        for rules in ["clone3=ENOSYS", "statx=ENOSYS", "clone3=ENOSYS statx=ENOSYS"] {
            runs(&confined(rules, "run --rm -- echo ran"));
        }
    }

    /// BAD-12: an ordinary user who may make no user namespace is told so; who may is not in need of `CAP_NET_RAW`.
    fn bad_12_without_user_namespaces_one_line_says_so {
        fs::write("/run/confined.py", CONFINED).expect("a writable /run");
        let ordinary = Ordinary::new();
        for error in ["EPERM", "ENOSPC", "EINVAL"] {
            let confined = format!("python3 /run/confined.py 'unshare:&0x10000000={error}' -- $PONTOON");
            let output = ordinary.try_run(&format!("{confined} run --rm -- echo ran"));
            assert!(one_line(&output).contains("make a user namespace"));
            assert_eq!(output.status.code(), Some(125));
            let output = ordinary.try_run(&format!("{confined} network create x"));
            assert!(one_line(&output).contains("make a user namespace"));
            assert_eq!(output.status.code(), Some(1));
            nothing_remains(error);
        }
        runs(&ordinary.try_run("$PONTOON run --rm -- echo ran"));

        let without = "setpriv --bounding-set=-net_raw --inh-caps=-net_raw";
        let run = |rules: &str| try_sh(&format!(
            "{without} env XDG_RUNTIME_DIR=/run/user python3 /run/confined.py {rules} -- {} run --rm -- echo ran",
            pontoon().display()
        ));
        runs(&run(""));
        let both = run("'unshare:&0x10000000=EPERM'");
        assert!(one_line(&both).contains("make a user namespace"));
        assert_eq!(both.status.code(), Some(125));
    }

    /// BAD-12: without `/proc`, one line says what is missing.
    fn bad_12_without_proc_one_line_says_so {
        let without = |arguments: &str| try_sh(&format!(
            "unshare --mount sh -c 'mount -t tmpfs none /proc && {} {arguments}'", environment()
        ));
        for (arguments, status) in [("run --rm -- echo ran", 125), ("run -d -- sleep 60", 125), ("network create x", 1)] {
            let output = without(arguments);
            let line = one_line(&output);
            assert!(line.contains("/proc"), "{line}");
            assert_eq!(output.status.code(), Some(status), "{line}");
            nothing_remains(arguments);
        }
        runs(&try_sh(&format!("{} run --rm -- echo ran", environment())));
    }
}
