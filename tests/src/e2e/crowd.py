"""Network namespaces by the hundred, in one process, and what goes between them.

The kernel has one table of neighbours for all its namespaces (`gc_thresh3`, 1 024 entries), which no ordinary
user can widen. What is sent here needs none of it: frames leave by packet sockets, and arrive at the UDP
sockets of the containers' kernels.
"""
import ctypes
import fcntl
import itertools
import os
import random
import resource
import socket
import statistics
import struct
import subprocess
import time

from clients import Api, together

CLONE_NEWNET = 0x40000000
ETH_P_ALL, ETH_P_IP = 3, 0x0800
SIOCGIFADDR = 0x8915
PORT = 7000
BROADCAST = b"\xff" * 6
# Frames under way at a time: two such windows fit into any queue on the way.
WINDOW = 200
PATIENCE = 30
# How often a datagram is sent before there is no way.
ATTEMPTS = 10
# Turns of a comparison.
ROUNDS = 31
# The same while other work disturbs.
PATIENT_ROUNDS = 10 * ROUNDS

libc = ctypes.CDLL(None, use_errno=True)
home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Engine(Api):
    """An engine of its own, and its containers."""

    def __init__(self, instance=None):
        self.options = f"--instance {instance} " if instance else ""
        super().__init__(f"/run/user/pontoon{'@' + instance if instance else ''}/api.sock")

    def pontoon(self, arguments):
        """What the command says; it must succeed."""
        command = f"{os.environ['PONTOON']} {self.options}{arguments}"
        return subprocess.check_output(command, shell=True, text=True)

    def attach(self, name, network, ns):
        """Plugs a namespace in. Status and answer."""
        body = {"name": name, "networks": [{"network": network}]}
        return self.ask("POST", "/v1/containers", body, [ns])

    def detach(self, name):
        return self.ask("POST", f"/v1/containers/{name}/detach")

    def resident(self):
        """Memory of its process, in KiB."""
        pid = self.ask("GET", "/v1/status")[1]["engine"]["pid"]
        with open(f"/proc/{pid}/status") as status:
            [size] = [int(line.split()[1]) for line in status if line.startswith("VmRSS:")]
        print(f"engine: {size} KiB")
        return size

    def shut_down(self, namespaces):
        """Ends the engine; no interface may stay in these namespaces."""
        self.pontoon("shutdown")
        end = time.monotonic() + PATIENCE
        for ns in namespaces:
            while "eth0" in interfaces(ns):
                assert time.monotonic() < end, "interfaces stay"
                time.sleep(0.02)


class Container:
    """A namespace that was plugged in."""

    def __init__(self, number, ns, view):
        self.number, self.ns = number, ns
        self.address = view["address"].split("/")[0]
        self.ip, self.gateway = socket.inet_aton(self.address), socket.inet_aton(view["gateway"])
        enter(ns)
        self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.wire.bind(("eth0", 0))
        self.door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.door.bind((self.address, PORT))
        enter(home)
        # The kernel's own timeout costs no system call.
        self.door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("qq", 1, 0))
        self.mac, self.ear = self.wire.getsockname()[4], None

    def send(self, other):
        """A datagram that says who sends it."""
        datagram = struct.pack("!HHHHH", PORT, PORT, 10, 0, self.number)
        self.wire.send(other.mac + self.mac + b"\x08\0" + ipv4(self.ip, other.ip, 17, datagram))

    def hears(self, data, send):
        """Sends until it has come; datagrams that are late come in between."""
        for _ in range(PATIENCE):
            send()
            try:
                while self.door.recv(16) != data:
                    pass
                return
            except BlockingIOError:
                pass
        raise AssertionError(f"{data} does not come to {self.address}")

    def reaches_gateway(self):
        """Asks for the gateway's hardware address as a kernel does, and pings it."""
        enter(self.ns)
        self.ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        enter(home)
        self.ear.bind(("eth0", ETH_P_ALL))
        self.ear.settimeout(1)
        ask = struct.pack("!HHBBH", 1, ETH_P_IP, 6, 4, 1) + self.mac + self.ip + bytes(6) + self.gateway
        answer = exchange(self.ear, BROADCAST + self.mac + b"\x08\x06" + ask, self.gateway + self.mac)
        ping = struct.pack("!BBHHH", 8, 0, 0xFFFF - 0x0800 - self.number, 0, self.number)
        frame = answer[6:12] + self.mac + b"\x08\0" + ipv4(self.ip, self.gateway, 1, ping)
        exchange(self.ear, frame, self.gateway + self.ip + b"\0\0")
        self.ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)


