# Sourced by the scripts of the published experiments: their arguments, and the steps they share.
#
#   bash training/runs/X.sh WORK VIDEOS... [--seeds "0 1 2"]    full size, on the GPUs of this machine
#   bash training/runs/X.sh WORK --small [--seeds "0 1 2"]      narrow towers on videos that it synthesises: minutes
#
# WORK is the folder for all it makes, VIDEOS what training.prepare takes. Interrupted, the same command goes on where it
# was. These environment variables replace the defaults (each script has its own):
#
#   STEPS BATCH LEARNING_RATE WARMUP    of all training
#   PRESET                              the model, where the experiment does not compare several
#   COUNT KINDS                         of the videos that --small synthesises
#   DOWNSTREAM_COUNT                    of the others that it synthesises for the probe, where ESC-10 is not there
#   DATASET PROTOCOL PROBE              the downstream sets for training.probe (default: ESC-10 if it is there, else
#                                       those others), its protocol, and further options of training.experiments
#   PREPARE PRETRAIN                    further options of these commands, such as PREPARE="--ontology ontology.json
#                                       --clips FOLDER" for AudioSet's lists, or PRETRAIN="--sync-batch-norm --xla"
#   STRATEGY                            one, mirrored or multi_worker (default: mirrored, with --small one)
#   PYTHON                              the interpreter
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python}

usage() {
  echo "usage: bash training/runs/$(basename "$0") WORK (VIDEOS... | --small) [--seeds \"0 1 2\"]" >&2
  exit 2
}

small= seeds= work= videos=()
while [ $# -gt 0 ]; do
  case $1 in
    --small) small=--small ;;
    --seeds) seeds=${2:-}; [ -n "$seeds" ] || usage; shift ;;
    -*) usage ;;
    *) if [ -z "$work" ]; then work=$1; else videos+=("$1"); fi ;;
  esac
  shift
done
if [ -z "$work" ] || { [ -z "$small" ] && [ ${#videos[@]} = 0 ]; }; then usage; fi

# A value from the environment, else for --small the second, else the third.
default() { if [ -n "${!1:-}" ]; then echo "${!1}"; elif [ -n "$small" ]; then echo "$2"; else echo "$3"; fi; }

seeds=${seeds:-0}
strategy=$(default STRATEGY one mirrored)
protocol=$(default PROTOCOL linear mlp)
read -ra prepare_options <<< "${PREPARE:-}"
read -ra pretrain_options <<< "${PRETRAIN:-}"
read -ra probe_options <<< "${PROBE:-$(if [ -n "$small" ] && [ "$protocol" = linear ]; then echo --probe-seeds 0; fi)}"

synthesize() { # KINDS COUNT SEED FOLDER
  "$python" -m training.synthesize --kinds "$1" --count "$2" --seed "$3" --out "$4" --seconds 3 --size 64
}

# Videos of these kinds, unless one's own were named; and without ESC-10 others for the probe, of another seed: labels of
# those that the towers were trained on may have been their task.
some_videos() {
  [ ${#videos[@]} = 0 ] || return 0
  local kinds=${KINDS:-guitar,drum,flute,rain,dog,siren}
  synthesize "$kinds" "${COUNT:-240}" 1 "$work/videos"
  videos=("$work/videos")
  if [ -z "${DATASET:-}" ] && ! "$python" -c "from training.datasets import ESC10; exit(not ESC10.is_dir())"; then
    synthesize "$kinds" "${DOWNSTREAM_COUNT:-90}" 2 "$work/downstream"
  fi
}

# These commands know what they have finished, and refuse to go on with other arguments or data. The pictures' small side
# is the published 256, of which 224 are cropped.
prepare() { # SHARDS VIDEOS...
  local out=$1
  shift
  "$python" -m training.prepare "$@" --out "$out" \
    --sample-rate "$("$python" -c "from l3edge.spec import PRESETS; print(PRESETS['$preset'].sample_rate)")" \
    --frame-size "$(default FRAME_SIZE 64 256)" "${prepare_options[@]}"
}

# What training.pretrain and training.supervised have in common.
training() { # COMMAND RUN SHARDS SEED OPTIONS...
  local command=$1 run=$2 shards=$3 seed=$4
  shift 4
  "$python" -m "training.$command" --preset "$preset" $small --data "$shards" --run "$run" \
    --seed "$seed" --steps "$steps" --batch "$batch" --learning-rate "$rate" --warmup "$warmup" "$@"
}

pretrain() { # RUN SHARDS SEED OPTIONS...
  local every=$((steps > 20 ? steps / 4 : steps))
  [ -n "$small" ] || every=$((steps > 300 ? steps / 300 : 1))
  training pretrain "$@" --strategy "$strategy" --negatives "$negatives" --evaluate-every "$every" \
    --checkpoint-every "$(default CHECKPOINT_EVERY 50 1000)" "${pretrain_options[@]}"
}

draw() { # EXPERIMENT OPTIONS...
  local name=$1 datasets=()
  shift
  for dataset in ${DATASET:-}; do datasets+=(--dataset "$dataset"); done
  "$python" -m training.experiments "$name" "$work" --protocol "$protocol" "${datasets[@]}" "$@" "${probe_options[@]}"
}

# Cramer et al. 2019 as marl/l3embedding was run: 300 epochs of 4096 batches of 64 at 1e-5. Published batches are half
# positive and half negative pairs; here each of a batch's clips is in one positive and in `negatives` negative ones. The
# published rate is constant; here it warms up and falls with half a cosine.
preset=${PRESET:-openl3-mel256}
steps=$(default STEPS 100 1228800)
batch=$(default BATCH 24 64)
rate=$(default LEARNING_RATE 1e-2 1e-5)
warmup=$(default WARMUP 20 1000)
negatives=$(default NEGATIVES 63 1)
