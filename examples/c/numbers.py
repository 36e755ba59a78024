"""The numbers that stream.c asks for, from the l3edge.json inside a model file; the standard library alone.

./stream MODEL.tflite s16 $(python3 numbers.py MODEL.tflite) < sound.raw
"""

import json
import sys
import zipfile

if len(sys.argv) != 2:
    sys.exit("usage: numbers.py MODEL.tflite")
try:
    with zipfile.ZipFile(sys.argv[1]) as archive:
        numbers = json.loads(archive.read("l3edge.json"))["numbers"]
except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
    sys.exit(f"numbers: {sys.argv[1]} is no l3edge model: {error}")
if "step_start" not in numbers:
    sys.exit("numbers: the model does not stream; its signature `window` takes each window by itself")
print(*(numbers[name] for name in ("sample_rate", "window", "hop", "step_start", "columns")))
