//! End to end: published ports and the host's loopback through the user uplink.
//!
//! ```text
//! containers ── Pontoon, as an ordinary user ── host: lo, up0 192.0.2.1 ══ ext 192.0.2.254
//! ```
//!
//! When the test is run by an ordinary user, so is Pontoon: as somebody in a user namespace that owns
//! nothing of the host's. When it is run by root, Pontoon is root's.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

use pontoon_tests::e2e::process::{rss, settled_descriptors};
use pontoon_tests::e2e::{environment, namespaces, sh, try_sh, wait_for, wait_for_idle};

const HOST: &str = "192.0.2.1";
const OUTSIDE: &str = "192.0.2.254";
const PROGRAM: &str = include_str!("../src/e2e/ports.py");
const PYTHON: &str = "/usr/bin/python3 /run/ports.py";

/// A host with a neighbour, and a user on it.
struct Site {
    user: Option<Child>,
}

impl Site {
    fn build() -> Self {
        fs::write("/run/ports.py", PROGRAM).expect("a writable /run");
        sh(&format!(
            "ip netns add ext && ip -n ext link set lo up \
             && ip link add up0 type veth peer name eth0 netns ext \
             && ip addr add {HOST}/24 dev up0 && ip link set up0 up \
             && ip -n ext addr add {OUTSIDE}/24 dev eth0 && ip -n ext link set eth0 up"
        ));
        let map = fs::read_to_string("/proc/self/uid_map").expect("/proc is mounted");
        let is_root = map.split_whitespace().nth(2) == Some("4294967295");
        Self {
            user: (!is_root).then(ordinary_user),
        }
    }

    /// What precedes a command that the user runs.
    fn as_user(&self) -> String {
        let enter = |user: &Child| {
            let namespace = format!("/proc/{}/ns/user", user.id());
            format!("nsenter --user={namespace} --preserve-credentials -- ")
        };
        self.user.as_ref().map_or_else(String::new, enter)
    }

    fn pontoon(&self, arguments: &str) -> String {
        format!("{}env {} {arguments}", self.as_user(), environment())
    }

    fn run(&self, arguments: &str) -> String {
        sh(&self.pontoon(arguments))
    }

    fn refused(&self, arguments: &str) -> String {
        let output = try_sh(&self.pontoon(arguments));
        assert!(!output.status.success(), "{arguments} was accepted");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// A container that serves TCP and UDP on these ports.
    fn serve(&self, name: &str, options: &str, ports: &str) {
        let ready = format!("/run/ready-{name}");
        self.run(&format!(
            "run -d --name {name} {options} -- {PYTHON} serve {ready} 0.0.0.0 {ports}"
        ));
        wait_for(|| fs::exists(&ready).unwrap_or(false), "the server");
    }

    /// A process of the user's that serves TCP and UDP on ports of the host's.
    fn serve_here(&self, address: &str, ports: &str) -> Background {
        let ready = format!("/run/ready-{address}");
        let command = format!("{}{PYTHON} serve {ready} {address} {ports}", self.as_user());
        let server = Background::start(&command);
        wait_for(|| fs::exists(&ready).unwrap_or(false), "the server");
        server
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.run("status --json")).expect("JSON")
    }

    fn engine(&self) -> u32 {
        let pid = self.status()["engine"]["pid"].as_u64();
        pid.and_then(|pid| pid.try_into().ok()).expect("a number")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string("/run/user/pontoon/engine.log").unwrap_or_default();
            eprintln!("engine.log:\n{log}");
        } else {
            self.run("shutdown");
        }
        if let Some(user) = &mut self.user {
            // It ends with the namespace at the latest.
            let _ = user.kill();
            let _ = user.wait();
        }
    }
}

/// A process in a user namespace whose only user has no rights.
fn ordinary_user() -> Child {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-user=1000", "--map-group=1000"]);
    let child = unshare.args(["sleep", "600"]).spawn();
    let child = child.expect("unshare (util-linux) can be run");
    let map = format!("/proc/{}/uid_map", child.id());
    let mapped = || fs::read_to_string(&map).is_ok_and(|map| map.trim().starts_with("1000"));
    wait_for(mapped, "the user");
    child
}

