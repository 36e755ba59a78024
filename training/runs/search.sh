#!/usr/bin/env bash
# The search behind the distilled models: students that never heard fold 3 of ESC-10, at the same budget, judged on it.
# Hours on 2 CPU cores, which two rows share; the folder of L3EDGE_DATA holds esc10, fsdd, librosa and yamnet.
#
#   bash training/runs/search.sh WORK [ROW...]     everything it makes goes to the folder WORK; STEPS=900
#
# Interrupted, it goes on where it was: each step keeps what it has finished. A last line compares all rows.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:?usage: bash training/runs/search.sh WORK [ROW...]}
shift
python=${PYTHON:-python}
declare -A rows=(
  # block kind, at about the same time to train
  [pairs]="pairs:16-32-64-128,size=512"
  [separable]="separable:24-48-96-192,size=512"
  [strided]="strided:32-48-96-192,size=512"
  # width
  [strided-narrow]="strided:24-32-64-128,size=512"
  [strided-wide]="strided:32-64-128-256,size=512"
  # frame step, embedding size, pooling over frequency
  [step-6]="strided:32-48-96-192,size=512,step=100"
  [size-128]="strided:32-48-96-192,size=128"
  [size-256]="strided:32-48-96-192,size=256"
  [mean]="strided:32-48-96-192,size=512,pool=mean"
  # losses
  [embedding]="strided:32-48-96-192,size=512 --scores 0"
  [scores]="strided:32-48-96-192,size=512 --embedding 0"
  [whiten]="strided:32-48-96-192,size=512 --target whiten --components 256"
  [domain]="strided:32-48-96-192,size=512 --target whiten --components 64 --domain esc10"
  # data
  [clips]="strided:32-48-96-192,size=512 --crop 21 --batch 8"
  [focus]="strided:32-48-96-192,size=512 --focus esc10=2"
  [no-degrade]="strided:32-48-96-192,size=512 --no-degrade"
)
chosen=("$@")
if [ ${#chosen[@]} -eq 0 ]; then mapfile -t chosen < <(printf '%s\n' "${!rows[@]}" | sort); fi

# As distilled.sh makes it.
"$python" -m training.corpus --out "$work/corpus" --clips 10000 --share esc10=1 --share librosa=0.05 --held-out 0.05 --jobs 2
train() {
  local row=$1
  read -ra flags <<<"${rows[$row]:?no such row}"
  "$python" -m training.distill --student "${flags[0]}" --data "$work/corpus" --run "$work/$row-without-3" \
    --exclude fold-3 --steps "${STEPS:-900}" --batch 64 --crop 1 --evaluate-every 300 "${flags[@]:1}"
}
# One core for each of two rows is faster than two cores for one: much of a step runs on one.
export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
trap 'jobs -p | xargs -r kill' EXIT
for row in "${chosen[@]}"; do
  while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
  train "$row" &
done
while [ "$(jobs -rp | wc -l)" -gt 0 ]; do wait -n; done
trap - EXIT
"$python" -m benchmarks.accuracy "${chosen[@]}" --rotations "$work" --judge 3 --json "$work/search.json"
