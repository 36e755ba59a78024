#!/usr/bin/env bash
# Makes a built-in model that learned from YAMNet, and the three that judge it: each of those never heard one fold of
# ESC-10. Hours on 2 CPU cores; the folder of L3EDGE_DATA holds esc10, fsdd, librosa and yamnet.
#
#   bash training/runs/distilled.sh NAME STUDENT WORK [OPTION...]    everything it makes goes to the folder WORK
#
# OPTION: more of `python -m training.distill`. STEPS: of training, 800.
# The student of each built-in model is in a script of its name, such as edge-m-3.sh.
# SMALL=1: the same road in two minutes, with few clips and few steps. JOBS: processes that make the corpus.
# Interrupted, it goes on where it was: each step keeps what it has finished.
set -euo pipefail
cd "$(dirname "$0")/../.."
usage="usage: bash training/runs/distilled.sh NAME STUDENT WORK [OPTION...]"
name=${1:?$usage} student=${2:?$usage} work=${3:?$usage}
shift 3
python=${PYTHON:-python}
clips=10000 steps=${STEPS:-800} qat=(--steps 150) folds=(1 2 3)
if [ "${SMALL:-}" ]; then clips=120 steps=6 qat=(--steps 4 --batch 8) folds=(3); fi

bash training/runs/corpus.sh "$work/corpus" "$clips"
. training/runs/beside.sh
rotations=()
for without in "${folds[@]/#/-without-}" ""; do
  exclude=()
  if [ "$without" ]; then exclude=(--exclude "fold-${without#-without-}") rotations+=("$work/$name$without"); fi
  beside "$python" -m training.distill --teacher yamnet --inherit --keep 2 --student "$student" --data "$work/corpus" \
    --run "$work/$name$without" --steps "$steps" --batch 48 --crop 2 --learning-rate 1e-3 \
    --evaluate-every "$((steps / 4 + 1))" "$@" "${exclude[@]}"
done
all
# Which tags can be trusted the rotations know, as each was kept from a fold.
"$python" -m training.tags "$work/$name" "${rotations[@]}"
for made in "${rotations[@]}" "$work/$name"; do
  [ -e "$made.tflite" ] || beside "$python" -m export "$made" --output "$made.tflite" --recipe int8_qat \
    --name "$(basename "$made")" "${qat[@]}" --audio examples/scene.flac --licence MIT --data-licence "see the model card"
done
all
echo "made $work/$name.tflite; a changed model is a new version: never copy it over a published one"
