"""What tests of the user uplink have in common: servers beyond the host, clients in containers, and
what the engine holds for them.

    listener = listen("ext", (SERVER, 7000))
    client, server = pair("c1", listener)
    assert ended(client) == "reset"
"""

import contextlib, errno, functools, resource
from wire import *

HOST, HOST2, GATEWAY_IP = "192.0.2.1", "192.0.2.2", "172.18.0.1"
LAN, SERVER, SERVER2 = "192.0.2.254", "198.51.100.10", "198.51.100.11"
# A datagram's largest payload.
LARGEST = 65507

resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
# Sockets that nobody names any more are open all the same.
kept = []


def engine():
    return pontoon("status")["engine"]["pid"]


def keeper():
    return pontoon("status")["keeper"]["pid"]


@functools.cache
def process():
    """The engine that there was first; it need not answer."""
    return engine()


def files():
    """Descriptors of the engine."""
    return len(os.listdir(f"/proc/{process()}/fd"))


def settled_files():
    """Descriptors of the engine once no client of its control socket comes or goes any more."""
    seen, since = files(), time.monotonic()
    while time.monotonic() < since + 0.3:
        time.sleep(0.02)
        if (now := files()) != seen:
            seen, since = now, time.monotonic()
    return seen


def memory():
    """Resident memory of the engine, in KiB."""
    with open(f"/proc/{process()}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def ticks():
    """CPU that the engine has used, in hundredths of a second."""
    with open(f"/proc/{process()}/stat") as stat:
        return sum(map(int, stat.read().rsplit(") ", 1)[1].split()[11:13]))


def wake_ups():
    """How often the engine's threads have waited for something."""
    count = 0
    for task in os.listdir(f"/proc/{process()}/task"):
        with open(f"/proc/{process()}/task/{task}/status") as status:
            count += next(int(line.split()[1]) for line in status if line.startswith("voluntary"))
    return count


def sleeps():
    """In five seconds the engine wakes up a hundred times at most, and uses a hundredth of the time."""
    woken, busy = wake_ups(), ticks()
    time.sleep(5)
    return wake_ups() - woken <= 100 and ticks() - busy <= 5


def note(name, number):
    """Keeps a number for a later program of the same test."""
    with open(f"/run/noted-{name}", "a") as numbers:
        print(number, file=numbers)


def all_noted(name):
    with open(f"/run/noted-{name}") as numbers:
        return [int(number) for number in numbers]


def noted(name):
    return all_noted(name)[-1]


def log():
    with open("/run/user/pontoon/engine.log") as text:
        return text.read()


def shell(command):
    return subprocess.run(command, shell=True, capture_output=True, text=True)


def until(done, what, patience=PATIENCE):
    end = time.monotonic() + patience
    while not (value := done()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)
    return value


def timed(action):
    """What an action returns, and how many seconds it took."""
    start = time.monotonic()
    value = action()
    return value, time.monotonic() - start


def median(times):
    """What half of them are below: a machine that is busy stretches some, a timer that is waited for all."""
    return sorted(times)[len(times) // 2]


def listen(ns, address, backlog=1024):
    s = tcp_socket(ns)
    s.bind(address)
    s.listen(backlog)
    return s


def connect(ns, address, timeout=PATIENCE, bind=None):
    s = tcp_socket(ns, timeout)
    if bind:
        s.bind(bind)
    s.connect(address)
    return s


def failure(action):
    """The number of the error that an action fails with."""
    try:
        value = action()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    raise AssertionError(f"it succeeded: {value!r}")


def pair(ns, listener, address=None, bind=None):
    """A connection from a namespace to a listener: the client's end and the server's."""
    client = connect(ns, address or listener.getsockname(), bind=bind)
    return client, listener.accept()[0]


def read(s, count):
    data = bytearray()
    while len(data) < count and (part := s.recv(1 << 18)):
        data += part
    return bytes(data)


def rest(s):
    """What comes until the end."""
    data = bytearray()
    while part := s.recv(1 << 18):
        data += part
    return bytes(data)


def abort(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def ended(s):
    """How a connection ends: "reset" or "end"."""
    try:
        while s.recv(1 << 18):
            pass
        return "end"
    except ConnectionResetError:
        return "reset"


def verdict(ns, address, timeout=PATIENCE):
    """How a connection ends that nobody means to use; it may be over before it was there."""
    try:
        return ended(connect(ns, address, timeout))
    except ConnectionError:
        return "reset"


def background(target, *arguments):
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread


def works(client, server, data=b"ping"):
    """Bytes pass in both directions."""
    for a, b in (client, server), (server, client):
        a.sendall(data)
        assert read(b, len(data)) == data
    return True


def udp_echo(ns, address):
    """A server that returns every datagram; whom it heard is in its list."""
    s, heard = udp_socket(ns, address, timeout=None), []
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

    def serve():
        while True:
            data, peer = s.recvfrom(1 << 16)
            heard.append(peer)
            s.sendto(data, peer)

    background(serve)
    kept.append(s)
    return heard


def tcp_server(ns, address, answer=lambda peer: repr(peer).encode()):
    """A server that tells every client what `answer` makes of its address; whom it heard is in its list."""
    listener, heard = listen(ns, address), []

    def serve():
        while True:
            s, peer = listener.accept()
            heard.append(peer)
            # A client may have gone already.
            with s, contextlib.suppress(ConnectionError):
                s.sendall(answer(peer))

    background(serve)
    kept.append(listener)
    listener.settimeout(None)
    return heard


def ask(ns, address, timeout=PATIENCE, bind=None):
    """What a server says of its own accord."""
    s = connect(ns, address, timeout, bind)
    try:
        return rest(s).decode()
    finally:
        s.close()


def back_to(before, what, count, slack=0, patience=PATIENCE):
    end = time.monotonic() + patience
    while (now := count()) > before + slack:
        assert time.monotonic() < end, f"{what} have not returned to {before}: {now}"
        time.sleep(0.02)


def finish():
    """Ends without waiting for threads."""
    sys.stdout.flush()
    os._exit(0)
