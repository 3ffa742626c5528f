//! End to end: published ports of a network with the user uplink. Tests are named after the checks
//! they show.

use pontoon_tests::e2e::{Ordinary, refused, run_pontoon, sh, try_sh, wait_for};

/// What an attach that must fail says.
fn attach_refused(options: &str) -> String {
    let attach = "attach --netns /run/netns/c3 --name c3 --network net --ip 172.18.0.4";
    refused(&format!("{attach} {options}"))
}

pontoon_tests::user_laboratory_tests! { |lab|
    /// PUB-01, PUB-11: a port published on every address answers on each, TCP and UDP, to the host and
    /// to the LAN. The server sees the client's own address and port; the host's loopback is the gateway.
    fn pub_01_pub_11_every_address_answers_and_clients_keep_theirs {
        lab.reattach("c2", 3, "-p 8080:80 -p 8080:80/udp");
        lab.outward(r#"
            heard, datagrams = tcp_server("c2", ("", 80)), udp_echo("c2", ("", 80))
            def seen(client):
                address, port = client.getsockname()
                return GATEWAY_IP if address.startswith("127.") else address, port
            for ns, address in (
                ("ext", HOST), ("ext", HOST2), ("", HOST), ("", HOST2), ("", "127.0.0.1"), ("", "127.0.0.2"),
            ):
                client = connect(ns, (address, 8080))
                assert rest(client).decode() == repr(seen(client)), (ns, address, heard[-1])
                client = udp_socket(ns)
                client.connect((address, 8080))
                for size in 0, 1, 1472, 1473, 9000, LARGEST:
                    data = random.randbytes(size)
                    client.send(data); assert client.recv(1 << 16) == data, (ns, address, size)
                assert datagrams[-1] == seen(client), (ns, address, datagrams[-1])
        "#);
    }

    /// A page from a real server through a published port, and its log.
    fn curl_fetches_a_published_page_and_the_log_names_the_client {
        lab.reattach("c2", 3, "-p 8080:80");
        sh("mkdir /run/www && head -c 3000000 /dev/urandom > /run/www/page");
        let server = "/usr/bin/python3 -u -m http.server -d /run/www 80";
        let _server = lab.serve("c2", &format!("sh -c \"{server} 2> /run/access\""), 80);
        lab.run("ext", "curl -sS --fail --max-time 10 -o /run/copy http://192.0.2.1:8080/page");
        sh("cmp /run/www/page /run/copy && rm /run/copy");
        sh("curl -sS --fail --max-time 10 -o /run/copy http://127.0.0.1:8080/page");
        sh("cmp /run/www/page /run/copy");
        let clients = sh("cut -d' ' -f1 /run/access");
        assert_eq!(clients, "192.0.2.254\n172.18.0.1\n");
    }

    /// PUB-10: a UDP answer leaves from the address that the client has used, whichever is the host's
    /// first; a client that is connected hears nothing else.
    fn pub_10_answers_leave_from_the_address_that_was_used {
        lab.reattach("c2", 3, "-p 5353:53/udp");
        lab.outward(r#"
            udp_echo("c2", ("", 53))
            for ns in "ext", "":
                for address in HOST, HOST2:
                    client = udp_socket(ns)
                    client.sendto(b"who", (address, 5353))
                    assert client.recvfrom(10) == (b"who", (address, 5353)), (ns, address)
        "#);
    }

    /// PUB-02: a port published on one address is closed on every other.
    fn pub_02_only_the_named_address_answers {
        for (named, inside, outside) in [
            ("127.0.0.1", "127.0.0.1", ""),
            ("192.0.2.2", "192.0.2.2", "192.0.2.2"),
        ] {
            lab.reattach("c2", 3, &format!("-p {named}:8080:80 -p {named}:8080:80/udp"));
            lab.outward(&format!(r#"
                tcp_server("c2", ("", 80)); udp_echo("c2", ("", 80))
                def answers(ns, address):
                    stream, client = tcp_socket(ns), udp_socket(ns)
                    client.connect((address, 8080))
                    verdicts = set()
                    for tried in (lambda: stream.connect((address, 8080)),
                                  lambda: (client.send(b"x"), client.recv(1))):
                        try:
                            tried(); verdicts.add(True)
                        except ConnectionRefusedError:
                            verdicts.add(False)
                    [verdict] = verdicts
                    return verdict
                addresses = "127.0.0.1", "127.0.0.2", HOST, HOST2
                assert [a for a in addresses if answers("", a)] == ["{inside}"]
                assert [a for a in (HOST, HOST2) if answers("ext", a)] == "{outside}".split()
            "#));
        }
    }

    /// PUB-03: a port published on 127.0.0.1 is not reached from the LAN by a forged route either. The
    /// twin: one that is published on every address is reached from there by its ordinary one.
    fn pub_03_a_loopback_port_stays_on_the_host {
        lab.reattach("c2", 3, "-p 127.0.0.1:8080:80 -p 8081:80");
        lab.outward(r#"
            heard = tcp_server("c2", ("", 80))
            wire = Port("ext")
            host = Port("", "up0").mac
            for dst in "127.0.0.1", "172.18.0.3", "172.18.0.1":
                for port in 80, 8080:
                    wire.send(Ether(src=wire.mac, dst=host) / IP(src=LAN, dst=dst) /
                        TCP(sport=4000, dport=port, flags="S", seq=1))
            assert wire.hear(lambda p: TCP in p and p[TCP].flags == "SA") == [] and heard == []
            assert ask("ext", (HOST, 8081)) and len(heard) == 1
            assert ask("", ("127.0.0.1", 8080)) and len(heard) == 2
        "#);
    }

    /// PUB-06: the second owner of a port is refused by name, also one that is no container; what was
    /// there goes on, and of a range nothing is left.
    fn pub_06_conflicts_name_the_holder_and_a_range_is_whole_or_nothing {
        lab.reattach("c2", 3, "-p 8080:80 -p 8080:80/udp");
        run_pontoon("detach c3");
        for (options, parts) in [
            ("-p 8080:80", ["0.0.0.0:8080", "c2"]),
            ("-p 8080:80/udp", ["0.0.0.0:8080", "c2"]),
            ("-p 192.0.2.1:8080:80", ["192.0.2.1:8080", "c2"]),
        ] {
            let said = attach_refused(options);
            assert!(parts.iter().all(|part| said.contains(part)), "{options}: {said}");
        }
        lab.outward(r#"
            tcp_server("c2", ("", 80)); assert ask("ext", (HOST, 8080))
        "#);
        sh("nohup socat TCP-LISTEN:9006,fork,reuseaddr PIPE > /dev/null 2>&1 &");
        sh("nohup socat UDP4-LISTEN:9106,fork,reuseaddr PIPE > /dev/null 2>&1 &");
        let listen = |filter: &str| try_sh(&format!("ss -Hlntup '{filter}' | grep -q socat")).status.success();
        wait_for(|| listen("sport = :9006") && listen("sport = :9106"), "who has the ports");
        for (options, taken, free) in [
            ("-p 9000-9009:9000-9009", "9006/tcp", "9000 9009"),
            ("-p 9100-9109:9100-9109/udp", "9106/udp", "9100 9109"),
        ] {
            let said = attach_refused(options);
            assert!(said.contains(taken) && said.contains("in use by process"), "{options}: {said}");
            assert!(said.contains("(socat)"), "{options}: {said}");
            for port in free.split(' ') {
                let there = try_sh(&format!("ss -Hlntu | grep -q ':{port} '"));
                assert!(!there.status.success(), "{port} of the range is left");
            }
        }
        assert_eq!(run_pontoon("port c2").lines().count(), 2);
    }

    /// PUB-09: what is published does not take what is meant for others: the same port of a server, and
    /// of the far end of another container.
    fn pub_09_a_published_port_takes_nothing_that_is_for_others {
        lab.reattach("c2", 3, "-p 80:80 -p 53:53/udp");
        lab.outward(r#"
            tcp_server("c2", ("", 80), lambda peer: b"published"); datagrams = udp_echo("c2", ("", 53))
            tcp_server("ext", (SERVER, 80), lambda peer: b"server"); udp_echo("ext", (SERVER, 53))
            for ns in "c1", "c2", "":
                assert ask(ns, (SERVER, 80)) == "server"
                client = udp_socket(ns)
                client.sendto(b"x", (SERVER, 53))
                assert client.recvfrom(10) == (b"x", (SERVER, 53))
            assert datagrams == []
        "#);
    }

    /// PUB-18: a port that users may not have is refused with the setting that says so, and the rest of
    /// what the user has goes on. The twin: with the setting changed, it is had.
    fn pub_18_a_privileged_port_is_refused_by_name {
        let user = Ordinary::new();
        user.run("$PONTOON network create out --uplink user && \
                  $PONTOON run -d --network out --name a -p 8080:80 -- sleep 60");
        for (option, port) in [("80:80", "0.0.0.0:80/tcp"), ("53:53/udp", "0.0.0.0:53/udp"),
                               ("1022-1024:22-24", "0.0.0.0:1022/tcp")] {
            let output = user.try_run(&format!("$PONTOON publish a {option}"));
            assert!(!output.status.success(), "{option} was accepted");
            let said = String::from_utf8_lossy(&output.stderr);
            for part in [port, "net.ipv4.ip_unprivileged_port_start (1024)", "CAP_NET_BIND_SERVICE"] {
                assert!(said.contains(part), "{option}: {said}");
            }
        }
        assert_eq!(user.run("$PONTOON port a"), "80/tcp -> 0.0.0.0:8080\n");
        sh("sysctl -qw net.ipv4.ip_unprivileged_port_start=0");
        user.run("$PONTOON publish a 80:80 && $PONTOON publish a 53:53/udp");
    }

    /// Root publishes what takes a right, at the start and at run time, though its engine has none.
    fn a_port_that_takes_a_right_is_published_by_root {
        lab.reattach("c2", 3, "-p 80:80 -p 53:53/udp");
        run_pontoon("publish c2 192.0.2.2:443:80");
        assert_eq!(sh("sysctl -n net.ipv4.ip_unprivileged_port_start"), "1024\n");
        lab.outward(r#"
            with open(f"/proc/{engine()}/status") as status:
                assert "CapEff:\t0000000000000000\n" in status.readlines()
            tcp_server("c2", ("", 80)); udp_echo("c2", ("", 53))
            for ns, address in ("ext", HOST), ("", HOST), ("", "127.0.0.1"), ("c1", HOST):
                assert ask(ns, (address, 80))
                client = udp_socket(ns)
                client.sendto(b"x", (address, 53))
                assert client.recvfrom(10) == (b"x", (address, 53))
            assert ask("ext", (HOST2, 443)) and verdict("ext", (HOST, 443)) == "reset"
        "#);
        run_pontoon("detach c3");
        let said = attach_refused("-p 80:80");
        assert!(said.contains("0.0.0.0:80/tcp") && said.contains("allocated to c2"), "{said}");
        run_pontoon("run -d --network net --name web -p 81:80 -- /usr/bin/python3 -m http.server 80");
        wait_for(|| try_sh("curl -s --max-time 5 http://127.0.0.1:81/").status.success(), "a page");
        run_pontoon("rm -f web");
        run_pontoon("unpublish c2 80:80");
        let free = try_sh("ss -Hlnt | grep -q ':80 '");
        assert!(!free.status.success(), "nobody holds the port any more");
        run_pontoon("publish c2 80:80");
    }

    /// PUB-12: what listens on the container's own 127.0.0.1 is not published.
    fn pub_12_a_server_on_the_containers_loopback_is_not_published {
        lab.reattach("c2", 3, "-p 8080:80 -p 8080:80/udp");
        lab.outward(r#"
            heard, datagrams = tcp_server("c2", ("127.0.0.1", 80)), udp_echo("c2", ("127.0.0.1", 80))
            for ns in "ext", "":
                assert verdict(ns, (HOST, 8080)) == "reset"
                client = udp_socket(ns, timeout=1); client.sendto(b"x", (HOST, 8080))
                assert hears_nothing(client)
            assert heard == datagrams == []
        "#);
    }

    /// PUB-13, PUB-11: another container and the container itself reach a published port by the host's
    /// addresses. The server never sees its own address, nor the loopback.
    fn pub_13_hairpin_from_another_and_from_itself {
        lab.reattach("c2", 3, "-p 8080:80 -p 8080:80/udp");
        lab.outward(r#"
            heard, datagrams = tcp_server("c2", ("", 80)), udp_echo("c2", ("", 80))
            for ns in "c1", "c2":
                for address in HOST, HOST2:
                    assert ask(ns, (address, 8080))
                    client = udp_socket(ns)
                    client.sendto(b"x", (address, 8080))
                    assert client.recvfrom(10) == (b"x", (address, 8080))
            seen = {address for address, _ in heard + datagrams}
            assert seen <= {GATEWAY_IP, HOST, HOST2}, seen
        "#);
    }

    /// PUB-15: a port is published again at once, with connections just closed.
    fn pub_15_a_port_is_published_again_at_once {
        for round in 0..5 {
            lab.reattach("c2", 3, "-p 8080:80");
            lab.outward(&format!(r#"
                # The server ends first: its half, and the host's, wait out their time.
                tcp_server("c2", ("", 80 if {round} % 2 == 0 else 80))
                for _ in range(5):
                    assert ask("ext", (HOST, 8080)) and ask("", ("127.0.0.1", 8080))
            "#));
        }
    }

    /// PUB-17: with no server, TCP is refused, never an end of file, and a UDP datagram that was lost
    /// so takes no other with it.
    fn pub_17_no_server_is_a_refusal_and_eats_nothing {
        lab.reattach("c2", 3, "-p 8080:80 -p 8080:80/udp");
        lab.outward(r#"
            for ns, address in ("ext", HOST), ("", "127.0.0.1"):
                said, took = timed(lambda: verdict(ns, (address, 8080)))
                assert said == "reset" and took < 5, (ns, said, took)
            clients = [udp_socket("ext"), udp_socket("")]
            for c in clients:
                c.sendto(b"lost", (HOST, 8080))
            time.sleep(0.3)
            udp_echo("c2", ("", 80)); tcp_server("c2", ("", 80))
            for c in clients:
                c.sendto(b"found", (HOST, 8080)); assert c.recv(10) == b"found"
            assert ask("ext", (HOST, 8080))
        "#);
    }

    /// The abort and the halves of published connections: as outward.
    fn l4_01_l4_02_endings_of_published_connections {
        lab.reattach("c2", 3, "-p 8080:80");
        lab.outward(r#"
            listener = listen("c2", ("", 80))
            data = random.randbytes(10 << 20)
            for first in 0, 1:
                ends = pair("ext", listener, (HOST, 8080))
                early, late = ends[first], ends[1 - first]
                early.sendall(b"question"); early.shutdown(socket.SHUT_WR)
                assert rest(late) == b"question"
                background(lambda: (late.sendall(data), late.shutdown(socket.SHUT_WR)))
                assert rest(early) == data
                ends = pair("ext", listener, (HOST, 8080))
                assert works(*ends)
                abort(ends[first])
                assert ended(ends[1 - first]) == "reset", first
        "#);
    }

    /// A client that comes again from the same port, while the container still remembers (TIME-WAIT) its
    /// last connection, is served as if it were another one.
    fn a_client_that_comes_again_by_the_same_port_is_served_at_once {
        lab.reattach("c2", 3, "-p 8080:80");
        lab.outward(r#"
            listener = listen("c2", ("", 80))
            for n in range(100):
                a, b = pair("ext", listener, (HOST, 8080), bind=("192.0.2.254", 5000))
                assert works(a, b)
                # The container ends it, so that it is the one which remembers.
                b.close(); assert a.recv(1) == b""; a.close()
        "#);
    }

    /// A thousand clients at once and two thousand after each other through one port.
    fn many_clients_of_one_port {
        lab.reattach("c2", 3, "-p 8080:80");
        lab.outward(r#"
            before = settled_files()
            listener = listen("c2", ("", 80), 4096)
            ends = []
            for _ in range(1000):
                ends.append(pair("ext", listener, (HOST, 8080)))
                assert ends[-1][0].getsockname() == ends[-1][1].getpeername()
            assert all(works(*both) for both in ends)
            [abort(a) for a, _ in ends]; assert all(ended(b) == "reset" for _, b in ends)
            back_to(before, "files", files, patience=20)
            for n in range(2000):
                a, b = pair("ext", listener, (HOST, 8080))
                assert works(a, b); a.close(); assert b.recv(1) == b""; b.close()
            back_to(before, "files", files, patience=20)
        "#);
    }

    /// A published UDP port whose container changes: the next datagram goes to the new one.
    fn a_udp_port_that_moves_takes_its_clients_along {
        lab.reattach("c2", 3, "-p 5353:53/udp");
        lab.outward(r#"
            first, second = udp_socket("c2", ("", 53)), udp_socket("c3", ("", 53))
            client = udp_socket("ext")
            client.sendto(b"one", (HOST, 5353)); assert first.recv(10) == b"one"
            run = lambda a: subprocess.run(f"{os.environ['PONTOON']} {a}", shell=True, check=True)
            run("detach c2"); run("detach c3")
            run("attach --netns /run/netns/c3 --name c3 --network net --ip 172.18.0.4 -p 5353:53/udp")
            client.sendto(b"two", (HOST, 5353)); assert second.recv(10) == b"two"
        "#);
    }
}
