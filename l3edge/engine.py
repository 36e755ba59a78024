"""The only import of a TFLite engine: LiteRT (`ai-edge-litert`) or its predecessor (`tflite-runtime`).

A `Network` is one file on one engine: steps of the streaming graph, the whole-window graph, and the scale of the
output. State goes in and comes out as tensors, so one network serves any number of streams.

On the Edge TPU (and with a file made for it on any engine) the graph takes int8 log-mel, and the front end runs here,
in NumPy, a step at a time: `l3edge.frontend`, the one definition.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import platform
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import frontend
from .arrays import NDArray
from .errors import EngineError, ModelFileError, OptionError
from .model_file import ModelFile
from .tensors import Signatures, step_hops

Array = NDArray[Any]
States = list[Array]

# In the order of preference: LiteRT's int8 kernels are several times faster on x86-64 (benchmarks/README.md).
ENGINES = {
    "litert": ("ai_edge_litert", "ai-edge-litert"),
    "tflite_runtime": ("tflite_runtime", "tflite-runtime"),
}
EDGE_TPU_LIBRARY = "libedgetpu.so.1"
COMPILED = "edgetpu-custom-op"  # what the Edge TPU's compiler makes of the operations it maps


class Engine(NamedTuple):
    """An installed engine; "edgetpu" is one of the others with the Edge TPU's delegate."""

    name: str
    package: str  # that it came in
    interpreter: Any  # the module

    @property
    def version(self) -> str:
        """Of the package; of "edgetpu" with the name of the engine that it runs on."""
        runtime = next(name for name, (_, package) in ENGINES.items() if package == self.package)
        version = package_version(self.package)
        return version if runtime == self.name else f"{runtime} {version}"


def installed() -> list[str]:
    """Names of the engines that are installed, preferred first, without importing them."""
    return [name for name, (module, _) in ENGINES.items() if importlib.util.find_spec(module)]


def package_version(package: str) -> str:
    """Version of an installed package, or "unknown" where it came without metadata."""
    from importlib import metadata  # when somebody asks: it takes as long as loading a model

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def find(name: str = "auto") -> Engine:
    """Import an engine; EngineError says what is missing and how to install it."""
    if name == "edgetpu":
        runtime = find("auto")
        return Engine(name, runtime.package, runtime.interpreter)
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
    if name == "tflite_runtime":
        # On 32-bit ARM its import makes subnormal numbers zero, of which NumPy warns when it measures them after that.
        for kind in (np.float32, np.float64):
            np.finfo(kind)
    try:
        interpreter = importlib.import_module(f"{module}.interpreter")
    except (ImportError, OSError) as error:
        raise EngineError(f"engine {name!r} is installed and does not load ({error}): reinstall {package}") from error
    return Engine(name, package, interpreter)


