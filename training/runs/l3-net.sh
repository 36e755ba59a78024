#!/usr/bin/env bash
# L3-Net (Arandjelovic & Zisserman 2017): log-spectrograms of 257 bins and 199 frames, pictures of 224 pixels, 60 million
# pairs in batches of 256 at 1e-4. Its table: AVC accuracy, and sound classification against random weights.
#
# Arguments and environment: training/runs/experiment.sh
PRESET=${PRESET:-l3-net}
source "$(dirname "${BASH_SOURCE[0]}")/experiment.sh"
steps=$(default STEPS 100 234375)
batch=$(default BATCH 24 256)
rate=$(default LEARNING_RATE 1e-2 1e-4)
protocol=$(default PROTOCOL linear svm)

some_videos
prepare "$work/shards" "${videos[@]}"
for seed in $seeds; do
  pretrain "$work/runs/l3-net-$seed" "$work/shards" "$seed"
done
draw l3-net
