//! Unusual frames of carried flows arrive as they do when nothing is carried, or are answered as they are then.

use pontoon_tests::e2e::{Lab, environment, run_pontoon, sh};

/// What both programs have in common: what is said once is heard by both ends, and kept for the comparison.
const COMMON: &str = r#"
SEEN = {}

def plain(frame):
    """A frame without what an engine chooses anew each time."""
    data = bytearray(bytes(frame))
    data[18:20] = data[24:26] = bytes(2)
    return data.hex()

def sums_can_be_right(p):
    return not (p[IP].flags & 1 or p[IP].frag) and not (UDP in p and p[UDP].chksum == 0)

def say(a, b, forms):
    """Sends what is called so by its name in brackets, and notes what is heard of each, and how it is answered."""
    for name, frames in forms.items():
        a.send(*[bytes(f) for f in frames])
    heard = b.hear(b"<<")
    assert all(sums_are_right(f) for f in heard if sums_can_be_right(f)), heard
    errors = a.hear(lambda p: ICMP in p and p[ICMP].type in (3, 11))
    for name in forms:
        mark = marked(name)
        answers = {(p[IP].src, p[ICMP].type, p[ICMP].code) for p in errors if mark in bytes(p)}
        SEEN[name] = [plain(f) for f in heard if mark in bytes(f)], sorted(answers)

def marked(name):
    return f"<<{name}>>".encode()

def compare():
    file = "/run/seen.json"
    # As another process reads it.
    seen = json.loads(json.dumps(SEEN))
    if CARRIED:
        return open(file, "w").write(json.dumps(seen))
    before = json.load(open(file))
    assert before.keys() == seen.keys()
    different = [name for name in seen if before[name] != seen[name]]
    assert not different, [(name, before[name], seen[name]) for name in different]
"#;

/// Datagrams: bridged, and by a published port.
const DATAGRAMS: &str = r#"
command("publish c2 8053:53/udp")
ways = {"bridged": ("172.18.0.3", 54, 54), "translated": ("172.18.0.1", 8053, 53)}
pairs = [Datagrams("c1", "c2", to, port, port + 5000) for *to, port in ways.values() for to in [tuple(to)]]
if CARRIED:
    until_carried(lambda: [pair.and_back() for pair in pairs], 4)
c1, c2 = Port("c1"), Port("c2")
for way, (dst, dport, port) in ways.items():
    def datagram(text, checksum=None, **fields):
        head = Ether(src=c1.mac, dst=c2.mac if dst == "172.18.0.3" else GATEWAY)
        fields = {"flags": "DF", **fields}
        return head / IP(src=c1.ip, dst=dst, **fields) / UDP(sport=port + 5000, dport=dport, chksum=checksum) / text
    forms = {
        "plain": {}, "may be cut": {"flags": 0}, "no checksum": {"checksum": 0}, "reserved bit": {"flags": "evil"},
        "service": {"tos": 0xb8}, "capable 1": {"tos": 1}, "capable 2": {"tos": 2}, "congested": {"tos": 3},
        "options": {"options": [IPOption(b"\x01" * 4)]}, "no time left": {"ttl": 1}, "hardly any time": {"ttl": 2},
        "other time": {"ttl": 63}, "long time": {"ttl": 255}, "plain again": {}, "both": {"flags": 0, "checksum": 0},
    }
    said = {f"{way} {name}": [datagram(marked(f"{way} {name}"), **fields)] * 3 for name, fields in forms.items()}
    for length in 0, 1, 2, 1400:
        name = f"{way} and {length}"
        said[name] = [datagram(marked(name) + bytes(length))]
    whole = datagram(marked(f"{way} parts") * 100, flags=0, id=7)
    said[f"{way} parts"] = [Ether(src=whole.src, dst=whole.dst) / part for part in fragment(whole[IP], 800)]
    said[f"{way} padding"] = [bytes(datagram(marked(f"{way} padding"))) + bytes(9)]
    say(c1, c2, said)
assert all(SEEN[f"{way} {name}"][0] for way in ways for name in forms if name != "no time left"), SEEN
if CARRIED:
    assert carried() >= 2
    before = settled("carried.frames")
    c1.send(*[datagram(b"<carried>")] * 100)
    c2.hear(b"<carried>", 100)
    until(lambda: counter("carried.frames") == before + 100, "it to be carried")
compare()
"#;

