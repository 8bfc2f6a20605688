#!/usr/bin/env bash
# What tokens computed anew win back of the accuracy that blocks cost: the runs behind
# docs/revisit.md.
#
#   benches/revisit.sh [OUT [RUN ...]]
#
# RUN is LENGTH:BABILONG_SAMPLES:RULER_SAMPLES, how many tokens are enough; variants-LENGTH:…:…, as
# many tokens chosen in all ways there are; variants, that at 4k, 16k and 64k; or speed-LENGTH, the
# time to the first token by dense and by star without and with 2k tokens computed anew: phase 1 and
# question together, for a machine with nothing else to do.
#
# Asks target/release/asterism: build it first. ASTERISM_MODEL and ASTERISM_DEVICE name another model
# and what computes. A run that was stopped goes on where it was. For a GPU: an H200 takes 15 minutes
# for all lengths, if tasks run at the same time: JOBS=16 asks up to 16 of them at once, each by a
# process of its own. Times are then those of a GPU that others use too.
set -euo pipefail
asterism="$(dirname "$0")/../target/release/asterism"
out="${1:-revisit}"
shift $(($# > 0))
jobs="${JOBS:-1}"
[ $# -gt 0 ] || set -- 4k:50:20 16k:50:50 64k:50:50 128k:50:20

eighth=star:block=1/8
blocks=star:block=4k
small=$blocks:anchor=1k

# Blocks, tokens: exact, star, a choice of each kind, and blocks that see the one before.
variants() {
  local by
  echo "star:block=$1"
  echo "star:block=$1:revisit=$2"
  for by in late largest tokens rounds values random first; do
    echo "star:block=$1:revisit=$2:revisit-by=$by"
  done
  echo "blocks:block=$1:anchor=$1:previous=1"
}

methods() {
  case "$1" in
    variants-4k) variants 512 10% ;;
    variants-16k) variants 2k 2k ;;
    variants-*) variants 4k 2k ;;
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

# One benchmark in one folder: its tasks at once, then all that they answered together.
answer() {
  local dir="$1" benchmark="$2" tasks="$3" task
  shift 3
  if [ "$jobs" -gt 1 ]; then
    mkdir -p "$dir"
    for task in ${tasks//,/ }; do echo "$task"; done | xargs -P "$jobs" -I TASK \
      "$asterism" eval "$benchmark" --tasks TASK "$@" -o "$dir/parts/TASK"
    for task in ${tasks//,/ }; do
      cp "$dir/parts/$task/run.json" "$dir"
      cp -r "$dir/parts/$task"/*/ "$dir"
    done
  fi
  "$asterism" eval "$benchmark" --tasks "$tasks" "$@" -o "$dir"
}

all_runs=()
for run in "$@"; do
  case "$run" in
    variants) all_runs+=(variants-4k:50:50 variants-16k:50:50 variants-64k:50:50) ;;
    *) all_runs+=("$run") ;;
  esac
done

speed() {
  local small=star:block=4k:anchor=1k
  mkdir -p "$out"
  "$asterism" bench --lengths "$1" --methods "dense,$small,$small:revisit=2k" --query-tokens 64 \
    --decode-tokens 1 --runs 1 --json "$out/speed-$1.json" | tee "$out/speed-$1.txt"
}

# RULER's tasks that need no files.
needles=niah_single_1,niah_single_2,niah_single_3,niah_multikey_1,niah_multikey_2,niah_multikey_3
needles+=,niah_multivalue,niah_multiquery
for run in "${all_runs[@]}"; do
  case "$run" in
    speed-*)
      speed "${run#speed-}"
      continue
      ;;
  esac
  IFS=: read -r name stories tasks <<<"$run"
  all=dense,$(methods "$name" | paste -sd,)
  same=(--lengths "${name#variants-}" --template llama3 --methods "$all")
  answer "$out/babilong-$name" babilong qa1,qa2,qa3,qa4,qa5 --samples "$stories" "${same[@]}"
  answer "$out/ruler-$name" ruler "$needles,vt,cwe,fwe" --samples "$tasks" "${same[@]}"
done
