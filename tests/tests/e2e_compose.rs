//! End to end: `up` and `down`. The examples do what their text says.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pontoon_tests::e2e::{environment, pontoon, run_pontoon, sh, try_sh, wait_for};

const README: &str = include_str!("../../examples/README.md");

/// A directory with a topology file, where commands are run.
struct Project(String);

impl Project {
    fn new(name: &str, text: &str) -> Self {
        let directory = format!("/run/{name}");
        fs::create_dir_all(&directory).expect("a writable /run");
        let project = Self(directory);
        project.write(text);
        project
    }

    fn write(&self, text: &str) {
        fs::write(Path::new(&self.0).join("pontoon.yaml"), text).expect("a writable /run");
    }

    /// Runs a command of the text in the directory; it must succeed. Returns what it prints.
    fn says(&self, command: &str) -> String {
        assert!(
            README.contains(&format!("$ {command}\n")),
            "not in the text: {command}"
        );
        sh(&self.shell(command))
    }

    fn shell(&self, command: &str) -> String {
        let command = command.replace("pontoon ", &format!("{} ", environment()));
        format!("cd {} && {command}", self.0)
    }

    fn run(&self, arguments: &str) -> String {
        sh(&format!(
            "cd {} && {} {arguments} 2>&1",
            self.0,
            environment()
        ))
    }

