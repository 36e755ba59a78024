"""Training: videos in, weights out. Runs from a checkout; the SDK never imports it."""

import os

# Before TensorFlow is imported: its start-up notices would bury what a user is meant to read.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
