"""Export: a training run in, one checked .tflite out. Runs from a checkout; the SDK never imports it."""
