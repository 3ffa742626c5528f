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

def send_all(port, segments):
    """Sends frames, as many as the kernel takes at once."""
    messages = (Message * len(segments))()
    for message, segment in zip(messages, segments):
        message.segments, message.count = ctypes.pointer(segment), 1
    at = 0
    while at < len(segments):
        rest = ctypes.byref(messages, at * ctypes.sizeof(Message))
        sent = libc.sendmmsg(port.socket.fileno(), rest, len(segments) - at, 0)
        at += max(sent, 0)

class Crowd:
    """Flows from a container to a port that another one publishes, and what is answered."""

    def __init__(self, port, number, target, sports):
        self.port, self.target, self.sports, self.kept = port, target, sports, []
        head = Ether(src=port.mac, dst=GATEWAY) / IP(src=port.ip, dst="172.18.0.1", flags="DF")
        self.queries = [self.segment(head, s, number) for s in sports]
        head = Ether(src=target.mac, dst=GATEWAY) / IP(src=target.ip, dst="172.18.0.1", flags="DF")
        self.answers = [self.segment(head, 53, s) for s in sports]

    def segment(self, head, sport, dport):
        """The frame of one of them; only the first one is made by scapy, whose checksums are slow."""
        if not self.kept or self.kept[-1].raw[:34] != bytes(head / UDP() / b"load")[:34]:
            self.sums = fold(bytes(head / UDP(sport=0, dport=0, chksum=0) / b"load")[26:]) + 17 + 12
            self.head = bytes(head / UDP(chksum=0) / b"load")[:34]
        total = self.sums + sport + dport
        total = (total & 0xffff) + (total >> 16)
        total = ~((total & 0xffff) + (total >> 16)) & 0xffff
        frame = self.head + struct.pack("!HHHH", sport, dport, 12, total or 0xffff) + b"load"
        self.kept.append(ctypes.create_string_buffer(frame, len(frame)))
        return Segment(ctypes.addressof(self.kept[-1]), len(frame))

    def open(self):
        """Each is begun, and answered once the engine knows of it. Nobody loses portions of this size."""
        for at in range(0, len(self.queries), 500):
            send_all(self.port, self.queries[at:at + 500])
            counter("flows")
            send_all(self.target, self.answers[at:at + 500])
            counter("flows")

    def load(self, which=slice(None)):
        """Enough of each, one after the other, to be carried."""
        for segment in self.queries[which]:
            send_all(self.port, [segment] * 132)

    def touch(self):
        for at in range(0, len(self.queries), 500):
            send_all(self.port, self.queries[at:at + 500])

def offloaded(number):
    return sum(f["offload"] for f in pontoon("flows") if f["original"][1].endswith(f":{number}"))

def until_all_are(crowds, number, count):
    """Loads those that are not carried yet, and keeps the others alive."""
    end = time.monotonic() + 120
    while (now := offloaded(number)) < count:
        assert time.monotonic() < end, (now, count, pontoon("stats")["counters"])
        known = {f["original"][0] for f in pontoon("flows") if f["offload"]}
        for crowd in crowds:
            for n, sport in enumerate(crowd.sports):
                if n % 1000 == 0:
                    [crowd.touch() for crowd in crowds]
                if f"{crowd.port.ip}:{sport}" not in known:
                    crowd.load(slice(n, n + 1))
        [crowd.touch() for crowd in crowds]
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
until(lambda: [crowd.open() for crowd in crowds] and sum(f["assured"] for f in flows(":8053")) == 10000, "all of them")
print(f"opened: {time.monotonic() - start:.1f} s")
start = time.monotonic()
until_all_are(crowds, 8053, 10000)
print(f"carried: {time.monotonic() - start:.1f} s")
for listing in "stats", "flows", "status":
    start = time.monotonic()
    pontoon(listing)
    print(f"{listing}: {time.monotonic() - start:.3f} s")

[crowd.touch() for crowd in crowds]
before = settled("carried.frames")
[crowd.touch() for crowd in crowds]
assert settled("carried.frames") == before + 10000, counter("carried.frames") - before
start = time.monotonic()
command("unpublish c2 8053:53/udp")
print(f"unpublish: {time.monotonic() - start:.3f} s")
c2.forget()
[crowd.touch() for crowd in crowds]
assert c2.hear(b"load") == []
assert carried() == 0 and flows(":8053") == []
"#));
        let after = (rss(engine()), rss(keeper));
        println!("KiB of engine and keeper before and after: {before:?} {after:?}");
        assert!(after.1 < before.1 + (32 << 10), "the keeper: {before:?} {after:?}");
        lab.may_grow(64 << 10);
        wait_for(|| rss(engine()) < before.0 + (64 << 10), "the engine's memory");
    }
}
