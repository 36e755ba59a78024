#!/usr/bin/env bash
# Makes the corpus of the distilled models: two thirds of them are of what is to be told apart; few
# recordings are held out, as each fold of ESC-10 is by a rotation. The folder of L3EDGE_DATA holds esc10, fsdd and librosa.
#
#   bash training/runs/corpus.sh OUT [CLIPS]     10000 clips of 5 s; JOBS: processes that make them
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python}" -m training.corpus --out "${1:?usage: bash training/runs/corpus.sh OUT [CLIPS]}" \
  --clips "${2:-10000}" --share esc10=1 --share librosa=0.05 --held-out 0.05 --jobs "${JOBS:-2}"
