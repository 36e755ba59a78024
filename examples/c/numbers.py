"""The five numbers that stream.c asks for, from the l3edge.json inside a model file; the standard library alone.

./stream MODEL.tflite s16 $(python3 numbers.py MODEL.tflite) < sound.raw
"""

import json
import math
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as archive:
    spec = json.loads(archive.read("l3edge.json"))["spec"]
if not spec["streaming"]:
    sys.exit("numbers: the model does not stream; its signature `window` takes each window by itself")
front, hop, window = spec["front_end"], spec["hop"], spec["window"]
step, length = front["frame_step"], front["frame_length"]

# Of each layer, in time: how many columns of its input an output column reads, and by how many the next is further.
rows = []
for layer in spec["layers"]:
    pool = layer["kind"] == "pool"
    reads = layer["size"][0] if pool else (layer["kernel"][0] - 1) * layer["dilation"][0] + 1
    rows.append((reads, layer["stride"][0]))

# The columns of a window: those whose frames all lie in it.
columns = (window - length) // step + 1
for reads, stride in rows:
    columns = (columns - reads) // stride + 1


def aligned(position: int) -> bool:
    """Whether each layer's input, the columns that its state keeps in front, begins where one of its outputs does."""
    for reads, stride in rows:
        position -= max(0, reads - stride)
        if position % stride:
            return False
        position //= stride
    return True


# The frame that a step begins with, counted from its hop: the latest aligned one at which it ends with its hop.
latest = min(0, (hop - ((hop // step - 1) * step + length)) // step)
stride = math.prod(stride for _, stride in rows)
start = next(frame for frame in range(latest, latest - stride, -1) if aligned(frame))

print(front["sample_rate"], window, hop, start * step, columns)
