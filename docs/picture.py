"""Draws docs/l3edge.png, the picture on top of the README, from examples/scene.flac and the embedded default.

python docs/picture.py    (needs the `train` extra)
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

import l3edge
from l3edge import audio, frontend

HERE = Path(__file__).parent
SCENE = ("dog", "bell", "rain", "engine", "bird", "woman", "clock", "guitar")  # training/scene.py
SECONDS = 1.5


def main() -> None:
    """Log-mel above, the stream of embeddings in the middle, how alike any two moments are on the right."""
    model = l3edge.load()
    samples, rate = audio.read(HERE.parent / "examples" / "scene.flac")
    mel = frontend.features(samples[:, 0], model.spec.front_end)
    embeddings, times = model.embed(samples, rate)
    lively = np.argsort(embeddings.std(axis=0))[::-1][:96]
    ordered = lively[np.argsort(embeddings[:, lively].argmax(axis=0))]
    shown = embeddings[:, ordered] / embeddings[:, ordered].max(axis=0)
    centred = embeddings - embeddings.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = plt.figure(figsize=(11, 4.6), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(2.1, 1))
    end = len(samples) / rate
    top = figure.add_subplot(grid[0, 0])
    top.imshow(mel.T, origin="lower", aspect="auto", extent=(0, end, 0, 64), cmap="magma")
    top.set(ylabel="mel band", xticks=[], title="in: twelve seconds of synthesised sounds, 16 kHz")
    middle = figure.add_subplot(grid[1, 0])
    middle.imshow(shown.T, aspect="auto", extent=(times[0], times[-1], 96, 0), cmap="viridis", interpolation="nearest")
    middle.set(xlim=(0, end), xlabel="seconds", ylabel="embedding", yticks=[])
    middle.set_title(f"out: an embedding every 0.1 s (the liveliest 96 of {model.spec.embedding_size} values)")
    for i, name in enumerate(SCENE):
        for axis in (top, middle):
            axis.axvline(i * SECONDS, color="white", lw=0.6, alpha=0.6)
        top.text((i + 0.5) * SECONDS, 58, name, color="white", ha="center", va="center", fontsize=8)
    right = figure.add_subplot(grid[:, 1])
    extent = (times[0], times[-1], times[-1], times[0])
    image = right.imshow(unit @ unit.T, extent=extent, cmap="RdBu_r", vmin=-1, vmax=1)
    right.set(xlabel="seconds", ylabel="seconds", title="how alike any two seconds are")
    figure.colorbar(image, ax=right, shrink=0.7, label="cosine, mean removed")
    figure.savefig(HERE / "l3edge.png", dpi=110)


if __name__ == "__main__":
    main()
