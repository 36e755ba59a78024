"""Bits never change under a built-in name: tests/golden.py says how they are kept."""

from __future__ import annotations

import numpy as np
import pytest

import l3edge

from . import golden


@pytest.mark.parametrize("name", l3edge.models())
def test_bits_are_as_they_were(name: str, engine_name: str) -> None:
    model = l3edge.load(name, engine=engine_name)
    kept = golden.read(name)
    assert kept, f"no golden embeddings of {name}: python -m tests.golden"
    made = golden.bits(model)
    known = kept.pop(golden.key(model), None)
    if known is not None:
        np.testing.assert_array_equal(made, known)
    for other in kept.values():
        assert np.abs(made.astype(int) - other).max() <= golden.MOST_STEPS[name]


@pytest.mark.parametrize("name", l3edge.models())
def test_kept_combinations_are_close_and_no_constant(name: str) -> None:
    kept = list(golden.read(name).values())
    for i, a in enumerate(kept):
        assert len(np.unique(a, axis=0)) > 100
        for b in kept[:i]:
            assert np.abs(a.astype(int) - b).max() <= golden.MOST_STEPS[name]
