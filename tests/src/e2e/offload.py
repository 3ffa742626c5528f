"""Traffic that the kernel carries, for tests of what is different then: nothing but its speed."""
from links import *

SO_TIMESTAMPNS = 35


def carried():
    """How many flows are."""
    return counter("carried.flows")


def until_carried(move, flows=1):
    """Moves data until so many flows are carried, and the kernel has counted some of it."""
    until(lambda: move() or carried() >= flows, f"{flows} carried flows: {pontoon('stats')['counters']}")
    before = counter("carried.frames")
    until(lambda: move() or counter("carried.frames") > before, "carried frames")


def settled(name):
    """The counter, once it has not changed while the kernel's were read twice."""
    value = None
    while value != (value := counter(name)):
        time.sleep(2.2)
    return value


def empty(s):
    """Takes what a socket has, until there is nothing for a while."""
    while select.select([s], [], [], QUIET)[0]:
        # What was refused before is told now.
        with contextlib.suppress(OSError):
            s.recv(1 << 16)


class Datagrams:
    """A socket that sends to another one, by an address of its choice, and is answered."""

    def __init__(self, source, target, to, port, sport=0):
        self.server = udp_socket(target, ("", port))
        self.client = udp_socket(source, ("", sport))
        self.client.connect(to)
        self.client.send(b"query")
        text, self.peer = self.server.recvfrom(100)
        self.back(b"answer")
        assert (text, self.client.recv(100)) == (b"query", b"answer")

    def back(self, text):
        self.server.sendto(text, self.peer)

    def there(self, text=b"load"):
        for _ in range(300):
            with contextlib.suppress(ConnectionRefusedError):
                self.client.send(text)

    def and_back(self):
        self.there()
        for _ in range(300):
            self.back(b"load")

    def works(self):
        """Either side gets what the other one says."""
        empty(self.server), empty(self.client)
        text = b"%x" % random.getrandbits(64)
        self.client.send(text)
        there = self.server.recv(100)
        self.back(text)
        assert there == self.client.recv(100) == text

    def close(self):
        self.server.close(), self.client.close()


class Connected:
    """A TCP connection between two kernels."""

    def __init__(self, source, target, to, port):
        with inside(target):
            listener = socket.create_server(("", port))
        listener.settimeout(PATIENCE)
        self.client = tcp_socket(source)
        self.client.connect(to)
        self.server, _ = listener.accept()
        self.server.settimeout(PATIENCE)
        listener.close()

    def there(self):
        move(self.client, self.server)

    def and_back(self):
        move(self.client, self.server), move(self.server, self.client)

    def reset_by(self, who):
        who.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        who.close()


class Steady:
    """A connection that sends a little all the time, and is answered: enough of both to be carried."""

    def __init__(self, *ends):
        self.pair = Connected(*ends)
        for s in (self.pair.client, self.pair.server):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes, self.gap, self.failure, self.ending = 0, 0.0, None, threading.Event()
        self.threads = [threading.Thread(target=self.guard, args=(part,), daemon=True)
                        for part in (self.send, self.take)]
        [thread.start() for thread in self.threads]

    def guard(self, part):
        try:
            part()
        except OSError as failure:
            self.failure = failure

    def send(self):
        number = 0
        while not self.ending.is_set():
            for _ in range(16):
                self.pair.client.sendall(struct.pack("!Q", number) * 64)
                number += 1
            time.sleep(0.002)
        self.pair.client.shutdown(socket.SHUT_WR)

    def take(self):
        rest, number, before = b"", 0, time.monotonic()
        while got := self.pair.server.recv(1 << 16):
            self.gap, before = max(self.gap, time.monotonic() - before), time.monotonic()
            self.bytes, rest = self.bytes + len(got), rest + got
            while len(rest) >= 512:
                assert rest[:512] == struct.pack("!Q", number) * 64
                rest, number = rest[512:], number + 1

    def goes_on(self):
        """More bytes arrive than are under way."""
        before = self.bytes
        until(lambda: self.bytes > before + (1 << 20) or self.failure, "bytes")
        assert self.failure is None, self.failure

    def finish(self):
        self.ending.set()
        [thread.join(PATIENCE) for thread in self.threads]
        assert self.failure is None and not any(thread.is_alive() for thread in self.threads), self.failure


def move(a, b, size=32 << 20):
    """Bytes from one socket to another, each of them the right one."""
    block = random.randbytes(1 << 16)
    failed = []
    def send():
        try:
            for _ in range(size >> 16):
                a.sendall(block)
        except OSError as failure:
            failed.append(failure)
    sender = threading.Thread(target=send)
    sender.start()
    got = 0
    while got < size and not failed:
        data = b.recv(min(1 << 16, size - got))
        assert data, "an early end"
        at = got % len(block)
        assert data == (block + block)[at:at + len(data)]
        got += len(data)
    sender.join()
    assert not failed, failed


class Witness:
    """Notes when frames with a mark come to an interface."""

    def __init__(self, ns, mark, interface="eth0"):
        self.port, self.mark, self.last, self.count = Port(ns, interface), mark, 0.0, 0
        self.port.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.ending.is_set():
            if not select.select([self.port.socket], [], [], 0.05)[0]:
                continue
            try:
                data, notes, _, _ = self.port.socket.recvmsg(1 << 17, 64)
            except OSError:
                # The interface is gone.
                return
            if self.mark in data:
                seconds, nanos = struct.unpack("qq", notes[0][2][:16])
                self.last, self.count = seconds + nanos / 1e9, self.count + 1

    def end(self):
        """When the last one came, in seconds of the wall clock."""
        time.sleep(QUIET)
        self.ending.set()
        self.thread.join()
        return self.last


class Repeat:
    """Does something again and again, whether it succeeds or not."""

    def __init__(self, act):
        self.act, self.ending = act, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.ending.is_set():
            for _ in range(20):
                with contextlib.suppress(OSError):
                    self.act()
            time.sleep(0.002)

    def end(self):
        self.ending.set()
        self.thread.join()


def container(name, options):
    """Runs a container, whose namespace bears its name too."""
    command(f"run -d --name {name} {options} -- sleep 300")
    [own] = [c for c in pontoon("ps") if c["name"] == name]
    ip(f"netns attach {name} {own['pid']}")


def gone(name):
    """It was one."""
    subprocess.call(f"{os.environ['PONTOON']} rm -f {name} 2>/dev/null", shell=True)
    ip(f"netns del {name}")


def attach(ns, host, name=None):
    command(f"attach --netns /run/netns/{ns} --name {name or ns} --network net --ip 172.18.0.{host}")


def ends_at_once(arguments, send, ns, mark):
    """What is carried to a namespace comes there until a command is answered, and no longer."""
    witness, sender = Witness(ns, mark), Repeat(send)
    try:
        until(lambda: witness.count > 100, "frames that are carried")
        command(arguments)
        answered = time.time()
        time.sleep(QUIET)
    finally:
        sender.end()
    last = witness.end()
    assert last < answered, f"{arguments}: {witness.count} frames, the last one {last - answered} s after the answer"
