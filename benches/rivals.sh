#!/usr/bin/env bash
# Sparse prefill beside star and dense attention: the runs behind docs/rivals.md.
#
#   benches/rivals.sh [OUT [PART ...]]          PART: accuracy-LENGTH[:SAMPLES] or speed-LENGTH
#
# Asks target/release/asterism: build it first. ASTERISM_MODEL and ASTERISM_DEVICE name another model
# and what computes. A run that was stopped goes on where it was (accuracy) or begins again (speed).
# Speeds are of an 8B model of random weights, whose attention is even: shares of weight that are
# small give there the densities that usual shares give with trained weights (XAttention's paper:
# 21, 11 and 6.9 % at 32K, 64K and 128K). What was kept stands beside every time.
set -euo pipefail
asterism="$(dirname "$0")/../target/release/asterism"
out="${1:-rivals}"
shift $(($# > 0))
[ $# -gt 0 ] || set -- accuracy-4k:50 accuracy-16k:50 accuracy-64k:20 speed-32k speed-128k speed-512k

accuracy() {
  local length="$1" samples="$2"
  # The usual settings, which leave nothing out of short texts, and some that do.
  local all=dense,star:block=1/8,star:block=1/8:anchor=1/4
  for pattern in streaming streaming:sink=128:window=1k \
    minference minference:vertical=128:slash=512 \
    flexprefill flexprefill:gamma=0.9:min=256 \
    xattention xattention:stride=16 xattention:stride=8:tau=0.8; do
    all+=,$pattern
  done
  all+=,star:block=1/4:sparse=flexprefill:gamma=0.9:min=256,star:block=1/4:sparse=xattention
  local same=(--lengths "$length" --samples "$samples" --template llama3 --methods "$all")
  "$asterism" eval ruler "${same[@]}" -o "$out/ruler-$length"
  "$asterism" eval babilong --tasks qa1,qa2,qa3,qa4,qa5 "${same[@]}" -o "$out/babilong-$length"
}

speed() {
  local length="$1" share
  case "$length" in
    32k) share=0.2 ;;
    128k) share=0.06 ;;
    *) share=0.03 ;;
  esac
  # FlexPrefill keeps that share of the keys' weight and of the distances': half of each.
  local half
  half=$(awk "BEGIN { print $share / 2 }")
  local all=dense,star:block=16k:anchor=4k,streaming,minference:vertical=1k:slash=100
  all+=,flexprefill:gamma=$half:tau=0,flexprefill:gamma=$half:tau=1
  all+=,xattention:stride=8:tau=$share,xattention:stride=16:tau=$share
  all+=,star:block=16k:anchor=4k:sparse=xattention:stride=16:tau=0.2
  "$asterism" bench --shape llama-8b --lengths "$length" --methods "$all" --decode-tokens 0 --runs 2 \
    --breakdown --json "$out/speed-$length.json" | tee "$out/speed-$length.txt"
}

mkdir -p "$out"
for part in "$@"; do
  rest="${part#*-}"
  case "$part" in
    accuracy-*) accuracy "${rest%:*}" "$(case "$rest" in *:*) echo "${rest#*:}" ;; *) echo 50 ;; esac)" ;;
    speed-*) speed "$rest" ;;
    *) echo "no such part: $part" >&2 && exit 2 ;;
  esac
done
