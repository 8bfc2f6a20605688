#!/usr/bin/env bash
# What Star Attention costs the built-in model: the runs behind docs/accuracy.md.
#
#   benches/accuracy.sh [OUT [LENGTH:SAMPLES ...]]
#
# Asks target/release/asterism: build it first. ASTERISM_MODEL names another model. A run that was
# stopped goes on where it was. 4K takes 20 minutes on two cores with AVX-512; the longer texts are
# for a GPU: an H100 takes 13 minutes for all.
set -euo pipefail
asterism="$(dirname "$0")/../target/release/asterism"
out="${1:-accuracy}"
shift $(($# > 0))
[ $# -gt 0 ] || set -- 4k:50 16k:50 64k:50 128k:12

methods=dense
for block in 1/4 1/8; do
  for anchor in full 1/4 none; do
    methods+=",star:block=$block:anchor=$anchor"
  done
done

failed=0
# A sample that is too long for the model (status 1) stops nothing; Ctrl-C and wrong arguments do.
answer() {
  local status=0
  "$asterism" eval "$@" || status=$?
  [ "$status" -le 1 ] || exit "$status"
  [ "$status" = 0 ] || failed=1
}

for run in "$@"; do
  length="${run%:*}" samples="${run#*:}" all="$methods"
  # The paper's other question: a block of one size, however long the text.
  [ "$length" != 64k ] || all+=,star:block=4k,star:block=4k:anchor=1k,star:block=4k:anchor=none
  same=(--lengths "$length" --samples "$samples" --template llama3 --methods "$all")
  answer ruler "${same[@]}" -o "$out/ruler"
  answer babilong --tasks qa1,qa2,qa3,qa4,qa5 "${same[@]}" -o "$out/babilong"
done
exit "$failed"
