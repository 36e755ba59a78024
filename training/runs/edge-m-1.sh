#!/usr/bin/env bash
# Makes l3edge/models/edge-m-1.tflite from nothing but this repository: about an hour on 2 CPU cores.
#
#   bash training/runs/edge-m-1.sh WORK     everything it makes on the way goes to the folder WORK
#
# The bits of the published file are those of commit 1330b35; later versions calibrate and convert otherwise.
# Interrupted, it goes on where it was: each step keeps what it has finished.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:?usage: bash training/runs/edge-m-1.sh WORK}
python=${PYTHON:-python}

"$python" -m training.synthesize --out "$work/videos" --count 2000 --seed 1
[ -e "$work/shards/statistics.json" ] || "$python" -m training.prepare "$work/videos" --out "$work/shards"
"$python" -m training.pretrain --preset edge-m --data "$work/shards" --run "$work/edge-m-1" --steps 1600 --evaluate-every 80
"$python" -m export "$work/edge-m-1" --output "$work/edge-m-1.tflite" --recipe int8_qat --name edge-m-1 \
  --audio examples/scene.flac --licence MIT --data-licence "MIT: synthesised by this project"
echo "made $work/edge-m-1.tflite; a changed model is a new version: never copy it over a published one"
