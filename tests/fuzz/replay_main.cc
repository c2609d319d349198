// Stands in for libFuzzer where a target is built as an ordinary test: runs the target over the files of a corpus
// folder and over random changes of them, always the same ones. Usage: TARGET CORPUS-FOLDER [SEED ROUNDS].
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

std::string now;  // what is being run, for the report of a crash

void report_abort(int) {
  std::fprintf(stderr, "failed at %s\n", now.c_str());
  std::signal(SIGABRT, SIG_DFL);
  std::abort();
}

void run(const std::string& bytes) {
  // Exactly as large as the input, so that the sanitizer sees every read beyond it.
  const std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

class Mutator {
 public:
  Mutator(const std::vector<std::string>& corpus, uint64_t seed) : corpus_(corpus), random_(seed) {}

  std::string next() {
    std::string bytes = corpus_[below(corpus_.size())];
    for (size_t changes = 1 + below(4); changes > 0; --changes) change(bytes);
    return bytes;
  }

 private:
  size_t below(size_t bound) { return static_cast<size_t>(random_() % bound); }

  void change(std::string& bytes) {
    // Small pieces with a meaning in the formats that the targets read.
    static constexpr std::string_view kPieces[] = {"\r",   "\n",   "\r\n",  "\r\n\r\n", "\t",
                                                   " ",    ":",    ": ",    ",",        ";",
                                                   "0",    "9",    "f",     "-",        "+",
                                                   "\"",   "\\",   "{",     "}",        "[",
                                                   "]",    "null", "data:", "chunked",  std::string_view("\0", 1),
                                                   "\x7f", "\xff"};
    const size_t at = below(bytes.size() + 1);
    const size_t size = std::min(bytes.size() - at, 1 + below(8));
    switch (below(6)) {
      case 0:
        if (at < bytes.size()) bytes[at] = static_cast<char>(below(256));
        break;
      case 1:
        bytes.insert(at, kPieces[below(std::size(kPieces))]);
        break;
      case 2:
        bytes.replace(at, size, kPieces[below(std::size(kPieces))]);
        break;
      case 3:
        bytes.erase(at, size);
        break;
      case 4:
        bytes.insert(below(bytes.size() + 1), bytes.substr(at, below(64)));
        break;
      case 5: {
        const std::string& other = corpus_[below(corpus_.size())];
        bytes = bytes.substr(0, at) + other.substr(below(other.size() + 1));
        break;
      }
    }
  }

  const std::vector<std::string>& corpus_;
  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::fputs("usage: CORPUS-FOLDER [SEED ROUNDS]\n", stderr), 2;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  const uint64_t rounds = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 20000;
  std::signal(SIGABRT, report_abort);

  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) files.push_back(entry.path());
  std::sort(files.begin(), files.end());  // the order of a folder is not the same everywhere
  std::vector<std::string> corpus;
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    now = file.string();
    run(corpus.back());
  }
  if (corpus.empty()) return std::fputs("the corpus is empty\n", stderr), 2;

  Mutator mutator(corpus, seed);
  for (uint64_t round = 0; round < rounds; ++round) {
    now = "seed " + std::to_string(seed) + ", round " + std::to_string(round);
    run(mutator.next());
  }
  std::printf("%zu files and %llu changed ones, seed %llu\n", corpus.size(), static_cast<unsigned long long>(rounds),
              static_cast<unsigned long long>(seed));
}
