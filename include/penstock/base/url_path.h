// Paths of request targets: one canonical form, and patterns for them. Whatever decides by a path (route rules, APIs,
// what is allowed, the log) decides by this form, and this form is forwarded, so that nobody reads another path than we
// do. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace penstock {

// Brings the path of `target` ("/path?query") into its canonical form. The query is not touched.
//
//   - A byte that may stand in a path as it is (RFC 3986, section 3.3: pchar, and the slash) does so: "%63" becomes
//     "c", "%2F" becomes "/". All others are percent-encoded, with capital letters.
//   - Runs of slashes become one slash.
//   - Refused, because servers differ in what they make of it: segments "." and "..", backslashes, control characters,
//     and percent signs without two hexadecimal digits, all of them encoded or not.
//
// Model servers decode a path once before they match it. Decoding the canonical form gives the same bytes as decoding
// the original, but for the runs of slashes. So does encoding it again: the form of a canonical path is itself.
// Returns null, or why the path is refused, as one sentence; `target` is then unchanged. A target without a path ("*")
// stays as it is.
const char* canonicalise_target(std::string& target);

// Patterns: '*' stands for any bytes within a segment, also none; "**" as the last segment for everything below, and
// for the path above it ("/a/**" matches "/a" and "/a/b/c"). "*" and "**" alone match every path. Everything else
// stands for itself. The slash at the end of a path does not matter.
bool path_matches(std::string_view pattern, std::string_view path);
// "" if this is a pattern, else what is wrong with it.
std::string check_path_pattern(std::string_view pattern);

// The path without its last slash, and without a query: "/a/?x" gives "/a". "/" stays.
std::string_view bare_path(std::string_view target);

}  // namespace penstock
