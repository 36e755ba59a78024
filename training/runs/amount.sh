#!/usr/bin/env bash
# Amount of training (Cramer et al. 2019, OpenL3): the model after every 2.6 million clips, each probed downstream, and
# the curve of accuracy against clips.
#
# Arguments and environment: training/runs/experiment.sh; SNAPSHOT_EVERY, in clips, a multiple of BATCH.
source "$(dirname "${BASH_SOURCE[0]}")/experiment.sh"
steps=$(default STEPS 160 1228800)
every=$(default SNAPSHOT_EVERY $((40 * batch)) $((40960 * batch)))

some_videos
prepare "$work/shards" "${videos[@]}"
for seed in $seeds; do
  pretrain "$work/runs/amount-$seed" "$work/shards" "$seed" --snapshot-every "$every"
done
draw amount