/// Segments of a connection that both ends speak by hand.
const SEGMENTS: &str = r#"
command("publish c2 8080:80/tcp")
c1, c2 = Port("c1"), Port("c2")
ends = {"bridged": (c2.mac, "172.18.0.3", 81, 5081), "translated": (GATEWAY, "172.18.0.1", 8080, 5080)}
for way, (mac, dst, dport, sport) in ends.items():
    def there(flags, data=b"", **fields):
        fields = {"seq": 1001, "ack": 9001, "window": 8192, **fields}
        base = Ether(src=c1.mac, dst=mac) / IP(src=c1.ip, dst=dst, flags="DF")
        return base / TCP(sport=sport, dport=dport, flags=flags, **fields) / Raw(data)
    c1.send(there("S", seq=1000, ack=0))
    [syn] = c2.hear(lambda p: TCP in p and p[TCP].flags == "S", 1)
    def back(flags, data=b"", **fields):
        fields = {"seq": 9001, "ack": 1001, "window": 8192, **fields}
        base = Ether(src=c2.mac, dst=syn.src) / IP(src=c2.ip, dst=syn[IP].src, flags="DF")
        return base / TCP(sport=syn.dport, dport=syn.sport, flags=flags, **fields) / Raw(data)
    c2.send(back("SA", seq=9000))
    c1.hear(lambda p: TCP in p and p[TCP].flags == "SA", 1)
    def load():
        c1.send(*[bytes(there("A"))] * 300)
        c2.send(*[bytes(back("A"))] * 300)
    load()
    if CARRIED:
        until_carried(load, 2 if way == "bridged" else 4)
    c1.forget(), c2.forget()
    forms = {
        "data": ("PA", {}), "urgent": ("PAU", {"urgptr": 2}), "echo": ("PAE", {}), "reduced": ("PAC", {}), "nonce": ("PAN", {}),
        "window": ("PA", {"window": 1}), "times": ("PA", {"options": [("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)]}),
        "gaps": ("PA", {"options": [("SAck", (9100, 9200)), ("NOP", None), ("NOP", None)]}), "data again": ("PA", {}),
    }
    said = lambda segment, to: {
        f"{way} {name} {to}": [segment(flags, marked(f"{way} {name} {to}").ljust(40), **fields)] * 2
        for name, (flags, fields) in forms.items() if (name, to) != ("gaps", "back")
    }
    say(c1, c2, said(there, "there"))
    say(c2, c1, said(back, "back"))
if CARRIED:
    assert carried() >= 2
    before = settled("carried.frames")
    c1.send(*[there("A")] * 100)
    until(lambda: counter("carried.frames") == before + 100, "it to be carried")
compare()
"#;

/// Runs a program while flows are carried, and once more while they are not.
fn compare(lab: &Lab, program: &str, prepare: impl Fn()) {
    prepare();
    lab.offload(&format!("CARRIED = True\n{COMMON}\n{program}"));
    run_pontoon("shutdown");
    sh(&format!(
        "PONTOON_OFFLOAD=off {} network create net --subnet 172.18.0.0/24 --uplink dev:up0",
        environment()
    ));
    for (ns, host) in [("c1", 2), ("c2", 3), ("c3", 4)] {
        lab.attach(ns, host, "");
    }
    lab.offload(&format!("CARRIED = False\n{COMMON}\n{program}"));
    lab.expect_this_engine();
}

pontoon_tests::laboratory_tests! { |lab|
    /// Options, fragments, times to live, marks, no checksum, padding.
    fn unusual_datagrams_arrive_as_without {
        compare(lab, DATAGRAMS, || {});
    }

    /// Urgent data, marks of congestion, options, small windows.
    fn unusual_segments_arrive_as_without {
        compare(lab, SEGMENTS, || ["c1", "c2"].into_iter().for_each(|ns| lab.mute(ns)));
    }

    /// A kernel that leaves sums to its card, and one that does not, are both understood: what arrives has the right
    /// sums, addresses and time to live.
    fn sums_of_real_segments_are_right {
        run_pontoon("publish c2 8080:80/tcp");
        lab.offload(r#"
            for checks in "on", "off":
                subprocess.check_call(f"ip netns exec c1 ethtool -K eth0 tx {checks} >/dev/null", shell=True)
                pair = Connected("c1", "c2", ("172.18.0.1", 8080), 80)
                until_carried(pair.and_back, 2)
                before = settled("carried.frames")
                c2 = Port("c2")
                pair.client.sendall(b"whole" * 100)
                assert pair.server.recv(1000) == b"whole" * 100
                [frame] = c2.hear(b"whole", 1)
                assert (frame.src, frame.dst) == (GATEWAY, c2.mac), frame
                assert (frame[IP].src, frame[IP].dst, frame[IP].ttl) == ("172.18.0.1", c2.ip, 63), frame
                assert fold(bytes(frame)[14:34]) == 0xffff
                assert sums_are_right(frame) or checks == "on"
                until(lambda: counter("carried.frames") > before, "it to be carried")
                pair.client.close(), pair.server.close()
        "#);
    }

    /// What has to be cut on its way is the engine's to refuse, whatever is carried the other way.
    fn a_smaller_network_is_told_of {
        run_pontoon("network create small --subnet 172.19.0.0/24 --uplink dev:up0 --mtu 1000");
        sh("ip netns add d1 && ip -n d1 link set lo up");
        run_pontoon("attach --netns /run/netns/d1 --name d1 --network small --ip 172.19.0.2 -p 9053:53/udp -p 9080:80");
        lab.offload(r#"
            flow = Datagrams("c1", "d1", ("172.18.0.1", 9053), 53)
            until_carried(flow.and_back)
            # IP_MTU_DISCOVER: IP_PMTUDISC_DO
            flow.client.setsockopt(socket.IPPROTO_IP, 10, 2)
            def too_long():
                try:
                    flow.client.send(bytes(1400))
                except OSError as failure:
                    return failure.errno == 90
                time.sleep(0.2)
            until(too_long, "the engine's answer")
            flow.works()
            until_carried(flow.and_back)
            ip("-n c1 route flush cache")
            pair = Connected("c1", "d1", ("172.18.0.1", 9080), 80)
            until_carried(pair.and_back)
        "#);
    }
}
