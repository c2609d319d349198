# Shared by the scripts; to be sourced.
top="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
jobs="$(nproc)"

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "$(basename "$0"): $*"
  exit 1
}

# usage STATUS: the comment at the head of the calling script, without the hashes.
usage() {
  sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"
  exit "$1"
}

# quietly LOG COMMAND...: runs it with its output in LOG; when it fails, shows the end of that.
quietly() {
  local log="$1"
  shift
  mkdir -p "$(dirname "$log")"
  if ! "$@" >"$log" 2>&1; then
    say "failed: $*"
    tail -n 40 "$log" >&2
    say "(all of it: $log)"
    return 1
  fi
}
