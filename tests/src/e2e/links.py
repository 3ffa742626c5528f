"""What tests of interfaces that come and go have in common."""
from wire import *


def ip(*commands):
    """Commands of ip(8), one after the other."""
    for command in commands:
        subprocess.check_call(f"ip {command}", shell=True)


def command(arguments):
    """Runs `pontoon`; what it prints."""
    return subprocess.check_output(f"{os.environ['PONTOON']} {arguments}", shell=True)


def until(done, what, wait=30):
    """Waits for something. Says how long that took, in seconds."""
    start = time.monotonic()
    while not done():
        assert time.monotonic() < start + wait, f"waited in vain for {what}"
        time.sleep(0.01)
    return time.monotonic() - start


class Exchange:
    """One socket inside that asks, one outside that answers."""

    def __init__(self, ns="c1", port=5000):
        self.inner = udp_socket(ns, ("", port), 0.1)
        self.outer = udp_socket("ext", ("198.51.100.10", 7000 + port), 0.1)
        self.number, self.seen = 0, None

    def works(self):
        """A question is answered, and as whom the outside has seen the inside."""
        self.number += 1
        question = b"question %d" % self.number
        try:
            self.inner.sendto(question, self.outer.getsockname())
            text, self.seen = self.outer.recvfrom(100)
            while text != question:
                text, self.seen = self.outer.recvfrom(100)
            self.outer.sendto(text, self.seen)
            while self.inner.recv(100) != question:
                pass
            return True
        except OSError:
            return False


class Stream:
    """A TCP connection from a namespace to another, with sums of what went in and came out."""

    def __init__(self, source, target, address, port, listen=None):
        with inside(target):
            listener = socket.create_server(("", listen or port))
        listener.settimeout(PATIENCE)
        self.sender = tcp_socket(source, 60)
        self.sender.connect((address, port))
        self.receiver, _ = listener.accept()
        self.receiver.settimeout(60)
        self.ending, self.sent, self.received = threading.Event(), hashlib.sha256(), hashlib.sha256()
        self.bytes, self.failure = 0, None
        self.threads = [threading.Thread(target=self.guard, args=(part,)) for part in (self.send, self.take)]
        [thread.start() for thread in self.threads]

    def guard(self, part):
        try:
            part()
        except OSError as failure:
            self.failure = failure

    def send(self):
        while not self.ending.is_set():
            block = random.randbytes(1 << 14)
            self.sender.sendall(block)
            self.sent.update(block)
            time.sleep(0.002)
        self.sender.shutdown(socket.SHUT_WR)

    def take(self):
        while got := self.receiver.recv(1 << 18):
            self.received.update(got)
            self.bytes += len(got)

    def goes_on(self, wait=30):
        """More bytes arrive than are under way."""
        before = self.bytes
        return until(lambda: self.bytes > before + (1 << 17) or self.failure, "bytes", wait)

    def finish(self):
        """Everything that was sent has arrived."""
        self.ending.set()
        [thread.join() for thread in self.threads]
        assert self.failure is None, self.failure
        assert self.sent.digest() == self.received.digest()


def gateway_again():
    ip("route replace default via 192.0.2.254")


def remake_uplink():
    """An interface by the name of the uplink that is gone, wired as that one was."""
    ip("link add up0 type veth peer name eth0 netns ext", "-n ext addr add 192.0.2.254/24 dev eth0",
       "-n ext link set eth0 up", "addr add 192.0.2.1/24 dev up0", "link set up0 up")
    gateway_again()


def index(interface):
    with inside(""):
        return socket.if_nametoindex(interface)


def log():
    return open("/run/user/pontoon/engine.log").read()
