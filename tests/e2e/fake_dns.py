"""A name server for tests: on loopback, at a port of its own, over UDP and TCP. What it says of a name can change at any
time, and it can misbehave: say nothing, answer late, answer another question, send bytes that are no answer."""

import socket
import struct
import threading

A, AAAA = 1, 28
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3
LOOPBACK = "127.0.0.1"


class FakeDns:
    """`records` maps a name to a list of IPv4 addresses (empty: the name exists and has none). A name that is not there
    does not exist. `mode` is "good", "silent", "servfail", "garbage", "wrong_id", "wrong_question", or "truncated" (UDP
    answers are cut, which leads to TCP); `ttl` counts for all records."""

    def __init__(self):
        self.records, self.ttl, self.mode, self.delay = {}, 1, "good", 0
        self.asked, self.by_tcp = [], 0  # names, in order
        self._lock = threading.Lock()
        self._bind()
        self.address = f"{LOOPBACK}:{self.port}"
        self._closed = False
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def _bind(self):
        while True:  # until both kinds have the same port
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.bind((LOOPBACK, 0))
            self.port = self.udp.getsockname()[1]
            self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self.tcp.bind((LOOPBACK, self.port))
                self.tcp.listen(16)
                return
            except OSError:
                self.udp.close()
                self.tcp.close()

    def count(self, name):
        with self._lock:
            return self.asked.count(name)

    def _serve_udp(self):
        while not self._closed:
            try:
                query, client = self.udp.recvfrom(4096)
            except OSError:
                return
            for answer in self._answers(query, tcp=False):
                try:
                    self.udp.sendto(answer, client)
                except OSError:
                    return

    def _serve_tcp(self):
        while not self._closed:
            try:
                sock, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_connection, args=(sock,), daemon=True).start()

    def _serve_connection(self, sock):
        with sock:
            sock.settimeout(10)
            try:
                while True:
                    head = self._exactly(sock, 2)
                    query = self._exactly(sock, struct.unpack("!H", head)[0])
                    with self._lock:
                        self.by_tcp += 1
                    for answer in self._answers(query, tcp=True):
                        sock.sendall(struct.pack("!H", len(answer)) + answer)
            except (OSError, EOFError):
                pass

    @staticmethod
    def _exactly(sock, size):
        data = b""
        while len(data) < size:
            piece = sock.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def _answers(self, query, tcp):
        number, _flags, questions = struct.unpack("!HHH", query[:6])
        if questions != 1:
            return []
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1").lower())
            at += 1 + query[at]
        kind = struct.unpack("!H", query[at + 1 : at + 3])[0]
        question, name = query[12 : at + 5], ".".join(labels)
        with self._lock:
            self.asked.append(name)
            mode, addresses, ttl, delay = self.mode, self.records.get(name), self.ttl, self.delay
        if delay:
            threading.Event().wait(delay)
        if mode == "silent":
            return []
        if mode == "garbage":
            return [struct.pack("!H", number) + b"\x84\x00\xff\xff\xff\xff\xc0\x0c\xc0\x0c"]
        if mode == "servfail":
            return [self._message(number, SERVFAIL, question, [])]
        if mode == "wrong_id":  # what a spoofer would send, before the true answer
            lie = self._message((number + 1) & 0xFFFF, NOERROR, question, self._records(["127.0.0.66"], 60))
            return [lie, self._true_answer(number, question, kind, addresses, ttl)]
        if mode == "wrong_question":
            other = b"\x05other\x04test\x00" + question[-4:]
            lie = self._message(number, NOERROR, other, self._records(["127.0.0.66"], 60))
            return [lie, self._true_answer(number, question, kind, addresses, ttl)]
        if mode == "truncated" and not tcp:
            return [self._message(number, NOERROR, question, [], truncated=True)]
        return [self._true_answer(number, question, kind, addresses, ttl)]

    def _true_answer(self, number, question, kind, addresses, ttl):
        if addresses is None:
            return self._message(number, NXDOMAIN, question, [])
        return self._message(number, NOERROR, question, self._records(addresses, ttl) if kind == A else [])

    @staticmethod
    def _records(addresses, ttl):
        return [b"\xc0\x0c" + struct.pack("!HHIH", A, 1, ttl, 4) + socket.inet_aton(ip) for ip in addresses]

    @staticmethod
    def _message(number, code, question, records, truncated=False):
        flags = 0x8180 | code | (0x0200 if truncated else 0)
        return struct.pack("!HHHHHH", number, flags, 1, len(records), 0, 0) + question + b"".join(records)

    def close(self):
        self._closed = True
        self.udp.sendto(b"\0" * 12, (LOOPBACK, self.port))  # wakes the thread: no question
        try:
            self.tcp.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        for thread in self._threads:
            thread.join(5)
        self.udp.close()
        self.tcp.close()