    fn refused(&self, arguments: &str) -> String {
        let output = try_sh(&format!("cd {} && {} {arguments}", self.0, environment()));
        assert!(!output.status.success(), "{arguments} was accepted");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// `up` in the foreground; what it prints goes to the files `out` and `err`.
    fn in_foreground(&self) -> Child {
        let file = |name: &str| fs::File::create(Path::new(&self.0).join(name)).expect("a file");
        let mut up = Command::new(pontoon());
        up.arg("up").current_dir(&self.0);
        up.env("XDG_RUNTIME_DIR", "/run/user").stdin(Stdio::null());
        up.stdout(file("out")).stderr(file("err"));
        up.spawn().expect("pontoon can be run")
    }

    fn printed(&self, name: &str) -> String {
        fs::read_to_string(Path::new(&self.0).join(name)).expect("a file")
    }
}

fn listing(arguments: &str) -> Vec<serde_json::Value> {
    serde_json::from_str(&run_pontoon(arguments)).expect("a list as JSON")
}

/// Names and ids of all containers.
fn containers() -> Vec<(String, String)> {
    let text = |c: &serde_json::Value, key: &str| c[key].as_str().expect("a text").to_owned();
    let all = listing("ps -a --json");
    all.iter()
        .map(|c| (text(c, "name"), text(c, "id")))
        .collect()
}

/// Names of all networks.
fn networks() -> Vec<String> {
    let names = run_pontoon("network ls --format '{{.Name}}'");
    names.lines().map(str::to_owned).collect()
}

/// Nothing but the default bridge is left.
fn assert_nothing_left() {
    assert_eq!(containers(), []);
    assert_eq!(networks(), ["bridge"]);
}

fn send(up: &Child, signal: &str) {
    sh(&format!("kill -{signal} {}", up.id()));
}

macro_rules! example {
    ($name:literal) => {
        Project::new(
            $name,
            include_str!(concat!("../../examples/", $name, "/pontoon.yaml")),
        )
    };
}

pontoon_tests::namespace_tests! {
    /// The example `default-bridge`.
    fn two_containers_of_the_default_bridge_ping_each_other {
        let project = example!("default-bridge");
        project.says("pontoon up -d");
        project.says("pontoon exec default-bridge-two-1 -- ping -c1 172.17.0.2");
        project.refused("exec default-bridge-two-1 -- getent hosts default-bridge-one-1");
        project.says("pontoon down");
        assert_nothing_left();
    }

    /// The example `named-network`.
    fn names_and_aliases_lead_to_a_service {
        let project = example!("named-network");
        project.says("pontoon up -d");
        let found = project.says("pontoon exec named-network-client-1 -- getent hosts web");
        assert!(found.starts_with("10.77.0.10 "), "{found}");
        wait_for(|| try_sh(&project.shell("pontoon exec named-network-client-1 -- curl -s http://www/")).status.success(), "the server");
        let page = project.says("pontoon exec named-network-client-1 -- curl -s http://www/");
        assert!(page.contains("Directory listing"), "{page}");
        project.says("pontoon down");
        assert_nothing_left();
    }

    /// The example `published`.
    fn a_published_server_answers_on_the_host {
        let project = example!("published");
        project.says("pontoon up -d");
        let curl = "curl -s http://127.0.0.1:8080/";
        wait_for(|| try_sh(&project.shell(curl)).status.success(), "the server");
        assert!(project.says(curl).contains("Directory listing"));
        let port = project.says("pontoon port published-web-1");
        assert_eq!(port, "80/tcp -> 0.0.0.0:8080\n");
        project.says("pontoon down");
        assert!(!try_sh(&project.shell(curl)).status.success(), "the port is still open");
        sh(&project.shell("PORT=9090 pontoon up -d"));
        wait_for(|| try_sh(&project.shell("curl -s http://127.0.0.1:9090/")).status.success(), "the other port");
        project.says("pontoon down");
        assert_nothing_left();
    }

    /// The example `outside`, through the host's sockets and through an interface.
    fn an_outside_server_sees_the_hosts_address {
        sh("ip netns add ext && ip link add up0 type veth peer name eth0 netns ext \
            && ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up \
            && ip -n ext addr add 192.0.2.254/24 dev eth0 && ip -n ext link set eth0 up && ip -n ext link set lo up");
        let server = "import http.server as h\n\
                      class Who(h.BaseHTTPRequestHandler):\n\
                      \x20def do_GET(s): s.send_response(200); s.end_headers(); s.wfile.write(s.client_address[0].encode())\n\
                      h.HTTPServer(('', 80), Who).serve_forever()\n";
        fs::write("/run/who.py", server).expect("a writable /run");
        let mut server = Command::new("ip");
        let mut server = server.args(["netns", "exec", "ext", "python3", "/run/who.py"]).spawn().expect("ip (iproute2) can be run");
        wait_for(|| try_sh("curl -s --max-time 1 http://192.0.2.254/").status.success(), "the outside server");
        let project = example!("outside");
        for uplink in ["", "UPLINK=dev:up0 "] {
            sh(&project.shell(&format!("{uplink}pontoon up -d")));
            let seen = project.says("pontoon exec outside-client-1 -- curl -s http://192.0.2.254/");
            assert_eq!(seen, "192.0.2.1", "{uplink}");
            project.says("pontoon down");
        }
        assert!(README.contains("$ pontoon up -d") && README.contains("UPLINK=dev:eth0 pontoon up -d"));
        assert_nothing_left();
        server.kill().expect("own child");
        server.wait().expect("own child");
    }

    /// The example `isolation`.
    fn isolated_networks_do_not_reach_each_other {
        let project = example!("isolation");
        project.says("pontoon up -d");
        let inside = "pontoon exec isolation-httpd-1 -- curl -s --max-time 3 http://10.78.1.10/";
        wait_for(|| try_sh(&project.shell(inside)).status.success(), "the server");
        let curl = "pontoon exec isolation-box-1 -- curl -s --max-time 3 http://10.78.1.10/";
        assert!(README.contains(&format!("$ {curl}\n")));
        assert!(!try_sh(&project.shell(curl)).status.success(), "it is reached");
        let httpd = "exec isolation-box-1 -- getent hosts httpd";
        project.refused(httpd);
        project.says("pontoon network connect isolation_net1 isolation-box-1");
        let page = project.says("pontoon exec isolation-box-1 -- curl -s --max-time 3 http://httpd/");
        assert!(page.contains("Directory listing"), "{page}");
        let again = project.run("up -d");
        assert!(again.contains("isolation: nothing changed"), "{again}");
        project.says("pontoon network disconnect isolation_net1 isolation-box-1");
        assert!(!try_sh(&project.shell(curl)).status.success(), "it is still reached");
        project.refused(httpd);
        project.says("pontoon down");
        assert_nothing_left();
    }

    fn a_second_time_changes_nothing_and_a_changed_file_only_what_changed {
        let text = "services:\n  a: {command: sleep 60}\n  b: {command: sleep 60, depends_on: [a]}\n";
        let project = Project::new("twice", text);
        let first = project.run("up -d");
        assert!(first.contains(" Network twice_default  Created\n Container twice-a-1  Started\n Container twice-b-1  Started\n"), "{first}");
        let before = containers();
        let again = project.run("up -d");
        assert!(again.contains("Container twice-a-1  Running") && again.contains("twice: nothing changed"), "{again}");
        assert_eq!(containers(), before);
        project.write(&text.replace("sleep 60, dep", "sleep 61, dep"));
        let done: serde_json::Value = serde_json::from_str(&sh(&project.shell("pontoon up -d --json"))).expect("JSON");
        assert_eq!(done["changed"], true);
        let after = containers();
        assert_eq!((&after[0], after.len()), (&before[0], 2));
        assert_ne!(after[1], before[1]);
        project.write(&format!("{text}networks: {{default: {{mtu: 1400}}}}\n"));
        project.run("up -d");
        assert!(containers().iter().all(|c| !after.contains(c)));
        let status: serde_json::Value = serde_json::from_str(&run_pontoon("status --json")).expect("JSON");
        let networks = status["networks"].as_array().expect("a list");
        let made = networks.iter().find(|n| n["name"] == "twice_default").expect("it is there");
        assert_eq!(made["mtu"], 1400);
    }

    fn a_service_on_two_networks_is_found_on_both {
        let text = "services:\n  \
                    a: {command: sleep 60, networks: [n1]}\n  \
                    b: {command: sleep 60, networks: [n2]}\n  \
                    both:\n    command: sleep 60\n    networks:\n      \
                    n1: {ipv4_address: 10.79.1.9}\n      n2: {ipv4_address: 10.79.2.9, aliases: [middle]}\n\
                    networks:\n  \
                    n1: {ipam: {config: [{subnet: 10.79.1.0/24}]}}\n  \
                    n2: {ipam: {config: [{subnet: 10.79.2.0/24}]}}\n";
        let project = Project::new("two", text);
        project.run("up -d");
        project.run("exec two-a-1 -- ping -c1 -W5 10.79.1.9");
        let found = project.run("exec two-b-1 -- getent hosts both middle");
        assert_eq!(found.matches("10.79.2.9 ").count(), 2, "{found}");
        project.run("exec two-both-1 -- ping -c1 -W5 b");
        project.refused("exec two-a-1 -- ping -c1 -W1 10.79.2.9");
        project.run("down");
        assert_nothing_left();
    }

    fn down_takes_what_the_project_made_and_nothing_else {
        let project = Project::new("mine", "services:\n  a: {command: sleep 60}\n");
        project.run("up -d");
        project.run("up -d --project other");
        run_pontoon("network create theirs");
        run_pontoon("run -d --name theirs --network theirs sleep 60");
        project.run("down");
        let names: Vec<_> = containers().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["other-a-1", "theirs"]);
        assert_eq!(networks(), ["bridge", "other_default", "theirs"]);
        let again = project.run("down");
        assert!(again.contains("mine: nothing is there"), "{again}");
        sh(&format!("cd / && {} down --project other", environment()));
        assert_eq!(networks(), ["bridge", "theirs"]);
    }

