#!/usr/bin/env bash
# Whether audio-visual correspondence earns its place before distillation: the same student from random weights, from a
# tower that AVC has trained on synthesised videos, and from YAMNet's own weights; same data and steps, three seeds each,
# judged on fold 3 of ESC-10, which none of them heard. The folder of L3EDGE_DATA is as for search.sh.
#
#   bash training/runs/start.sh WORK     everything it makes goes to the folder WORK; STEPS=240, VIDEOS=1000, AVC_STEPS=800
#
# Interrupted, it goes on where it was: each step keeps what it has finished.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:?usage: bash training/runs/start.sh WORK}
python=${PYTHON:-python}
student=mobilenet:32-64-128-128-256-256-512,time=5,pool=mean+time  # soon trained

bash training/runs/corpus.sh "$work/corpus"
"$python" -m training.synthesize --out "$work/videos" --count "${VIDEOS:-1000}" --seed 1
"$python" -m training.prepare "$work/videos" --out "$work/shards"
"$python" -m training.pretrain --preset "$student" --data "$work/shards" --run "$work/avc" --steps "${AVC_STEPS:-800}"
names=()
. training/runs/beside.sh
for seed in 0 1 2; do
  for start in random avc inherit; do
    case $start in
      random) begin=(--learning-rate 3e-3) ;;
      avc) begin=(--learning-rate 3e-3 --init "$work/avc") ;;
      inherit) begin=(--learning-rate 1e-3 --inherit --keep 2) ;;
    esac
    names+=("$start-$seed")
    beside "$python" -m training.distill --student "$student" --data "$work/corpus" --run "$work/$start-$seed-without-3" \
      --exclude fold-3 --steps "${STEPS:-240}" --batch 48 --crop 3 --evaluate-every 120 --seed "$seed" "${begin[@]}"
  done
done
all
"$python" -m benchmarks.accuracy "${names[@]}" --rotations "$work" --judge 3 --json "$work/start.json"
