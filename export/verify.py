"""python -m export.verify M.tflite [--against RUN]: is the file what it claims to be?

Every check runs on the file as a user has it, through the SDK. What they are:

file         size, digests over flatbuffer and metadata, format, spec and tensors (`l3edge.model_file.read`)
structure    in an int8 network nothing but the front end, and what tags and labels, runs in float, operator by
             operator; weights are constants
C1, C2, C3, C7   the contract (`export.contract`), on each engine that is installed, with 1 to 4 threads
ears         different sounds have different embeddings
tags, head   where a file has such, their scores: from 0 to 1, the same bits with 1 to 4 threads, and to 1e-6 the same
             on each engine; those of a head add up to 1
engines      between engines no more than the recipe's tolerance; how much it is, is told
parity       against the float32 network of a run, or of published weights, within the recipe's tolerance
stored       the figures that export stored in the file are those measured again

Needs no TensorFlow unless --against is given.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

import l3edge
from l3edge import engine, flatbuffer, model_file
from l3edge.tensors import SCORING, step_hops

from . import contract

Embed = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Clips = Sequence[NDArray[np.float32]]


class Scorer(Protocol):
    """Tags or a head, as they were trained."""

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Float32 [k, d] -> [k, n], 0 to 1, in float64."""
        ...


class Tolerance(NamedTuple):
    """What an export must keep, or it fails."""

    mean_cosine: float  # against the float32 tower, over all windows
    min_cosine: float  # over windows whose embedding is not near zero
    max_error: float  # largest error of a value, relative to the largest value of the float32 tower
    step: float  # largest difference of step and window graph, relative to the largest value; 0: the same bits


TOLERANCES = {
    "float32": Tolerance(0.999999, 0.9999, 1e-3, contract.FLOAT_STEP),
    "float16": Tolerance(0.99999, 0.999, 1e-2, contract.FLOAT_STEP),
    "int8_ptq": Tolerance(0.98, 0.90, 0.5, 0.0),
    "int8_qat": Tolerance(0.99, 0.95, 0.25, 0.0),
    "int8_qat_pruned": Tolerance(0.98, 0.90, 0.5, 0.0),
    "int8_qat_clustered": Tolerance(0.98, 0.90, 0.5, 0.0),
}

LEAST_TOLERANCE = 0.25  # of values, relative to the largest, between engines, for a recipe that is not known here

# Between the NumPy front end of an Edge TPU's file and the graph's: a log-mel that rounds to the next int8 level is
# heard by every layer. Relative to the largest value; what it came to is stored in the file.
TWO_FRONT_ENDS = 0.1

SCORES_ERROR = 1e-5  # of a score from 0 to 1, against what was trained, in float64
SCORES_STEP = 1e-6  # of a score from 0 to 1, between engines: both compute in float32
SCORES = {"tags": "a tag's score", "head": "a label's score"}

# The norm, relative to the clips' largest, below which a direction says nothing (digital silence).
NEAR_ZERO = 1e-3


class VerifyError(l3edge.Error):
    """A model that cannot be compared with its float32 tower."""


