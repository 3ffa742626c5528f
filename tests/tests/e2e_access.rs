//! End to end: what of Pontoon can be reached from outside of it, and by whom. Tests are named after the checks
//! they show.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use pontoon_tests::e2e::containers::exec;
use pontoon_tests::e2e::{run_pontoon, sh, try_sh, wait_for};

const DIRECTORY: &str = "/run/user/pontoon";
const SOCKET: &str = "/run/user/pontoon/api.sock";

/// What listens in the host's namespace: protocol and address, or path.
fn listening() -> BTreeSet<String> {
    let all = sh("ss -Hlntuxp");
    let ends = all.lines().map(|line| {
        let mut words = line.split_whitespace();
        let kind = words.next().expect("a kind of socket");
        format!("{kind} {}", words.nth(3).expect("an address"))
    });
    // A socket of the file system without a name cannot be reached.
    ends.filter(|end| !(end.starts_with("u_") && end.ends_with(" *")))
        .collect()
}

/// Asks the engine, and says what comes of it.
const ASK: &str = r#"
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.settimeout(30)
try:
    client.connect(sys.argv[1])
except PermissionError:
    sys.exit("forbidden")
try:
    client.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = client.recv(65536)
except (BrokenPipeError, ConnectionResetError):
    answer = b""
print("answered" if answer.startswith(b"HTTP/1.1 200 ") else answer)
"#;

/// What comes of asking the engine, as somebody.
fn asked(somebody: &str) -> String {
    fs::write("/run/user/ask.py", ASK).expect("a writable /run");
    // Who may not look into the directory has the program by its standard input.
    let python = format!("{somebody} /usr/bin/python3 - {SOCKET} < /run/user/ask.py 2>&1");
    let output = try_sh(&python);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pontoon_tests::namespace_tests! {
    /// SEC-12: beside published ports nothing listens but the API's socket, whatever flows there are. Ports on a
    /// `dev:` uplink are no sockets at all.
    fn sec_12_nothing_listens_but_published_ports {
        sh("ip link add up0 type veth peer name up1 && ip link set up1 up && ip addr add 192.0.2.1/24 dev up0 \
            && ip link set up0 up");
        let before = listening();
        run_pontoon("run -d --name a -p 8080:80 -p 127.0.0.1:8081:81/udp -- sleep 300");
        run_pontoon("network create wire --uplink dev:up0");
        run_pontoon("run -d --name b --network wire -p 8082:82 -- sleep 300");
        for name in ["a", "b"] {
            exec(name, "echo out | socat -t0 - UDP:192.0.2.77:9");
        }
        let flows = run_pontoon("flows");
        assert_eq!(flows.matches("dst=192.0.2.77").count(), 2, "{flows}");
        let own = ["tcp 0.0.0.0:8080", "udp 127.0.0.1:8081", &format!("u_str {SOCKET}")];
        let made: BTreeSet<_> = listening().difference(&before).cloned().collect();
        assert_eq!(made, own.map(str::to_owned).into());
        run_pontoon("shutdown");
        wait_for(|| listening() == before, "the end of everything that listens");
    }

    /// SEC-12: the API is its user's: by the directory's mode, by the socket's, and by the peer's user id where
    /// both have been opened. An ordinary user's namespaces hold nobody else who could try.
    fn sec_12_the_api_is_its_users_alone {
        run_pontoon("network create x");
        let of = |path: &str| fs::symlink_metadata(path).expect("it is there");
        let own: u32 = sh("id -u").trim().parse().expect("a number");
        let (socket, directory) = (of(SOCKET), of(DIRECTORY));
        assert!(socket.file_type().is_socket());
        assert_eq!((socket.mode() & 0o7777, socket.uid()), (0o600, own));
        assert_eq!((directory.mode() & 0o7777, directory.uid()), (0o700, own));
        assert_eq!(asked(""), "answered", "the user's own");

        let somebody = "setpriv --reuid=1000 --regid=1000 --clear-groups";
        let map = fs::read_to_string("/proc/self/uid_map").expect("/proc is mounted");
        if map.split_whitespace().last() == Some("1") {
            assert!(!try_sh(&format!("{somebody} true")).status.success(), "there is nobody else");
            return;
        }
        assert_eq!(asked(somebody), "forbidden");
        sh(&format!("chmod 711 /run /run/user {DIRECTORY}"));
        assert_eq!(asked(somebody), "forbidden", "the socket's own mode");
        sh(&format!("chmod 666 {SOCKET}"));
        assert_eq!(asked(somebody), "b''", "the peer's user id");
        assert_eq!(asked(""), "answered");
    }
}
