//! End to end: the user uplink while something changes: ports come and go, and so do addresses and routes of
//! the host.

use pontoon_tests::e2e::{refused, run_pontoon, sh};

pontoon_tests::user_laboratory_tests! { |lab|
    /// PUB-14: a port on an IPv6 address is refused with the reason, TCP and UDP, on each address, with
    /// the container and later, and nothing is left of it. The twin: the same on an IPv4 address.
    fn pub_14_a_port_on_an_ipv6_address_is_refused_with_the_reason {
        run_pontoon("detach c3");
        let attach = "attach --netns /run/netns/c3 --name c3 --network net --ip 172.18.0.4";
        for port in ["[::]:8080:80", "[::1]:8080:80", "[::]:8080:80/udp", "[2001:db8::1]:8080-8089:80-89"] {
            for arguments in [format!("{attach} -p '{port}'"), format!("publish c2 '{port}'")] {
                let said = refused(&arguments);
                assert!(said.contains("IPv6 is not forwarded") && said.contains("an IPv4 address"), "{said}");
            }
        }
        // In the table an id could hold these two characters.
        let listed = run_pontoon("ps -a --json");
        assert!(listed.contains("\"name\": \"c2\"") && !listed.contains("\"name\": \"c3\""), "{listed}");
        assert_eq!(run_pontoon("port c2") + &sh("ss -Hlntu sport = :8080"), "");
        run_pontoon("publish c2 0.0.0.0:8080:80");
        lab.outward("tcp_server('c2', ('', 80)); assert ask('ext', (HOST, 8080))");
    }

    /// PUB-19: ports of a container that is not there, not any more, or not again are refused and leave
    /// nothing; those of one that has no server yet are there at once, and serve once it has.
    fn pub_19_ports_are_published_by_containers_that_are_there {
        let free = || assert_eq!(sh("ss -Hlntu sport = :8080"), "", "8080 is held");
        run_pontoon("detach c2");
        assert!(refused("publish c2 8080:80").contains("No such container: c2"));
        free();
        lab.attach("c2", 3, "-p 8080:80 -p 8080:80/udp");
        run_pontoon("detach c2");
        free();
        lab.attach("c2", 3, "");
        assert_eq!(run_pontoon("port c2"), "");
        free();
        run_pontoon("run -d --name gone --network net -p 8080:80 -- sleep 60");
        run_pontoon("stop -t 0 gone");
        free();
        for command in ["publish", "unpublish"] {
            let said = refused(&format!("{command} gone 8080:80"));
            assert!(said.contains("gone: the container has ended already"), "{said}");
        }
        assert_eq!(run_pontoon("port gone"), "");
        run_pontoon("rm gone");
        run_pontoon("publish c2 8080:80 8080:80/udp");
        lab.outward(r#"
            assert verdict("ext", (HOST, 8080)) == "reset"
            client = udp_socket("ext"); client.sendto(b"early", (HOST, 8080))
            time.sleep(0.3)
            tcp_server("c2", ("", 80)); udp_echo("c2", ("", 80))
            assert ask("ext", (HOST, 8080))
            client.sendto(b"late", (HOST, 8080)); assert client.recv(10) == b"late"
        "#);
    }

    /// PUB-20: for ten seconds a port is published and taken back fifty times a second, now by one
    /// container and now by another, while clients ask at it without pause: nobody is served by one that
    /// had not published it while he asked, nothing is left behind, and the last state is what was said.
    fn pub_20_a_port_that_changes_hands_leads_to_who_has_it {
        lab.outward(r#"
            for ns in "c2", "c3":
                tcp_server(ns, ("", 80), lambda peer, ns=ns: ns.encode())
                server = udp_socket(ns, ("", 80), timeout=None)
                def echo(server=server, ns=ns):
                    while True:
                        server.sendto(ns.encode(), server.recvfrom(10)[1])
                background(echo)
            run = lambda a: subprocess.run([*os.environ["PONTOON"].split()[1:], *a.split()],
                check=True, stdout=subprocess.DEVNULL, env=dict([os.environ["PONTOON"].split()[0].split("=")]))
            before, grown, end = settled_files(), memory(), threading.Event()
            # Who has it, or may have it while a command runs: each entry is there before its command.
            owners, served = [set()], {"tcp": 0, "udp": 0}
            def tcp():
                return ask("ext", (HOST, 8080), timeout=2)
            def udp():
                client = udp_socket("ext", timeout=0.2)
                client.connect((HOST, 8080)); client.send(b"?")
                return client.recv(10).decode()
            def ask_on(kind):
                # The flow table keeps the size that flows have given it: some hundred a second.
                while not end.wait(0.002):
                    first = len(owners) - 1
                    try:
                        name = kind()
                    except OSError:
                        continue
                    allowed = set().union(*owners[first:])
                    assert not name or name in allowed, (kind.__name__, name, allowed)
                    served[kind.__name__] += bool(name)
            failures = []
            threading.excepthook = lambda failure: failures.append(failure.exc_value)
            threads = [background(ask_on, kind) for kind in (tcp, udp)]
            ports, start = "8080:80 8080:80/udp", time.monotonic()
            for n in range(500):
                ns = ("c2", "c3")[n // 5 % 2]
                owners.append({ns}); run(f"publish {ns} {ports}")
                # Every tenth is held until somebody was served by each protocol.
                if n % 10 == 9:
                    seen = dict(served)
                    until(lambda: all(served[kind] > seen[kind] for kind in seen) or failures, "clients to be served")
                run(f"unpublish {ns} {ports}"); owners.append(set())
                time.sleep(max(0, start + n / 50 - time.monotonic()))
            owners.append({"c3"}); run(f"publish c3 {ports}")
            print(f"{500 / (time.monotonic() - start):.0f} times a second", served)
            assert tcp() == "c3", "TCP"
            assert udp() == "c3", "UDP"
            end.set(); [thread.join() for thread in threads]
            assert not failures, failures
            assert min(served.values()) > 10, served
            run(f"unpublish c3 {ports}")
            assert verdict("ext", (HOST, 8080)) == "reset" and pontoon("ps")
            # What a container still answers to a client of a port that is gone leaves like anything it sends.
            answers = lambda: len([f for f in flows() if f["protocol"] == "udp"])
            until(lambda: files() == before + answers(), "files of what was published to go")
            assert memory() - grown < 4 << 10, memory() - grown
        "#);
        assert_eq!(sh("ss -Hlntu sport = :8080") + &run_pontoon("port c3"), "");
    }

    /// L4-21: the host gets another address and another way out. New connections and datagrams, of an old
    /// socket too, use the new ones at once; without a way there is an error at once.
    fn l4_21_the_host_moves {
        lab.outward(r#"
            heard, listener = udp_echo("ext", (SERVER, 7000)), listen("ext", (SERVER, 7000))
            client = udp_socket("c1", timeout=1)
            def answered(data):
                client.sendto(data, (SERVER, 7000))
                try:
                    return client.recv(100) == data
                except TimeoutError:
                    return False
            def come_from(address):
                until(lambda: answered(b"to " + address.encode()), "an answer")
                assert heard[-1][0] == address, heard[-1]
                ends = pair("c1", listener)
                assert works(*ends) and ends[1].getpeername()[0] == address
            host = lambda command: shell(f"set -e; {command}").returncode == 0
            come_from(HOST)
            assert host("ip addr flush dev up0; ip addr add 192.0.2.7/24 dev up0; ip route add default via 192.0.2.254")
            come_from("192.0.2.7")
            assert host("ip route del default")
            error, took = timed(lambda: failure(lambda: connect("c1", (SERVER, 7000))))
            assert error == "ENETUNREACH" and took < 5, (error, took)
            answered(b"lost")
            assert host("ip addr flush dev up0; ip addr add 192.0.2.1/24 dev up0; ip addr add 192.0.2.2/24 dev up0; ip route add default via 192.0.2.254 src 192.0.2.2")
            come_from(HOST2)
        "#);
    }
}
