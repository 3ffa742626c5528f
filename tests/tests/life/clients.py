"""A server that answers each client with a line, and clients one after the other that count what comes of
it: served, or reset while the engine was away. None may be refused or left waiting."""
import socket, sys, time

if sys.argv[1] == "serve":
    server = socket.create_server(("0.0.0.0", 80), backlog=1024)
    while True:
        client, _ = server.accept()
        try:
            client.sendall(b"served\n")
        except OSError:
            pass
        client.close()

end, served, reset, longest = time.monotonic() + float(sys.argv[2]), 0, 0, 0.0
while time.monotonic() < end:
    begin = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", 8080), timeout=10) as client:
            text = client.recv(100)
            assert text == b"served\n", text
            served += 1
    except (ConnectionResetError, BrokenPipeError):
        # Also of one whose handshake is just over, or (the latter, even in connect) after the server's end.
        reset += 1
    longest = max(longest, time.monotonic() - begin)
    time.sleep(0.002)
assert served > 0
print(f"clients of a published port: {served} served, {reset} reset, longest wait {longest:.2f} s")
