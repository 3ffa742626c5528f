"""Streams of bytes in namespaces, and the longest time in which one stood still.

    meter.py SECONDS NAME:FROM:TO:ADDRESS:PORT:LISTEN …

`FROM` sends to the server in `TO` at `LISTEN`, which it reaches as `ADDRESS:PORT`; with `<` in front of the
name the server sends.
"""
import ctypes, os, socket, sys, threading, time

libc = ctypes.CDLL(None, use_errno=True)


def inside(namespace):
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    assert libc.setns(fd, 0x40000000) == 0
    os.close(fd)


def pump(sender, end):
    block = bytes(1 << 16)
    sender.settimeout(20)
    while time.monotonic() < end:
        sender.sendall(block)
    sender.shutdown(socket.SHUT_WR)


def measure(receiver, told):
    receiver.settimeout(20)
    last, longest, total = time.monotonic(), 0.0, 0
    while got := receiver.recv(1 << 18):
        now = time.monotonic()
        longest, last, total = max(longest, now - last), now, total + len(got)
    told.append((longest, total))


def stream(text, end, told):
    name, source, target, address, port, listen = text.split(":")
    inside(target)
    server = socket.create_server(("0.0.0.0", int(listen)))
    server.settimeout(20)
    inside(source)
    client = socket.create_connection((address, int(port)), timeout=20)
    peer, _ = server.accept()
    sender, receiver = (peer, client) if name.startswith("<") else (client, peer)
    result = []
    threads = [
        threading.Thread(target=pump, args=(sender, end)),
        threading.Thread(target=measure, args=(receiver, result)),
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    told[name] = result[0]


told = {}
end = time.monotonic() + float(sys.argv[1])
streams = [threading.Thread(target=stream, args=(text, end, told)) for text in sys.argv[2:]]
[thread.start() for thread in streams]
[thread.join() for thread in streams]
for name, (longest, total) in told.items():
    print(f"{name} longest gap {longest * 1000:.0f} ms, {total >> 20} MiB")
assert len(told) == len(sys.argv) - 2, "a stream was lost"
