#!/usr/bin/env bash
# Sets up what the tests of the page need, and runs them against the binary; see README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../../.." && pwd)
tools=$root/target/page-tests

export CHROMIUM=${CHROMIUM:-$(command -v chromium || true)}
[ -n "$CHROMIUM" ] || { echo "no chromium: apt-get install chromium, or set CHROMIUM" >&2; exit 1; }

if [ ! -x "$tools/venv/bin/pytest" ]; then
  python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install --quiet --disable-pip-version-check \
    playwright==1.65.2 pytest==9.2.0 pillow==13.0.0
fi

# axe-core is only for tests: it is neither committed nor served.
export AXE=$tools/axe-core/package/axe.min.js
if [ ! -f "$AXE" ]; then
  mkdir -p "$tools/axe-core"
  (cd "$tools/axe-core" && tar xzf "$(npm pack --silent axe-core@4.14.1)")
fi

if [ -z "${ASTERISM:-}" ]; then
  cargo build --locked --manifest-path "$root/Cargo.toml" -p asterism-cli
  export ASTERISM=$root/target/debug/asterism
fi

cd "$here"
export PYTHONDONTWRITEBYTECODE=1
if [ "${1:-}" = --pictures ]; then
  exec "$tools/venv/bin/python" pictures.py "$root/docs/images"
fi
exec "$tools/venv/bin/pytest" -p no:cacheprovider "$@"
