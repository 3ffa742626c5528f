"""Servers and clients for published ports.

serve READY IP PORT…  serves TCP and UDP on these ports, and tells when it does by making a file
ask KIND IP PORT      prints as whom the server knows the client
each KIND IP PORT     does so, and again for each line that is written to it
hold KIND IP PORT     connects, then prints what comes of each line that is written to it

Each waits PATIENCE seconds for an answer.
"""
import os, socket, sys, threading

PATIENCE = float(os.environ.get("PATIENCE", 20))


def answer(stream, peer):
    try:
        stream.sendall(f"{peer[0]}\n".encode())
        while data := stream.recv(1 << 16):
            stream.sendall(data)
    except OSError:
        pass
    finally:
        stream.close()


def accept(listener):
    while True:
        stream, peer = listener.accept()
        threading.Thread(target=answer, args=(stream, peer), daemon=True).start()


def echo(sock):
    while True:
        data, peer = sock.recvfrom(1 << 16)
        sock.sendto(f"{peer[0]}\n".encode() + data, peer)


def serve(ready, address, *ports):
    for port in map(int, ports):
        listener = socket.create_server((address, port), backlog=128)
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, port))
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        threading.Thread(target=echo, args=(sock,), daemon=True).start()
    open(ready, "w").close()
    threading.Event().wait()


def connect(kind, ip, port):
    sort = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(socket.AF_INET, sort)
    sock.settimeout(PATIENCE)
    sock.connect((ip, int(port)))
    return sock


def ask(kind, ip, port):
    sock = connect(kind, ip, port)
    if kind == "udp":
        sock.send(b"?")
    # A UDP answer from another address would not arrive: the socket is connected.
    data = sock.recv(1 << 16)
    if not data:
        raise ConnectionError("closed without a word")
    print(data.decode().splitlines()[0], flush=True)


def each(kind, ip, port):
    ask(kind, ip, port)
    for _ in sys.stdin:
        try:
            ask(kind, ip, port)
        except OSError as error:
            print(type(error).__name__, flush=True)


def hold(kind, ip, port):
    sock = connect(kind, ip, port)
    if kind == "tcp":
        sock.recv(1 << 16)
    print("connected", flush=True)
    for line in sys.stdin:
        try:
            sock.send(line.encode())
            data = sock.recv(1 << 16)
            print("alive" if data else "closed", flush=True)
        except ConnectionResetError:
            print("reset", flush=True)
        except OSError as error:
            print(type(error).__name__, flush=True)


try:
    {"serve": serve, "ask": ask, "each": each, "hold": hold}[sys.argv[1]](*sys.argv[2:])
except OSError as error:
    sys.exit(type(error).__name__)
