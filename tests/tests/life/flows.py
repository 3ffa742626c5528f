"""Two ends of a connection over which both speak now and then, or nobody does once both are there. Both must
see it end with a reset."""
import socket, sys, time

mode, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
if mode.startswith("hold"):
    while True:
        try:
            server = socket.create_server((address, port))
            break
        except OSError:
            time.sleep(0.01)
    stream, _ = server.accept()
    open(f"/run/{sys.argv[4]}.said", "w").write(stream.recv(5).decode())
else:
    stream = socket.create_connection((address, port), timeout=20)
    stream.sendall(b"hello")
speaks = mode in ("hold", "speak")
stream.settimeout(0.2)
end = time.monotonic() + 20
while time.monotonic() < end:
    try:
        if speaks:
            stream.sendall(b".")
        stream.recv(1000) or sys.exit("ended in order")
    except TimeoutError:
        pass
    except (ConnectionResetError, BrokenPipeError):
        print("reset")
        sys.exit(0)
sys.exit("never ended")
