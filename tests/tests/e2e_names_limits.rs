//! End to end: clients of the name server that ask too much, too slowly, or when descriptors have run out.

use std::fs;

use pontoon_tests::e2e::names::*;
use pontoon_tests::e2e::process::{descriptors, engine, settled_descriptors};
use pontoon_tests::e2e::{run_pontoon, sh, wait_for, wait_for_idle};

const STALL: &str = include_str!("../src/e2e/stall.py");
const FLOOD: &str = include_str!("../src/e2e/flood.py");

pontoon_tests::names_tests! {
    fn without_descriptors_a_query_fails_at_once_and_own_names_work {
        let _upstream = networks();
        container("web", "--network app");
        let script = format!(
            "until test -e /run/go; do sleep 0.05; done; {DIG} www.example; {DIG} +tcp www.example; \
             {DIG} +tcp web; touch /run/done; until test -e /run/more; do sleep 0.05; done; {DIG} www.example"
        );
        run_pontoon(&format!("run -d --name asker --network app -- sh -c '({script}) > /run/told'"));
        let engine = engine();
        // The client that asked for it has left.
        settled_descriptors(engine);
        sh(&format!("prlimit --pid {engine} --nofile={}:", next_descriptor(engine)));
        fs::write("/run/go", "").expect("a writable /run");
        wait_for(|| fs::exists("/run/done").is_ok_and(|done| done), "three answers");
        let told = fs::read_to_string("/run/told").expect("answers");
        assert_eq!(told.matches("SERVFAIL").count(), 2, "{told}");
        // The upstreams' time would be four seconds.
        let times = told.split("Query time: ").skip(1);
        let times: Vec<u32> = times.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect();
        assert!(times.len() == 3 && times.iter().all(|took| *took < 2000), "{told}");
        assert!(told.contains("172.18.0.2\n"), "{told}");
        sh(&format!("prlimit --pid {engine} --nofile=1024:"));
        fs::write("/run/more", "").expect("a writable /run");
        wait_for(|| fs::read_to_string("/run/told").is_ok_and(|told| told.contains(WWW)), "an answer");
    }

    /// L4-16.
    fn clients_that_stall_delay_nobody_and_are_let_go {
        let _upstream = networks();
        container("web", "--network app");
        let before = settled_descriptors(engine());
        fs::write("/run/stall.py", STALL).expect("a writable /run");
        let told = inside("--network app", "/usr/bin/python3 /run/stall.py 172.18.0.1");
        let mut words = told.split_whitespace();
        let taken = words.next().and_then(|word| word.parse::<u32>().ok());
        let usual = words.next().and_then(|word| word.parse::<f64>().ok());
        assert_eq!(taken, Some(64), "{told}");
        assert!(usual.is_some_and(|usual| usual < 0.1), "{told}");
        wait_for(|| descriptors(engine()) <= before, "descriptors to be where they were");
        wait_for_idle(engine());
    }

    fn who_asks_too_much_loses_his_own_questions {
        let _upstream = networks();
        container("asker", "--network app");
        let before = settled_descriptors(engine());
        fs::write("/run/flood.py", FLOOD).expect("a writable /run");
        let flood = "run -d --name flood --network app -- \
                     sh -c '/usr/bin/python3 /run/flood.py 172.18.0.1 > /run/told'";
        run_pontoon(flood);
        wait_for(|| fs::exists("/run/flooded").is_ok_and(|done| done), "a thousand questions");
        let open = descriptors(engine()) - before;
        assert!((60..=70).contains(&open), "{open} descriptors");
        let other = run_pontoon(&format!("exec asker -- {DIG} @172.18.0.1 +short www.example"));
        assert_eq!(other, format!("{WWW}\n"));
        wait_for(|| fs::read_to_string("/run/told").is_ok_and(|told| !told.is_empty()), "the end");
        let told = fs::read_to_string("/run/told").expect("two numbers");
        let counts: Vec<u32> = told.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        assert!(counts[0] >= 936 && counts.iter().sum::<u32>() == 1000, "{told}");
        wait_for(|| descriptors(engine()) <= before, "descriptors to be where they were");
    }

    fn queries_that_were_answered_use_up_nobodys_share {
        let _upstream = networks();
        container("web", "--network app");
        let many = "import socket\nfor n in range(17000):\n    \
                    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)\n    \
                    s.connect((\"172.18.0.1\", 53))\n    \
                    s.send(b\"\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\x03web\\0\\0\\x01\\0\\x01\")\n    \
                    s.recv(512); s.close()\nprint(\"all\")";
        fs::write("/run/many.py", many).expect("a writable /run");
        let answered = inside("--network app", "/usr/bin/python3 /run/many.py");
        assert_eq!(answered, "all\n");
        let flows: serde_json::Value = serde_json::from_str(&run_pontoon("flows --json")).expect("JSON");
        assert!(flows.as_array().is_some_and(|flows| flows.len() < 5), "{flows}");
    }

    fn a_connection_that_brings_no_query_is_ended {
        let _upstream = networks();
        let idle = "import socket, time; s = socket.create_connection((\"172.18.0.1\", 53)); \
                    start = time.monotonic()\ntry: s.recv(1)\nexcept ConnectionResetError: pass\n\
                    print(int(time.monotonic() - start))";
        fs::write("/run/idle.py", idle).expect("a writable /run");
        let seconds = inside("--network app", "/usr/bin/python3 /run/idle.py");
        assert!(matches!(seconds.trim().parse(), Ok(9..=14)), "{seconds}");
    }
}

/// The number that a process's next file would get.
fn next_descriptor(pid: u32) -> usize {
    let is_free = |fd: &usize| fs::symlink_metadata(format!("/proc/{pid}/fd/{fd}")).is_err();
    (0..).find(is_free).expect("a number")
}
