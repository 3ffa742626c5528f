"""Sockets in several network namespaces at once, for the programs of end-to-end tests.

    c1, ext = Port("c1"), Port("ext")
    c1.send(outward(c1) / UDP(sport=5000, dport=53) / b"mark")
    [frame] = ext.hear(b"mark", 1)

Frames are compared by what they carry, never by how many there were in all.
"""

import contextlib, ctypes, hashlib, json, os, random, select, signal, socket, struct, subprocess, sys
import threading, time
import logging

logging.getLogger("scapy").setLevel(logging.CRITICAL)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption, fragment
from scapy.packet import Padding, Raw

CLONE_NEWNET = 0x40000000
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
# How long a socket must be quiet before nothing more is expected of it, in seconds.
QUIET = 0.25
# The same once everything that was expected has come.
EXTRA = 0.05
PATIENCE = 20
GATEWAY = "02:42:ac:12:00:01"
ADDRESS = {"c1": "172.18.0.2", "c2": "172.18.0.3", "c3": "172.18.0.4"}
EXTERNAL = "192.0.2.1"
# Beyond `ext`, where no kernel answers.
FAR, FAR2 = "203.0.113.9", "203.0.113.77"

seed = int(os.environ.get("WIRE_SEED", time.time_ns() & 0xFFFFFFFF))
random.seed(seed)
print("seed", seed)
libc = ctypes.CDLL(None, use_errno=True)
socket.setdefaulttimeout(PATIENCE)


@contextlib.contextmanager
def inside(ns):
    """Runs a block in a namespace; "" is the one the test runs in. Sockets stay where they are made."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if ns:
            there = os.open(f"/run/netns/{ns}", os.O_RDONLY)
            assert libc.setns(there, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            os.close(there)
        yield
    finally:
        assert libc.setns(home, CLONE_NEWNET) == 0
        os.close(home)


def pontoon(arguments):
    """What `pontoon … --json` says."""
    return json.loads(subprocess.check_output(f"{os.environ['PONTOON']} {arguments} --json", shell=True))


def kill_engine():
    """Kills the engine, and waits for one that serves."""
    before = pontoon("status")
    os.kill(before["engine"]["pid"], signal.SIGKILL)
    # Nobody waits for the status of one that is started again after a while; for the rest one does.
    while pontoon("network ls") and pontoon("status")["restarts"] == before["restarts"]:
        time.sleep(0.02)


def flows(text=""):
    """The connections one of whose four ends contains `text`."""
    return [f for f in pontoon("flows") if text in " ".join(f["original"] + f["reply"])]


def drops(reason):
    return sum(n for name, n in pontoon("stats")["drops"] if name.startswith(reason))


def counter(name):
    return dict(pontoon("stats")["counters"])[name]


def udp_socket(ns, address=("", 0), timeout=PATIENCE):
    with inside(ns):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # Who leaves the choice to the kernel would be given the port of another one that may be used again.
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, bool(address[1]))
    s.settimeout(timeout)
    s.bind(address)
    return s


def tcp_socket(ns, timeout=PATIENCE):
    with inside(ns):
        s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.settimeout(timeout)
    return s


def hears_nothing(s, wait=QUIET):
    """No datagram comes to a socket."""
    return not select.select([s], [], [], wait)[0]


class Port:
    """A packet socket on an interface."""

    def __init__(self, ns, interface="eth0"):
        with inside(ns):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            self.socket.bind((interface, 3))
        self.mac = self.socket.getsockname()[4].hex(":")
        self.ip = ADDRESS.get(ns)
        self.backlog = []

    def send(self, *frames):
        for frame in frames:
            self.socket.send(bytes(frame))

    def frames(self, wait):
        """Frames as they come in, until none has come for a while."""
        while select.select([self.socket], [], [], wait)[0]:
            yield self.socket.recv(1 << 17)

    def hear(self, match, count=None):
        """The frames that contain the bytes, or for which the function holds. With a count, there must
        be exactly so many."""
        if isinstance(match, bytes):
            holds = lambda data: match in data
        else:
            holds = lambda data: match(Ether(data))
        found = [data for data in self.backlog if holds(data)]
        self.backlog = [data for data in self.backlog if not holds(data)]
        end = time.monotonic() + PATIENCE
        while True:
            short = count is not None and len(found) < count and time.monotonic() < end
            data = next(self.frames(EXTRA if short or count else QUIET), None)
            if data is not None:
                (found if holds(data) else self.backlog).append(data)
            elif not short:
                break
        if count is not None:
            said = "\n".join(Ether(data).summary() for data in found[:20])
            assert len(found) == count, f"{len(found)} frames instead of {count}\n{said}"
        return [Ether(data) for data in found]

    def forget(self):
        """Takes what has come so far, and throws it away."""
        self.backlog = []
        for _ in self.frames(QUIET):
            pass


def uplink_mac():
    return Port("", "up0").mac


def outward(port, dst=FAR, **fields):
    """Headers of what a container sends to its gateway."""
    return Ether(src=port.mac, dst=GATEWAY) / IP(src=port.ip, dst=dst, **fields)


def inward(port, src=FAR, dst=EXTERNAL, **fields):
    """Headers of what comes by the uplink."""
    return Ether(src=port.mac, dst=uplink_mac()) / IP(src=src, dst=dst, **fields)


def fold(data):
    """The ones' complement sum of RFC 1071, computed anew."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def sums_are_right(frame):
    """Every checksum of an untagged IPv4 frame equals a full recomputation."""
    data = bytes(frame)[14:]
    head = (data[0] & 15) * 4
    data = data[: struct.unpack("!H", data[2:4])[0]]
    body, protocol = data[head:], data[9]
    pseudo = b"" if protocol == 1 else data[12:20] + struct.pack("!HH", protocol, len(body))
    return fold(data[:head]) == 0xFFFF and fold(pseudo + body) == 0xFFFF


