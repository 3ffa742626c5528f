"""In the engine's place: says that it serves, and ends the first connection at its first request proper; what
is asked of the next ones is answered with an empty list. Everything asked is written down."""
import os, socket, sys

server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1] + "/api.sock")
server.listen()
asked, seen = open("/run/asked", "w"), set()
while True:
    client, _ = server.accept()
    while head := client.recv(1 << 16).decode():
        line = head.splitlines()[0]
        print(line, file=asked, flush=True)
        if line.startswith("GET /v1/ping"):
            client.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif line not in seen:
            seen.add(line)
            break
        else:
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]")
    client.close()
