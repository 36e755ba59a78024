#!/usr/bin/env bash
# Makes l3edge/models/edge-s-2.tflite, and the rotations that judge it: training/runs/distilled.sh says how, and from what.
#
#   bash training/runs/edge-s-2.sh WORK     everything it makes goes to the folder WORK; SMALL=1: in two minutes
student=mobilenet:32-64-128-128-256-256-512-512-512,time=6,pool=mean+time
exec bash "$(dirname "${BASH_SOURCE[0]}")/distilled.sh" edge-s-2 "$student" "${1:?usage: bash training/runs/edge-s-2.sh WORK}"
