"""A model file on a bare engine: what anyone would call without an SDK, and what such a process keeps in memory.

    python -m benchmarks.bare engine MODULE [FILE CALLS SAMPLES [SIGNATURE]]
    python -m benchmarks.bare sdk ENGINE FILE CALLS

are the processes that the benchmarks start, each time anew. Each prints its resident memory and the peak of it, MB. The
first imports NumPy and the engine's MODULE (such as `ai_edge_litert.interpreter`) and nothing else of ours; the second
imports l3edge. Both run a file on CALLS pieces of silence, of SAMPLES each or a hop.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Embed = Callable[[NDArray[np.float32]], Any]  # sound in, whatever the model gives of it out


def embedder(interpreter: Any, path: Path, signature: str = "") -> Embed:
    """The call of a file on one thread: sound set, graph run, result taken; states, where there are some, stay zero.

    interpreter: the engine's module. signature: of the graph; "": the file's first graph, by `invoke`.
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


def memory() -> tuple[float, float]:
    """Of this process, MB: resident, and its peak."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resident, peak = (int(status[key].split()[0]) / 1000 for key in ("VmRSS", "VmHWM"))
    return resident, peak


def main() -> None:
    """As the module says."""
    kind, engine, *rest = sys.argv[1:]
    if kind == "sdk":
        import l3edge

        path, calls = rest
        model = l3edge.load(path, engine=engine)
        embed: Embed = model.stream(model.spec.sample_rate).push
        silence = np.zeros(model.spec.hop, np.float32)
    else:
        interpreter = importlib.import_module(engine)
        path, calls, samples, *signature = rest or ("", "0", "0")
        embed = embedder(interpreter, Path(path), "".join(signature)) if path else len
        silence = np.zeros(int(samples), np.float32)
    for _ in range(int(calls)):
        embed(silence)
    print(*memory())


if __name__ == "__main__":
    main()
