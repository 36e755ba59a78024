#!/usr/bin/env bash
# The search behind the distilled models: students that never heard fold 3 of ESC-10, at the same budget, judged on it.
# Hours on 2 CPU cores, which two rows share; the folder of L3EDGE_DATA holds esc10, fsdd, librosa and yamnet.
#
#   bash training/runs/search.sh WORK [ROW...]     everything it makes goes to the folder WORK; STEPS=300
#
# Interrupted, it goes on where it was: each step keeps what it has finished. A last line compares all rows.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:?usage: bash training/runs/search.sh WORK [ROW...]}
shift
python=${PYTHON:-python}
middle=mobilenet:32-64-128-128-256-256-512-512-512
begin="--inherit --learning-rate 1e-3"
declare -A rows=(
  # block kind, from random weights
  [pairs]="pairs:16-32-64-128,size=512 --learning-rate 3e-3"
  [separable]="separable:24-48-96-192,size=512 --learning-rate 3e-3"
  [strided]="strided:32-48-96-192,size=512 --learning-rate 3e-3"
  [mobilenet]="$middle,time=6,pool=mean --learning-rate 3e-3"
  # from YAMNet's weights, and how fast these may change; the other rows begin so as well
  [inherit]="$middle,time=6,pool=mean $begin"
  [rate-5e-4]="$middle,time=6,pool=mean --inherit --learning-rate 5e-4"
  [rate-2e-3]="$middle,time=6,pool=mean --inherit --learning-rate 2e-3"
  [rate-4e-3]="$middle,time=6,pool=mean --inherit --learning-rate 4e-3"
  # width and depth
  [short]="mobilenet:32-64-128-128-256-256-512,time=6,pool=mean $begin"
  [narrow]="mobilenet:32-64-128-128-256-256-256,time=6,pool=mean $begin"
  [long]="$middle-512-512-512-1024-1024,time=6,pool=mean $begin"
  # blocks on all columns of a window, padded; the others are streamed
  [window-4]="$middle-512,window=4,pool=mean+time $begin"
  [window-6]="$middle-512,window=6,pool=mean+time $begin"
  [window-10]="$middle-512-512-512-1024-1024,window=10,pool=mean+time $begin"
  # blocks that look at several columns; frame step, embedding size, pooling over frequency
  [time-5]="$middle,time=5,pool=mean $begin"
  [time-7]="$middle,time=7,pool=mean $begin"
  [step-6]="$middle,time=7,pool=mean,step=100 $begin"
  [size-128]="$middle,time=6,size=128,pool=mean $begin"
  [size-256]="$middle,time=6,size=256,pool=mean $begin"
  [maximum]="$middle,time=6 $begin"
  # losses
  [embedding]="$middle,time=6,pool=mean $begin --scores 0"
  [scores]="$middle,time=6,pool=mean $begin --embedding 0"
  [relational]="$middle,time=6,pool=mean $begin --relational 5"
  [whiten]="$middle,time=6,pool=mean $begin --target whiten --components 256"
  [domain]="$middle,time=6,pool=mean $begin --target whiten --components 64 --domain esc10"
  # data
  [crop-3]="$middle,time=6,pool=mean $begin --crop 3"
  [focus]="$middle,time=6,pool=mean $begin --focus esc10=2"
  [no-degrade]="$middle,time=6,pool=mean $begin --no-degrade"
)
chosen=("$@")
if [ ${#chosen[@]} -eq 0 ]; then mapfile -t chosen < <(printf '%s\n' "${!rows[@]}" | sort); fi

# As distilled.sh makes it.
"$python" -m training.corpus --out "$work/corpus" --clips 10000 --share esc10=1 --share librosa=0.05 --held-out 0.05 --jobs 2
train() {
  local row=$1
  read -ra flags <<<"${rows[$row]:?no such row}"
  "$python" -m training.distill --student "${flags[0]}" --data "$work/corpus" --run "$work/$row-without-3" \
    --exclude fold-3 --steps "${STEPS:-300}" --batch 64 --crop 1 --evaluate-every 150 "${flags[@]:1}"
}
. training/runs/beside.sh
for row in "${chosen[@]}"; do beside train "$row"; done
all
"$python" -m benchmarks.accuracy "${chosen[@]}" --rotations "$work" --judge 3 --json "$work/search.json"
