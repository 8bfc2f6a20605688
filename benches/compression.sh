#!/usr/bin/env bash
# What pressing an encoded context costs in accuracy and saves in memory: the runs behind
# docs/compression.md.
#
#   benches/compression.sh [OUT [LENGTH:BABILONG_SAMPLES:RULER_SAMPLES ...]]
#
# Asks target/release/asterism: build it first. ASTERISM_MODEL and ASTERISM_DEVICE name another model
# and what computes. A run that was stopped goes on where it was. Every score, with 75, 50 and 25% of
# the keys kept, as many of each head; the best of a layer's heads at 50 and 25% for the scores that
# gain from it; for star in blocks of an eighth and for dense.
set -euo pipefail
asterism="$(dirname "$0")/../target/release/asterism"
out="${1:-compression}"
shift $(($# > 0))
[ $# -gt 0 ] || set -- 4k:50:20 16k:50:20 64k:25:10

methods() {
  local base keep press
  for base in dense star:block=1/8:anchor=1/4; do
    echo "$base"
    for keep in 75% 50% 25%; do
      for press in kvzip expected compactor snapkv streaming knorm random; do
        echo "$base:keep=$keep:press=$press"
      done
    done
    for keep in 50% 25%; do
      for press in kvzip expected compactor; do
        echo "$base:keep=$keep:press=$press:heads=layer"
      done
    done
  done
  # What is computed anew wins back what was given up.
  echo star:block=1/8:anchor=1/4:revisit=auto
  for keep in 50% 25%; do
    echo "star:block=1/8:anchor=1/4:revisit=auto:keep=$keep:press=kvzip"
  done
}

failed=0
# A sample that is too long for the model (status 1) stops nothing; Ctrl-C and wrong arguments do.
answer() {
  local status=0
  "$asterism" eval "$@" || status=$?
  [ "$status" -le 1 ] || exit "$status"
  [ "$status" = 0 ] || failed=1
}

all=$(methods | paste -sd,)
for run in "$@"; do
  IFS=: read -r length stories tasks <<<"$run"
  same=(--lengths "$length" --template llama3 --methods "$all")
  answer babilong --tasks qa1,qa2,qa3,qa4,qa5 --samples "$stories" "${same[@]}" \
    -o "$out/babilong-$length"
  answer ruler --samples "$tasks" "${same[@]}" -o "$out/ruler-$length"
done
exit "$failed"
