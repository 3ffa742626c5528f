"""Serves SIZE bytes over HTTP at ADDRESS:80, which nobody has stored, and writes their SHA-256 to FILE.

They are a megabyte of noise again and again, each time with its number in front.
"""
import hashlib, os, socket, sys

PIECE = 1 << 20
address, size, told = sys.argv[1], int(sys.argv[2]), sys.argv[3]
listener = socket.create_server((address, 80))
while True:
    client, _ = listener.accept()
    request = b""
    while b"\r\n\r\n" not in request:
        request += client.recv(4096)
    client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
    digest, noise = hashlib.sha256(), bytearray(os.urandom(PIECE))
    for start in range(0, size, PIECE):
        noise[:8] = start.to_bytes(8, "big")
        piece = memoryview(noise)[: size - start]
        digest.update(piece)
        client.sendall(piece)
    # Told before the client can see the end.
    with open(told, "w") as file:
        file.write(digest.hexdigest())
    client.close()
