"""A name server for tests: ADDRESS LOG ANSWER.

www.* is ANSWER, big.* 200 addresses, of which a datagram says only that it is truncated, fat.* the same
in one datagram, refused.* is refused, silent.* gets nothing, everything else does not exist. A line is
logged for each query: transport, name, id, the client's port.
"""
import socket
import struct
import sys
import threading

address, log, own = sys.argv[1], open(sys.argv[2], "a", buffering=1), socket.inet_aton(sys.argv[3])


def answer(query, transport, port):
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    (number,) = struct.unpack("!H", query[:2])
    print(transport, ".".join(labels), number, port, file=log)
    flags, addresses = 0x8180, []
    if labels[0] == "silent":
        return None
    if labels[0] == "www":
        addresses = [own]
    elif labels[0] == "big" and transport == "udp":
        flags |= 0x0200
    elif labels[0] in ("big", "fat"):
        addresses = [bytes([203, 0, 113, n]) for n in range(200)]
    else:
        flags |= 5 if labels[0] == "refused" else 3
    records = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + a for a in addresses)
    header = struct.pack("!HHHHHH", number, flags, 1, len(addresses), 0, 0)
    return header + query[12 : at + 5] + records


def serve_datagrams(server):
    while True:
        query, client = server.recvfrom(65535)
        reply = answer(query, "udp", client[1])
        if reply:
            server.sendto(reply, client)


def serve_connection(connection, client):
    with connection, connection.makefile("rb") as stream:
        while prefix := stream.read(2):
            query = stream.read(struct.unpack("!H", prefix)[0])
            reply = answer(query, "tcp", client[1])
            if reply:
                connection.sendall(struct.pack("!H", len(reply)) + reply)


datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind((address, 53))
connections = socket.create_server((address, 53))
threading.Thread(target=serve_datagrams, args=(datagrams,), daemon=True).start()
print("ready", file=log)
while True:
    accepted = connections.accept()
    threading.Thread(target=serve_connection, args=accepted, daemon=True).start()
