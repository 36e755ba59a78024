"""A preset's small version: the same front end, window and kinds of layer, in minutes instead of GPU days.

    python -m training.pretrain --preset openl3-mel256 --small ...

Both towers are narrowed until their last block has 64 filters (an eighth of the published 512), and the picture is
48 pixels wide. What the experiments compare (what is heard, for how long, in which frames, with which padding) stays
the preset's own, so a small run goes through the very code of a full-size one and is exported as one is. Its accuracy
says nothing about the full-size network's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from l3edge.layers import Conv
from l3edge.spec import ImageTower, Spec

WIDEST = 64  # filters of any layer
IMAGE_SIZE = 48  # pixels


def _narrowed(filters: Sequence[int]) -> tuple[int, ...]:
    """All divided by the same number, so that the widest is WIDEST."""
    divisor = max(1, max(filters) // WIDEST)
    return tuple(max(1, count // divisor) for count in filters)


def small(spec: Spec) -> Spec:
    """The narrow version of a spec, named "<name>-small"."""
    narrow = iter(_narrowed([layer.filters for layer in spec.convolutions]))
    rows = tuple(layer._replace(filters=next(narrow)) if isinstance(layer, Conv) else layer for layer in spec.rows)
    image = ImageTower(min(IMAGE_SIZE, spec.image.size), _narrowed(spec.image.filters))
    return dataclasses.replace(spec.with_rows(rows), name=f"{spec.name}-small", image=image)
