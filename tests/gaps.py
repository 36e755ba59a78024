"""Whether a stream with gaps is what it must be: each sample in a stretch or a gap, each stretch as embedded alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import l3edge

RATE = 16_000  # the model's: a window is embedded by itself, to the bit
WINDOW, HOP = 16_000, 1_600


def records(lines: str) -> list[dict[str, Any]]:
    """Of JSON lines; the last may still be on its way."""
    return [json.loads(line) for line in lines.splitlines(keepends=True) if line.endswith("\n")]


def gaps(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in told if "gap" in record]


def assert_accounts_for(told: list[dict[str, Any]], audio: np.ndarray, model: Path) -> dict[str, object]:
    """`audio` [n] or [n, channels] at 16 kHz is the whole signal, with anything in place of what was lost.

    Returns figures of it.
    """
    loaded = l3edge.load(model)
    begins, ends = [0], []
    for gap in gaps(told):
        begin = round(gap["time"] * RATE)
        assert gap["gap"] == gap["lost"] / RATE
        assert gap["lost"] > 0
        ends.append(begin)
        begins.append(begin + gap["lost"])
    ends.append(len(audio))
    assert begins[-1] <= len(audio)
    embeddings, times = [], []
    for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        assert begin <= end
        found, at = loaded.embed(audio[begin:end], RATE)
        if number < len(ends) - 1:  # zeros follow the end of the signal only; before a gap, whole windows
            whole = max(0, (end - begin - WINDOW) // HOP + 1)
            found, at = found[:whole], at[:whole]
        embeddings.append(found)
        times.append(at + begin / RATE)
    hops = [record for record in told if "embedding" in record]
    np.testing.assert_array_equal(np.array([hop["embedding"] for hop in hops], np.float32), np.concatenate(embeddings))
    np.testing.assert_allclose([hop["time"] for hop in hops], np.concatenate(times), rtol=0, atol=1e-9)
    assert [record["time"] for record in told] == sorted(record["time"] for record in told)
    lost = sum(gap["lost"] for gap in gaps(told))
    return {
        "seconds": round(len(audio) / RATE, 2),
        "hops": len(hops),
        "gaps": len(ends) - 1,
        "lost samples": lost,
        "seconds lost": round(lost / RATE, 2),
        "hops that differ from those of the stretches embedded alone": 0,
    }
