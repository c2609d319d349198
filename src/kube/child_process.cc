#include "child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "encoding.h"
#include "penstock/base/text.h"

extern char** environ;

namespace penstock::kube {
namespace {

constexpr size_t errors_max = 4096;
constexpr Duration reap_pause = milliseconds(5);  // between looks whether a program that closed its output has ended

std::string error_text(const char* what, int error) {
  char text[128];
  return std::string(what) + ": " + strerror_r(error, text, sizeof text);
}

// Names and values, "NAME=value"; ours first, without those that are given.
std::vector<std::string> merged_environment(const std::vector<std::pair<std::string, std::string>>& added) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    bool replaced = false;
    for (const auto& [name, value] : added) {
      replaced |= text.starts_with(name) && text.size() > name.size() && text[name.size()] == '=';
    }
    if (!replaced) all.emplace_back(text);
  }
  for (const auto& [name, value] : added) all.push_back(name + "=" + value);
  return all;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (std::string& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

}  // namespace

ChildProcess::ChildProcess(net::EventLoop& loop, Done done)
    : loop_(loop),
      done_(std::move(done)),
      reap_(net::Timer::of<&ChildProcess::on_reap>(this)),
      limit_(net::Timer::of<&ChildProcess::on_time_limit>(this)) {}

ChildProcess::~ChildProcess() {
  kill_now();
  close(output_);
  close(errors_);
}

void ChildProcess::run(const std::string& command, const std::vector<std::string>& arguments,
                       const std::vector<std::pair<std::string, std::string>>& environment, Duration time_limit,
                       size_t output_max) {
  output_.most = output_max;
  errors_.most = errors_max;
  if (!spawn(command, arguments, environment)) return loop_.arm(reap_, Duration{0});
  loop_.arm(limit_, time_limit);
}

bool ChildProcess::open(Stream& stream, int& theirs) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    failure_ = error_text("pipe", errno);
    return false;
  }
  stream.fd = ends[0];
  theirs = ends[1];
  ::fcntl(stream.fd, F_SETFL, O_NONBLOCK);
  const Result<net::SocketId, int> watch = loop_.ring().watch(stream.fd, stream);
  if (!watch.ok()) {
    failure_ = error_text("watching a pipe", watch.error());
    return false;
  }
  stream.watch = watch.value();
  return true;
}

bool ChildProcess::spawn(const std::string& command, const std::vector<std::string>& arguments,
                         const std::vector<std::pair<std::string, std::string>>& environment) {
  int out = -1, err = -1;
  if (open(output_, out) && open(errors_, err)) {
    std::vector<std::string> words{command};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<std::string> variables = merged_environment(environment);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);    // we block some
    posix_spawnattr_setsigdefault(&attributes, &all);  // and ignore SIGPIPE
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    const int error = ::posix_spawnp(&pid_, command.c_str(), &actions, &attributes, pointers(words).data(),
                                     pointers(variables).data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
      pid_ = -1;
      failure_ = error_text("cannot be started", error);
    }
  }
  if (out >= 0) ::close(out);
  if (err >= 0) ::close(err);
  return pid_ > 0;
}

void ChildProcess::read(Stream& stream) {
  char piece[4096];
  const ssize_t got = ::read(stream.fd, piece, sizeof piece);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got > 0) {
    const size_t room = stream.most - std::min(stream.most, stream.text.size());
    stream.text.append(piece, std::min(room, static_cast<size_t>(got)));
    if (&stream != &output_ || room >= static_cast<size_t>(got)) return;
    failure_ = "prints too much";
    kill_now();
  }
  close(stream);
  if (output_.fd < 0) loop_.arm(reap_, Duration{0});  // standard error may be held open by others
}

void ChildProcess::close(Stream& stream) {
  if (stream.watch) loop_.ring().unwatch(std::exchange(stream.watch, {}));
  if (stream.fd >= 0) ::close(std::exchange(stream.fd, -1));
}

void ChildProcess::on_reap() {
  if (pid_ < 0) return finish(false, failure_);
  int status = 0;
  const int ended = ::waitpid(pid_, &status, WNOHANG);
  if (ended == 0) return loop_.arm(reap_, reap_pause);
  pid_ = -1;
  if (errors_.fd >= 0) read(errors_);  // what it said last
  if (ended < 0) return finish(false, error_text("waitpid", errno));
  if (WIFSIGNALED(status)) return finish(false, "was ended by signal " + std::to_string(WTERMSIG(status)));
  const int code = WEXITSTATUS(status);
  finish(code == 0,
         code == 127 ? "cannot be started, or " + std::string("said 127") : "exit code " + std::to_string(code));
}

void ChildProcess::on_time_limit() {
  failure_ = "takes too long";
  kill_now();
  finish(false, failure_);
}

// A killed program ends at once, so that waiting for it does not block.
void ChildProcess::kill_now() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

void ChildProcess::finish(bool success, std::string error) {
  limit_.cancel();
  reap_.cancel();
  close(output_);
  close(errors_);
  ChildOutcome outcome;
  outcome.success = success;
  outcome.output = std::move(output_.text);
  if (!success) {
    outcome.error = std::move(error);
    if (const std::string_view said = trimmed(errors_.text); !said.empty()) {
      outcome.error.append(": ").append(cut_utf8(said, 500));
    }
  }
  const Done done = std::move(done_);
  done(std::move(outcome));
}

}  // namespace penstock::kube
