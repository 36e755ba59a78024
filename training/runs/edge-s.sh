#!/usr/bin/env bash
# What an edge preset learns from synthesised videos: AVC on takes that it has not seen of kinds that it has, and what its
# embedding is worth beside that of random weights. A good hour on 2 CPU cores.
#
#   bash training/runs/edge-s.sh WORK     everything it makes goes to the folder WORK; SEEDS="0 1 2", STEPS=1600
#
# Interrupted, it goes on where it was: each step keeps what it has finished.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:?usage: bash training/runs/edge-s.sh WORK}
read -ra seeds <<<"${SEEDS:-0 1 2}"
python=${PYTHON:-python}

"$python" -m training.synthesize --out "$work/videos" --count 2000 --seed 1
"$python" -m training.prepare "$work/videos" --out "$work/shards"
for seed in "${seeds[@]}"; do
  "$python" -m training.pretrain --preset edge-s --data "$work/shards" --run "$work/edge-s-$seed" --seed "$seed" \
    --steps "${STEPS:-1600}"
done
# ESC-10, trained against untrained, by two protocols; AVC accuracy and its ceiling are in each run's metrics.json.
runs=() untrained=()
for seed in "${seeds[@]}"; do runs+=("$work/edge-s-$seed") untrained+=("random:edge-s:$seed"); done
for protocol in linear svm; do
  "$python" -m training.probe "${runs[@]}" "${untrained[@]}" --protocol "$protocol" --json "$work/probe-$protocol.json"
done
