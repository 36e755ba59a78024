"""Stream a recording in pieces of any length, and see that every embedding is that of its own second alone.

python examples/exact_stream.py [FILE]
"""

import sys
from pathlib import Path

import numpy as np

import l3edge

source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "scene.flac"
model = l3edge.load()
audio, sample_rate = l3edge.audio.read(source)

stream = model.stream(sample_rate)
pieces = np.split(audio, np.sort(np.random.default_rng(0).integers(0, len(audio), 100)))
results = [stream.push(piece) for piece in pieces] + [stream.flush()]
streamed = np.concatenate([embeddings for embeddings, _ in results])

whole, times = model.embed(audio, sample_rate)
print(
    f"{len(pieces)} pieces, {len(streamed)} embeddings; equal to embed, bit for bit: {np.array_equal(streamed, whole)}"
)

if sample_rate == model.spec.sample_rate:
    hop, window = model.spec.hop, model.spec.window
    complete = 1 + (len(audio) - window) // hop
    alone = [model.embed(audio[k * hop : k * hop + window], sample_rate)[0][0] for k in range(complete)]
    print(f"each of {complete} seconds embedded alone: the same bits: {np.array_equal(alone, whole[:complete])}")
