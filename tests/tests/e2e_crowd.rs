//! End to end: more containers on one network than the kernel's bridge has ports, and many that come and go.

use std::fs;

use pontoon_tests::e2e::{containers, environment, process, run_pontoon, sh, wait_for};

const CLIENTS: &str = include_str!("../src/e2e/clients.py");
const CROWD: &str = include_str!("../src/e2e/crowd.py");

/// Runs a Python program that uses the module `crowd`; whatever it asserts must hold. What it says is shown
/// with `--nocapture`.
fn crowd(program: &str) {
    fs::write("/run/clients.py", CLIENTS).expect("a writable /run");
    fs::write("/run/crowd.py", CROWD).expect("a writable /run");
    let program = format!("from crowd import *\n{program}");
    fs::write("/run/program.py", program).expect("a writable /run");
    let python = "PYTHONPATH=/run PYTHONDONTWRITEBYTECODE=1 timeout 400 /usr/bin/python3";
    let said = sh(&format!(
        "PONTOON='{}' {python} /run/program.py",
        environment()
    ));
    println!("{said}");
}

/// Three containers of different kinds start, do what they are there for, and are told to end.
fn three_start() {
    run_pontoon("run -d --name a -p 8080:80 -- python3 -m http.server 80");
    run_pontoon("run -d --name b --network bridge --network back -- sleep 600");
    run_pontoon("attach --netns /run/netns/ns --name c --network back");
    let get = "curl -sf --max-time 2 -o /dev/null http://127.0.0.1:8080";
    wait_for(
        || pontoon_tests::e2e::try_sh(get).status.success(),
        "the web server",
    );
    let third = containers::shown("c")["address"].clone();
    let third = third.as_str().expect("text").replace("/16", "");
    containers::exec("b", &format!("ping -c1 -W5 {third}"));
}

/// What is there, a line each: files, interfaces here and in the namespace that is attached, namespaces,
/// mounts, processes.
fn census() -> String {
    let rest = sh(
        "find /run/user | sort; ip -o link | cut -d: -f2; ip -n ns -o link | cut -d: -f2; \
        readlink /proc/[0-9]*/ns/net | sort -u | wc -l; wc -l < /proc/self/mountinfo",
    );
    rest + &processes()
}

/// Pontoon's processes, but for those that have ended and that nobody waits for.
fn processes() -> String {
    sh("ps -e -o stat=,comm= | grep pontoon | grep -v ^Z; true")
}

pontoon_tests::namespace_tests! {
    /// The kernel's bridge has 1 023 ports. Every ordered pair of the 1 200 is tried. What the last one costs is
    /// compared with what the first one of another engine does at the same time.
    fn twelve_hundred_containers_stand_on_one_network_and_the_last_costs_what_the_first_did {
        crowd(r#"
engine, fresh = Engine(), Engine("fresh")
engine.pontoon("network create many --subnet 172.18.0.0/21")
fresh.pontoon("network create many --subnet 172.20.0.0/21")
spaces = namespaces(1201)
containers = crowd(engine, "many", spaces[:1199])
compare(engine, "last", spaces[1199], fresh, "first", spaces[1200])
containers += crowd(engine, "many", spaces[1199:1200], 1199)
assert len({one.ip for one in containers}) == len({one.mac for one in containers}) == 1200
for one in containers:
    one.reaches_gateway()
all_reach_each_other(containers)
port = {"ports": [f"9000:{PORT}/udp"]}
assert engine.ask("POST", "/v1/containers/n1199/ports", port)[0] == 201
host = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
containers[-1].hears(b"host", lambda: host.sendto(b"host", ("127.0.0.1", 9000)))
assert engine.resident() < 64 << 10
leave(containers)
fresh.pontoon("shutdown")
engine.shut_down(spaces)
"#);
    }

    /// FLT-09.
    fn a_hundred_come_and_go_at_once_in_any_order {
        crowd(r#"
engine = Engine()
engine.pontoon("network create many --subnet 172.18.0.0/24")
spaces, there = namespaces(100), set()
def toggle(number):
    if number in there:
        assert engine.detach(f"n{number}")[0] == 204
    else:
        assert engine.attach(f"n{number}", "many", spaces[number])[0] == 201
for _ in range(10):
    order = random.sample(range(100), 100)
    together(100, lambda client: toggle(order[client]))
    there ^= set(order)
    views = {view["name"]: view for view in engine.ask("GET", "/v1/containers")[1]}
    assert set(views) == {f"n{number}" for number in there}, views.keys()
    assert len({view["address"] for view in views.values()}) == len(there)
    for number, ns in enumerate(spaces):
        has = address(ns)
        assert has == (views[f"n{number}"]["address"].split("/")[0] if number in there else None), (number, has)
"#);
    }

    /// FLT-03.
    fn twenty_starts_and_stops_of_three_containers_leave_nothing {
        sh("ip netns add ns");
        let mut left = Vec::new();
        for _ in 0..20 {
            run_pontoon("network create back");
            three_start();
            run_pontoon("shutdown");
            // Kernels take interfaces away a moment after their namespace.
            wait_for(|| !census().contains("eth0") && processes().is_empty(), "everything to go");
            left.push(census());
        }
        left.dedup();
        assert_eq!(left.len(), 1, "{left:#?}");
        assert!(!left[0].contains("run-") && !left[0].contains("api.sock"), "{}", left[0]);
    }

    /// FLT-03, while the engine stays.
    fn containers_that_end_leave_nothing_of_them_in_the_engine {
        sh("ip netns add ns");
        run_pontoon("network create back");
        let engine = process::engine();
        let stop = || {
            run_pontoon("stop -t 1 a b");
            run_pontoon("rm a b");
            run_pontoon("detach c");
        };
        three_start();
        stop();
        let (files, before) = (process::settled_descriptors(engine), census());
        for _ in 0..20 {
            three_start();
            stop();
        }
        assert_eq!(process::settled_descriptors(engine), files);
        wait_for(|| census() == before, "everything to be as before");
    }
}