def windows(spec: l3edge.Spec, clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every whole window of a clip at the model's rate, one a hop: float32 [n, window]."""
    return np.lib.stride_tricks.sliding_window_view(clip, spec.window)[:: spec.hop]


def embed(model: l3edge.Model, clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embeddings of a clip at the model's rate, one a hop of the model."""
    return model.embed(clip, model.spec.sample_rate, model.spec.hop / model.spec.sample_rate)[0]


def measure(model: l3edge.Model, reference: Embed, clips: Clips, twin: l3edge.Model | None = None) -> dict[str, Any]:
    """Parity of a model file, as stored in its `l3edge.json`.

    reference: float32 [n, window] -> [n, embedding_size], the float32 tower that was trained.
    clips: float32 [n] at the model's rate, full scale 1.0, each at least one window long.
    twin: where the model holds no window graph (made for the Edge TPU), the model for the CPU that does.
    """
    stepped, whole, wanted = [], [], []
    independent = twin or model
    if "window" not in independent.metadata["signatures"]:
        raise VerifyError(
            "made for the Edge TPU, it holds no window graph to compare its step with: check the CPU model"
        )
    for clip in clips:
        cut = windows(model.spec, clip)
        stepped.append(embed(model, clip)[: len(cut)])
        whole.append(independent.network.dequantize(np.stack([independent.network.window(x) for x in cut])))
        wanted.append(reference(cut))
    step, window, want = (np.concatenate(parts) for parts in (stepped, whole, wanted))
    norms = np.linalg.norm(want, axis=1)
    heard = norms > NEAR_ZERO * norms.max()
    if not heard.any():
        raise VerifyError("the float32 tower gives nothing but zeros on these clips: there is nothing to compare with")
    # A zero embedding where the tower hears something has no direction; its cosine counts as 0.
    product = np.maximum(norms * np.linalg.norm(step, axis=1), np.finfo(np.float32).tiny)
    cosine = ((want * step).sum(axis=1) / product)[heard]
    return {
        "clips": len(clips),
        "windows": len(step),
        "windows_near_zero": int((~heard).sum()),
        "cosine_mean": round(float(cosine.mean()), 6),
        "cosine_min": round(float(cosine.min()), 6),
        "max_error": float(np.abs(step - want).max()),
        "max_value": float(np.abs(want).max()),
        "step_values": int(step.size),
        "step_values_differing": int((step != window).sum()),
        "step_max_error": float(np.abs(step - window).max()),
        "embeddings_differing": int((step != window).any(axis=1).sum()),
        "engine": f"{model.engine.name} {model.engine.version}",
        "cpu": engine.cpu_kind(),
    }


def same_mel(split: l3edge.Model, twin: l3edge.Model, clips: Clips) -> dict[str, int]:
    """How many values differ between a file for the Edge TPU and the same network for the CPU, for the same int8 mel.

    The mel is what the CPU's graph quantises its log-mel to, step by step. Only without the engine's default delegate
    can it be read there, and only one front end can have made it; so both networks run on the engine's plain kernels.
    """
    spec = split.spec
    subgraph = flatbuffer.parse(twin.flatbuffer).subgraphs[0]
    quantised = next(
        operator.outputs[0]
        for operator in subgraph.operators
        if operator.name == "QUANTIZE" and subgraph.tensors[operator.inputs[0]].dtype == "float32"
    )
    shape = (1, spec.frames_per_hop, spec.front_end.bins, 1)
    states = [f"state_{i}" for i in range(len(spec.state_shapes))]
    results = ["columns", *states]
    ours, theirs = _plain(split), _plain(twin)
    compared = differing = 0
    for clip in clips:
        kept = other = [np.zeros(made, np.int8) for made in spec.state_shapes]
        for begin in range(0, len(clip) - spec.step_samples + 1, spec.hop):
            want = theirs([clip[begin : begin + spec.step_samples], *other], ["samples", *states], results)
            mel = theirs.interpreter.get_tensor(quantised).reshape(shape)
            got = ours([mel, *kept], ["log_mel", *states], results)
            kept, other = got[1:], want[1:]
            for a, b in zip(got, want, strict=True):
                compared += a.size
                differing += int((a != b).sum())
    return {"same_mel_values": compared, "same_mel_values_differing": differing}


def _plain(model: l3edge.Model) -> engine.Bare:
    """The step of a model on the engine's plain kernels, every tensor kept."""
    module = model.engine.interpreter
    interpreter = module.Interpreter(
        model_content=model.flatbuffer,
        num_threads=1,
        experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    return engine.Bare(interpreter, "stream", model.metadata["signatures"])


def scores_errors(model: l3edge.Model, wanted: Mapping[str, Scorer], clips: Clips) -> dict[str, float]:
    """The largest error of a score in a file, over all embeddings of some clips at its rate: {"tags_max_error": ...}.

    wanted: what was trained, by its signature.
    """
    if not wanted:
        return {}
    embeddings = np.concatenate([embed(model, clip) for clip in clips])
    return {
        f"{key}_max_error": float(np.abs(_scored(model, key, embeddings) - made.scores(embeddings)).max())
        for key, made in wanted.items()
    }


def _scored(model: l3edge.Model, key: str, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores [k, n] by one of a file's signatures that score."""
    return model.tag_scores(embeddings) if key == "tags" else model.label_scores(embeddings)


def _scoring(file: model_file.ModelFile) -> list[str]:
    """The signatures that score, of those that a file has."""
    return [key for key in SCORING if key in file.signatures]


def failures(parity: dict[str, Any], tolerance: Tolerance) -> list[str]:
    """What in the figures of `measure` is outside the tolerance, in words."""
    checks = [
        ("mean cosine", parity["cosine_mean"], parity["cosine_mean"] >= tolerance.mean_cosine, tolerance.mean_cosine),
        ("minimum cosine", parity["cosine_min"], parity["cosine_min"] >= tolerance.min_cosine, tolerance.min_cosine),
        (
            "largest error, relative to the largest value",
            parity["max_error"] / parity["max_value"],
            parity["max_error"] <= tolerance.max_error * parity["max_value"],
            tolerance.max_error,
        ),
        (
            "difference of step and window, relative to the largest value",
            parity["step_max_error"] / parity["max_value"],
            parity["step_max_error"] <= tolerance.step * parity["max_value"],
            tolerance.step,
        ),
    ]
    if "same_mel_values" in parity:
        differing = parity["same_mel_values_differing"]
        checks.append(("number of values that differ from the CPU's for the same mel", differing, not differing, 0))
    for key, score in SCORES.items():
        if (error := parity.get(f"{key}_max_error")) is not None:
            checks.append((f"largest error of {score}", error, error <= SCORES_ERROR, SCORES_ERROR))
    return [f"{name} is {value:g}, the limit is {limit:g}" for name, value, good, limit in checks if not good]


def told(parity: dict[str, Any], tolerance: Tolerance) -> list[str]:
    """The figures of `measure` for people, with their limits."""
    largest = parity["max_value"]
    lines = [
        f"{parity['windows']} windows of {parity['clips']} clip(s), on {parity['engine']}",
        f"cosine to the float32 network: mean {parity['cosine_mean']:.6f} (at least {tolerance.mean_cosine:g}), "
        f"minimum {parity['cosine_min']:.6f} (at least {tolerance.min_cosine:g})",
        f"largest error: {parity['max_error'] / largest:.3g} of the largest value (at most {tolerance.max_error:g})",
        f"step against window graph: {parity['step_values_differing']} of {parity['step_values']} values differ, by at "
        f"most {parity['step_max_error'] / largest:.2g} of the largest (at most {tolerance.step:g})",
    ]
    if "same_mel_values" in parity:
        differing, compared = parity["same_mel_values_differing"], parity["same_mel_values"]
        lines.append(
            f"against the CPU's network, for the same mel: {differing} of {compared} values differ (at most 0)"
        )
        lines.append(
            f"with its own front end: {parity['embeddings_differing']} of {parity['windows']} embeddings differ"
        )
    for key in SCORES:
        if (error := parity.get(f"{key}_max_error")) is not None:
            lines.append(f"scores of {key}: largest error {error:.2g} (at most {SCORES_ERROR:g})")
    return lines


class Check(NamedTuple):
    """One line of the report; passed is None where a check could not be made."""

    name: str
    passed: bool | None
    told: str


def floats(graph: flatbuffer.Model) -> list[str]:
    """Operators of an int8 network that run in float: all that are float and do not lead to the quantised input.

    Empty for an int8 network. Front end: what only the float waveform feeds, up to the QUANTIZE in front of the first
    convolution. A float operator after an int8 one, or one that mixes the two, is named. The graphs of tags and head,
    which take a finished embedding, are float by right.
    """
    found = []
    scoring = [signature.subgraph for key, signature in graph.signatures.items() if key in SCORING]
    for subgraph in (subgraph for i, subgraph in enumerate(graph.subgraphs) if i not in scoring):
        after_int8: set[int] = {i for i in subgraph.inputs if subgraph.tensors[i].dtype == "int8"}
        for number, operator in enumerate(subgraph.operators):
            inputs = [i for i in operator.inputs if i >= 0]
            moving = [i for i in inputs if not subgraph.tensors[i].buffer_bytes]
            kinds = {subgraph.tensors[i].dtype for i in (*inputs, *operator.outputs)}
            behind = bool(after_int8 & set(moving))
            quantises = operator.name == "QUANTIZE" and not behind
            if behind or quantises:
                after_int8 |= set(operator.outputs)
            if behind and kinds & {"float32", "float16", "float64"}:
                found.append(f"{subgraph.name}: operator {number}, {operator.name}")
        if any(subgraph.tensors[i].dtype != "int8" for i in subgraph.outputs):
            found.append(f"{subgraph.name}: an output is {subgraph.tensors[subgraph.outputs[0]].dtype}")
        convolutions = [o for o in subgraph.operators if "CONV" in o.name or o.name == "FULLY_CONNECTED"]
        for operator in convolutions:
            # The front end's own products (mel matrix) are before the QUANTIZE.
            kind = subgraph.tensors[operator.outputs[0]].dtype
            if kind != "int8" and operator.name != "FULLY_CONNECTED":
                found.append(f"{subgraph.name}: {operator.name} makes {kind}")
    return found


def computed_weights(graph: flatbuffer.Model) -> list[str]:
    """Convolutions whose weights are not in the file, float16 ones that are widened as it runs excepted."""
    found = []
    for subgraph in graph.subgraphs:
        kept = {i for i, tensor in enumerate(subgraph.tensors) if tensor.buffer_bytes}
        kept |= {op.outputs[0] for op in subgraph.operators if op.name == "DEQUANTIZE" and set(op.inputs) <= kept}
        for number, operator in enumerate(subgraph.operators):
            if operator.name in flatbuffer.CONVOLUTIONS and not set(operator.inputs[1:]) <= kept | {-1}:
                found.append(f"{subgraph.name}: operator {number}, {operator.name}, computes its weights")
    return found


def structure(file: model_file.ModelFile) -> Check:
    """Operators, and where they run."""
    operators = [operator for subgraph in file.graph.subgraphs for operator in subgraph.operators]
    counted = f"{len(operators)} operators in {len(file.signatures)} graph{'s' if len(file.signatures) > 1 else ''}"
    strangers = sorted({operator.name for operator in operators if operator.custom} - {engine.COMPILED})
    if strangers:
        return Check("structure", False, f"{counted}; custom operators {strangers}, which no engine here has")
    recipe = file.metadata["recipe"]
    tables = [table for key, table in file.signatures.items() if key not in SCORING]
    made = {row["dtype"] for table in tables for row in table["outputs"]}
    if ("int8" in made) != recipe.startswith("int8"):
        return Check("structure", False, f"{counted}; the recipe is {recipe!r}, and outputs are {', '.join(made)}")
    wrong = computed_weights(file.graph)
    wrong += floats(file.graph) if "int8" in made else []
    front = " and ".join(f"the {part}" for part in ("front end", *_scoring(file)))
    good = f"nothing runs in float but {front}" if "int8" in made else "a float network"
    return Check("structure", not wrong, f"{counted}; {'; '.join(wrong[:3]) or good}")


def _held(name: str, clause: Callable[[], str]) -> Check:
    try:
        return Check(name, True, clause())
    except contract.ContractError as error:
        return Check(name, False, str(error))


def _usable() -> tuple[list[str], list[Check]]:
    usable, missing = [], []
    for name in engine.ENGINES:
        try:
            engine.find(name)
            usable.append(name)
        except l3edge.EngineError as error:
            missing.append(Check(name, None, f"not checked: {error}"))
    return usable, missing


def contract_checks(path: Path, engine_name: str, clip: NDArray[np.float32]) -> Iterator[Check]:
    """C1, C2, C3 and C7 on one engine, on a signal at the model's rate."""

    @functools.cache
    def load(threads: int) -> l3edge.Model:
        return l3edge.load(path, engine=engine_name, threads=threads)

    model, rate = load(1), load(1).spec.sample_rate
    hop = model.spec.hop / rate
    chunks = [1, 17, 509, rate // 100, rate]

    def streamed() -> str:
        contract.streamed_equals_embedded(model, clip, rate, chunks, hop)
        contract.streamed_equals_embedded(model, clip, rate, [509], hop, center=True)
        other = 44_100 if rate != 44_100 else 48_000
        contract.streamed_equals_embedded(model, clip, other, chunks, hop)
        return f"streamed in pieces as embedded in one, at {rate} Hz and from {other} Hz, centred and not"

    def alone() -> str:
        return f"{contract.windows_are_their_own(model, clip, hop)} windows keep their bits, whatever is around them"

    def graphs() -> str:
        compared = contract.step_equals_window(model, clip, hop)
        same = "bit for bit" if model.network.dtype == np.int8 else f"to {contract.FLOAT_STEP:g} of the largest"
        return f"step and window graph agree in {compared} values, {same}"

    def threads() -> str:
        contract.same_bits(load, clip, rate, hop)
        return "the same bits again, and with 1 to 4 threads"

    def apart() -> str:
        contract.tells_apart(model)
        return "silence, two tones and noise have different embeddings"

    def scores(check: Callable[[contract.Load, NDArray[np.float32]], NDArray[np.float32]], what: str) -> str:
        count = check(load, embed(model, clip)).shape[1]
        return f"scores of {count} {what} are from 0 to 1, and the same with 1 to 4 threads"

    label = f"{model.engine.name} {model.engine.version}"
    yield _held(f"C1 on {label}", streamed)
    yield _held(f"C2 on {label}", alone)
    if not model.spec.streaming:
        yield Check(f"C3 on {label}", None, "does not apply: this model has no step, it computes each window by itself")
    elif "window" not in model.metadata["signatures"]:
        yield Check(f"C3 on {label}", None, "not checked: made for the Edge TPU, it holds no window graph")
    else:
        yield _held(f"C3 on {label}", graphs)
    yield _held(f"C7 on {label}", threads)
    yield _held(f"ears on {label}", apart)
    if model.tag_names:
        yield _held(f"tags on {label}", lambda: scores(contract.tags_are_scores, "tags"))
    if model.head is not None:
        yield _held(f"head on {label}", lambda: scores(contract.labels_are_scores, "labels"))


def engines_agree(path: Path, names: Sequence[str], clip: NDArray[np.float32]) -> Check:
    """How far the engines are from each other: each rounds in its own way, and a recipe's tolerance covers that too."""
    models = [l3edge.load(path, engine=name) for name in names]
    first, second = (embed(model, clip) for model in models)
    error, largest = float(np.abs(first - second).max()), float(np.abs(first).max())
    scale, recipe = models[0].network.scale, models[0].metadata["recipe"]
    limit = TOLERANCES[recipe].max_error if recipe in TOLERANCES else LEAST_TOLERANCE
    most = f"{error / scale:.0f} int8 step(s)" if scale else f"{error / largest:.1g} of the largest"
    told = f"{float((first != second).mean()):.2%} of {first.size} values differ, at most by {most}"
    return Check("engines", error <= limit * largest, told)


def scores_agree(path: Path, key: str, names: Sequence[str], clip: NDArray[np.float32]) -> Check:
    """How far the engines' scores by one of a file's signatures are from each other, for the same embeddings."""
    models = [l3edge.load(path, engine=name) for name in names]
    embeddings = embed(models[0], clip)
    first, second = (_scored(model, key, embeddings) for model in models)
    error = float(np.abs(first - second).max())
    return Check(key, error <= SCORES_STEP, f"{first.size} scores differ between engines by {error:.1g} at most")


# What a file that is not what it claims to be may raise when it runs; an engine tells of its own in the last two.
_CHECKED = (l3edge.Error, ValueError, RuntimeError)


def verify(
    path: Path,
    against: Path | None = None,
    data: Path | None = None,
    audio: Sequence[Path] = (),
    twin: Path | None = None,
) -> list[Check]:
    """All checks of a file, in the order of the report."""
    try:
        file = model_file.read(path)
    except l3edge.ModelFileError as error:
        return [Check("file", False, str(error))]
    size = len(file.flatbuffer)
    checks = [Check("file", True, f"format {model_file.FORMAT}, digests right, {size} bytes of flatbuffer")]
    checks.append(structure(file))
    longest = max((step_hops(key) or 0 for key in file.signatures), default=0)  # so that each length of step is taken
    clip = contract.sounds(1, file.spec.window + (longest + 5) * file.spec.hop, file.spec.sample_rate)
    usable, missing = _usable()
    if any(operator.name == engine.COMPILED for subgraph in file.graph.subgraphs for operator in subgraph.operators):
        told = "not checked: compiled for the Edge TPU; check the file that was compiled"
        usable, missing = [], [Check(name, None, told) for name in usable] + missing
    for name in usable:
        try:
            for check in contract_checks(path, name, clip):
                checks.append(check)
        except _CHECKED as error:
            checks.append(Check(f"contract on {name}", False, f"broke off: {error}"))
    checks += missing
    if len(usable) > 1:
        try:
            checks.append(engines_agree(path, usable, clip))
            checks += [scores_agree(path, key, usable, clip) for key in _scoring(file)]
        except _CHECKED as error:
            checks.append(Check("engines", False, f"not comparable: {error}"))
    if against is None:
        checks.append(Check("parity", None, "not checked: no --against RUN"))
        return checks
    try:
        for check in parity_checks(file, against, data, audio, twin):
            checks.append(check)
    except _CHECKED as error:
        checks.append(Check("parity", False, f"could not be measured: {error}"))
    except ImportError as error:
        checks.append(Check("parity", False, f"could not be measured: --against needs TensorFlow ({error})"))
    return checks


def parity_checks(
    file: model_file.ModelFile, against: Path, data: Path | None, audio: Sequence[Path], twin: Path | None
) -> Iterator[Check]:
    """Parity against the float32 model that the file came from, and whether the file's own figures are these."""
    split = file.target == "edgetpu"
    if split and twin is None:
        told = "not checked: made for the Edge TPU, it holds no window graph; name the CPU's with --twin"
        yield Check("parity", None, told)
        return
    from . import against as origin  # TensorFlow

    stored, recipe = file.metadata["parity"], file.metadata["recipe"]
    measured, clips = origin.parity_of(file, against, data, audio, twin if split else None)
    figures = f"cosine mean {measured['cosine_mean']:.6f}, minimum {measured['cosine_min']:.6f}"
    figures += f" over {measured['windows']} windows of {clips}"
    if recipe in TOLERANCES:
        tolerance = TOLERANCES[recipe]
        wrong = failures(measured, tolerance._replace(step=TWO_FRONT_ENDS) if split else tolerance)
        yield Check("parity", not wrong, "; ".join([figures, *wrong]))
    else:
        yield Check("parity", None, f"{figures}; not judged: there is no tolerance for recipe {recipe!r}")
    differing = [key for key, value in measured.items() if not _same(stored.get(key), value)]
    where = ("engine", "cpu", "clips", "windows")
    if not stored:
        yield Check("stored", None, "not checked: the file has no figures")
    elif set(where) & set(differing):
        here = ", ".join(f"{key} {stored.get(key)} (here {measured[key]})" for key in where if key in differing)
        yield Check("stored", None, f"not comparable: the file's figures were measured with {here}")
    else:
        told = ", ".join(f"{key} is {stored.get(key)} in the file and {measured[key]} here" for key in differing)
        yield Check("stored", not differing, told or "the figures in the file are the measured ones")


def _same(stored: object, measured: object) -> bool:
    """Counts and names exactly; of floats the last digits depend on how TensorFlow shares out the float32 reference."""
    if isinstance(stored, float) and isinstance(measured, float):
        return math.isclose(stored, measured, rel_tol=1e-5, abs_tol=1e-6)
    return stored == measured


MARKS = {True: "ok", False: "FAIL", None: "-"}


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m export.verify",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Is a model file what it claims to be?\n\n" + str(__doc__).split("\n\n", 1)[1],
        epilog="exit status: 0 all checks that could be made passed, 1 one did not, 2 bad usage",
    )
    made.add_argument("model", metavar="M.tflite", help="model file, or a built-in model's name")
    made.add_argument(
        "--against", type=Path, metavar="RUN", help="training run, or published .h5, to compare embeddings with"
    )
    made.add_argument("--data", type=Path, metavar="SHARDS", help="shards to compare on (default: the run's)")
    made.add_argument("--audio", type=Path, nargs="*", default=[], metavar="FILE", help="recordings to compare on too")
    made.add_argument("--twin", type=Path, metavar="M.tflite", help="of a file for the Edge TPU, the same for the CPU")
    made.add_argument("--json", type=Path, metavar="F", help="write the report there as well")
    return made


def main() -> int:
    """Check, print a table, write JSON; the exit status."""
    made = parser()
    arguments = made.parse_args()
    try:
        path = l3edge.model.find(arguments.model)
    except l3edge.UnknownModelError as error:
        made.exit(2, f"error: {error}\n")
    named = [arguments.against, arguments.data, arguments.twin, *arguments.audio]
    for missing in (named_path for named_path in named if named_path and not named_path.exists()):
        made.exit(2, f"error: {missing}: no such file or folder\n")
    checks = verify(path, arguments.against, arguments.data, arguments.audio, arguments.twin)
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{MARKS[check.passed]:4}  {check.name:{width}}  {check.told}")
    failed = [check.name for check in checks if check.passed is False]
    print(f"{path}: {'FAILED: ' + ', '.join(failed) if failed else 'all that could be checked holds'}", file=sys.stderr)
    if arguments.json:
        report = {"model": str(path), "passed": not failed, "checks": [check._asdict() for check in checks]}
        with model_file.replacing(arguments.json) as part:
            part.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    from training.cli import run

    run(main)
