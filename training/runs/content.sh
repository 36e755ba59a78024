#!/usr/bin/env bash
# Content (Cramer et al. 2019, OpenL3): the same number of music videos, of environmental ones, and of both mixed. Its
# table: downstream accuracy of each on sets of music and of environmental sound, so that matched and mismatched content
# can be compared.
#
# Arguments and environment: training/runs/experiment.sh; MUSIC and ENVIRONMENTAL are labels with semicolons between
# them. Full size takes AudioSet's lists:
#   CONTENT="--ontology ontology.json --clips FOLDER" PREPARE="--ontology ontology.json" \
#   DATASET="music=GTZAN.csv environmental=ESC-50" bash training/runs/content.sh WORK segments.csv
source "$(dirname "${BASH_SOURCE[0]}")/experiment.sh"
music=$(default MUSIC "guitar;drum;bell;violin;flute;marimba" music)
environmental=$(default ENVIRONMENTAL "rain;dog;bird;engine;siren;clock" environmental)
read -ra content_options <<< "${CONTENT:-}"
for content in music environmental; do
  IFS=';' read -ra labels <<< "${!content}" # a label of AudioSet's may have commas and spaces in it
  for label in "${labels[@]}"; do content_options+=("--$content" "$label"); done
done

if [ ${#videos[@]} = 0 ]; then # twice the videos, as each side has half
  if [ -z "${DATASET:-}" ]; then
    for content in music environmental; do
      synthesize "${!content//;/,}" "${DOWNSTREAM_COUNT:-90}" 2 "$work/downstream-$content"
    done
    DATASET="music=$work/downstream-music environmental=$work/downstream-environmental"
  fi
  KINDS=${music//;/,},${environmental//;/,} COUNT=${COUNT:-480} some_videos
fi
"$python" -m training.content "${videos[@]}" --out "$work/manifests" "${content_options[@]}"
for content in music environmental mixed; do
  prepare "$work/shards-$content" "$work/manifests/$content.csv"
  for seed in $seeds; do
    pretrain "$work/runs/$content-$seed" "$work/shards-$content" "$seed"
  done
done
draw content
