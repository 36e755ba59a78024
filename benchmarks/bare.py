"""A model file on a bare engine, without an SDK: what anyone would write who has an interpreter and a file.

Imports nothing but NumPy, so that a process that measures the engine's memory may use it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Embed = Callable[[NDArray[np.float32]], Any]  # sound in, whatever the model gives of it out


def noise(shape: int | NDArray[np.int32]) -> NDArray[np.float32]:
    """Sound that costs what any sound does, the same each time."""
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


def embedder(interpreter: Any, path: Any, signature: str = "") -> Embed:
    """The call of a file on one thread: sound set, graph run, result taken; states, where there are some, stay zero.

    interpreter: the engine's module. signature: of the graph; "": the file's first graph, by `invoke`.
    Raises ValueError or RuntimeError where the engine refuses the file.
    """
    made = interpreter.Interpreter(model_path=str(path), num_threads=1)
    if signature:
        runner = made.get_signature_runner(signature)
        return lambda samples: runner(samples=samples)
    made.allocate_tensors()
    entries = made.get_input_details()
    sound = next(entry["index"] for entry in entries if len(entry["shape"]) == 1)  # a state has four dimensions
    result = made.get_output_details()[0]["index"]
    for entry in entries:
        made.set_tensor(entry["index"], np.zeros(entry["shape"], entry["dtype"]))

    def embed(samples: NDArray[np.float32]) -> Any:
        made.set_tensor(sound, samples)
        made.invoke()
        return made.get_tensor(result)

    return embed


def invoking(interpreter: Any, content: bytes, threads: int = 1, delegate: str | None = None) -> Callable[[], Any]:
    """The bare call of a file's first graph and nothing else: float inputs noise, int8 ones zero.

    interpreter: the engine's module. delegate: path of a library.
    """
    delegates = [interpreter.load_delegate(delegate)] if delegate else None
    made = interpreter.Interpreter(model_content=content, num_threads=threads, experimental_delegates=delegates)
    made.allocate_tensors()
    for entry in made.get_input_details():
        value = np.full(entry["shape"], entry["quantization"][1], entry["dtype"])
        if entry["dtype"] == np.float32:
            value = noise(entry["shape"])
        made.set_tensor(entry["index"], value)
    call: Callable[[], Any] = made.invoke
    return call
