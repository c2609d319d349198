#include "penstock/config/tls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace penstock::config {

namespace {

constexpr size_t kFileMax = 1024 * 1024;  // the largest CA bundles have a quarter of it

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string name_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// A folder as it is now. Of a mounted Secret, the folder behind the link: it stays what it is when the link is turned.
class Folder {
 public:
  explicit Folder(const std::string& path)
      : mounted_(::open((path + "/..data").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
        itself_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {}

  Result<std::string> read(const std::string& name, const std::string& path) const {
    int fd = mounted_.get() < 0 ? -1 : ::openat(mounted_.get(), name.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 && itself_.get() >= 0) fd = ::openat(itself_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const Descriptor file(fd);
    if (fd < 0) return Message{path + ": cannot be read: " + std::strerror(errno)};
    struct stat about {};
    if (::fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) return Message{path + ": is not a file"};
    std::string text;
    char piece[16 * 1024];
    ssize_t size = 0;
    while ((size = ::read(fd, piece, sizeof piece)) > 0 || (size < 0 && errno == EINTR)) {
      if (size > 0) text.append(piece, static_cast<size_t>(size));
      if (text.size() > kFileMax) return Message{path + ": is larger than 1 MiB"};
    }
    if (size < 0) return Message{path + ": cannot be read: " + std::strerror(errno)};
    return text;
  }

 private:
  Descriptor mounted_, itself_;
};

Result<std::string> read_one(const std::string& path) {
  return Folder(folder_of(path)).read(name_of(path), path);
}

Result<net::TlsCertificate> read_pair(const CertificateFiles& files) {
  const Folder folder(folder_of(files.cert));
  auto chain = folder.read(name_of(files.cert), files.cert);
  if (!chain.ok()) return chain.error();
  const bool together = folder_of(files.key) == folder_of(files.cert);
  auto key = together ? folder.read(name_of(files.key), files.key) : read_one(files.key);
  if (!key.ok()) return key.error();
  return net::TlsCertificate{std::move(*chain), std::move(*key), files.cert, ""};
}

}  // namespace

Result<net::TlsServerOptions> read_listener_tls(const ListenerTls& tls) {
  net::TlsServerOptions out;
  out.strict_sni = tls.strict_sni;
  out.min_version = tls.min_version;
  out.client_certificates = tls.client_certificates;
  out.client_names = tls.client_names;
  out.may_be_none = tls.certificates.empty();
  out.handshake_timeout = tls.handshake_timeout;
  for (const CertificateFiles& files : tls.certificates) {
    auto pair = read_pair(files);
    if (!pair.ok()) return pair.error();
    out.certificates.push_back(std::move(*pair));
  }
  if (tls.client_ca.empty()) return out;
  auto bundle = read_one(tls.client_ca);
  if (!bundle.ok()) return bundle.error();
  out.client_ca = std::move(*bundle);
  return out;
}

std::string check_secret(const objects::Secret& secret) {
  const net::TlsCertificate pair{secret.certificate, secret.key, "holds no usable pair", ""};
  const auto made = net::TlsServerContext::make({.certificates = {pair}}, std::make_shared<net::TlsTicketKeys>());
  return made.ok() ? "" : made.error().text;
}

std::string check_authorities(const std::string& pem) {
  const auto made = net::TlsClientContext::make({.ca = pem});
  return made.ok() ? "" : made.error().text;
}

bool needs_endpoint_tls(const Options& options) {
  return std::ranges::any_of(options.endpoints,
                             [](const EndpointEntry& entry) { return entry.url.starts_with("https://"); });
}

Result<net::TlsClientOptions> read_endpoint_tls(const EndpointTls& tls) {
  net::TlsClientOptions out;
  out.server_name = tls.server_name;
  out.insecure_skip_verify = tls.insecure_skip_verify;
  if (!tls.ca.empty()) {
    auto bundle = read_one(tls.ca);
    if (!bundle.ok()) return bundle.error();
    out.ca = std::move(*bundle);
  }
  if (tls.certificate.cert.empty()) return out;
  auto pair = read_pair(tls.certificate);
  if (!pair.ok()) return pair.error();
  out.certificate = std::move(*pair);
  return out;
}

std::vector<std::string> tls_folders(const EndpointTls& tls) {
  ListenerTls files{.client_ca = tls.ca};
  if (!tls.certificate.cert.empty()) files.certificates.push_back(tls.certificate);
  return tls_folders(files);
}

std::vector<std::string> tls_folders(const ListenerTls& tls) {
  std::vector<std::string> folders;
  const auto add = [&](const std::string& path) {
    if (!path.empty() && std::ranges::find(folders, folder_of(path)) == folders.end())
      folders.push_back(folder_of(path));
  };
  for (const CertificateFiles& files : tls.certificates) {
    add(files.cert);
    add(files.key);
  }
  add(tls.client_ca);
  return folders;
}

}  // namespace penstock::config
