"""Returns what each of many clients sends, at ADDRESS PORT, with descriptors of its own."""
import resource, select, socket, sys

resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=4096)
poll, clients = select.epoll(), {}
poll.register(listener, select.EPOLLIN)


def answer(client):
    try:
        data = client.recv(1 << 16)
        if data:
            client.sendall(data)
            return
    except ConnectionResetError:
        pass
    del clients[client.fileno()]
    client.close()


while True:
    for fd, _ in poll.poll():
        if fd == listener.fileno():
            client, _ = listener.accept()
            clients[client.fileno()] = client
            poll.register(client, select.EPOLLIN)
        else:
            answer(clients[fd])