def map_udp(inner, outer, sport, dport, far=FAR):
    """Makes a masqueraded UDP flow; its external port."""
    mark = b"map-%d-%d" % (sport, dport)
    inner.send(outward(inner, far) / UDP(sport=sport, dport=dport) / mark)
    [seen] = outer.hear(mark, 1)
    assert seen[IP].src == EXTERNAL and sums_are_right(seen)
    return seen[UDP].sport


class Connection:
    """A TCP connection spoken by hand on both ends, of which no kernel knows."""

    def __init__(self, inner, outer, sport, dport, window=8192, seq=1000, far_seq=90000):
        self.inner, self.outer, self.sport, self.dport = inner, outer, sport, dport
        self.window, self.seq, self.far_seq, self.port = window, seq, far_seq, None
        self.open()

    def open(self):
        syn = self.out("S")
        self.port = syn[TCP].sport
        self.seq += 1
        self.back("SA")
        self.far_seq += 1
        self.out("A")

    def segment(self, base, ends, flags, seq, ack, data, fields):
        fields = {"window": self.window, **fields}
        sport, dport = ends
        return base / TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack, **fields) / data

    def out(self, flags, data=b"", count=1, seq=None, ack=None, **fields):
        """From inside; what is heard outside."""
        ack = (self.far_seq if ack is None else ack) if "A" in flags else 0
        self.inner.send(self.segment(
            outward(self.inner), (self.sport, self.dport), flags,
            self.seq if seq is None else seq, ack, Raw(data), fields))
        heard = self.outer.hear(self.is_out, count)
        assert all(sums_are_right(p) and p[IP].src == EXTERNAL for p in heard)
        if count and seq is None:
            self.seq += len(data) + ("F" in flags)
        return heard[0] if heard else None

    def back(self, flags, data=b"", count=1, seq=None, ack=None, **fields):
        """From outside; what is heard inside."""
        ack = (self.seq if ack is None else ack) if "A" in flags else 0
        self.outer.send(self.segment(
            inward(self.outer), (self.dport, self.port), flags,
            self.far_seq if seq is None else seq, ack, Raw(data), fields))
        heard = self.inner.hear(self.is_back, count)
        assert all(sums_are_right(p) and p[IP].dst == self.inner.ip for p in heard)
        if count and seq is None:
            self.far_seq += len(data) + ("F" in flags)
        return heard[0] if heard else None

    def is_out(self, p):
        return TCP in p and p[TCP].dport == self.dport and p[TCP].sport in (self.sport, self.port)

    def is_back(self, p):
        return TCP in p and p[TCP].sport == self.dport and p[TCP].dport == self.sport

    def works(self):
        """Data goes through in both directions."""
        self.out("PA", b"ping")
        self.back("PA", b"pong")
        self.out("A")

    def state(self):
        [flow] = flows(f":{self.dport}")
        return flow["state"]
