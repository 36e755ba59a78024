#!/usr/bin/env bash
# Makes a model of l3edge/models/edge-l-1.tflite's form, and the rotations that judge it: training/runs/distilled.sh says how,
# and from what.
#
#   bash training/runs/edge-l-1.sh WORK     everything it makes goes to the folder WORK; SMALL=1: in two minutes
#
# The published file is of commit 7b2343e, by the same command there; later versions keep otherwise, in more noise (LOG.md).
student=mobilenet:32-64-128-128-256-256-512-512-512-512,window=8,pool=mean+time
exec bash "$(dirname "${BASH_SOURCE[0]}")/distilled.sh" edge-l-1 "$student" "${1:?usage: bash training/runs/edge-l-1.sh WORK}"
