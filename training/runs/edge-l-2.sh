#!/usr/bin/env bash
# Makes l3edge/models/edge-l-2.tflite, and the rotations that judge it: training/runs/distilled.sh says how, and from what.
#
#   bash training/runs/edge-l-2.sh WORK     everything it makes goes to the folder WORK; SMALL=1: in two minutes
student=mobilenet:32-64-128-128-256-256-512-512-512-512,window=8,pool=mean+time
export STEPS=400 # it forgets what it had of YAMNet with more (LOG.md)
exec bash "$(dirname "${BASH_SOURCE[0]}")/distilled.sh" edge-l-2 "$student" "${1:?usage: bash training/runs/edge-l-2.sh WORK}" \
  --focus esc10=2
