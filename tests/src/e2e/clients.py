"""Clients of the engine's API on plain sockets, well-behaved and not."""
import json
import re
import signal
import socket
import subprocess
import threading
import time

PATIENCE = 60


class Api:
    def __init__(self, path):
        self.path = path

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect(self.path)
        return client

    def ask(self, method, target, body=None, fds=()):
        """Asks on a connection of its own until there is a place for it. Status and JSON."""
        text = b"" if body is None else json.dumps(body).encode()
        kind = b"" if body is None else b"Content-Type: application/json\r\n"
        line = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(text)}\r\n"
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with self.connect() as client:
                    data = line.encode() + kind + b"\r\n" + text
                    socket.send_fds(client, [data], fds) if fds else client.sendall(data)
                    status, _, answer = read(client)
                if status != 503:
                    return status, answer
            except (OSError, EOFError):
                pass
            assert time.monotonic() < end, f"{method} {target}: no place"
            time.sleep(0.05)

    def tell(self, data, half=False):
        """What is answered to these bytes: status, fields, JSON."""
        with self.connect() as client:
            try:
                client.sendall(data)
                if half:
                    client.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # It need not hear everything to refuse it.
            return read(client)


class Pings:
    """c1 pings c2 until it is asked whether every one was answered."""

    def __init__(self):
        ping = ["ip", "netns", "exec", "c1", "ping", "-i", "0.05", "172.18.0.3"]
        self.process = subprocess.Popen(ping, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if "icmp_seq=" in line:
                break

    def all_answered(self):
        self.process.send_signal(signal.SIGINT)
        said = self.process.communicate()[0]
        answered = {int(n) for n in re.findall(r"bytes from .* icmp_seq=(\d+) ", said)}
        sent = int(re.search(r"(\d+) packets transmitted", said)[1])
        # The first was read before, and the last may be under way.
        assert answered >= set(range(2, sent)), said


def read(client):
    """Reads one answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(65536)
        if not more:
            raise EOFError(data)
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = int(fields.get("content-length", 0))
    while len(body) < length:
        more = client.recv(65536)
        if not more:
            raise EOFError(body)
        body += more
    return int(lines[0].split()[1]), fields, json.loads(body) if length else None


def together(count, work):
    """What `work(number)` returns, of as many threads."""
    results = [None] * count
    def run(number):
        results[number] = work(number)
    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return results