def leave(containers):
    """Closes their sockets. The kernel takes its time for each one on the wire, but for all at once."""
    wires = [wire for one in containers for wire in (one.wire, one.ear) if wire]
    together(100, lambda number: [wire.close() for wire in wires[number::100]])


def namespaces(count):
    made = []
    for _ in range(count):
        assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
    enter(home)
    return made


def enter(ns):
    assert libc.setns(ns, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


def interfaces(ns):
    enter(ns)
    names = [name for _, name in socket.if_nameindex()]
    enter(home)
    return names


def address(ns):
    """What `eth0` has there."""
    enter(ns)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        enter(home)
        try:
            return socket.inet_ntoa(fcntl.ioctl(s, SIOCGIFADDR, struct.pack("256s", b"eth0"))[20:24])
        except OSError:
            return None


def crowd(engine, network, spaces, first=0):
    """Plugs them all in, numbered from `first`."""
    containers = []
    for number, ns in enumerate(spaces, first):
        status, view = engine.attach(f"n{number}", network, ns)
        assert status == 201, (number, view)
        containers.append(Container(number, ns, view))
    return containers


def ipv4(source, destination, protocol, payload):
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0, source, destination)
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", 0xFFFF - total) + header[12:] + payload


def exchange(wire, frame, part):
    """Sends a frame until another one comes that contains `part`."""
    for _ in range(PATIENCE):
        wire.send(frame)
        try:
            while True:
                answer = wire.recv(2048)
                if part in answer and answer != frame:
                    return answer
        except TimeoutError:
            pass
    raise AssertionError(f"no answer to {frame.hex()}")


def all_reach_each_other(containers):
    """Every ordered pair exchanges a datagram. One that a busy kernel drops is sent again."""
    count = len(containers)
    heard = [bytearray(count) for _ in containers]
    pairs = [(i, (i + step) % count) for step in range(1, count) for i in range(count)]
    for _ in range(ATTEMPTS):
        deliver(iter(pairs), containers, heard)
        pairs = [(source, to) for source, to in pairs if not heard[to][source]]
        if not pairs:
            return
        print(f"{len(pairs)} datagrams are sent again")
    raise AssertionError(f"{len(pairs)} pairs cannot reach each other, {pairs[:10]} among them")


def deliver(pairs, containers, heard):
    """Sends for these pairs, a window ahead of what is read."""
    under_way = []
    while window := list(itertools.islice(pairs, WINDOW)):
        for source, destination in window:
            containers[source].send(containers[destination])
        collect(under_way, containers, heard)
        under_way = window
    collect(under_way, containers, heard)


def collect(pairs, containers, heard):
    """Reads a datagram for each pair, and waits at most once for one that does not come."""
    flags = 0
    for _, destination in pairs:
        try:
            datagram = containers[destination].door.recv(16, flags)
            heard[destination][int.from_bytes(datagram)] = True
        except BlockingIOError:
            flags = socket.MSG_DONTWAIT


def timed(work, *arguments):
    """Milliseconds that it takes."""
    begin = time.perf_counter()
    status, answer = work(*arguments)
    took = (time.perf_counter() - begin) * 1000
    assert status in (200, 201), answer
    return took


def compare(crowded, last, last_ns, fresh, first, first_ns):
    """Attaching and publishing 32 ports costs at most twice as much where many are as where nobody is: by turns, by the
    medians or by the shortest of all, since other work on the machine disturbs either. Rounds go on for as long as it
    might be that."""
    def costs(engine, name, ns, port):
        attach = timed(engine.attach, name, "many", ns)
        ports = f"{port}-{port + 31}:80-111"
        publish = timed(engine.ask, "POST", f"/v1/containers/{name}/ports", {"ports": [ports]})
        assert engine.detach(name)[0] == 204
        return attach, publish

    def holds(kind):
        many, alone = ([one[who][kind] for one in rounds] for who in (0, 1))
        return any(of(many) <= 2 * of(alone) for of in (statistics.median, min))

    rounds = []
    for _ in range(PATIENT_ROUNDS):
        rounds.append((costs(crowded, last, last_ns, 20000), costs(fresh, first, first_ns, 30000)))
        if len(rounds) >= ROUNDS and holds(0) and holds(1):
            break
    for kind, what in enumerate(["attaching", "publishing 32 ports"]):
        many, alone = (statistics.median(one[who][kind] for one in rounds) for who in (0, 1))
        print(f"{what}: {many:.2f} ms with a crowd, {alone:.2f} ms without, medians of {len(rounds)}")
        assert holds(kind), (what, rounds)
