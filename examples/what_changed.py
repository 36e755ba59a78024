"""Print the moments at which a recording begins to sound like something else.

python examples/what_changed.py [FILE]

An embedding is compared with the one a second before, which shares no sample with it; the moment lies between the two,
within about half a second.
"""

import sys
from pathlib import Path

import numpy as np

import l3edge

source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "scene.flac"
model = l3edge.load()
embeddings, times = model.embed(*l3edge.audio.read(source))

unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)
change = 1 - (unit[10:] * unit[:-10]).sum(axis=1)  # cosine distance to a second before
middle = times[10:] - 0.5
peaks = [
    i for i in range(len(change)) if change[i] == change[max(0, i - 5) : i + 6].max() and change[i] > change.mean()
]
for i in peaks:
    print(f"{middle[i]:6.2f} s  {'#' * round(40 * change[i] / change.max())}")
