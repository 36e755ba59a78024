"""Embed a whole recording and save the result: python examples/embed_file.py [FILE] [OUTPUT.npz]"""

import sys
from pathlib import Path

import numpy as np

import l3edge

source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "scene.flac"
target = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("scene.npz")

model = l3edge.load()  # the embedded default
audio, sample_rate = l3edge.audio.read(source)  # float32 [n, channels]
embeddings, times = model.embed(audio, sample_rate)  # float32 [t, 256], seconds [t]
np.savez_compressed(target, embeddings=embeddings, times=times, model=model.identity)

print(f"{source.name}: {len(times)} embeddings of {model.spec.embedding_size} values, one every 0.1 s -> {target}")
