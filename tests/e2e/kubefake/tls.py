"""A private CA, good and bad certificates, kubeconfigs, a service account's directory. Needs the openssl program."""

import base64
import os
import shutil
import ssl
import subprocess

SERVER_CERTIFICATES = {
    # name -> (subject alternative names, days of validity or None for the past, CA)
    "good": ("IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc", 30, "ca"),
    "wrong-san": ("IP:10.9.9.9,DNS:elsewhere.example", 30, "ca"),
    "expired": ("IP:127.0.0.1,DNS:localhost", None, "ca"),
    "other-ca": ("IP:127.0.0.1,DNS:localhost", 30, "other-ca"),
}


def _openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {' '.join(arguments)}: {done.stderr}")


class Certificates:
    """Makes files in `directory`: ca.crt, NAME.crt and NAME.key for each above, client.crt and client.key."""

    def __init__(self, directory):
        self.directory = directory
        os.makedirs(directory, exist_ok=True)
        for ca in ("ca", "other-ca"):
            if not os.path.exists(self.path(ca + ".crt")):
                self._make_ca(ca)

    def path(self, name):
        return os.path.join(self.directory, name)

    def _key(self, name):
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.path(name + ".key"))

    def _make_ca(self, name):
        self._key(name)
        _openssl(
            "req", "-x509", "-new", "-key", self.path(name + ".key"), "-out", self.path(name + ".crt"), "-days", "30",
            "-subj", f"/CN=fake-{name}", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def _sign(self, name, subject, extensions, days, ca):
        self._key(name)
        request, config = self.path(name + ".csr"), self.path(name + ".ext")
        with open(config, "w", encoding="utf-8") as file:
            file.write(extensions)
        _openssl("req", "-new", "-key", self.path(name + ".key"), "-out", request, "-subj", subject)
        if days is None:
            return self._sign_for_the_past(name, request, config, ca)
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.path(ca + ".crt"), "-CAkey", self.path(ca + ".key"),
            "-CAcreateserial", "-days", str(days), "-extfile", config, "-out", self.path(name + ".crt"),
        )  # fmt: skip

    def _sign_for_the_past(self, name, request, extensions, ca):
        """`openssl x509` of 3.5 refuses a negative number of days, and that of 3.0 takes no dates."""
        config = self.path("past.cnf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"[ca]\ndefault_ca = past\n[past]\ndatabase = {self.path('past.txt')}\n")
            file.write(f"new_certs_dir = {self.directory}\nrand_serial = yes\ndefault_md = sha256\npolicy = any\n")
            file.write("[any]\ncommonName = supplied\n")
        with open(self.path("past.txt"), "w", encoding="utf-8"):
            pass
        _openssl(
            "ca", "-batch", "-notext", "-config", config, "-in", request, "-cert", self.path(ca + ".crt"),
            "-keyfile", self.path(ca + ".key"), "-startdate", "20200101000000Z", "-enddate", "20200102000000Z",
            "-extfile", extensions, "-out", self.path(name + ".crt"),
        )  # fmt: skip

    def server_context(self, name="good"):
        """TLS as the server side, with one of the certificates. Clients may present one of theirs."""
        if not os.path.exists(self.path(name + ".crt")):
            names, days, ca = SERVER_CERTIFICATES[name]
            self._sign(name, "/CN=kube-apiserver", f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n", days, ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path(name + ".crt"), self.path(name + ".key"))
        context.load_verify_locations(self.path("ca.crt"))
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        return context

    def client_files(self):
        """(certificate, key) of a client that the server accepts."""
        if not os.path.exists(self.path("client.crt")):
            self._sign("client", "/O=system:masters/CN=penstock-test", "extendedKeyUsage=clientAuth\n", 30, "ca")
        return self.path("client.crt"), self.path("client.key")

    def replace_ca(self):
        """A new CA under the same name, which has signed nothing of the old certificates."""
        for name in ("ca", *SERVER_CERTIFICATES, "client"):
            for ending in (".crt", ".key"):
                if os.path.exists(self.path(name + ending)):
                    os.remove(self.path(name + ending))
        self._make_ca("ca")


def _inline(path):
    with open(path, "rb") as file:
        return base64.b64encode(file.read()).decode()


def write_kubeconfig(
    path, server, ca=None, token=None, token_file=None, client=None, namespace=None, inline=False, exec_command=None
):
    """A kubeconfig as kind and others write it. `client` is (certificate, key); `inline` puts files in as base64."""
    cluster = [f"    server: {server}"]
    if ca:
        cluster.append(
            f"    certificate-authority-data: {_inline(ca)}" if inline else f"    certificate-authority: {ca}"
        )
    user = []
    if token:
        user.append(f"    token: {token}")
    if token_file:
        user.append(f"    tokenFile: {token_file}")
    for field, file in zip(("client-certificate", "client-key"), client or ()):
        user.append(f"    {field}-data: {_inline(file)}" if inline else f"    {field}: {file}")
    if exec_command:
        user += ["    exec:", "      apiVersion: client.authentication.k8s.io/v1", f"      command: {exec_command[0]}"]
        user += ["      args:"] + [f"      - {word}" for word in exec_command[1:]] if exec_command[1:] else []
        user += ["      interactiveMode: Never"]
    lines = [
        "apiVersion: v1",
        "kind: Config",
        "current-context: fake",
        "clusters:",
        "- name: fake",
        "  cluster:",
        *cluster,
    ]
    lines += ["users:", "- name: tester", "  user:" if user else "  user: {}", *user, "contexts:", "- name: fake"]
    lines += ["  context:", "    cluster: fake", "    user: tester"]
    if namespace:
        lines.append(f"    namespace: {namespace}")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return path


class ServiceAccount:
    """/var/run/secrets/kubernetes.io/serviceaccount as kubelet keeps it: links to ..data, a link that is swapped."""

    def __init__(self, directory, token, ca, namespace):
        self.directory, self._number = directory, 0
        os.makedirs(directory)
        self.write(token, ca, namespace)
        for name in ("token", "ca.crt", "namespace"):
            os.symlink(os.path.join("..data", name), os.path.join(directory, name))

    def write(self, token, ca, namespace):
        """The new files appear all at the same moment."""
        self._number += 1
        folder = f"..{self._number:08d}"
        os.mkdir(os.path.join(self.directory, folder))
        for name, text in (("token", token), ("namespace", namespace)):
            with open(os.path.join(self.directory, folder, name), "w", encoding="utf-8") as file:
                file.write(text)
        if ca:
            shutil.copy(ca, os.path.join(self.directory, folder, "ca.crt"))
        link = os.path.join(self.directory, "..data_tmp")
        os.symlink(folder, link)
        os.rename(link, os.path.join(self.directory, "..data"))
