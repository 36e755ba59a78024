#!/usr/bin/env bash
# Makes l3edge/models/avc-s-1.tflite from nothing but this repository: half an hour on 2 CPU cores.
#
#   bash training/runs/avc-s-1.sh WORK     everything it makes on the way goes to the folder WORK
#
# The published run is of commit 1ae82e9, its export of commit fcbeb66; later versions may make other bits.
# SMALL=1: the same road in two minutes. Interrupted, it goes on where it was: each step keeps what it has finished.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:?usage: bash training/runs/avc-s-1.sh WORK}
python=${PYTHON:-python}
count=2000 steps=1600 qat=(--steps 300)
if [ "${SMALL:-}" ]; then count=24 steps=6 qat=(--steps 4 --batch 8); fi

"$python" -m training.synthesize --out "$work/videos" --count "$count" --seed 1
"$python" -m training.prepare "$work/videos" --out "$work/shards"
"$python" -m training.pretrain --preset edge-s --data "$work/shards" --run "$work/avc-s-1" --steps "$steps"
"$python" -m export "$work/avc-s-1" --output "$work/avc-s-1.tflite" --recipe int8_qat --name avc-s-1 "${qat[@]}" \
  --audio examples/scene.flac --licence MIT --data-licence "MIT: synthesised by this project"
echo "made $work/avc-s-1.tflite; a changed model is a new version: never copy it over a published one"
