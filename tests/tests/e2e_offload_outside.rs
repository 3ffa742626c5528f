//! Flows through the uplink's interface that the kernel carries: what ends them, what changes under them, and who
//! is not disturbed by them.

use pontoon_tests::e2e::run_pontoon;

/// Flows out of a container and into one.
const FLOWS: &str = r#"
OUTSIDE, HOST = "192.0.2.254", "192.0.2.1"

def outward_flow(sport=5000):
    return Datagrams("c1", "ext", (OUTSIDE, 7000), 7000, sport)

def inward_flow(sport=6000):
    return Datagrams("ext", "c2", (HOST, 8053), 53, sport)
"#;

pontoon_tests::laboratory_tests! { |lab|
    /// Both directions of both, with the right addresses, time to live and sums on either side.
    fn what_goes_in_and_out_is_carried_and_right {
        run_pontoon("publish c2 8053:53/udp");
        lab.offload(&format!("{FLOWS}{}", r#"
for make, inner in (outward_flow, "c1"), (inward_flow, "c2"):
    flow = make()
    until_carried(flow.and_back, 2)
    inside_port, outside_port = Port(inner), Port("ext")
    before = settled("carried.frames")
    [flow.client.send(b"there") for _ in range(100)]
    [flow.back(b"back") for _ in range(100)]
    outward_mark, inward_mark = (b"there", b"back") if inner == "c1" else (b"back", b"there")
    out, come = outside_port.hear(outward_mark, 100), inside_port.hear(inward_mark, 100)
    assert all((p.src, p.dst, p[IP].src, p[IP].ttl) == (uplink_mac(), outside_port.mac, HOST, 63) for p in out), out[0]
    assert all((p.src, p.dst, p[IP].dst, p[IP].ttl) == (GATEWAY, inside_port.mac, ADDRESS[inner], 63) for p in come), come[0]
    until(lambda: counter("carried.frames") == before + 200, "all of it to be carried")
    flow.works(), flow.close()
"#));
    }

    /// A port that is taken back, and a container that goes, end what comes by the uplink at once.
    fn what_comes_in_ends_at_once {
        lab.offload(&format!("{FLOWS}{}", r#"
ip("netns add n1")
for end in "unpublish c2 8053:53/udp", "detach c2":
    command("publish c2 8053:53/udp")
    flow = inward_flow()
    until_carried(flow.and_back, 2)
    ends_at_once(end, lambda: flow.client.send(b"late"), "c2", b"late")
    assert flows(":8053") == [] and carried() == 0
    flow.close()
attach("n1", 3)
heir = Port("n1")
ghost = udp_socket("ext", ("", 6000))
for _ in range(300):
    with contextlib.suppress(OSError):
        ghost.sendto(b"load", (HOST, 8053))
heir.hear(b"load", 0)
command("detach n1")
attach("c2", 3)
# Answers to a container that has gone do not come to who has its address.
flow = outward_flow()
until_carried(flow.and_back, 2)
ends_at_once("detach c1", lambda: flow.back(b"late"), "c1", b"late")
attach("n1", 2)
heir = Port("n1")
for _ in range(300):
    flow.back(b"late")
heir.hear(b"late", 0)
assert carried() == 0
command("detach n1")
attach("c1", 2)
"#));
    }

    /// A sum that the device is to complete in the middle of an address changes none on the way out: what leaves has
    /// the uplink's address, or a head that nobody takes. Within the network, where no head is written anew, the same
    /// frame would be believed by whoever looks at nothing else.
    fn no_sum_is_completed_into_an_address {
        lab.offload(&format!("{FLOWS}{}", r#"
START, FIELD = 20, 26
class Partial(Port):
    """Its frames have a sum that the device is to complete: from `START`, in `FIELD`."""
    def __init__(self, ns):
        super().__init__(ns)
        self.socket.setsockopt(SOL_PACKET, 15, 1) # PACKET_VNET_HDR
    def send(self, frame):
        self.socket.send(struct.pack("=BBHHHH", 1, 0, 0, 0, START, FIELD - START) + frame)

def completed(data):
    return data[:FIELD] + struct.pack("!H", ~fold(data[START:]) & 0xffff) + data[FIELD + 2:]

def without(data, *words):
    data = bytearray(data)
    for at in words:
        data[at:at + 2] = bytes(2)
    return bytes(data)

def lies(data, address):
    data = completed(data)
    return fold(data[14:34]) == 0xffff and data[26:30] != socket.inet_aton(address)

def frame(dst_mac, flow_to, sport, dport, word=0, bias=0):
    head = Ether(src=c1.mac, dst=dst_mac) / IP(src=c1.ip, dst=flow_to, flags="DF", id=0)
    data = bytearray(bytes(head / UDP(sport=sport, dport=dport, chksum=0x1234) / (b"forged" + struct.pack("!H", word))))
    data[24:26] = struct.pack("!H", fold(data[24:26] + struct.pack("!H", bias)))
    return bytes(data)

c1 = Partial("c1")
def believed(heard, address, *ends):
    """What becomes of a frame whose head is wrong by just what completing it adds."""
    def through(data):
        """Sends it until it is carried: the engine drops it."""
        found = []
        def sent():
            until_carried(lambda: [flow.and_back() for flow in flows], 4)
            c1.send(data)
            found.extend(heard.hear(b"forged"))
            return found
        until(sent, "the frame to be carried")
        return bytes(found[0])
    probe = through(frame(*ends))
    word = fold(without(probe, 24, FIELD)[14:34]) - fold(without(probe, 24)[START:])
    forged = through(frame(*ends, word=word % 0xffff, bias=0x0101))
    return lies(forged, address)

c2, ext = Port("c2"), Port("ext")
flows = Datagrams("c1", "c2", ("172.18.0.3", 53), 53, 5053), outward_flow()
assert believed(c2, c1.ip, c2.mac, "172.18.0.3", 5053, 53)
assert not believed(ext, HOST, GATEWAY, OUTSIDE, 5000, 7000)
[flow.close() for flow in flows]
"#));
    }

    /// Ends and resets of either side are there at once, and a reset that was guessed is nothing.
    fn connections_end_as_any_other {
        run_pontoon("publish c2 8080:80/tcp");
        lab.offload(&format!("{FLOWS}{}", r#"
for source, target, to, port in ("c1", "ext", (OUTSIDE, 7001), 7001), ("ext", "c2", (HOST, 8080), 80):
    for end in "reset by client", "reset by server", "finished":
        pair = Connected(source, target, to, port)
        until_carried(pair.and_back, 2)
        if end == "finished":
            pair.client.shutdown(socket.SHUT_WR)
            assert pair.server.recv(1) == b""
            move(pair.server, pair.client)
            pair.server.shutdown(socket.SHUT_WR)
            assert pair.client.recv(1) == b""
            until(lambda: "TIME_WAIT" in {f["state"] for f in flows(f":{to[1]}")}, "the engine to know")
            pair.client.close(), pair.server.close()
            continue
        one, other = (pair.client, pair.server) if end.endswith("client") else (pair.server, pair.client)
        pair.reset_by(one)
        try:
            raise SystemExit(f"{end}: {other.recv(1)}")
        except ConnectionResetError:
            pass
        until(lambda: not [f for f in flows(f":{to[1]}") if f["assured"] or f["offload"]], "its end")

# From outside, by who knows all but the numbers.
pair = Connected("c1", "ext", (OUTSIDE, 7002), 7002)
until_carried(pair.and_back, 2)
[seen] = flows(":7002")
outside_port = Port("ext")
sport = int(seen["reply"][1].rsplit(":", 1)[1])
head = Ether(src=outside_port.mac, dst=uplink_mac()) / IP(src=OUTSIDE, dst=HOST, flags="DF")
outside_port.send(head / TCP(sport=7002, dport=sport, flags="R", seq=random.getrandbits(32)))
until_carried(pair.and_back, 2)
until(lambda: [f["state"] for f in flows(":7002")] == ["ESTABLISHED"], "the connection to be known")
"#));
    }

    /// While the uplink is down nothing passes; what was carried goes on when it is up again.
    fn an_uplink_that_goes_down_and_comes_up {
        lab.offload(&format!("{FLOWS}{}", r#"
flow = outward_flow()
stream = Steady("c1", "ext", (OUTSIDE, 7001), 7001)
until_carried(flow.and_back, 4)
ip("link set up0 down")
until(lambda: carried() == 0, "what was carried to be left")
empty(flow.server)
flow.there()
assert hears_nothing(flow.server)
ip("link set up0 up")
gateway_again()
def again():
    with contextlib.suppress(OSError):
        flow.client.send(b"again")
    return select.select([flow.server], [], [], 0.1)[0]
until(again, "the uplink to work")
stream.goes_on()
until_carried(flow.and_back, 4)
stream.finish()
print(f"longest gap: {stream.gap:.1f} s")
"#));
    }

    /// Who was known by an address that is no longer the uplink's is not any more; who comes is known by the new one.
    fn an_uplink_whose_address_changes {
        lab.offload(&format!("{FLOWS}{}", r#"
flow = outward_flow()
until_carried(flow.and_back, 2)
ip("addr del 192.0.2.1/24 dev up0", "addr add 192.0.2.7/24 dev up0")
gateway_again()
until(lambda: not [f for f in flows("7000") if "192.0.2.1:" in " ".join(f["reply"])], "the old flows' end")
inner = Port("c1")
for _ in range(300):
    with contextlib.suppress(OSError):
        flow.server.sendto(b"late", flow.peer)
inner.hear(b"late", 0)
flow.close()
def works():
    try:
        other = outward_flow(5001)
    except OSError:
        return False
    until_carried(other.and_back, 2)
    assert other.peer[0] == "192.0.2.7", other.peer
    return other
until(works, "flows by the new address")
ip("addr del 192.0.2.7/24 dev up0", "addr add 192.0.2.1/24 dev up0")
gateway_again()
"#));
    }

    /// A smaller wire: who sends what does not fit is told, and the stream goes on.
    fn an_uplink_that_takes_less {
        lab.offload(&format!("{FLOWS}{}", r#"
flow = outward_flow()
pair = Connected("c1", "ext", (OUTSIDE, 7001), 7001)
until_carried(lambda: (flow.and_back(), pair.and_back()), 4)
# Both ends: a segment that is sent again alone would not pass a link whose other end takes less.
ip("link set up0 mtu 1300", "-n ext link set eth0 mtu 1300")
# IP_MTU_DISCOVER: IP_PMTUDISC_DO
flow.client.setsockopt(socket.IPPROTO_IP, 10, 2)
def too_long():
    try:
        flow.client.send(bytes(1400))
    except OSError as failure:
        return failure.errno == 90
    time.sleep(0.3)
until(too_long, "the engine's answer")
pair.and_back()
until_carried(pair.and_back)
flow.works()
ip("-n ext link set eth0 mtu 1500", "link set up0 mtu 1500", "-n c1 route flush cache")
pair.and_back()
"#));
    }

    /// The host's own sockets, those that wait and those that begin, go on beside what is carried.
    fn the_hosts_own_sockets_are_its_own {
        run_pontoon("publish c2 8053:53/udp");
        lab.offload(&format!("{FLOWS}{}", r#"
load = [outward_flow(), inward_flow()]
senders = [Repeat(lambda f=f: f.client.send(b"load")) for f in load]
until_carried(lambda: time.sleep(0.05), 2)
for round in range(3):
    own = Datagrams("", "ext", (OUTSIDE, 9000 + round), 9000 + round)
    served = Datagrams("ext", "", (HOST, 9100 + round), 9100 + round)
    for pair in own, served:
        [pair.and_back() for _ in range(5)]
        pair.works()
    out = Connected("", "ext", (OUTSIDE, 9200 + round), 9200 + round)
    come = Connected("ext", "", (HOST, 9300 + round), 9300 + round)
    for pair in out, come:
        pair.and_back()
    assert not flows(":9") and carried() >= 2, flows(":9")
[sender.end() for sender in senders]
[flow.works() for flow in load]
"#));
    }
}
