// Parses the head of a message and keeps it alive.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "penstock/http/parser.h"

namespace penstock::test {

class ParsedHead final : http::ParserEvents {
 public:
  // `text`: the head with the empty line that ends it.
  ParsedHead(http::Parser::Kind kind, const std::string& text) : parser_(kind, *this) {
    REQUIRE(parser_.feed(text).error == http::ParseError::none);
    REQUIRE(parser_.head() != nullptr);
  }
  const http::Head& head() const { return *parser_.head(); }

 private:
  void on_head(http::Head&) override { parser_.pause(); }
  void on_body(std::string_view) override {}
  void on_message_end(bool) override {}
  http::Parser parser_;
};

}  // namespace penstock::test
