"""The only import of a TFLite engine: LiteRT (`ai-edge-litert`) or its predecessor (`tflite-runtime`).

A `Network` is one file on one engine: a step of the streaming graph, the whole-window graph, and the scale of the
output. State goes in and comes out as tensors, so one network serves any number of streams.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import platform
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import EngineError, ModelFileError, OptionError
from .model_file import ModelFile
from .spec import Spec

Array = NDArray[Any]
States = list[Array]

# In the order of preference: LiteRT's int8 kernels are several times faster on x86-64 (benchmarks/README.md).
ENGINES = {
    "litert": ("ai_edge_litert", "ai-edge-litert"),
    "tflite_runtime": ("tflite_runtime", "tflite-runtime"),
}


@dataclass(frozen=True)
class Engine:
    """An installed engine."""

    name: str
    version: str
    interpreter: Any  # the module


def installed() -> list[str]:
    """Names of the engines that are installed, preferred first, without importing them."""
    return [name for name, (module, _) in ENGINES.items() if importlib.util.find_spec(module)]


def package_version(package: str) -> str:
    """Version of an installed package, or "unknown" where it came without metadata."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def find(name: str = "auto") -> Engine:
    """Import an engine; EngineError says what is missing and how to install it."""
    if name == "edgetpu":
        raise EngineError(
            "engine 'edgetpu' runs models exported for the Edge TPU, which this version of l3edge cannot make yet; "
            "use engine='auto'"
        )
    if name != "auto" and name not in ENGINES:
        raise OptionError(f"engine must be one of {['auto', *ENGINES, 'edgetpu']}, got {name!r}")
    refusals = []
    for candidate in ENGINES if name == "auto" else [name]:
        try:
            return _import(candidate)
        except EngineError as error:
            refusals.append(str(error))
    raise EngineError("; ".join(refusals))


def cpu_kind() -> str:
    """The kind of CPU as far as it decides which kernels an engine picks, such as "x86_64-avx512vnni" or "aarch64".

    Within a kind the same file, sound and engine version give the same bits (contract C7).
    """
    machine = platform.machine().lower()
    try:
        flags = set(re.findall(r"[a-z0-9_]+", Path("/proc/cpuinfo").read_text()))
    except OSError:
        return machine
    known = {"x86_64": ("avx512_vnni", "avx512bw", "avx_vnni", "avx2"), "aarch64": ("i8mm", "asimddp")}
    feature = next((f for f in known.get(machine, ()) if f in flags), "")
    return f"{machine}-{feature.replace('_', '')}" if feature else machine


def _import(name: str) -> Engine:
    module, package = ENGINES[name]
    if not importlib.util.find_spec(module):
        raise EngineError(f"engine {name!r} is not installed: pip install {package}")
    if name == "tflite_runtime" and int(np.__version__.split(".")[0]) >= 2:
        # Built for NumPy 1, it does not declare so, and takes the process down when imported beside NumPy 2.
        raise EngineError(f"engine 'tflite_runtime' needs NumPy < 2, found {np.__version__}: pip install 'numpy<2'")
    try:
        interpreter = importlib.import_module(f"{module}.interpreter")
    except (ImportError, OSError) as error:
        raise EngineError(f"engine {name!r} is installed and does not load ({error}): reinstall {package}") from error
    return Engine(name, package_version(package), interpreter)


