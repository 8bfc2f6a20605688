#!/usr/bin/env bash
# What tokens computed anew win back of the accuracy that blocks cost: the runs behind
# docs/revisit.md.
#
#   benches/revisit.sh [OUT [LENGTH:BABILONG_SAMPLES:RULER_SAMPLES ...]]
#
# Asks target/release/asterism: build it first. ASTERISM_MODEL and ASTERISM_DEVICE name another model
# and what computes. A run that was stopped goes on where it was. For a GPU: an H200 takes 15 minutes
# for all, if tasks run at the same time.
set -euo pipefail
asterism="$(dirname "$0")/../target/release/asterism"
out="${1:-revisit}"
shift $(($# > 0))
[ $# -gt 0 ] || set -- 4k:50:20 16k:50:50 64k:50:50 128k:50:20

eighth=star:block=1/8
blocks=star:block=4k
small=$blocks:anchor=1k

methods() {
  case "$1" in
    4k) for part in '' :revisit=5% :revisit=10% :revisit=20% :revisit=30% :anchor=1/4:revisit=20% \
        :revisit=20%:revisit-by=random :revisit=20%:revisit-by=first; do echo "$eighth$part"; done ;;
    16k) echo "$blocks"
      echo "$blocks:revisit=1k"
      echo "$blocks:revisit=2k"
      for part in '' :revisit=512 :revisit=1k :revisit=2k :anchor=1/4:revisit=2k \
        :anchor=64:revisit=2k :anchor=none:revisit=2k :revisit=2k:revisit-by=random \
        :revisit=2k:revisit-by=first; do echo "$eighth$part"; done ;;
    *) for part in '' :revisit=1k :revisit=2k :revisit=4k :revisit=2k:revisit-by=random; do
        echo "$small$part"; done
      echo "$blocks"
      echo "$blocks:revisit=2k"
      echo "$blocks:revisit=4k"
      echo "$blocks:anchor=64:revisit=2k"
      echo "$eighth"
      echo "$eighth:revisit=2k" ;;
  esac
}

for run in "$@"; do
  IFS=: read -r length stories tasks <<<"$run"
  all=dense,$(methods "$length" | paste -sd,)
  same=(--lengths "$length" --template llama3 --methods "$all")
  "$asterism" eval babilong --tasks qa1,qa2,qa3,qa4,qa5 --samples "$stories" "${same[@]}" \
    -o "$out/babilong-$length"
  "$asterism" eval ruler --samples "$tasks" "${same[@]}" -o "$out/ruler-$length"
done
