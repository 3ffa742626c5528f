//! Whether the kernel carries flows: who says so, for how long it holds, and what shows it.

use pontoon_tests::e2e::figures::{counter, json};
use pontoon_tests::e2e::{Ordinary, environment, refused, run_pontoon, sh, try_sh, wait_for};
use serde_json::Value;

/// Python program that runs a command on a kernel which refuses system calls.
const CONFINED: &str = include_str!("../src/e2e/confined.py");
/// Before a command: sockets that speak to nf_tables are refused.
const WITHOUT_NF_TABLES: &str = "/usr/bin/python3 /run/confined.py socket:16:12=EPERM --";
/// What is said of it.
const WHY: &str = "open a socket to nf_tables: Operation not permitted (os error 1)";

/// What the engine was told, and whether it carries.
fn told() -> (String, bool) {
    let offload = json("status --json")["offload"].clone();
    let mode = offload["mode"].as_str().expect("a mode").to_owned();
    assert_eq!(offload["why"], Value::Null);
    (mode, offload["active"].as_bool().expect("a flag"))
}

fn engine() -> u64 {
    json("status --json")["engine"]["pid"]
        .as_u64()
        .expect("a process")
}

/// Does something after which another engine serves.
fn another_engine(does: impl FnOnce(u64)) {
    let before = engine();
    does(before);
    let now = || {
        let status = try_sh(&format!("{} status --json", environment()));
        let status: Value = serde_json::from_slice(&status.stdout).ok()?;
        status["engine"]["pid"].as_u64()
    };
    wait_for(|| now().is_some_and(|pid| pid != before), "another engine");
}

pontoon_tests::namespace_tests! {
    /// Who starts an engine says it, by an option or by the environment; every engine of the same keeper holds to it.
    fn the_choice_of_an_engine_outlives_its_lives {
        let with = |before: &str, options: &str| sh(&format!(
            "{before} {} {options} network create net", environment()
        ));
        for (before, options, expected) in [
            ("PONTOON_OFFLOAD=off", "", ("off", false)),
            ("PONTOON_OFFLOAD=auto", "--offload off", ("off", false)),
            ("PONTOON_OFFLOAD=off", "--offload auto", ("auto", true)),
            ("PONTOON_OFFLOAD=", "", ("auto", true)),
        ] {
            with(before, options);
            let expected = (expected.0.to_owned(), expected.1);
            assert_eq!(told(), expected, "{before} {options}");
            another_engine(|engine| drop(sh(&format!("kill -9 {engine}"))));
            assert_eq!(told(), expected, "{before} {options}, after it has died");
            another_engine(|_| drop(run_pontoon("upgrade")));
            assert_eq!(told(), expected, "{before} {options}, after an upgrade");
            // Who finds an engine that runs has no say.
            assert_eq!(json("--offload off status --json")["offload"]["mode"], *expected.0);
            let text = run_pontoon("status");
            assert!(text.contains(&format!("\noffload: {}", expected.0)), "{text}");
            run_pontoon("shutdown");
        }
    }

    /// An ordinary user's engine without nf_tables says so, and containers run.
    fn an_ordinary_user_needs_no_nf_tables {
        std::fs::write("/run/confined.py", CONFINED).expect("a writable /run");
        let ordinary = Ordinary::new();
        for (kernel, why) in [("", Value::Null), (WITHOUT_NF_TABLES, WHY.into())] {
            let ran = ordinary.run(&format!("{kernel} $PONTOON run -d --name c -- sleep 600 && $PONTOON exec c -- echo ran"));
            assert!(ran.ends_with("ran\n"), "{ran}");
            let status: Value = serde_json::from_str(&ordinary.run("$PONTOON status --json")).expect("JSON");
            let expected = serde_json::json!({"mode": "auto", "active": why.is_null(), "why": why});
            assert_eq!(status["offload"], expected);
            ordinary.run("$PONTOON shutdown");
        }
    }

    /// What is neither is refused, wherever it stands.
    fn what_is_no_choice_is_refused {
        for arguments in ["--offload on status", "network create --offload yes x"] {
            let error = refused(arguments);
            assert!(error.contains("expected auto or off"), "{error}");
        }
        let output = try_sh(&format!("PONTOON_OFFLOAD=1 {} status", environment()));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains("expected auto or off"), "{error}");
    }

    /// A network's choice is shown, outlives the engine, and can be made in a topology file.
    fn the_choice_of_a_network_is_shown_and_kept {
        run_pontoon("network create loud");
        run_pontoon("network create --offload off quiet");
        std::fs::write("/run/pontoon.yaml", "networks: {file: {offload: off}}\nservices: {s: {command: sleep 600, networks: [file]}}\n").expect("a writable /run");
        run_pontoon("up -d /run/pontoon.yaml --project p");
        let shown = || ["loud", "quiet", "p_file"].map(|name| {
            let shown = run_pontoon(&format!("network inspect -f '{{{{.Pontoon.Offload}}}}' {name}"));
            shown.trim().to_owned()
        });
        assert_eq!(shown(), ["auto", "off", "off"]);
        another_engine(|engine| drop(sh(&format!("kill -9 {engine}"))));
        assert_eq!(shown(), ["auto", "off", "off"]);
        let views = json("network ls --json");
        let quiet = views.as_array().expect("a list").iter().find(|n| n["name"] == "quiet").cloned();
        assert_eq!(quiet.expect("a network")["offload"], "off");
        let again = run_pontoon("up -d /run/pontoon.yaml --project p 2>&1");
        assert!(again.contains("nothing changed"), "{again}");
    }
}

