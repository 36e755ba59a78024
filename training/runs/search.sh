#!/usr/bin/env bash
# The search behind the distilled models: students that never heard fold 3 of ESC-10 (or each of FOLDS="1 2 3" in turn), at
# the same budget, judged on it in int8 (by calibration alone, which is soon done). Each row changes one thing of the first.
# Hours on 2 CPU cores, which two rows share; the folder of L3EDGE_DATA holds esc10, fsdd, librosa and yamnet.
#
#   bash training/runs/search.sh WORK [ROW...]     everything it makes goes to the folder WORK; STEPS=200, FOLDS=3
#
# Interrupted, it goes on where it was: each step keeps what it has finished. A last line compares all rows.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:?usage: bash training/runs/search.sh WORK [ROW...]}
shift
python=${PYTHON:-python}
seven=mobilenet:32-64-128-128-256-256-512-512 # so many of YAMNet's blocks
nine=$seven-512-512
pool=pool=mean+time
small=$seven-512,time=6,$pool # edge-s's, edge-m's and edge-l's
shipped=$nine,window=6,$pool
padded=$nine,window=8,$pool
begin="--inherit --keep 2"
declare -A rows=(
  [shipped]="$shipped $begin"
  # block kind and width, from random weights
  [pairs]="pairs:16-32-64-128,size=512 --learning-rate 3e-3"
  [separable]="separable:24-48-96-192,size=512 --learning-rate 3e-3"
  [strided]="strided:32-48-96-192,size=512 --learning-rate 3e-3"
  [mobilenet]="$shipped --learning-rate 3e-3"
  [narrow]="mobilenet:16-32-64-64-128-128-256-256-256-256,window=6,$pool --learning-rate 3e-3"
  # from YAMNet's weights, as all that follow: how fast these may change
  [rate-3e-4]="$shipped $begin --learning-rate 3e-4"
  [rate-3e-3]="$shipped $begin --learning-rate 3e-3"
  # depth; blocks on all columns of a window, padded, where the others are streamed
  [streamed-7]="$seven,time=6,$pool $begin"
  [streamed-9]="$nine,time=6,$pool $begin"
  [small]="$small $begin"
  [padded-2]="$nine,window=2,$pool $begin"
  [padded-2-of-7]="$seven,window=2,$pool $begin"
  [padded-3-of-8]="$seven-512,window=3,$pool $begin"
  [padded-4]="$nine,window=4,$pool $begin"
  [padded-8]="$padded $begin"
  [long]="$nine-512-512,window=6,$pool $begin"
  # frame step, embedding size, pooling
  [step-100]="$nine,window=6,halvings=4,step=100,$pool $begin"
  [size-128]="$nine,window=6,size=128,$pool $begin"
  [size-256]="$nine,window=6,size=256,$pool $begin"
  [mean]="$nine,window=6,pool=mean $begin"
  [maximum]="$nine,window=6 $begin"
  # losses
  [forget]="$shipped --inherit"
  [keep-1]="$shipped --inherit --keep 1"
  [keep-4]="$shipped --inherit --keep 4"
  [embedding]="$shipped $begin --scores 0"
  [scores]="$shipped $begin --embedding 0"
  [relational]="$shipped $begin --relational 5"
  [whiten]="$shipped $begin --target whiten --components 256"
  [domain]="$shipped $begin --target whiten --components 64 --domain esc10"
  # chance: other seeds of the three that were chosen
  [shipped-seed-1]="$shipped $begin --seed 1"
  [shipped-seed-2]="$shipped $begin --seed 2"
  [small-seed-1]="$small $begin --seed 1"
  [small-seed-2]="$small $begin --seed 2"
  [padded-8-seed-1]="$padded $begin --seed 1"
  [padded-8-seed-2]="$padded $begin --seed 2"
  # data
  [crop-3]="$shipped $begin --crop 3"
  [focus]="$shipped $begin --focus esc10=2"
  [no-degrade]="$shipped $begin --no-degrade"
)
chosen=("$@")
if [ ${#chosen[@]} -eq 0 ]; then mapfile -t chosen < <(printf '%s\n' "${!rows[@]}" | sort); fi

bash training/runs/corpus.sh "$work/corpus"
read -ra folds <<<"${FOLDS:-3}"
row() {
  local fold=$2 name=$1-without-$2
  read -ra flags <<<"${rows[$1]:?no such row}"
  "$python" -m training.distill --student "${flags[0]}" --data "$work/corpus" --run "$work/$name" \
    --exclude "fold-$fold" --steps "${STEPS:-200}" --batch 64 --crop 1 --learning-rate 1e-3 --evaluate-every 150 \
    "${flags[@]:1}"
  [ -e "$work/$name.tflite" ] || "$python" -m export "$work/$name" --output "$work/$name.tflite" --recipe int8_ptq \
    --name "$name" --audio examples/scene.flac
}
. training/runs/beside.sh
for each in "${chosen[@]}"; do
  for fold in "${folds[@]}"; do beside row "$each" "$fold"; done
done
all
"$python" -m benchmarks.accuracy "${chosen[@]}" --rotations "$work" --runs "$work" --judge "${folds[@]}" \
  --json "$work/search.json"
