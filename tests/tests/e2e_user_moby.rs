//! End to end: what moby's networking tests (`integration/networking/*_linux_test.go`, moby/moby at
//! b985e2313a) ask of docker0, asked of networks with the user uplink. Each test bears the name of
//! moby's, in this language's spelling. What needs IPv6, routed networks or several networks for one
//! container has no counterpart.

use pontoon_tests::e2e::{Lab, run_pontoon, sh};

/// Puts c3 on a network of its own.
fn second_network(lab: &Lab, uplink: &str, options: &str) {
    run_pontoon("detach c3");
    run_pontoon(&format!(
        "network create other --subnet 172.19.0.0/24 --uplink {uplink}"
    ));
    run_pontoon(&format!(
        "attach --netns /run/netns/c3 --name c3 --network other --ip 172.19.0.2 {options}"
    ));
    lab.run("c3", "ping -c1 -W10 172.19.0.1");
}

pontoon_tests::user_laboratory_tests! { |lab|
    /// `TestBridgeICC`: containers of one network reach each other, by ping, TCP and UDP.
    fn test_bridge_icc {
        lab.run("c1", "ping -c1 -W10 172.18.0.3");
        lab.outward(r#"
            tcp_server("c2", ("", 80)); udp_echo("c2", ("", 80))
            assert ask("c1", (ADDRESS["c2"], 80)).startswith(repr((ADDRESS["c1"],))[:-2])
            client = udp_socket("c1"); client.sendto(b"x", (ADDRESS["c2"], 80)); assert client.recv(10) == b"x"
        "#);
    }

    /// `TestBridgeINC`: containers of different networks do not, neither by their addresses nor by those of
    /// the other's gateway; the host's services are no way around.
    fn test_bridge_inc {
        second_network(lab, "user", "");
        lab.outward(r#"
            heard, datagrams = tcp_server("c3", ("", 80)), udp_echo("c3", ("", 80))
            for address in "172.19.0.2", "172.19.0.1":
                assert failure(lambda: connect("c1", (address, 80), timeout=2)) in \
                    ("ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "timed out"), address
                client = udp_socket("c1"); client.sendto(b"x", (address, 80))
                assert not select.select([client], [], [], 0.5)[0] or failure(lambda: client.recv(10))
            assert heard == datagrams == []
            # The twin: on its own network it is reached.
            assert ask("c3", ("172.19.0.2", 80))
        "#);
        assert!(!lab.try_run("c1", "ping -c1 -W1 172.19.0.2").status.success());
    }

    /// `TestInterNetworkDirectRouting`: not by a route of one's own either, nor where a port is published.
    fn test_inter_network_direct_routing {
        second_network(lab, "user", "-p 8080:80");
        lab.run("c1", "ip route add 172.19.0.0/24 via 172.18.0.1");
        lab.outward(r#"
            heard = tcp_server("c3", ("", 80)); tcp_server("c3", ("", 81))
            for port in 80, 81, 8080:
                assert failure(lambda: connect("c1", ("172.19.0.2", port), timeout=2))
            assert heard == []
            assert ask("c1", (HOST, 8080)) and len(heard) == 1
        "#);
    }

    /// `TestAccessToPublishedPort`, `TestAccessPublishedPortFromAnotherNetwork`: a container of another
    /// network reaches a published port by each of the host's addresses.
    fn test_access_published_port_from_another_network {
        second_network(lab, "user", "-p 8080:80 -p 8080:80/udp");
        lab.outward(r#"
            heard, datagrams = tcp_server("c3", ("", 80)), udp_echo("c3", ("", 80))
            for address in HOST, HOST2:
                assert ask("c1", (address, 8080))
                client = udp_socket("c1")
                client.sendto(b"x", (address, 8080)); assert client.recvfrom(10) == (b"x", (address, 8080))
            seen = {address for address, _ in heard + datagrams}
            assert seen <= {"172.19.0.1", HOST, HOST2}, seen
        "#);
    }

    /// `TestInternalNwConnectivity`: an internal network reaches nothing but itself and its gateway.
    fn test_internal_nw_connectivity {
        second_network(lab, "none", "");
        run_pontoon("detach c2");
        run_pontoon("attach --netns /run/netns/c2 --name c2 --network other --ip 172.19.0.3");
        lab.run("c3", "ping -c1 -W10 172.19.0.3");
        for target in ["198.51.100.10", "192.0.2.1", "192.0.2.254", "172.18.0.2", "172.18.0.1"] {
            assert!(!lab.try_run("c3", &format!("ping -c1 -W1 {target}")).status.success(), "{target}");
        }
        lab.outward(r#"
            tcp_server("c2", ("", 80)); outside = tcp_server("ext", (SERVER, 80)); here = tcp_server("", ("", 80))
            assert ask("c3", ("172.19.0.3", 80))
            for address in SERVER, HOST, LAN, ADDRESS["c1"]:
                assert failure(lambda: connect("c3", (address, 80), timeout=2)), address
            assert outside == here == []
            # The twin: the network beside it reaches them.
            assert ask("c1", (SERVER, 80)) and ask("c1", (HOST, 80))
        "#);
    }

    /// `TestPortMappedHairpinTCP`: a container reaches another's published port by the host's address.
    fn test_port_mapped_hairpin_tcp {
        lab.reattach("c2", 3, "-p 80");
        let port = run_pontoon("port c2");
        let port = port.trim().rsplit(':').next().expect("a port").to_owned();
        lab.outward(&format!(r#"
            tcp_server("c2", ("", 80))
            assert ask("c1", (HOST, {port}))
        "#));
    }

    /// `TestPortMappedHairpinUDP` (libnetwork #1729): and the answer comes from that address.
    fn test_port_mapped_hairpin_udp {
        lab.reattach("c2", 3, "-p 54/udp");
        let port = run_pontoon("port c2");
        let port = port.trim().rsplit(':').next().expect("a port").to_owned();
        lab.outward(&format!(r#"
            udp_echo("c2", ("", 54))
            for address in HOST, HOST2:
                client = udp_socket("c1")
                client.sendto(b"hello", (address, {port}))
                assert client.recvfrom(10) == (b"hello", (address, {port}))
        "#));
    }

    /// `TestAccessPublishedPortFromHost` (#12632): by the loopback address and by the host's own.
    fn test_access_published_port_from_host {
        lab.reattach("c2", 3, "-p 8080:80 -p 8080:80/udp");
        lab.outward(r#"
            tcp_server("c2", ("", 80)); udp_echo("c2", ("", 80))
            for address in "127.0.0.1", HOST, HOST2, "0.0.0.0":
                assert ask("", (address, 8080)), address
                client = udp_socket(""); client.sendto(b"x", (address, 8080)); assert client.recv(10) == b"x"
        "#);
    }

    /// `TestAccessPublishedPortFromRemoteHost` (#48664): from beyond the wire, with one's own address.
    fn test_access_published_port_from_remote_host {
        lab.reattach("c2", 3, "-p 8080:80 -p 8080:80/udp");
        lab.outward(r#"
            heard, datagrams = tcp_server("c2", ("", 80)), udp_echo("c2", ("", 80))
            for address in HOST, HOST2:
                assert ask("ext", (address, 8080))
                client = udp_socket("ext"); client.sendto(b"x", (address, 8080)); assert client.recv(10) == b"x"
            assert {address for address, _ in heard + datagrams} == {LAN}
        "#);
    }

    /// `TestAccessPublishedPortFromCtr`: from the container itself and from its neighbour, by the host's
    /// addresses.
    fn test_access_published_port_from_ctr {
        lab.reattach("c2", 3, "-p 8080:80 -p 8080:80/udp");
        lab.outward(r#"
            tcp_server("c2", ("", 80)); udp_echo("c2", ("", 80))
            for ns in "c1", "c2":
                for address in HOST, HOST2:
                    assert ask(ns, (address, 8080)), (ns, address)
                    client = udp_socket(ns)
                    client.sendto(b"x", (address, 8080)); assert client.recv(10) == b"x", (ns, address)
        "#);
    }

    /// `TestRestartUserlandProxyUnder2MSL`: a port whose connections have just ended, the host's half
    /// first, is published again at once.
    fn test_restart_userland_proxy_under_2msl {
        lab.reattach("c2", 3, "-p 8080:80");
        lab.outward(r#"
            tcp_server("c2", ("", 80))
            for ns, address in ("ext", HOST), ("", "127.0.0.1"):
                assert ask(ns, (address, 8080))
            until(lambda: "TIME-WAIT" in shell("ss -Htan sport = :8080").stdout, "a connection that waits")
        "#);
        lab.reattach("c2", 3, "-p 8080:80");
        lab.outward(r#"
            tcp_server("c2", ("", 80))
            assert ask("ext", (HOST, 8080))
        "#);
    }

    /// `TestDirectRoutingOpenPorts`, `TestDirectRemoteAccessOnExposedPort` (#45610): a neighbour of the
    /// host's that routes the containers' addresses to it reaches nothing there, published or not.
    fn test_direct_remote_access_on_exposed_port {
        lab.reattach("c2", 3, "-p 8080:80 -p 8080:80/udp");
        sh("sysctl -qw net.ipv4.ip_forward=1");
        lab.run("ext", "ip route add 172.18.0.0/24 via 192.0.2.1");
        lab.outward(r#"
            heard = tcp_server("c2", ("", 80)) + tcp_server("c2", ("", 81)) + udp_echo("c2", ("", 80))
            for address in ADDRESS["c2"], GATEWAY_IP:
                for port in 80, 81, 8080:
                    assert failure(lambda: connect("ext", (address, port), timeout=1)), (address, port)
                    client = udp_socket("ext"); client.sendto(b"x", (address, port))
                    assert not select.select([client], [], [], 0.3)[0] or failure(lambda: client.recv(10))
            assert heard == []
            assert ask("ext", (HOST, 8080))
        "#);
        assert!(!lab.try_run("ext", "ping -c1 -W1 172.18.0.3").status.success());
    }

    /// `TestAccessPortPublishedOnLoopbackAddress` (#45610): not from the LAN, by no forged address; from
    /// the host it is reached.
    fn test_access_port_published_on_loopback_address {
        lab.reattach("c2", 3, "-p 127.0.0.2:8080:80 -p 127.0.0.2:8080:80/udp");
        lab.run("ext", "ip addr del 127.0.0.1/8 dev lo && ip route add 127.0.0.2/32 via 192.0.2.1 \
            && sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.eth0.route_localnet=1");
        lab.outward(r#"
            heard, datagrams = tcp_server("c2", ("", 80)), udp_echo("c2", ("", 80))
            assert failure(lambda: connect("ext", ("127.0.0.2", 8080), timeout=2))
            client = udp_socket("ext"); client.sendto(b"x", ("127.0.0.2", 8080))
            assert hears_nothing(client) and heard == datagrams == []
            assert ask("", ("127.0.0.2", 8080)) and len(heard) == 1
        "#);
    }

    /// `TestMixAnyWithSpecificHostAddrs` (compose #12846): one port on every address for TCP, on one for
    /// UDP, and another container's on the same number of another protocol.
    fn test_mix_any_with_specific_host_addrs {
        lab.reattach("c2", 3, "-p 8080:80 -p 192.0.2.1:8080:80/udp");
        lab.reattach("c3", 4, "-p 192.0.2.2:8080:80/udp -p 127.0.0.1:8080:80/udp");
        lab.outward(r#"
            tcp_server("c2", ("", 80)); second, third = udp_echo("c2", ("", 80)), udp_echo("c3", ("", 80))
            for address, heard in (HOST, second), (HOST2, third), ("127.0.0.1", third):
                assert ask("", (address, 8080))
                client = udp_socket(""); client.sendto(b"x", (address, 8080)); assert client.recv(10) == b"x"
                assert len(heard) >= 1, address
            assert (len(second), len(third)) == (1, 2)
        "#);
    }

    /// `TestPortMappingOnDistinctLoopbackAddrs` (#52783), PUB-04: two containers on one port of two
    /// loopback addresses each have their own clients.
    fn test_port_mapping_on_distinct_loopback_addrs {
        lab.reattach("c2", 3, "-p 127.0.0.1:8080:80 -p 127.0.0.1:8080:80/udp");
        lab.reattach("c3", 4, "-p 127.0.0.2:8080:80 -p 127.0.0.2:8080:80/udp");
        lab.outward(r#"
            tcp_server("c2", ("", 80), lambda peer: b"c2"); tcp_server("c3", ("", 80), lambda peer: b"c3")
            second, third = udp_echo("c2", ("", 80)), udp_echo("c3", ("", 80))
            for address, name, heard in ("127.0.0.1", "c2", second), ("127.0.0.2", "c3", third):
                assert ask("", (address, 8080)) == name
                client = udp_socket(""); client.sendto(b"x", (address, 8080)); assert client.recv(10) == b"x"
                assert len(heard) == 1
        "#);
    }
}
