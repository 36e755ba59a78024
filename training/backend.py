"""TensorFlow and the one Keras of this project, imported without start-up notices.

TensorFlow 2.21 writes several lines to stderr while it is imported, before it looks at TF_CPP_MIN_LOG_LEVEL,
so the descriptor itself is set aside for as long as the import takes. A failing import still raises as usual.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def _stderr_aside() -> Iterator[None]:
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


with _stderr_aside():
    import tensorflow as tf
    import tf_keras

__all__ = ["tf", "tf_keras"]
