"""Asks the name server GATEWAY a thousand questions that nobody answers, each from a socket of its own.

Prints how many were given up at once, and how many after the upstreams' time had run out.
"""
import socket
import sys
import time

sockets = []
for number in range(1000):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setblocking(False)
    s.connect((sys.argv[1], 53))
    query = number.to_bytes(2, "big") + b"\x01\0\0\x01\0\0\0\0\0\0\x06silent\0\0\x01\0\x01"
    s.send(query)
    sockets.append(s)
    time.sleep(0.001)


def failed():
    count = 0
    for s in sockets:
        try:
            count += s.recv(512)[3] & 15 == 2
        except BlockingIOError:
            pass
    return count


time.sleep(0.5)
at_once = failed()
open("/run/flooded", "w").close()
time.sleep(5)
print(at_once, failed())
