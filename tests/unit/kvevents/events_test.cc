#include "penstock/kvevents/events.h"

#include <doctest/doctest.h>

#include <string>

#include "batch.h"

using namespace penstock::kvevents;
using namespace penstock::kvevents::test;

namespace {

struct Told final : EventSink {
  void on_stored(const StoredBlocks& blocks) override {
    log += "stored";
    for (const uint64_t hash : blocks.hashes) log += ' ' + std::to_string(hash);
    if (blocks.has_parent) log += " after " + std::to_string(blocks.parent);
    log += " tokens";
    for (const uint32_t token : blocks.tokens) log += ' ' + std::to_string(token);
    log += " size " + std::to_string(blocks.block_tokens);
    if (!blocks.adapter.empty()) log += " adapter " + std::string(blocks.adapter);
    if (!blocks.adapter_named) log += " unnamed";
    if (blocks.plain < blocks.hashes.size()) log += " plain " + std::to_string(blocks.plain);
    log += '\n';
  }
  void on_removed(std::span<const uint64_t> hashes) override {
    log += "removed";
    for (const uint64_t hash : hashes) log += ' ' + std::to_string(hash);
    log += '\n';
  }
  void on_cleared() override { log += "cleared\n"; }
  void on_other() override { log += "other\n"; }
  std::string log;
};

std::string told(std::string_view payload) {
  Told sink;
  StoredBlocks scratch;
  return read_batch(payload, scratch, sink) ? sink.log : sink.log + "broken";
}

}  // namespace

TEST_CASE("a batch as arrays") {
  const std::string all = batch({stored({11, 12}, 10, {1, 2, 3, 4}, 2), removed({7, 8}), cleared()});
  CHECK(told(all) == "stored 11 12 after 10 tokens 1 2 3 4 size 2\nremoved 7 8\ncleared\n");
  // Without rank or medium, as older servers write it.
  CHECK(told(array({time_stamp, array({array({text("BlockRemoved"), numbers({5})})})})) == "removed 5\n");
}

TEST_CASE("a batch as maps") {
  const std::string event =
      map({text("type"), text("BlockStored"), text("block_hashes"), numbers({11}), text("parent_block_hash"), nil(),
           text("token_ids"), numbers({1, 2}), text("block_size"), number(2), text("lora_id"), nil(), text("medium"),
           text("GPU"), text("lora_name"), nil(), text("kv_cache_spec_kind"), text("full")});
  const std::string all =
      map({text("ts"), time_stamp, text("events"), array({event, map({text("type"), text("AllBlocksCleared")})}),
           text("data_parallel_rank"), number(1)});
  CHECK(told(all) == "stored 11 tokens 1 2 size 2\ncleared\n");
}

TEST_CASE("hashes may be bytes; the same bytes are the same hash") {
  const std::string hash(32, '\x5a');
  const std::string all = batch({array({text("BlockStored"), array({binary(hash)}), nil(), numbers({1}), number(1)}),
                                 array({text("BlockRemoved"), array({binary(hash)})})});
  const std::string log = told(all);
  const std::string name = log.substr(7, log.find(" tokens") - 7);
  CHECK(log == "stored " + name + " tokens 1 size 1\nremoved " + name + "\n");
}

TEST_CASE("adapters, media and what else makes a hash") {
  const auto with = [](const std::string& id, const std::string& name, const std::string& extra) {
    return told(batch(
        {array({text("BlockStored"), numbers({1, 2}), nil(), numbers({5, 6}), number(1), id, nil(), name, extra})}));
  };
  CHECK(with(number(3), text("sql"), nil()) == "stored 1 2 tokens 5 6 size 1 adapter sql\n");
  CHECK(with(number(3), nil(), nil()) == "stored 1 2 tokens 5 6 size 1 unnamed\n");
  CHECK(with(nil(), nil(), array({nil(), nil()})) == "stored 1 2 tokens 5 6 size 1\n");
  CHECK(with(number(3), text("sql"), array({array({text("sql")}), array({text("sql")})})) ==
        "stored 1 2 tokens 5 6 size 1 adapter sql\n");
  CHECK(with(nil(), nil(), array({nil(), array({text("picture-1")})})) == "stored 1 2 tokens 5 6 size 1 plain 1\n");
  CHECK(with(nil(), nil(), array({array({text("salt")}), nil()})) == "stored 1 2 tokens 5 6 size 1 plain 0\n");
}

TEST_CASE("what is not known is skipped and counted; other cache groups are not ours") {
  CHECK(told(batch({array({text("BlockMoved"), numbers({1}), text("x")}), cleared()})) == "other\ncleared\n");
  const std::string other_group = array({text("BlockRemoved"), numbers({1}), nil(), number(1)});
  CHECK(told(batch({other_group})) == "other\n");
}

TEST_CASE("a batch that ends too early, or is something else, is broken") {
  const std::string all = batch({stored({11, 12}, 10, {1, 2, 3, 4}, 2), removed({7, 8})});
  for (size_t cut = 0; cut < all.size(); ++cut) CHECK(told(all.substr(0, cut)).ends_with("broken"));
  CHECK(told(all + "x").ends_with("broken"));
  CHECK(told(number(5)) == "broken");
  CHECK(told(map({text("ts"), time_stamp})) == "broken");
  CHECK(told(batch({number(1)})) == "broken");
  CHECK(told(batch({array({text("BlockStored"), text("no list")})})) == "broken");
}
