"""Certificates made with the openssl program, and a client that speaks TLS byte by byte."""

import os
import select
import socket
import ssl
import subprocess
import threading

from harness import LOOPBACK, PATIENCE, Client


def openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        raise AssertionError(f"openssl {' '.join(arguments)}:\n{done.stderr}")
    return done.stdout


class Authority:
    """Signs certificates; its own is at `path`. They please Python 3.13, which wants what RFC 5280 wants (X509_STRICT)."""

    def __init__(self, directory, name="authority"):
        self.directory, self.name = directory, name
        self.path, self.key = self._file(".crt"), self._file(".key")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", self.key,
                "-out", self.path)

    def _file(self, ending):
        return os.path.join(self.directory, self.name + ending)

    def issue(self, folder, names, stem="tls", days=30):
        """STEM.crt and STEM.key in the folder, with these alternative names ("DNS:a,URI:b"). Returns both paths."""
        os.makedirs(folder, exist_ok=True)
        cert, key, request = (os.path.join(folder, stem + ending) for ending in (".crt", ".key", ".csr"))
        extensions = os.path.join(folder, stem + ".ext")
        with open(extensions, "w", encoding="utf-8") as file:
            file.write(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + stem,
                "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.path, "-CAkey", self.key, "-CAcreateserial",
                "-days", str(days), "-extfile", extensions, "-out", cert)
        os.remove(request)
        os.remove(extensions)
        return cert, key


class MountedSecret:
    """A folder in which files come and go as a kubelet does it: links through ..data, which is turned at once."""

    def __init__(self, path):
        self.path, self.version = path, 0
        os.makedirs(path, exist_ok=True)

    def put(self, files):
        """`files`: contents by name."""
        self.version += 1
        folder = f"..{self.version}"
        os.makedirs(os.path.join(self.path, folder))
        for name, content in files.items():
            with open(os.path.join(self.path, folder, name), "wb") as file:
                file.write(content)
            link = os.path.join(self.path, name)
            if not os.path.islink(link):
                os.symlink(os.path.join("..data", name), link)
        turned = os.path.join(self.path, "..data_tmp")
        os.symlink(folder, turned)
        os.rename(turned, os.path.join(self.path, "..data"))


class TlsClient(Client):
    """One TLS connection, used as a Client is. An end without close_notify raises ssl.SSLEOFError."""

    def __init__(self, port, context, server_name="server.test", session=None, **options):
        super().__init__(port, **options)
        try:
            self.sock = context.wrap_socket(
                self.sock, server_hostname=server_name, session=session, suppress_ragged_eofs=False
            )
        except BaseException:
            self.sock.close()
            raise

    @property
    def certificate(self):
        return self.sock.getpeercert()


def client_context(authority, certificate=None, version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.path)
    context.set_alpn_protocols(["http/1.1"])
    if certificate:
        context.load_cert_chain(*certificate)
    if version:
        context.minimum_version = context.maximum_version = version
    return context


def tls_port(gateway, name=None):
    """Where the gateway's listener is that is not the first."""
    chosen = r"listener\W" if name is None else rf"listener\W.*?{name}"
    return int(gateway.err.wait(chosen + r".*?listen\W+" + LOOPBACK.replace(".", r"\.") + r":(\d+)").group(1))


class TlsFront:
    """Ends TLS in front of a plain endpoint, as a model server with a certificate looks from outside."""

    def __init__(self, port, certificate, client_authority=None):
        self.behind = port
        self.handshakes = self.resumed = self.failed = 0
        self.names = []  # that were asked for
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*certificate)
        if client_authority:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(client_authority.path)
        self.context.sni_callback = lambda _sock, name, _context: self.names.append(name)
        self.listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.url = f"https://{LOOPBACK}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        try:
            sock.settimeout(PATIENCE)
            tls = self.context.wrap_socket(sock, server_side=True)
        except (OSError, ssl.SSLError):
            self.failed += 1
            sock.close()
            return
        self.handshakes += 1
        self.resumed += tls.session_reused
        with tls, socket.create_connection((LOOPBACK, self.behind)) as plain:
            self._pump(tls, plain)

    @staticmethod
    def _pump(tls, plain):
        try:
            while True:
                ready, _, _ = select.select([tls, plain], [], [], PATIENCE)
                for source in ready:
                    data = source.recv(65536)
                    while source is tls and tls.pending():
                        data += tls.recv(65536)
                    if not data:
                        return
                    (plain if source is tls else tls).sendall(data)
                if not ready:
                    return
        except (OSError, ssl.SSLError):
            pass
