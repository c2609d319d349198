"""The smallest model server: answers any request with the pod's name, ends at SIGTERM. Arguments: NAME ADDRESS PORT, and
CERTIFICATE KEY for one that speaks TLS."""

import signal
import socket
import ssl
import sys


def main():
    name, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = socket.create_server((address, port))
    context = None
    if len(sys.argv) > 4:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[4], sys.argv[5])
    print(f"listening on {address}:{port}", flush=True)
    body = name.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    while True:
        sock, _ = listener.accept()
        try:
            with sock if context is None else context.wrap_socket(sock, server_side=True) as peer:
                peer.recv(65536)
                peer.sendall(head + body)
                if context is not None:
                    peer.unwrap()
        except OSError:
            sock.close()


main()
