"""The numbers that stream.c asks for, from the l3edge.json inside a model file; the standard library alone.

./stream MODEL.tflite s16 $(python3 numbers.py MODEL.tflite) < sound.raw
"""

import json
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as archive:
    numbers = json.loads(archive.read("l3edge.json"))["numbers"]
if "step_start" not in numbers:
    sys.exit("numbers: the model does not stream; its signature `window` takes each window by itself")
print(*(numbers[name] for name in ("sample_rate", "window", "hop", "step_start", "columns")))
