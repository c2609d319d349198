"""The smallest model server: answers any request with the pod's name, ends at SIGTERM. Arguments: NAME ADDRESS PORT."""

import signal
import socket
import sys


def main():
    name, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = socket.create_server((address, port))
    print(f"listening on {address}:{port}", flush=True)
    body = name.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    while True:
        sock, _ = listener.accept()
        with sock:
            sock.recv(65536)
            sock.sendall(head + body)


main()
