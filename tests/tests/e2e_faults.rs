//! Interfaces that go, come again and change under traffic, processes that stand still, a clock that jumps
//! (FLT-05, FLT-06, FLT-07, FLT-08, FLT-10, FLT-11).

use std::fs;

use pontoon_tests::e2e::{environment, run_pontoon, sh};

const CLOCK: &str = include_str!("life/clock.c");

pontoon_tests::laboratory_tests! { |lab|
    fn flt_05_a_transfer_outlives_an_interface_that_goes_down_fifty_times {
        lab.links(r#"
            transfer = Stream("c1", "ext", "198.51.100.10", 7000)
            [before] = [c for c in pontoon("status")["ports"] if c["name"] == "c1"]
            for _ in range(50):
                ip("-n c1 link set eth0 down")
                time.sleep(random.uniform(0, 0.3))
                ip("-n c1 link set eth0 up", "-n c1 route replace default via 172.18.0.1")
                time.sleep(random.uniform(0, 0.3))
            transfer.goes_on()
            transfer.finish()
            print(f"{transfer.bytes >> 10} KiB")
            after = pontoon("status")["ports"]
            assert sorted(c["name"] for c in after) == ["c1", "c2", "c3"], after
            assert before in after, (before, after)
            macs = [entry["mac"] for entry in pontoon("fdb")]
            assert len(macs) == len(set(macs)), macs
        "#);
    }

    fn flt_06_an_uplink_goes_down_and_up_and_gets_another_address {
        lab.links(r#"
            talk, other = Exchange(), Exchange("c2", 5001)
            assert talk.works() and other.works() and talk.seen[0] == "192.0.2.1"
            ip("link set up0 down")
            assert not talk.works()
            ip("link set up0 up"); gateway_again()
            print("after up:", until(talk.works, "the uplink that is up again"))
            ip("addr del 192.0.2.1/24 dev up0")
            until(lambda: flows("192.0.2.1:") == [], "flows of the address that is gone to end")
            ip("addr add 192.0.2.7/24 dev up0"); gateway_again()
            print("with the new address:", until(talk.works, "the new address"))
            assert talk.seen[0] == "192.0.2.7", talk.seen
            until(other.works, "the other container")
            assert flows("192.0.2.1:") == [] and len(flows("192.0.2.7:")) == 2
            ip("addr add 192.0.2.1/24 dev up0")
        "#);
    }

    /// It has another index then; or the same one, when it only was elsewhere.
    fn flt_06_an_uplink_that_is_made_again_is_used_again {
        run_pontoon("publish c2 8053:53/udp");
        lab.links(r#"
            talk = Exchange()
            watch = f"exec env {os.environ['PONTOON']} events --json"
            events = subprocess.Popen(watch, shell=True, stdout=subprocess.PIPE)
            def watched():
                command("network create some"), command("network rm some")
                return select.select([events.stdout], [], [], 0.1)[0]
            until(watched, "events")
            served, asking = udp_socket("c2", ("", 53), 0.1), udp_socket("ext", ("", 6000), 0.1)
            def serves():
                try:
                    asking.sendto(b"?", (EXTERNAL, 8053))
                    text, client = served.recvfrom(100)
                    served.sendto(b"!", client)
                    return asking.recv(100) == b"!"
                except OSError:
                    return False
            assert talk.works() and serves()
            for _ in range(2):
                before = index("up0")
                ip("link del up0")
                assert not talk.works()
                # Somebody else's interface has its number now.
                ip(f"link add other index {before} type veth peer name other0 netns c3",
                   "-n c3 link set other0 up", "link set other up")
                stranger = Port("c3", "other0")
                for _ in range(5):
                    assert not talk.works()
                assert stranger.hear(b"question", 0) == []
                remake_uplink()
                assert index("up0") != before
                print("made again:", until(talk.works, "the uplink that was made again"))
                until(serves, "the published port")
                ip("link del other")
            before = index("up0")
            ip("link set up0 netns c3", "-n c3 link set up0 netns 1")
            ip("link set up0 up", "addr add 192.0.2.1/24 dev up0"); gateway_again()
            assert index("up0") == before
            print("came back:", until(talk.works, "the uplink that was elsewhere"))
            until(serves, "the published port")
            events.terminate()
            told = [json.loads(line) for line in events.stdout.read().splitlines()]
            gone = [event for event in told if "the uplink up0 is gone" in json.dumps(event)]
            assert 2 <= len(gone) <= 3, told
        "#);
    }

    /// While no engine runs; and it is still away when the next one begins.
    fn flt_06_an_uplink_that_is_made_again_between_two_engines_is_used_again {
        lab.links(r#"
            def both_die(meanwhile):
                """A second death at once gives a second in which no engine runs."""
                time.sleep(2.1)
                kill_engine()
                os.kill(pontoon("status")["engine"]["pid"], signal.SIGKILL)
                until(lambda: "started again in 1 s" in log(), "a pause")
                meanwhile()
                until(lambda: subprocess.call(f"{os.environ['PONTOON']} status > /dev/null", shell=True) == 0, "an engine")
            talk = Exchange()
            assert talk.works()
            def swap():
                ip("link del up0")
                remake_uplink()
            both_die(swap)
            print("made again meanwhile:", until(talk.works, "the uplink"))
            both_die(lambda: ip("link del up0"))
            assert "the uplink up0 is gone" in log()
            assert not talk.works()
            remake_uplink()
            print("made again later:", until(talk.works, "the uplink"))
        "#);
        lab.expect_this_engine();
    }

    fn flt_07_the_path_s_size_follows_its_interfaces {
        run_pontoon("publish c1 8080:80");
        lab.links(r#"
            IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14
            out, back = Stream("c1", "ext", "198.51.100.10", 7000), Stream("ext", "c1", EXTERNAL, 8080, 80)
            def known():
                """What the container finds out about the path to an outside that is new to it."""
                known.last += 1
                s = udp_socket("c1")
                s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
                s.connect(("203.0.113.%d" % known.last, 9))
                for _ in range(20):
                    try:
                        s.send(bytes(1400))
                    except OSError:
                        pass
                    time.sleep(0.05)
                    if (mtu := s.getsockopt(socket.IPPROTO_IP, IP_MTU)) != 1500:
                        break
                return mtu
            known.last = 10
            for size in 1280, 1500, 9000, 1280, 1500:
                ip(f"link set up0 mtu {size}", f"-n ext link set eth0 mtu {size}")
                print("uplink", size, out.goes_on(), back.goes_on())
                assert known() == min(size, 1500)
            for size in 1280, 1500, 9000, 1280, 1500:
                ip(f"-n c1 link set eth0 mtu {size}")
                print("container", size, out.goes_on(), back.goes_on())
            out.finish(); back.finish()
        "#);
    }

    fn flt_08_a_container_s_interface_is_made_again_and_comes_back_from_elsewhere {
        lab.links(r#"
            talk, bridged = Exchange(), udp_socket("c2", ("172.18.0.3", 9000), 0.1)
            hearing = udp_socket("c1", ("", 9000), 0.1)
            def heard():
                try:
                    bridged.sendto(b"to c1", ("172.18.0.2", 9000))
                    return hearing.recv(100) == b"to c1"
                except OSError:
                    return False
            assert talk.works() and heard()
            def ports():
                return sorted(c["name"] for c in pontoon("status")["ports"])
            ip("netns add elsewhere")
            for _ in range(2):
                ip("-n c1 link del eth0")
                until(lambda: ports() == ["c2", "c3"], "the port's end")
                command("attach --netns /run/netns/c1 --name c1 --network net --ip 172.18.0.2")
                print("made again:", until(talk.works, "the new one"), until(heard, "the new one inside"))
                ip("-n c1 link set eth0 netns elsewhere", "-n elsewhere link set eth0 netns c1")
                ip("-n c1 addr add 172.18.0.2/24 dev eth0", "-n c1 link set eth0 up",
                   "-n c1 route replace default via 172.18.0.1")
                print("came back:", until(talk.works, "what came back"), until(heard, "the same inside"))
                assert ports() == ["c1", "c2", "c3"]
            ip("netns del elsewhere")
        "#);
    }

    /// Keeper and engine believe that it is a day later, then a day earlier: their wall clock is told by a library
    /// of the test's. The machine's own is everybody's.
    fn flt_10_a_wall_clock_that_jumps_ends_nothing {
        let library = "/run/clock.so";
        fs::write("/run/clock.c", CLOCK).expect("a writable /run");
        sh(&format!("cc -shared -fPIC -o {library} /run/clock.c"));
        run_pontoon("shutdown");
        let network = "network create net --subnet 172.18.0.0/24 --uplink dev:up0";
        sh(&format!("LD_PRELOAD={library} {} {network}", environment()));
        for (ns, host) in [("c1", 2), ("c2", 3), ("c3", 4)] {
            lab.attach(ns, host, "");
        }
        lab.expect_this_engine();
        lab.links(r#"
            import datetime
            def believed():
                """What the engine takes for the time, in days since now."""
                command("network create clock")
                [network] = json.loads(command("network inspect clock"))
                command("network rm clock")
                created = datetime.datetime.fromisoformat(network["Created"][:19] + "+00:00")
                return (created.timestamp() - time.time()) / 86400
            def left():
                return {flow["protocol"]: int(flow["expires"]) for flow in flows()}
            talk, stream = Exchange(), Stream("c1", "ext", "198.51.100.10", 7000)
            assert talk.works() and stream.goes_on() and abs(believed()) < 0.1
            before = left()
            assert len(before) == 2, before
            for day in 1, -1:
                open("/run/clock.offset", "w").write(str(86400 * day))
                assert abs(believed() - day) < 0.1
                after = left()
                assert all(before[p] - 60 <= after[p] <= before[p] + 150 for p in before), (before, after)
                assert talk.works() and stream.goes_on()
                assert len(pontoon("status")["ports"]) == 3 and pontoon("status")["uptime"] < 600
            stream.finish()
        "#);
    }

    fn flt_11_an_engine_that_stood_still_goes_on {
        lab.links(r#"
            status = pontoon("status")
            engine = status["engine"]["pid"]
            ticks = lambda: sum(map(int, open(f"/proc/{engine}/stat").read().rsplit(") ", 1)[1].split()[11:13]))
            stream, talk = Stream("c1", "ext", "198.51.100.10", 7000), Exchange()
            assert talk.works()
            ages, ending = [], threading.Event()
            source, sink = udp_socket("c1"), udp_socket("c2", ("", 9000), 0.1)
            def chatter():
                while not ending.is_set():
                    source.sendto(struct.pack("d", time.monotonic()), ("172.18.0.3", 9000))
                    time.sleep(0.02)
            def listen():
                while not ending.is_set():
                    try:
                        sent = struct.unpack("d", sink.recv(100))[0]
                    except OSError:
                        continue
                    ages.append((time.monotonic(), time.monotonic() - sent))
            threads = [threading.Thread(target=part) for part in (chatter, listen)]
            [thread.start() for thread in threads]
            until(lambda: len(ages) > 20, "datagrams")
            os.kill(engine, signal.SIGSTOP)
            time.sleep(8)
            before = ticks()
            os.kill(engine, signal.SIGCONT)
            woken = time.monotonic()
            print("answers:", until(talk.works, "an answer"), "stream:", stream.goes_on())
            until(lambda: ages and ages[-1][0] > woken + 3, "datagrams after that")
            ending.set()
            [thread.join() for thread in threads]
            stream.finish()
            late = [age for at, age in ages if at > woken + 2 and age > 3]
            oldest = max(age for at, age in ages if at > woken)
            last = max((at - woken for at, age in ages if at > woken and age > 1), default=0)
            print(f"oldest after waking {oldest:.1f} s, the last stale one after {last:.2f} s; {ticks() - before} ticks")
            assert late == [], late
        "#);
    }
}