pontoon_tests::laboratory_tests! { |lab|
    /// Where nf_tables are refused, one line of the log and `status` say so, however many engines there are, and
    /// everything works.
    fn without_nf_tables_the_engine_carries_everything {
        run_pontoon("shutdown");
        std::fs::write("/run/confined.py", CONFINED).expect("a writable /run");
        sh(&format!(
            "XDG_RUNTIME_DIR=/run/user PONTOON_OFFLOAD=auto {WITHOUT_NF_TABLES} {} network create net --subnet 172.18.0.0/24 --uplink dev:up0",
            pontoon_tests::e2e::pontoon().display()
        ));
        for (container, host) in [("c1", 2), ("c2", 3), ("c3", 4)] {
            lab.attach(container, host, "");
        }
        for _ in 0..2 {
            let expected = serde_json::json!({"mode": "auto", "active": false, "why": WHY});
            assert_eq!(json("status --json")["offload"], expected);
            let text = run_pontoon("status");
            assert!(text.contains(WHY), "{text}");
            let server = lab.serve("c2", "iperf3 -s", 5201);
            lab.run("c1", "iperf3 -c 172.18.0.3 -t 1");
            drop(server);
            assert_eq!(counter("carried.frames"), 0);
            another_engine(|engine| drop(sh(&format!("kill -9 {engine}"))));
        }
        let log = std::fs::read_to_string("/run/user/pontoon/engine.log").expect("a log");
        assert_eq!(log.matches("carried by the kernel").count(), 1, "{log}");
        lab.expect_this_engine();
    }

    /// `flows` marks the flows that are carried, and no others; `stats` counts them.
    fn what_is_carried_is_marked {
        lab.offload(r#"
            command("publish c2 8053:53/udp 8054:54/udp")
            busy = Datagrams("c1", "c2", ("172.18.0.1", 8053), 53, 5000)
            idle = Datagrams("c1", "c2", ("172.18.0.1", 8054), 54, 5001)
            until_carried(busy.and_back, 2)
            marked = {line.split("sport=")[1].split()[0]: "[OFFLOAD]" in line for line in command("flows").decode().splitlines()}
            assert marked["5000"] and not marked["5001"], marked
            assert {f["original"][0]: f["offload"] for f in flows("172.18.0.2")} == {
                "172.18.0.2:5000": True, "172.18.0.2:5001": False}
            assert counter("carried.flows") == counter("carried.installed") - counter("carried.removed") == 2
            assert counter("carried.bytes") > counter("carried.frames") and counter("carried.refused") == 0
        "#);
    }

    /// Between the same containers, flows of a network that is off stay with the engine, and those of another are carried.
    fn a_network_that_is_off_has_nothing_carried {
        run_pontoon("network create quiet --subnet 172.29.0.0/24 --offload off");
        for (container, host) in [("c1", 2), ("c2", 3)] {
            lab.reattach(container, host, &format!("--network name=quiet,ip=172.29.0.{host}"));
        }
        lab.expect_this_engine();
        let _server = lab.serve("c2", "iperf3 -s", 5201);
        lab.run("c1", "iperf3 -c 172.29.0.3 -t 2");
        assert_eq!((counter("carried.frames"), counter("carried.flows")), (0, 0));
        lab.run("c1", "iperf3 -c 172.18.0.3 -t 2");
        wait_for(|| counter("carried.frames") > 0, "frames to be carried");
    }
}