def _details(runner: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return dict(runner.get_input_details()), dict(runner.get_output_details())


class Network:
    """A model file on an engine. Calls from several threads take turns.

    Raises ModelFileError when the file's tensors contradict its spec, EngineError when the engine refuses it.
    """

    def __init__(self, file: ModelFile, engine: str = "auto", threads: int = 1, delegate: str | None = None) -> None:
        if type(threads) is not int or not 1 <= threads <= 256:
            raise OptionError(f"threads must be a whole number from 1 to 256, got {threads!r}")
        self.engine = find(engine)
        self._file, self._threads, self._delegate = file, threads, delegate
        self._lock = threading.Lock()
        self._window: Any = None
        self._interpreter = self._open()
        inputs, outputs = self._signature("stream")
        spec = file.spec
        states = [f"state_{i}" for i in range(len(spec.state_shapes))]
        shapes = dict(zip(states, spec.state_shapes, strict=True))
        columns = (1, spec.columns_per_hop, spec.embedding_size)
        self._check("stream", inputs, {"samples": (spec.step_samples,), **shapes})
        self._check("stream", outputs, {"columns": columns, **shapes})
        self._samples, self._columns = inputs["samples"]["index"], outputs["columns"]["index"]
        self._states = [(inputs[name]["index"], outputs[name]["index"]) for name in states]
        for name in states:
            if inputs[name]["dtype"] != outputs[name]["dtype"] or _quantization(inputs[name]) != _quantization(
                outputs[name]
            ):
                raise ModelFileError(f"{file.path}: {name} goes out in another format than it came in")
        primary = {d["index"] for d in self._interpreter.get_input_details()}
        if primary != {d["index"] for d in inputs.values()}:
            raise ModelFileError(f"{file.path}: signature 'stream' must be the first in the file; export it again")
        self._zero_states = [np.zeros(inputs[name]["shape"], inputs[name]["dtype"]) for name in states]
        self.dtype = np.dtype(outputs["columns"]["dtype"])
        self.scale, self.zero_point = _quantization(outputs["columns"])
        if (self.dtype, self.scale != 0) not in ((np.dtype(np.int8), True), (np.dtype(np.float32), False)):
            raise ModelFileError(
                f"{file.path}: output is {self.dtype} with scale {self.scale}, expected int8 with or float32 without"
            )
        # Every int8 value's float32, in the order of its bits as uint8.
        levels = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float32)
        self._levels = (levels - np.float32(self.zero_point)) * np.float32(self.scale)

    def _open(self) -> Any:
        module = self.engine.interpreter
        try:
            if self._delegate:
                ctypes.CDLL(self._delegate)  # a missing one makes `load_delegate` fail twice, once in its destructor
            delegates = [module.load_delegate(self._delegate)] if self._delegate else None
        except (ValueError, OSError, RuntimeError) as error:
            raise EngineError(f"delegate {self._delegate!r} does not load in {self.engine.name}: {error}") from error
        try:
            interpreter = module.Interpreter(
                str(self._file.path), num_threads=self._threads, experimental_delegates=delegates
            )
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelFileError(
                f"{self._file.path}: {self.engine.name} {self.engine.version} refuses it: {error}"
            ) from error
        return interpreter

    def _signature(self, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            return _details(self._interpreter.get_signature_runner(key))
        except (ValueError, RuntimeError) as error:
            raise ModelFileError(f"{self._file.path}: no signature {key!r}; export the model again") from error

    def _check(self, key: str, details: dict[str, Any], expected: dict[str, tuple[int, ...]]) -> None:
        found = {name: tuple(int(n) for n in d["shape"]) for name, d in details.items()}
        if found != expected:
            wrong = sorted(n for n in {*found, *expected} if found.get(n) != expected.get(n))
            what = "; ".join(f"{n} is {found.get(n, 'absent')}, spec says {expected.get(n, 'absent')}" for n in wrong)
            raise ModelFileError(f"{self._file.path}: signature {key!r} contradicts the file's spec: {what}")
        if "samples" in details and details["samples"]["dtype"] != np.float32:
            raise ModelFileError(f"{self._file.path}: input 'samples' of {key!r} must be float32")

    def zero_states(self) -> States:
        """The states of a new stream; what they hold reaches no window."""
        return list(self._zero_states)

    def step(self, samples: NDArray[np.float32], states: States) -> Array:
        """One step: float32 [step_samples] in, columns [columns_per_hop, embedding_size] out; `states` are replaced."""
        interpreter = self._interpreter
        with self._lock:
            interpreter.set_tensor(self._samples, samples)
            for (index, _), state in zip(self._states, states, strict=True):
                interpreter.set_tensor(index, state)
            interpreter.invoke()
            states[:] = [interpreter.get_tensor(index) for _, index in self._states]
            columns: Array = interpreter.get_tensor(self._columns)[0]
            return columns

    def window(self, samples: NDArray[np.float32]) -> Array:
        """The embedding of one window, float32 [window] in, [embedding_size] out, by the independent window graph.

        It is there to check the step against (contract C3), and costs what a model that cannot stream would cost.
        """
        with self._lock:
            if self._window is None:
                spec: Spec = self._file.spec
                inputs, outputs = self._signature("window")
                self._check("window", inputs, {"samples": (spec.window,)})
                self._check("window", outputs, {"embedding": (1, spec.embedding_size)})
                # An interpreter of its own: while a signature runner lives, its interpreter refuses `invoke`.
                self._window = self._open().get_signature_runner("window")
            embedding: Array = self._window(samples=samples)["embedding"][0]
            return embedding

    def dequantize(self, values: Array) -> NDArray[np.float32]:
        """Float32 values of an output."""
        if self.dtype == np.float32:
            return values.astype(np.float32, copy=False)
        made: NDArray[np.float32] = self._levels.take(values.view(np.uint8))
        return made


def _quantization(details: dict[str, Any]) -> tuple[float, int]:
    scale, zero_point = details["quantization"]
    return float(scale), int(zero_point)
