#!/usr/bin/env bash
# The server as clients of others see it: the test suite of the official Python client, chats,
# streams and contexts through it, LangChain and the official Node client, and every route of
# /openapi.json with values that nobody chose. Installs the clients below target/clients.
# Usage: run.sh path/to/asterism
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../../.." && pwd)
binary=$(realpath "${1:-$root/target/debug/asterism}")
place=$root/target/clients
export PIP_DISABLE_PIP_VERSION_CHECK=1 HF_HUB_OFFLINE=1
mkdir -p "$place"

python=$place/venv/bin/python
[ -x "$python" ] || python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet openai==3.57.0 langchain-openai==1.7.4 schemathesis==4.32.0 \
  pytest pytest-asyncio pytest-xdist respx dirty-equals inline-snapshot rich nest_asyncio \
  time-machine aiohttp httpx-aiohttp
suite=$place/openai-3.57.0
if [ ! -d "$suite" ]; then
  # Its tests are in its source distribution only.
  "$place/venv/bin/pip" download --quiet --no-deps --no-binary :all: openai==3.57.0 -d "$place"
  tar xzf "$suite.tar.gz" -C "$place"
fi

log=$place/server.log
server=
stop() { [ -z "$server" ] || { kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true; }; }
trap stop EXIT

# Starts the server with the given arguments; its address is then in $address.
serve() {
  stop
  : >"$log"
  "$binary" serve --port 0 --device cpu --log off --block 4k --anchor 1k "$@" 2>"$log" &
  server=$!
  for _ in $(seq 600); do
    address=$(sed -n 's|.*http://\([0-9.:]*\)/ .*|\1|p' "$log")
    [ -z "$address" ] || return 0
    sleep 0.1
  done
  cat "$log" >&2
  return 1
}

# Names of tests that cannot pass, with the reason, are in skipped.txt.
skipped=$(sed -n 's/^\([a-z_0-9]*\):.*/\1/p' "$here/skipped.txt" | paste -sd'|' | sed 's/|/ or /g')
official() {
  (cd "$suite" && TEST_API_BASE_URL=http://$address/v1 "$python" -m pytest -q --no-header -n 0 \
    -p no:cacheprovider -W ignore "$@")
}
echo "-- the official client's own tests: chats, models"
serve --model-id gpt-6-astra
official tests/api_resources/chat/test_completions.py -k "create and not ($skipped)"
official tests/api_resources/test_models.py -k "not ($skipped)"
echo "-- the same: completions"
serve --model-id gpt-3.5-turbo-instruct
official tests/api_resources/test_completions.py -k "create and not ($skipped)"

echo "-- through clients: openai, langchain-openai"
serve
ASTERISM_URL=http://$address "$python" -m pytest -q --no-header -p no:cacheprovider -W ignore \
  "$here/test_clients.py"
if command -v npm >/dev/null; then
  echo "-- through the client for Node"
  [ -d "$place/node_modules/openai" ] || npm --prefix "$place" install --silent --no-audit \
    --no-fund openai@6.49.0 >/dev/null
  cp "$here/client.mjs" "$place/client.mjs"
  ASTERISM_URL=http://$address node "$place/client.mjs"
else
  echo "-- the client for Node was not run: there is no npm"
fi

echo "-- every route, with values that nobody chose"
"$place/venv/bin/schemathesis" run "http://$address/openapi.json" --url "http://$address" \
  --checks not_a_server_error,content_type_conformance,response_schema_conformance \
  --exclude-path-regex '/events$' --max-examples 40 --seed 1 --request-timeout 60 --no-color \
  --suppress-health-check all
