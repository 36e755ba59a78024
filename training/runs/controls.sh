#!/usr/bin/env bash
# The controls of L3-Net (Arandjelovic & Zisserman 2017): random weights; two classifiers trained on labels, combined
# directly; the same towers, joined by a fusion trained on correspondence; and correspondence alone. Its table: AVC
# accuracy and downstream accuracy of each. The videos need labels. training/supervised.py says what is reconstructed.
#
# Arguments and environment: training/runs/experiment.sh; FINE_TUNE=1 trains the pretrained towers on, too.
PRESET=${PRESET:-l3-net}
source "$(dirname "${BASH_SOURCE[0]}")/experiment.sh"
steps=$(default STEPS 100 234375)
batch=$(default BATCH 24 256)
rate=$(default LEARNING_RATE 1e-2 1e-4)
protocol=$(default PROTOCOL linear svm)
freeze=--freeze-towers
[ -z "${FINE_TUNE:-}" ] || freeze=

some_videos
prepare "$work/shards" "${videos[@]}"
for seed in $seeds; do
  training supervised "$work/runs/direct-$seed" "$work/shards" "$seed"
  pretrain "$work/runs/pretrained-$seed" "$work/shards" "$seed" --init "$work/runs/direct-$seed" $freeze
  pretrain "$work/runs/avc-$seed" "$work/shards" "$seed"
done
draw controls
