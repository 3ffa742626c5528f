//! As many flows as a busy host has, and more than there is room for.

use pontoon_tests::e2e::process::{engine, rss};
use pontoon_tests::e2e::{run_pontoon, wait_for};
use serde_json::Value;

/// Flows of datagrams, sent as bare frames: no socket is needed for any, and no kernel answers.
const FLOWS: &str = r#"
class Segment(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

class Message(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("name_length", ctypes.c_uint), ("segments", ctypes.POINTER(Segment)),
                ("count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
                ("flags", ctypes.c_int), ("sent", ctypes.c_uint)]

def messages(segments):
    """Frames to be sent at once."""
    array = (Message * len(segments))()
    for message, segment in zip(array, segments):
        message.segments, message.count = ctypes.pointer(segment), 1
    return array

def send_all(port, array):
    at = 0
    while at < len(array):
        rest = ctypes.byref(array, at * ctypes.sizeof(Message))
        at += max(libc.sendmmsg(port.socket.fileno(), rest, len(array) - at, 0), 0)

class Crowd:
    """Flows from a container to a port that another one publishes, and what is answered."""

    def __init__(self, port, number, target, sports):
        self.port, self.number, self.target, self.sports, self.kept = port, number, target, sports, []
        self.queries = self.segments(port, ((s, number) for s in sports))
        self.answers = self.segments(target, ((53, s) for s in sports))
        portions = lambda all: [messages(all[at:at + 500]) for at in range(0, len(all), 500)]
        self.asked, self.answered = portions(self.queries), portions(self.answers)
        # The same frame, often enough to be carried.
        self.one = Segment()
        self.many = messages([self.one] * 132)

    def segments(self, port, ends):
        """A frame for each pair of ports; only the first one is made by scapy, which is slow."""
        base = Ether(src=port.mac, dst=GATEWAY) / IP(src=port.ip, dst="172.18.0.1", flags="DF")
        frame = bytes(base / UDP(sport=0, dport=0, chksum=0) / b"load")
        sums = fold(frame[26:]) + 17 + 12
        found = []
        for sport, dport in ends:
            total = sums + sport + dport
            total = (total & 0xffff) + (total >> 16)
            total = ~((total & 0xffff) + (total >> 16)) & 0xffff
            data = frame[:34] + struct.pack("!HHHH", sport, dport, 12, total or 0xffff) + b"load"
            self.kept.append(ctypes.create_string_buffer(data, len(data)))
            found.append(Segment(ctypes.addressof(self.kept[-1]), len(data)))
        return found

    def open(self):
        """Each is begun, and answered once the engine knows of it. Nobody loses portions of this size."""
        for asked, answered in zip(self.asked, self.answered):
            send_all(self.port, asked)
            counter("flows")
            send_all(self.target, answered)
            counter("flows")

    def load(self, which=slice(None)):
        """Enough of each, one after the other, to be carried."""
        for segment in self.queries[which]:
            self.one.base, self.one.length = segment.base, segment.length
            send_all(self.port, self.many)

    def touch(self):
        [send_all(self.port, asked) for asked in self.asked]

def offloaded():
    return {tuple(f["original"]) for f in pontoon("flows") if f["offload"]}

def open_all(crowds):
    [crowd.open() for crowd in crowds]
    return sum(f["assured"] for f in pontoon("flows")) == sum(len(crowd.sports) for crowd in crowds)

def touch_all(crowds):
    [crowd.touch() for crowd in crowds]

def load_until(crowds, count):
    """Loads those that are not carried yet until so many are, and keeps the others alive."""
    end = time.monotonic() + 120
    while len(known := offloaded()) < count:
        assert time.monotonic() < end, (len(known), count, pontoon("stats")["counters"])
        for crowd in crowds:
            for n, sport in enumerate(crowd.sports):
                if n % 500 == 0:
                    touch_all(crowds)
                if (f"{crowd.port.ip}:{sport}", f"172.18.0.1:{crowd.number}") not in known:
                    crowd.load(slice(n, n + 1))
        touch_all(crowds)
"#;

fn status() -> Value {
    serde_json::from_str(&run_pontoon("status --json")).expect("JSON")
}

pontoon_tests::laboratory_tests! { |lab|
    /// Ten thousand flows of two containers are carried, counted and listed, and gone when their port is.
    fn ten_thousand_flows_are_carried {
        run_pontoon("publish c2 8053:53/udp");
        ["c1", "c2", "c3"].into_iter().for_each(|ns| lab.mute(ns));
        let keeper = status()["keeper"]["pid"].as_u64().expect("a number") as u32;
        let before = (rss(engine()), rss(keeper));
        lab.offload(&format!("{FLOWS}{}", r#"
c1, c2, c3 = Port("c1"), Port("c2"), Port("c3")
crowds = [Crowd(c1, 8053, c2, range(10000, 15000)), Crowd(c3, 8053, c2, range(20000, 25000))]
start = time.monotonic()
until(lambda: open_all(crowds), "all of them")
print(f"opened: {time.monotonic() - start:.1f} s")
start = time.monotonic()
load_until(crowds, 10000)
print(f"carried: {time.monotonic() - start:.1f} s")
for listing in "stats", "flows", "status":
    start = time.monotonic()
    pontoon(listing)
    print(f"{listing}: {time.monotonic() - start:.3f} s")
touch_all(crowds)
before = settled("carried.frames")
touch_all(crowds)
assert settled("carried.frames") == before + 10000, counter("carried.frames") - before
start = time.monotonic()
command("unpublish c2 8053:53/udp")
print(f"unpublish: {time.monotonic() - start:.3f} s")
c2.forget()
touch_all(crowds)
assert c2.hear(b"load") == []
assert carried() == 0 and flows(":8053") == []
"#));
        let after = (rss(engine()), rss(keeper));
        println!("KiB of engine and keeper before and after: {before:?} {after:?}");
        assert!(after.1 < before.1 + (32 << 10), "the keeper: {before:?} {after:?}");
        lab.may_grow(64 << 10);
        wait_for(|| rss(engine()) < before.0 + (64 << 10), "the engine's memory");
    }

    /// What is more than a port's share goes through the engine, is counted, and takes nothing from others.
    fn more_than_a_share_goes_through_the_engine {
        run_pontoon("publish c2 8053:53/udp");
        run_pontoon("publish c3 8054:53/udp");
        ["c1", "c2", "c3"].into_iter().for_each(|ns| lab.mute(ns));
        lab.may_grow(64 << 10);
        lab.offload(&format!("{FLOWS}{}", r#"
SHARE = 16384
c1, c2, c3 = Port("c1"), Port("c2"), Port("c3")
crowds = [Crowd(c1, 8053, c2, range(10000, 18300)), Crowd(c1, 8054, c3, range(20000, 28300))]
until(lambda: open_all(crowds), "all of them")
start = time.monotonic()
load_until(crowds, SHARE)
print(f"carried: {time.monotonic() - start:.1f} s, {counter('carried.refused')} refused")
known = offloaded()
assert len(known) == carried() == SHARE
crowd, n = next((c, n) for c in crowds for n, s in enumerate(c.sports)
                if (f"{c1.ip}:{s}", f"172.18.0.1:{c.number}") not in known)
crowd.load(slice(n, n + 1))
touch_all(crowds)
until(lambda: counter("carried.refused") > 0, "refusals to be counted")
before = settled("carried.frames")
crowd.target.forget()
crowd.load(slice(n, n + 1))
sport = crowd.sports[n]
heard = crowd.target.hear(lambda p: UDP in p and p[UDP].dport == 53 and p[UDP].sport == sport, 132)
assert all(sums_are_right(p) for p in heard) and counter("carried.frames") == before
# Another container has a share of its own.
other = Crowd(c3, 8053, c2, range(30000, 30001))
other.open()
until(lambda: other.load() or ("172.18.0.4:30000", "172.18.0.1:8053") in offloaded(), "another one's flow")
"#));
    }
}
