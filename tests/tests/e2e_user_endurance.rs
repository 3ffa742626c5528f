//! End to end: what the user uplink holds of very many flows, and that after them it is as before.

use std::fs;

use pontoon_tests::e2e::{Lab, run_pontoon};

const ANSWER: &str = include_str!("../src/e2e/answer.py");

/// Two thousand connections at once from two containers, which all work, and end in each way; `port` is
/// one to which nobody has connected yet, of whose clients no kernel waits out any.
const WAVE: &str = r#"
    listener = listen("ext", (SERVER, port), 4096)
    before = settled_files()
    ends = [pair(f"c{1 + n % 2}", listener) for n in range(2000)]
    assert all(works(*both, b"%d" % n) for n, both in enumerate(ends))
    note("peak", memory())
    for n, (client, server) in enumerate(ends):
        first, second = (client, server) if n % 4 < 2 else (server, client)
        if n % 8 < 4:
            first.close(); assert second.recv(1) == b""; second.close()
        else:
            abort(first); assert ended(second) == "reset"; second.close()
    back_to(before, "files", files, patience=30)
    open_still = "ss -Htan state fin-wait-2 state close-wait state established dst 198.51.100.10"
    still = shell(open_still)
    assert still.returncode == 0 and still.stdout == "", still
"#;

/// Ten thousand datagrams that are answered: half of them from one port, the others each from its own.
const EXCHANGES: &str = r#"
    udp_echo("ext", (SERVER, 7000))
    def exchange(client, n):
        client.sendto(b"%d" % n, (SERVER, 7000)); assert client.recv(10) == b"%d" % n
    one = udp_socket("c1")
    for n in range(5000):
        exchange(one, n)
    for n in range(5000):
        with udp_socket("c2") as client:
            exchange(client, n)
"#;

fn use_it(lab: &Lab, ports: std::ops::Range<u16>) {
    for port in ports {
        lab.outward(&format!("    port = {port}{WAVE}"));
    }
    lab.outward(EXCHANGES);
}

/// Pulls each container out and plugs it in again, in turns.
fn come_and_go(lab: &Lab, times: u8) {
    for n in 0..times {
        let host = 2 + n % 3;
        lab.reattach(&format!("c{}", host - 1), host, "");
    }
}

pontoon_tests::user_laboratory_tests! { |lab|
    /// Ten thousand connections in waves, ten thousand exchanges by UDP and two hundred containers that
    /// come and go leave files, flows and memory as they were, the last wave costs what the first one
    /// did (RES-09), and the engine sleeps (RES-19). What the tables and the heap keep for good they
    /// have after a first round.
    fn much_use_leaves_everything_as_it_was {
        lab.may_grow(24 << 10);
        use_it(lab, 7000..7005);
        come_and_go(lab, 200);
        lab.outward(r#"
            until(lambda: flows() == [], "flows to go")
            note("files", settled_files()); note("memory", memory())
        "#);
        use_it(lab, 7005..7010);
        // What has little time goes by itself; what has two minutes, with its container.
        lab.outward(r#"
            short = lambda: [f for f in flows() if f["state"] != "TIME_WAIT" and not f["assured"]]
            until(lambda: short() == [], "flows to go", patience=60)
            left = [f for f in flows() if f["protocol"] == "udp"]
            until(lambda: files() == noted("files") + len(left), "files of flows that are gone to go")
        "#);
        come_and_go(lab, 200);
        lab.outward(r#"
            assert flows() == []
            back_to(noted("files"), "files", files)
            # A leak of half a kilobyte a connection or exchange would be more; the heap breaks into pieces.
            back_to(noted("memory"), "memory", memory, slack=10 << 10)
            peaks = all_noted("peak")
            assert len(peaks) == 10 and peaks[-1] <= peaks[5] * 1.05, peaks
            until(sleeps, "the engine to sleep", patience=30)
        "#);
    }

    /// Ten thousand idle connections are held at once, or as many as descriptors allow; each costs
    /// little (RES-11), all together they cost no time, and all still work.
    fn ten_thousand_idle_connections_are_held {
        // The tables keep the size that they had once.
        lab.may_grow(24 << 10);
        fs::write("/run/answer.py", ANSWER).expect("a writable /run");
        let _server = lab.serve("ext", "/usr/bin/python3 /run/answer.py 198.51.100.10 7000", 7000);
        let said = lab.outward(r#"
            before, grown = settled_files(), memory()
            # The client's end takes one of this process, the engine's one of the engine's.
            count = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500)
            clients = [connect("c1", (SERVER, 7000)) for _ in range(count)]
            assert settled_files() == before + count
            silent = (memory() - grown) / count
            def speak():
                # Fewer at once than the receive ring holds.
                for first in range(0, count, 100):
                    some = clients[first:first + 100]
                    for n, client in enumerate(some):
                        client.sendall(b"%2d" % n)
                    assert all(read(client, 2) == b"%2d" % n for n, client in enumerate(some))
            speak()
            spoken = (memory() - grown) / count
            print(f"{count} connections: {silent:.1f} KiB each, {spoken:.1f} once they have spoken")
            assert silent < 9 and spoken < 18, (silent, spoken)
            until(sleeps, "the engine to sleep", patience=30)
            assert len([f for f in flows(":7000") if f["state"] == "ESTABLISHED"]) == count
            speak()
            for client in clients:
                client.close()
            back_to(before, "files", files, patience=30)
        "#);
        println!("{said}");
        // Their flows wait two minutes, unless their container goes.
        run_pontoon("detach c1");
        lab.outward("assert flows() == []");
    }
}