/// A process that ends with its handle, and talks meanwhile.
struct Background {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Background {
    fn start(command: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {command}")]);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().expect("sh can be run");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    /// A client that stays connected.
    fn hold(command: &str) -> Self {
        let mut held = Self::start(command);
        assert_eq!(held.line(), "connected");
        held
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    /// What has become of the connection.
    fn state(&mut self) -> String {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(b"?\n").expect("it runs");
        self.line()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text + &String::from_utf8_lossy(&output.stderr))
        .trim()
        .to_owned()
}

/// As whom a server takes a client of the host's; or why there is no answer.
fn ask(kind: &str, address: &str, port: u16) -> String {
    text(&try_sh(&format!("{PYTHON} ask {kind} {address} {port}")))
}

fn ask_from_outside(kind: &str, port: u16) -> String {
    let ask = format!("ip netns exec ext {PYTHON} ask {kind} {HOST} {port}");
    text(&try_sh(&ask))
}

impl Site {
    /// The error that a container meets, also where nobody says a word.
    fn denied(&self, container: &str, kind: &str, address: &str, port: u16) -> String {
        let ask =
            format!("exec {container} -- env PATIENCE=2 {PYTHON} ask {kind} {address} {port}");
        let error = text(&try_sh(&self.pontoon(&ask)));
        assert!(
            error.ends_with("Error"),
            "{container} {kind} {address} {port}: {error}"
        );
        error
    }

    fn ask_from(&self, container: &str, kind: &str, address: &str, port: u16) -> String {
        let ask = format!("exec {container} -- {PYTHON} ask {kind} {address} {port}");
        text(&try_sh(&self.pontoon(&ask)))
    }
}

const REFUSED: &str = "ConnectionRefusedError";
const GATEWAY: &str = "172.17.0.1";

macro_rules! site_tests {
    (|$site:ident| $($(#[$meta:meta])* fn $name:ident $body:block)*) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            namespaces(stringify!($name), || {
                let $site = Site::build();
                $body
            });
        }
    )*};
}

site_tests! {|site|
    /// PUB-01, PUB-11; on the default network, of which nothing was said.
    fn a_published_port_is_reached_with_the_clients_address {
        site.serve("web", "-p 8080:80 -p 8080:80/udp -p 8081-8082:81-82", "80 81 82");
        for kind in ["tcp", "udp"] {
            assert_eq!(ask(kind, "127.0.0.1", 8080), GATEWAY, "{kind}");
            assert_eq!(ask(kind, HOST, 8080), HOST, "{kind}");
            assert_eq!(ask_from_outside(kind, 8080), OUTSIDE, "{kind}");
        }
        assert_eq!(ask("tcp", "127.0.0.1", 8082), GATEWAY);
        let expected = "80/tcp -> 0.0.0.0:8080\n80/udp -> 0.0.0.0:8080\n\
                        81/tcp -> 0.0.0.0:8081\n82/tcp -> 0.0.0.0:8082\n";
        assert_eq!(site.run("port web"), expected);
        let uplink = site.run("network inspect bridge");
        assert!(uplink.contains("\"Uplink\": \"user\""), "{uplink}");
    }

    /// The moby behaviours of ports on distinct addresses: PUB-02, PUB-03, PUB-04.
    fn a_port_on_one_address_answers_there_alone {
        site.serve("one", "-p 127.0.0.1:8080:80 -p 127.0.0.1:8080:80/udp", "80");
        site.serve("two", "-p 127.0.0.2:8080:80 -p 192.0.2.1:8081:80", "80");
        for kind in ["tcp", "udp"] {
            assert_eq!(ask(kind, "127.0.0.1", 8080), GATEWAY);
            assert_eq!(ask(kind, HOST, 8080), REFUSED);
            assert_eq!(ask_from_outside(kind, 8080), REFUSED);
            assert_eq!(site.ask_from("two", kind, HOST, 8080), REFUSED);
        }
        assert_eq!(ask("tcp", "127.0.0.2", 8080), GATEWAY);
        assert_eq!(ask("tcp", "127.0.0.1", 8081), REFUSED);
        assert_eq!(ask_from_outside("tcp", 8081), OUTSIDE);
        // By a route that somebody on the link has made.
        sh("ip -n ext route add 127.0.0.0/8 via 192.0.2.1 table 99 \
            && ip -n ext rule add to 127.0.0.0/8 lookup 99 priority 0 \
            && ip netns exec ext sysctl -qw net.ipv4.conf.all.route_localnet=1");
        let forged = format!("ip netns exec ext env PATIENCE=2 {PYTHON} ask tcp 127.0.0.1 8080");
        assert!(!try_sh(&forged).status.success());
    }

    /// PUB-13.
    fn containers_reach_published_ports_by_the_hosts_address {
        site.run("network create other --subnet 10.97.0.0/24");
        site.serve("web", "-p 8080:80 -p 8080:80/udp", "80");
        site.run("run -d --name near -- sleep 60");
        site.run("run -d --name far --network other -- sleep 60");
        for kind in ["tcp", "udp"] {
            for client in ["web", "near", "far"] {
                assert_eq!(site.ask_from(client, kind, HOST, 8080), HOST, "{client} {kind}");
            }
        }
        // Not by the address that another network has for it.
        site.denied("far", "tcp", "172.17.0.2", 80);
    }

    /// PUB-06.
    fn a_range_is_published_whole_or_not_at_all {
        let other = site.serve_here("0.0.0.0", "9006");
        let pid = other.child.id();
        site.serve("web", "-p 8080:80", "80");
        site.run("run -d --name second -- sleep 60");
        for kind in ["tcp", "udp"] {
            let range = format!("publish second 9000-9009:80-89/{kind}");
            let error = site.refused(&range);
            let expected = format!(
                "Bind for 0.0.0.0:9006/{kind} failed: address already in use by process {pid} (python3)"
            );
            assert!(error.contains(&expected), "{error}");
            assert_eq!(ask("tcp", "127.0.0.1", 9005), REFUSED);
        }
        assert_eq!(site.run("port second"), "");
        let error = site.refused("publish second 8079-8081:80-82");
        assert!(error.contains("0.0.0.0:8080/tcp failed: port is already allocated to web"), "{error}");
        let error = site.refused("publish second 127.0.0.1:8080:80");
        assert!(error.contains("allocated to web"), "{error}");
        assert_eq!(ask("tcp", "127.0.0.1", 8080), GATEWAY, "the first goes on");
        let error = site.refused("run --name third -p 9000-9009:80-89 -- true");
        assert!(error.contains("0.0.0.0:9006/tcp failed"), "{error}");
        assert!(!site.run("ps -a").contains("third"));
        drop(other);
        site.run("publish second 9000-9009:80-89");
        assert_eq!(site.run("port second").lines().count(), 10);
        let error = site.refused("unpublish second 9008-9010:88-90");
        assert!(error.contains("9010:90/tcp on 0.0.0.0 is not published by second"), "{error}");
        site.run("unpublish second 9000-9008:80-88");
        assert_eq!(site.run("port second"), "89/tcp -> 0.0.0.0:9009\n");
    }

    /// The words of a refusal.
    fn a_port_that_cannot_be_had_says_why {
        site.run("run -d --name web -- sleep 60");
        let error = site.refused("publish web 192.0.2.77:8080:80");
        assert!(error.contains("the host has no such address"), "{error}");
        let error = site.refused("publish web 8080-8090:80");
        assert!(error.contains("Invalid ranges"), "{error}");
        let error = site.refused("publish nosuch 8080:80");
        assert!(error.contains("No such container"), "{error}");
        assert_eq!(site.run("port web"), "");
        assert_eq!(site.run("ps -q").lines().count(), 1, "the rest is unaffected");
    }

    fn a_port_that_is_left_open_is_chosen_and_told {
        let _other = site.serve_here("127.0.0.1", "32768 32769");
        site.serve("web", "-p 80 -p 80/udp", "80 81");
        assert_eq!(site.run("port web"), "80/tcp -> 0.0.0.0:32770\n80/udp -> 0.0.0.0:32771\n");
        assert_eq!(ask_from_outside("tcp", 32770), OUTSIDE);
        assert_eq!(ask_from_outside("udp", 32771), OUTSIDE);
        assert_eq!(site.run("publish web 127.0.0.1::81"), "81/tcp -> 127.0.0.1:32771\n");
        assert_eq!(ask("tcp", "127.0.0.1", 32771), GATEWAY);
        site.run("unpublish web 80");
        assert_eq!(ask("tcp", "127.0.0.1", 32770), REFUSED);
        assert_eq!(ask("udp", "127.0.0.1", 32771), GATEWAY, "UDP is another port");
    }

    /// PUB-15: a port is free for the next one at once, whatever its clients are doing.
    fn what_is_unpublished_ends_with_its_connections {
        site.serve("web", "-p 8080:80 -p 8080:80/udp -p 8081:80", "80");
        let hold = |kind, port| {
            Background::hold(&format!("ip netns exec ext {PYTHON} hold {kind} {HOST} {port}"))
        };
        let [mut tcp, mut udp, mut other] = [hold("tcp", 8080), hold("udp", 8080), hold("tcp", 8081)];
        let states = |all: [&mut Background; 3]| all.map(Background::state);
        assert_eq!(states([&mut tcp, &mut udp, &mut other]), ["alive"; 3]);
        site.run("unpublish web 8080:80 8080:80/udp");
        assert_eq!(states([&mut tcp, &mut udp, &mut other]), ["reset", REFUSED, "alive"]);
        assert_eq!(ask_from_outside("tcp", 8080), REFUSED);
        assert_eq!(site.run("port web"), "80/tcp -> 0.0.0.0:8081\n");
        // The container's end has heard of it too.
        let open = || site.run("exec web -- ss -Htn state established").lines().count();
        wait_for(|| open() == 1, "the container to hear of it");
        site.serve("next", "-p 8080:80 -p 8080:80/udp", "80");
        assert_eq!(udp.state(), "alive", "the next datagram goes to the new owner");
        for kind in ["tcp", "udp"] {
            assert_eq!(ask_from_outside(kind, 8080), OUTSIDE);
        }
        for _ in 0..3 {
            site.run("unpublish next 8080:80");
            site.run("publish next 8080:80");
            assert_eq!(ask_from_outside("tcp", 8080), OUTSIDE);
        }
        site.run("rm -f next");
        assert_eq!(ask_from_outside("tcp", 8080), REFUSED, "they go with the container");
        assert_eq!(other.state(), "alive");
    }

    /// PUB-17.
    fn a_port_at_which_nothing_listens_yet_is_no_trap {
        site.run("run -d --name web -p 8080:80 -p 8080:80/udp -- sleep 60");
        assert_eq!(ask_from_outside("tcp", 8080), "ConnectionResetError");
        let client = format!("ip netns exec ext {PYTHON} hold udp {HOST} 8080");
        let mut client = Background::hold(&client);
        assert_ne!(client.state(), "alive");
        let serve = format!("exec web -- {PYTHON} serve /run/ready 0.0.0.0 80");
        let _server = Background::start(&site.pontoon(&serve));
        wait_for(|| fs::exists("/run/ready").unwrap_or(false), "the server");
        assert_eq!(client.state(), "alive", "the next datagram arrives");
        assert_eq!(ask_from_outside("tcp", 8080), OUTSIDE);
    }

    /// PUB-07.
    fn a_thousand_ports_cost_no_process_and_little_memory {
        const PORTS: u64 = 2000;
        site.serve("web", "-p 8080:80", "80");
        let engine = site.engine();
        let files = || settled_descriptors(engine);
        let threads = || fs::read_dir(format!("/proc/{engine}/task")).expect("it runs").count();
        let processes = || sh("ps -e --no-headers").lines().count();
        // Connections of the command line that are not closed yet would be counted, and those who serve them.
        let before = (files(), rss(engine), threads(), processes());
        site.run("publish web 20000-20999:20000-20999 20000-20999:20000-20999/udp");
        let growth = rss(engine).saturating_sub(before.1);
        assert!(growth <= 4 * PORTS, "{growth} KiB for {PORTS} ports");
        wait_for(|| files() == before.0 + PORTS as usize, "one descriptor a port");
        wait_for(|| (threads(), processes()) == (before.2, before.3), "nobody new");
        assert_eq!(ask("tcp", "127.0.0.1", 8080), GATEWAY);
        // They cost nothing while nobody comes.
        wait_for_idle(engine);
        site.run("unpublish web 20000-20999:20000-20999 20000-20999:20000-20999/udp");
        wait_for(|| files() == before.0, "the sockets to go");
        assert_eq!(site.run("port web").lines().count(), 1);
    }

    fn the_hosts_loopback_is_closed_in_every_form {
        let _server = site.serve_here("127.0.0.1", "9000");
        let _positive = site.serve_here(HOST, "9000");
        site.run("network create lab --subnet 10.97.0.0/24");
        site.run("run -d --name web --network lab -- sleep 60");
        assert_eq!(ask("tcp", "127.0.0.1", 9000), "127.0.0.1", "it is there");
        let route = "sysctl -qw net.ipv4.conf.all.route_localnet=1; ip link set lo down; \
                     ip rule add to 127.0.0.0/8 lookup 99 priority 0; \
                     ip route add 127.0.0.0/8 via 10.97.0.1 dev eth0 table 99; \
                     ip route add 0.0.0.0/8 via 10.97.0.1 table 99";
        site.run(&format!("exec web -- sh -ec '{route}'"));
        for kind in ["tcp", "udp"] {
            for address in ["127.0.0.1", "127.1.2.3", "0.0.0.1", "10.97.0.1", "10.97.0.254", "169.254.1.1"] {
                site.denied("web", kind, address, 9000);
            }
            assert_eq!(site.ask_from("web", kind, HOST, 9000), HOST, "the host's addresses are not");
        }
    }

    fn the_hosts_loopback_is_opened_under_its_name {
        let _server = site.serve_here("127.0.0.1", "9000");
        site.run("network create lab --subnet 10.97.0.0/24 --host-loopback");
        site.run("run -d --name web --network lab --add-host me:host-gateway -- sleep 60");
        for kind in ["tcp", "udp"] {
            for name in ["host.pontoon.internal", "host.docker.internal", "me"] {
                assert_eq!(site.ask_from("web", kind, name, 9000), "127.0.0.1", "{kind} {name}");
            }
        }
        let hosts = site.run("exec web -- cat /etc/hosts");
        assert!(hosts.contains("10.97.0.254\thost.pontoon.internal host.docker.internal\n"), "{hosts}");
        assert!(hosts.contains("10.97.0.254\tme\n"), "{hosts}");
        // It is not a way into the rest of the host, and no container gets the address.
        assert_eq!(site.ask_from("web", "tcp", "10.97.0.254", 9001), REFUSED);
        let error = site.refused("run --network lab --ip 10.97.0.254 -- true");
        assert!(error.contains("in use"), "{error}");
        // Other networks have no part in it.
        site.run("run -d --name other --add-host me:host-gateway -- sleep 60");
        site.denied("other", "tcp", "10.97.0.254", 9000);
        let hosts = site.run("exec other -- cat /etc/hosts");
        assert!(hosts.contains(&format!("{GATEWAY}\tme\n")) && !hosts.contains("internal"), "{hosts}");
        let inspect = site.run("network inspect lab");
        assert!(inspect.contains("\"HostLoopback\": \"10.97.0.254\""), "{inspect}");
    }

    fn without_descriptors_new_flows_are_refused_and_old_ones_live {
        let _far = site.serve_here(HOST, "9000");
        site.serve("web", "-p 8080:80 -p 8080:80/udp", "80");
        let mut inward = Background::hold(&format!("ip netns exec ext {PYTHON} hold tcp {HOST} 8080"));
        let mut outward = Background::hold(&site.pontoon(&format!("exec web -- {PYTHON} hold tcp {HOST} 9000")));
        let engine = site.engine();
        let each = |kind| format!("exec web -- {PYTHON} each {kind} {HOST} 9000");
        let mut new = ["tcp", "udp"].map(|kind| Background::start(&site.pontoon(&each(kind))));
        assert_eq!(new.each_mut().map(Background::line), [HOST; 2]);
        let _held = exhaust(engine);
        for _ in 0..2 {
            let refusals = [ask_from_outside("tcp", 8080), ask("tcp", "127.0.0.1", 8080)];
            assert_eq!(refusals, ["ConnectionResetError"; 2]);
            let [tcp, udp] = &mut new;
            assert_eq!(udp.state(), "OSError", "told by ICMP, which has a limit");
            for _ in 0..10 {
                assert_eq!(tcp.state(), REFUSED);
            }
            assert_eq!([inward.state(), outward.state()], ["alive"; 2]);
        }
        assert_eq!(ask_from_outside("udp", 8080), OUTSIDE, "clients by UDP take none");
        limit(engine, 1024);
        assert_eq!(ask_from_outside("tcp", 8080), OUTSIDE);
        assert_eq!(new.each_mut().map(Background::state), [HOST; 2]);
        assert_eq!([inward.state(), outward.state()], ["alive"; 2]);
    }

    /// Those who connect while there is nothing to refuse them with wait, and are served later.
    fn clients_that_waited_for_descriptors_are_served {
        site.serve("web", "-p 8080:80", "80");
        let engine = site.engine();
        // Below what is open already: not even the descriptor that is kept for refusing is of use.
        limit(engine, 3);
        let client = format!("ip netns exec ext {PYTHON} ask tcp {HOST} 8080");
        let mut waiting = Background::start(&client);
        let connected = "ss -Htn state established dport = :8080 | grep -q 8080";
        wait_for(|| try_sh(&format!("ip netns exec ext {connected}")).status.success(), "the client");
        // Waiting costs next to nothing.
        wait_for_idle(engine);
        limit(engine, 1024);
        assert_eq!(waiting.line(), OUTSIDE);
    }

    fn the_way_out_is_there_unless_it_is_not_wanted {
        let _far = site.serve_here(HOST, "9000");
        site.run("network create inner --subnet 10.97.0.0/24 --uplink none");
        for (name, network) in [("open", "bridge"), ("shut", "inner")] {
            site.run(&format!("run -d --name {name} --network {network} -- sleep 60"));
        }
        assert_eq!(site.ask_from("open", "tcp", HOST, 9000), HOST);
        assert_eq!(site.denied("shut", "tcp", HOST, 9000), "OSError");
        let error = site.refused("publish shut 8080:80");
        assert!(error.contains("network inner has no uplink"), "{error}");
    }
}

/// Leaves a process no number for a descriptor: neither above those that it has nor in between, where
/// clients of port 8080 take them.
fn exhaust(pid: u32) -> Vec<Background> {
    // The connection that asked for the number may not be closed yet.
    settled_descriptors(pid);
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    let names = files.flatten().map(|file| file.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let numbers: Vec<usize> = names.filter_map(|name| name.parse().ok()).collect();
    let highest = numbers.iter().max().expect("it has some");
    limit(pid, highest + 1);
    let client = format!("ip netns exec ext {PYTHON} hold tcp {HOST} 8080");
    let free = highest + 1 - numbers.len();
    let mut clients: Vec<_> = (0..free).map(|_| Background::start(&client)).collect();
    // One that is refused shows that something else has taken a number meanwhile.
    clients.retain_mut(|client| client.line() == "connected");
    clients
}

/// Sets the soft limit of open files.
fn limit(pid: u32, files: usize) {
    sh(&format!("prlimit --pid {pid} --nofile={files}:"));
}
