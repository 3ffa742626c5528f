//! Flows that the kernel carries: nothing but their speed is different.

use pontoon_tests::e2e::figures::{counter, received};
use pontoon_tests::e2e::{run_pontoon, sh, wait_for};
use serde_json::Value;

pontoon_tests::laboratory_tests! { |lab|
    /// A stream between containers is carried; what was counted is what was sent, with headers.
    fn a_stream_is_carried_and_counted {
        let _server = lab.serve("c2", "iperf3 -s", 5201);
        let sent = received(&lab.run("c1", "iperf3 -c 172.18.0.3 -t 4 -J"));
        wait_for(|| counter("carried.bytes") > sent / 2, "most of it to be carried and counted");
        let port = || {
            let stats: Value = serde_json::from_str(&run_pontoon("stats --json")).expect("JSON");
            let rows = stats["ports"].as_array().expect("ports").clone();
            rows.iter().map(|row| row[1]["rx_bytes"].as_u64().unwrap_or(0)).max().unwrap_or(0)
        };
        wait_for(|| port() >= sent, "all of it to be counted");
        assert!(port() < sent + sent / 5, "{} of {sent}", port());
        wait_for(|| counter("carried.flows") == 0, "silent flows to be left");
    }

    /// A published port that is taken back gets nothing more once that was answered, carried or not.
    fn what_is_taken_back_ends_at_once {
        run_pontoon("publish c2 8053:53/udp");
        lab.wire(r#"
            server, client = udp_socket("c2", ("", 53)), udp_socket("c1", ("", 5000))
            client.connect(("172.18.0.1", 8053))
            client.send(b"query"); _, peer = server.recvfrom(100)
            server.sendto(b"answer", peer); assert client.recv(100) == b"answer"
            end = time.monotonic() + 20
            while counter("carried.flows") == 0 and time.monotonic() < end:
                for _ in range(500):
                    client.send(b"load"); server.recv(100)
            assert counter("carried.flows") > 0
            server.settimeout(0.3)
            subprocess.check_call(f"{os.environ['PONTOON']} unpublish c2 8053:53/udp", shell=True)
            with contextlib.suppress(TimeoutError):
                while True:
                    server.recv(100)
            for _ in range(100):
                with contextlib.suppress(OSError):
                    client.send(b"late")
            try:
                raise SystemExit(f"still carried: {server.recv(100)}")
            except TimeoutError:
                pass
        "#);
    }

    /// Segments that end a connection are the engine's: it knows of the end, and so do both sides.
    fn a_carried_connection_ends_as_any_other {
        run_pontoon("publish c2 8080:80/tcp");
        lab.wire(r#"
            listener = tcp_socket("c2"); listener.bind(("", 80)); listener.listen()
            def load(a, b, size=64 << 20):
                data = bytes(1 << 20)
                def send():
                    for _ in range(size >> 20):
                        a.sendall(data)
                sender = threading.Thread(target=send); sender.start()
                left = size
                while left:
                    left -= len(b.recv(1 << 20))
                sender.join()
            for ending in "client", "server", "reset":
                client = tcp_socket("c1"); client.connect(("172.18.0.1", 8080))
                server, _ = listener.accept()
                for _ in range(20):
                    load(client, server); load(server, client)
                    if counter("carried.flows") >= 2:
                        break
                assert counter("carried.flows") >= 2
                if ending == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.close()
                    try:
                        raise SystemExit(f"a clean end: {server.recv(1)}")
                    except ConnectionResetError:
                        pass
                    continue
                first, second = (client, server) if ending == "client" else (server, client)
                first.shutdown(socket.SHUT_WR); assert second.recv(1) == b""
                load(second, first)
                second.shutdown(socket.SHUT_WR); assert first.recv(1) == b""
                [s.close() for s in (client, server)]
            assert not [f for f in flows(":8080") if f["state"] == "ESTABLISHED" and f["assured"]]
        "#);
    }

    /// Who is told not to has nothing carried, and all works.
    fn without_offload_the_engine_does_everything {
        run_pontoon("shutdown");
        sh(&format!("PONTOON_OFFLOAD=off {} network create net --subnet 172.18.0.0/24 --uplink dev:up0", pontoon_tests::e2e::environment()));
        lab.attach("c1", 2, "");
        lab.attach("c2", 3, "");
        lab.attach("c3", 4, "");
        let _server = lab.serve("c2", "iperf3 -s", 5201);
        assert!(received(&lab.run("c1", "iperf3 -c 172.18.0.3 -t 2 -J")) > 0);
        assert_eq!(counter("carried.frames"), 0);
        lab.expect_this_engine();
    }
}