class Network:
    """A model file on an engine. Calls from several threads take turns. Raises EngineError when the engine refuses.

    Attributes: hops (the lengths of step that the file offers, ascending), dtype, scale and zero_point of the output.
    """

    def __init__(
        self,
        file: ModelFile,
        engine: str = "auto",
        threads: int = 1,
        delegate: str | None = None,
        delegate_options: Mapping[str, str] | None = None,
    ) -> None:
        if type(threads) is not int or not 1 <= threads <= 256:
            raise OptionError(f"threads must be a whole number from 1 to 256, got {threads!r}")
        if delegate is not None and (not isinstance(delegate, str) or not delegate):
            raise OptionError(f"delegate must be the path of a library, got {delegate!r}")
        self.engine = find(engine)
        self._file, self._threads = file, threads
        self._delegate, self._options = delegate, dict(delegate_options or {})
        self._settle_delegate()
        self._lock = threading.Lock()
        # By signature, each on an interpreter of its own: while a signature runner lives, its interpreter refuses
        # `invoke`, and the bare call is what makes a step cheap.
        self._calls: dict[str, _Call] = {}
        self.hops = tuple(sorted(filter(None, map(step_hops, file.signatures))))
        self._main = "stream" if self.hops else "window"
        self._call(self._main)
        table = file.signatures[self._main]
        self._zero_states = {
            row["name"]: np.zeros(row["shape"], row["dtype"]) for row in table["inputs"] if row["role"] == "state"
        }
        self._names = sorted(self._zero_states, key=lambda name: int(name.removeprefix("state_")))
        result = next(row for row in table["outputs"] if row["role"] != "state")
        self.dtype = np.dtype(result["dtype"])
        self.scale, self.zero_point = float(result["scale"] or 0.0), int(result["zero_point"] or 0)
        # Every int8 value's float32, in the order of its bits as uint8.
        levels = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float32)
        self._levels = (levels - np.float32(self.zero_point)) * np.float32(self.scale)
        self._mel = next((row for row in table["inputs"] if row["role"] == "log_mel"), None)
        # Of a step: put together once, and not every hop.
        self._enter, self._leave = ["log_mel" if self._mel else "samples", *self._names], ["columns", *self._names]

    def _settle_delegate(self) -> None:
        """What only works together is asked for together."""
        compiled = any(op.name == COMPILED for subgraph in self._file.graph.subgraphs for op in subgraph.operators)
        if self.engine.name == "edgetpu":
            if self._file.target != "edgetpu":
                raise EngineError(
                    f"{self._file.path} was exported for the {self._file.target}, and engine 'edgetpu' runs what was "
                    "exported with `python -m export --target edgetpu`; leave the engine out"
                )
            self._delegate = self._delegate or EDGE_TPU_LIBRARY
        elif compiled and not self._delegate:
            raise EngineError(f"{self._file.path} was compiled for the Edge TPU: load it with engine='edgetpu'")
        if self._options and not self._delegate:
            raise OptionError("delegate_options are of a delegate: give delegate as well")

    def _load_delegate(self) -> Any:
        try:
            ctypes.CDLL(self._delegate)  # a missing one makes `load_delegate` fail twice, once in its destructor
            return self.engine.interpreter.load_delegate(self._delegate, self._options)
        except (ValueError, OSError, RuntimeError) as error:
            told = str(error).strip() or "it gives no reason"
            if self.engine.name == "edgetpu":
                raise EngineError(
                    f"engine 'edgetpu' needs the library {self._delegate} (Debian package libedgetpu1-std of Coral, or "
                    f"delegate=PATH) and an Edge TPU that is plugged in and free; loading it failed: {told}"
                ) from error
            raise EngineError(f"delegate {self._delegate!r} does not load in {self.engine.name}: {told}") from error

    def _open(self) -> Any:
        delegates = [self._load_delegate()] if self._delegate else None
        try:
            interpreter = self.engine.interpreter.Interpreter(
                model_content=self._file.flatbuffer, num_threads=self._threads, experimental_delegates=delegates
            )
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelFileError(
                f"{self._file.path}: {self.engine.name} {self.engine.version} refuses it: {error}"
            ) from error
        return interpreter

    def _call(self, key: str) -> _Call:
        if key not in self._calls:
            if key not in self._file.signatures:
                raise ModelFileError(
                    f"{self._file.path}: has no signature {key!r}, only {sorted(self._file.signatures)}"
                )
            signature = self._file.graph.signatures.get(key)
            make = Bare if signature is None or signature.subgraph == 0 else _Signature
            self._calls[key] = make(self._open(), key, self._file.signatures)
        return self._calls[key]

    def zero_states(self) -> States:
        """The states of a new stream; what they hold reaches no window."""
        return [self._zero_states[name] for name in self._names]

    def step(self, samples: NDArray[np.float32], states: States, hops: int = 1) -> Array:
        """One step: float32 [spec.samples_of(hops)] in, columns [columns, embedding_size] out; `states` are replaced.

        hops: one of `self.hops`; the bits are those of as many steps of one hop.
        """
        with self._lock:
            call = self._call("stream" if hops == 1 else f"stream_{hops}")
            first = self.hear(samples) if self._mel else samples
            results = call([first, *states], self._enter, self._leave)
            states[:] = results[1:]
            columns: Array = results[0][0]
            return columns

    def hear(self, samples: NDArray[np.float32]) -> Array:
        """Log-mel as a file for the Edge TPU takes it: [1, frames, bins, 1] of a step's samples, int8."""
        log_mel = frontend.features(samples, self._file.spec.front_end)[None, :, :, None]
        row = self._mel or {}
        if row.get("dtype") != "int8":
            return np.asarray(log_mel, np.float32)
        levels = np.rint(log_mel / np.float32(row["scale"])) + row["zero_point"]
        int8: Array = np.clip(levels, -128, 127).astype(np.int8)
        return int8

    def window(self, samples: NDArray[np.float32]) -> Array:
        """The embedding of one window, float32 [window] in, [embedding_size] out, by the independent window graph.

        Of a streaming model it is there to check the step against (contract C3), and costs what a model that cannot
        stream would cost.
        """
        with self._lock:
            embedding: Array = self._call("window")([samples], ["samples"], ["embedding"])[0][0]
            return embedding

    def scores(self, embedding: NDArray[np.float32], key: str = "tags") -> Array:
        """Of a signature of `tensors.SCORING` that the file has: float32 [embedding_size] in, [n] out, 0 to 1."""
        with self._lock:
            made = self._call(key)([embedding[None]], ["embedding"], ["scores"])[0][0]
        scores: Array = np.clip(np.nan_to_num(made), 0.0, 1.0)  # whatever the graph of an untrusted file may give
        return scores

    def dequantize(self, values: Array) -> NDArray[np.float32]:
        """Float32 values of an output."""
        if self.dtype == np.float32:
            return values.astype(np.float32, copy=False)
        made: NDArray[np.float32] = self._levels.take(values.view(np.uint8))
        return made


class Bare:
    """The first subgraph of a file, by the bare call; the signature that it is names its tensors."""

    def __init__(self, interpreter: Any, key: str, signatures: Signatures) -> None:
        self.interpreter = interpreter
        table = signatures[key]
        entries = (interpreter.get_input_details(), interpreter.get_output_details())
        self._inputs, self._outputs = (
            {row["name"]: int(entry["index"]) for row, entry in zip(table[side], details, strict=True)}
            for side, details in zip(("inputs", "outputs"), entries, strict=True)
        )

    def __call__(self, values: list[Array], inputs: list[str], outputs: list[str]) -> list[Array]:
        interpreter = self.interpreter
        for name, value in zip(inputs, values, strict=True):
            interpreter.set_tensor(self._inputs[name], value)
        interpreter.invoke()
        return [interpreter.get_tensor(self._outputs[name]) for name in outputs]


class _Signature:
    """Another subgraph of a file, by its signature."""

    def __init__(self, interpreter: Any, key: str, _signatures: Signatures) -> None:
        self._runner = interpreter.get_signature_runner(key)

    def __call__(self, values: list[Array], inputs: list[str], outputs: list[str]) -> list[Array]:
        made = self._runner(**dict(zip(inputs, values, strict=True)))
        return [made[name] for name in outputs]


_Call = Bare | _Signature
