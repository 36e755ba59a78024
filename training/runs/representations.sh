#!/usr/bin/env bash
# Input representation (Cramer et al. 2019, OpenL3): a linear spectrogram, 128 and 256 mel bands, on the same data with
# the same seeds. Its table: AVC accuracy and downstream accuracy of each.
#
# Arguments and environment: training/runs/experiment.sh
source "$(dirname "${BASH_SOURCE[0]}")/experiment.sh"

some_videos
prepare "$work/shards" "${videos[@]}"
for seed in $seeds; do
  for preset in openl3-linear openl3-mel128 openl3-mel256; do
    pretrain "$work/runs/$preset-$seed" "$work/shards" "$seed"
  done
done
draw representations