    fn a_step_that_fails_is_told_with_what_was_made_before {
        let text = "services:\n  a: {command: sleep 60, ports: ['8080:80']}\n  \
                    b: {command: sleep 60, ports: ['8080:80'], depends_on: [a]}\n";
        let project = Project::new("half", text);
        let error = project.refused("up -d");
        assert!(error.contains("container half-b-1") && error.contains("8080"), "{error}");
        assert!(error.contains("made before: network half_default, container half-a-1"), "{error}");
        assert!(error.contains("pontoon down --project half"), "{error}");
        let names: Vec<_> = containers().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["half-a-1"]);
        project.write(&text.replace("8080:80'], dep", "8081:80'], dep"));
        project.run("up -d");
        project.run("down");
        assert_nothing_left();
    }

    fn a_file_with_a_fault_starts_nothing {
        let project = Project::new("fault", "services:\n  a:\n    image: nginx\n");
        let error = project.refused("up -d");
        assert!(error.starts_with("pontoon: pontoon.yaml:3: services.a.image: Pontoon is a network"), "{error}");
        let missing = project.refused("up -f none.yaml");
        assert!(missing.contains("none.yaml"), "{missing}");
        project.refused("ps");
        project.write("services:\n  a: {command: sleep 60}\n");
        run_pontoon("run -d --name fault-a-1 sleep 60");
        let error = project.refused("up -d");
        assert!(error.contains("fault-a-1: it is there and was not made by"), "{error}");
        assert_eq!(networks(), ["bridge"]);
    }

    fn output_comes_under_names_and_an_interrupt_ends_all {
        let text = "services:\n  \
                    talks: {command: [sh, -c, 'echo one; echo two >&2; exec sleep 60']}\n  \
                    short: {command: [sh, -c, 'printf three; exit 3']}\n";
        let project = Project::new("fg", text);
        let mut up = project.in_foreground();
        wait_for(|| project.printed("out").contains("short-1 exited with code 3\n"), "the short one's end");
        wait_for(|| project.printed("out").contains("talks-1  | two\n"), "the other's words");
        let out = project.printed("out");
        assert!(out.contains("talks-1  | one\n") && out.contains("short-1  | three\n"), "{out}");
        assert_eq!(up.try_wait().expect("own child"), None);
        send(&up, "INT");
        assert_eq!(up.wait().expect("own child").code(), Some(130));
        assert!(project.printed("out").contains("talks-1 exited with code 143\n"));
        let all = listing("ps -a --json");
        assert!(all.iter().all(|c| c["state"] == "exited"), "{all:?}");
        project.run("down");
        assert_nothing_left();
    }

    fn a_container_that_will_not_stop_is_killed_by_a_second_interrupt {
        let text = "services:\n  a: {command: [sh, -c, 'trap \"\" TERM; echo deaf; while :; do sleep 1; done']}\n";
        let project = Project::new("deaf", text);
        project.run("up -d");
        let mut up = project.in_foreground();
        wait_for(|| project.printed("out").contains("a-1  | deaf\n"), "its words");
        send(&up, "INT");
        wait_for(|| project.printed("err").contains("Ctrl-C again"), "the offer");
        send(&up, "INT");
        assert_eq!(up.wait().expect("own child").code(), Some(130));
        assert!(project.printed("out").contains("a-1 exited with code 137\n"));
    }

    fn many_that_end_at_once_are_all_heard {
        let services: String = (0..12).map(|n| format!("  s{n}: {{command: echo said {n}}}\n")).collect();
        let project = Project::new("many", &format!("services:\n{services}"));
        let status = project.in_foreground().wait().expect("own child");
        assert!(status.success(), "{}", project.printed("err"));
        let out = project.printed("out");
        for n in 0..12 {
            assert!(out.contains(&format!("| said {n}\n")) && out.contains(&format!("s{n}-1 exited with code 0\n")), "{out}");
        }
    }

    fn one_that_is_waited_for_ends_first {
        let text = "services:\n  \
                    last: {command: [sh, -c, 'cat made'], depends_on: {first: {condition: service_completed_successfully}}}\n  \
                    first: {command: [sh, -c, 'sleep 1; echo ready > made']}\n";
        let project = Project::new("order", text);
        let status = project.in_foreground().wait().expect("own child");
        assert!(status.success(), "{}", project.printed("err"));
        assert!(project.printed("out").contains("last-1   | ready\n"), "{}", project.printed("out"));
        project.write(&text.replace("echo ready > made", "exit 4"));
        let error = project.refused("up -d");
        assert!(error.contains("order-first-1: ended with status 4"), "{error}");
    }

    fn containers_without_networks_of_their_own_are_where_the_file_says {
        let text = "services:\n  \
                    front: {command: sleep 60}\n  \
                    side: {command: sleep 60, network_mode: 'service:front'}\n  \
                    guest: {command: sleep 60, network_mode: 'container:theirs'}\n  \
                    alone: {command: sleep 60, network_mode: none}\n  \
                    here: {command: sleep 60, network_mode: host}\n";
        let project = Project::new("modes", text);
        let error = project.refused("up -d");
        assert!(error.contains("modes-guest-1: it is to be in the network namespace of theirs"), "{error}");
        run_pontoon("run -d --name theirs sleep 60");
        project.run("up -d");
        let net = |name: &str| run_pontoon(&format!("exec {name} -- readlink /proc/self/ns/net"));
        assert_eq!(net("modes-side-1"), net("modes-front-1"));
        assert_eq!(net("modes-guest-1"), net("theirs"));
        assert_eq!(net("modes-here-1"), sh("readlink /proc/self/ns/net"));
        assert_eq!(run_pontoon("exec modes-alone-1 -- ls /sys/class/net"), "lo\n");
        let again = project.run("up -d");
        assert!(again.contains("modes: nothing changed"), "{again}");
        // Its owner is another one now, and so it moves along.
        run_pontoon("rm -f modes-front-1");
        project.run("up -d");
        assert_eq!(net("modes-side-1"), net("modes-front-1"));
        project.run("down");
        run_pontoon("rm -f theirs");
        assert_nothing_left();
    }

    fn a_command_has_its_entrypoint_and_its_files_of_variables {
        let text = "services:\n  \
                    a:\n    entrypoint: [sh, -c, 'echo $$0 $$ONE $$TWO $${PONTOON_INSTANCE-none}']\n    \
                    command: [said]\n    env_file: [one.env, {path: absent.env, required: false}]\n    \
                    environment: {TWO: two}\n    restart: 'no'\n";
        let project = Project::new("words", text);
        let error = project.refused("up -d");
        assert!(error.starts_with("pontoon: pontoon.yaml:5: services.a.env_file[0]: one.env: "), "{error}");
        fs::write("/run/words/one.env", "# of a\nexport ONE='1 #' \nTWO=2\n").expect("a writable /run");
        let status = project.in_foreground().wait().expect("own child");
        assert!(status.success(), "{}", project.printed("err"));
        assert!(project.printed("out").contains("a-1  | said 1 # two none\n"), "{}", project.printed("out"));
        // Whatever became of the file, what it made can be taken away.
        fs::remove_file("/run/words/one.env").expect("it is there");
        project.run("down");
        assert_nothing_left();
    }

    /// The same file, by two engines side by side.
    fn up_and_down_are_of_the_engine_that_is_named {
        let text = "services:\n  \
                    a: {command: [sh, -c, 'echo on $${PONTOON_INSTANCE-none}; exec sleep 60']}\n  \
                    b: {command: 'true', depends_on: [a]}\n  \
                    c: {command: 'true', depends_on: {b: {condition: service_completed_successfully}}}\n";
        let project = Project::new("by", text);
        project.run("--instance other up -d");
        let count = |instance: &str| listing(&format!("{instance} ps -a --json")).len();
        assert_eq!(count("--instance other"), 3);
        project.refused("ps");
        project.run("up -d");
        let again = project.run("--instance other up -d --json");
        assert!(again.contains("Container by-a-1  Running"), "{again}");
        project.run("--instance other down");
        assert_eq!((count(""), count("--instance other")), (3, 0));
        let mut up = project.in_foreground();
        wait_for(|| project.printed("out").contains("a-1  | on none\n"), "its words");
        send(&up, "INT");
        assert_eq!(up.wait().expect("own child").code(), Some(130));
        project.run("down");
        assert_nothing_left();
        run_pontoon("--instance other shutdown");
    }
}
