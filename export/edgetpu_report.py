"""A model against the rules of export/edgetpu_rules.py: what the Edge TPU compiler would do with every operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from l3edge import flatbuffer
from l3edge.errors import ModelFileError
from l3edge.flatbuffer import Model, Operator

from . import edgetpu_rules as rules
from .edgetpu_rules import MAPPED, MAY_NOT_MAP, NOT_MAPPED, REFUSED, SEVERITY

CACHE = 8 << 20  # bytes of on-chip memory, for parameters and activations alike
CACHE_SOURCE = rules.COMPILER
COMPILED_OPERATOR = "edgetpu-custom-op"
EDGE_TPU, CPU = "Edge TPU", "CPU"
ANSWERS = {MAPPED: "yes", MAY_NOT_MAP: "maybe", NOT_MAPPED: "no", REFUSED: "no"}


class Finding(NamedTuple):
    """One broken rule: which, what it does to the operator (or the model), why, and what to change."""

    rule: str
    verdict: str
    reason: str
    advice: str
    certainty: str
    source: str


@dataclass(frozen=True)
class OperatorReport:
    """One operator in the order it runs. `verdict` is its own; `runs_on` also heeds where the graph is cut."""

    subgraph: int
    index: int
    operator: str
    version: int
    output: str
    dtype: str
    shape: tuple[int, ...]
    verdict: str
    runs_on: str
    findings: tuple[Finding, ...]


class Memory(NamedTuple):
    """Estimates in bytes; the compiler pads both, and adds its program."""

    parameters: int
    activations: int  # at their peak
    peak: int  # index of the operator that needs most
    cache: int = CACHE

    @property
    def streamed(self) -> int:
        """Parameters that do not fit beside the activations, fetched from the host at every inference."""
        return max(0, min(self.parameters, self.parameters + self.activations - self.cache))


@dataclass(frozen=True)
class Report:
    """What the compiler would do. `cut` is the first operator it leaves to the CPU, with all that follow."""

    file: str
    operators: tuple[OperatorReport, ...]
    findings: tuple[Finding, ...]  # about the model as a whole
    cut: int | None
    memory: Memory

    @property
    def refused(self) -> bool:
        """The compiler gives up: no part of the model runs on the Edge TPU."""
        return self.verdict == REFUSED

    @property
    def verdict(self) -> str:
        """The worst of all verdicts."""
        verdicts = [finding.verdict for finding in self.findings] + [report.verdict for report in self.operators]
        return max(verdicts, key=SEVERITY.index, default=MAPPED)

    def to_json(self) -> dict[str, Any]:
        """For programs: plain dicts and lists."""
        return {
            "file": self.file,
            "verdict": self.verdict,
            "fully_mapped": self.verdict == MAPPED,
            "refused": self.refused,
            "cut": self.cut,
            "findings": [finding._asdict() for finding in self.findings],
            "operators": [
                {**vars(report), "shape": list(report.shape), "findings": [f._asdict() for f in report.findings]}
                for report in self.operators
            ],
            "memory": {**self.memory._asdict(), "streamed": self.memory.streamed, "estimate": True},
        }


def check(model: Model, file: str = "") -> Report:
    """Apply every rule to every operator of a model, in graph order."""
    broken = {}
    for number, subgraph in enumerate(model.subgraphs):
        readers: dict[int, set[str]] = {}
        for operator in subgraph.operators:
            for tensor in operator.inputs:
                readers.setdefault(tensor, set()).add(operator.name)
        for index in range(len(subgraph.operators)):
            broken[number, index] = _findings(rules.Case(model, subgraph, index, readers))
    memory = _memory(model)
    findings = tuple(_whole(model, memory))
    refused = any(finding.verdict == REFUSED for found in (findings, *broken.values()) for finding in found)
    entering = [set(subgraph.inputs) for subgraph in model.subgraphs]
    cut: int | None = None
    reports = []
    for (number, index), found in broken.items():
        subgraph = model.subgraphs[number]
        operator = subgraph.operators[index]
        verdict = max((finding.verdict for finding in found), key=SEVERITY.index, default=MAPPED)
        if verdict == NOT_MAPPED and cut is None and not _leads_in(operator, entering[number]):
            cut = index
        stays = refused or cut is not None or verdict == NOT_MAPPED
        output = subgraph.tensors[operator.outputs[0]] if operator.outputs else None
        reports.append(
            OperatorReport(
                subgraph=number,
                index=index,
                operator=operator.name,
                version=operator.version,
                output=output.name if output else "",
                dtype=output.dtype if output else "",
                shape=output.shape if output else (),
                verdict=verdict,
                runs_on=CPU if stays else EDGE_TPU,
                findings=found,
            )
        )
    return Report(file, tuple(reports), findings, None if refused else cut, memory)


def check_file(path: Path) -> Report:
    """Check a file; ModelFileError if it is no TFLite model or a damaged one."""
    try:
        return check(flatbuffer.parse(path.read_bytes()), str(path))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error


def _findings(case: rules.Case) -> tuple[Finding, ...]:
    operator = case.operator
    if operator.custom and operator.name == COMPILED_OPERATOR:
        return ()
    if operator.name in rules.OPERATORS and not (operator.inputs and operator.outputs):
        raise ModelFileError(f"operator {case.index}, {operator.name}, has no input or no output: damaged")
    found: list[Finding] = []
    for rule in rules.RULES:
        if rule.operators and operator.name not in rule.operators:
            continue
        if found and found[0].rule == "operator" and rule.verdict != REFUSED:
            continue  # it will never be mapped: what else is wrong with it helps nobody
        reason = rule.broken(case)
        if reason:
            advice = rules.INSTEAD.get(operator.name, rule.advice) if rule.name == "operator" else rule.advice
            found.append(Finding(rule.name, rule.verdict, reason, advice, rule.certainty, rule.source))
    return tuple(found)


def _leads_in(operator: Operator, entering: set[int]) -> bool:
    """A QUANTIZE of a float input: left to the CPU in front of the Edge TPU's part, and cuts nothing off."""
    return operator.name == "QUANTIZE" and operator.inputs[0] in entering


def _whole(model: Model, memory: Memory) -> Iterator[Finding]:
    if len(model.subgraphs) != 1:
        names = rules.printable(", ".join(model.signatures)) or "none"
        yield Finding(
            "subgraphs",
            REFUSED,
            f"{len(model.subgraphs)} subgraphs (signatures: {names}), not one",
            "export with `--target edgetpu`, which writes the streaming step alone",
            "inferred",
            rules.LIBCORAL,
        )
    if memory.activations > memory.cache:
        yield Finding(
            "large activations",
            MAY_NOT_MAP,
            f"about {_kib(memory.activations)} of activations at operator {memory.peak}, "
            f"more than the {_kib(memory.cache)} on the chip",
            "use smaller tensors: fewer channels, or a smaller input",
            "reported",
            rules.issue(508, 512),
        )


def _memory(model: Model) -> Memory:
    """Parameters: the distinct constants with a scale, or floats. Activations: what is alive while an operator runs."""
    parameters = {
        tensor.buffer: tensor.buffer_bytes
        for subgraph in model.subgraphs
        for tensor in subgraph.tensors
        if tensor.buffer_bytes and (tensor.scales or tensor.dtype.startswith("float"))
    }
    peak, at = 0, 0
    for subgraph in model.subgraphs:
        last = len(subgraph.operators)
        ends = {tensor: index for index, op in enumerate(subgraph.operators) for tensor in (*op.inputs, *op.outputs)}
        ends.update(dict.fromkeys(subgraph.outputs, last))
        sizes = [0 if tensor.buffer_bytes else rules.size(tensor) for tensor in subgraph.tensors]
        alive = set(subgraph.inputs)
        total = sum(sizes[tensor] for tensor in alive)
        leaving: dict[int, list[int]] = {}
        for tensor, end in ends.items():
            leaving.setdefault(end, []).append(tensor)
        for index, op in enumerate(subgraph.operators):
            for tensor in op.outputs:
                if tensor not in alive:
                    alive.add(tensor)
                    total += sizes[tensor]
            if total > peak:
                peak, at = total, index
            for tensor in leaving.get(index, []):
                if tensor in alive:
                    alive.remove(tensor)
                    total -= sizes[tensor]
    return Memory(sum(parameters.values()), peak, at)


def _kib(count: int) -> str:
    return f"{count / 1024:.0f} KiB"


def describe(report: Report) -> str:
    """The report for people: a row for each operator, reasons below those that have any."""
    lines = [f"{report.file}: {len(report.operators)} operators", ""]
    rows = [("#", "operator", "v", "output", "runs on", "verdict")]
    for op in report.operators:
        after = op.verdict == MAPPED and op.runs_on == CPU
        why = ("(the model is refused)" if report.refused else f"(after #{report.cut})") if after else op.verdict
        rows.append(
            (
                str(op.index),
                rules.printable(op.operator),
                str(op.version),
                f"{op.dtype} {list(op.shape)}",
                op.runs_on,
                why,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    layout = "  ".join(f"{{:{'>' if column in (0, 2) else '<'}{width}}}" for column, width in enumerate(widths))
    lines.append(layout.format(*rows[0]).rstrip())
    seen = None
    for row, op in zip(rows[1:], report.operators, strict=True):
        if op.subgraph != seen and len({op.subgraph for op in report.operators}) > 1:
            lines.append(f"subgraph {op.subgraph}:")
        seen = op.subgraph
        lines.append(layout.format(*row).rstrip())
        lines.extend(_explain(op.findings))
    if report.findings:
        lines += ["", "The model as a whole:", *_explain(report.findings)]
    lines += ["", *_summary(report)]
    return "\n".join(lines)


def _explain(findings: tuple[Finding, ...]) -> Iterator[str]:
    for finding in findings:
        yield f"      {finding.verdict}, {finding.rule}: {finding.reason}"
        yield f"        change: {finding.advice}"
        yield f"        {finding.certainty}: {finding.source}"


def _summary(report: Report) -> Iterator[str]:
    memory, mapped = report.memory, sum(op.runs_on == EDGE_TPU for op in report.operators)
    if report.refused:
        yield "The compiler refuses the model: nothing runs on the Edge TPU."
    elif report.cut is not None:
        name = rules.printable(report.operators[report.cut].operator)
        yield (
            f"Compilation cuts the graph at #{report.cut} {name}: that operator and all after it run on the CPU, "
            f"{mapped} of {len(report.operators)} on the Edge TPU."
        )
    fits = (
        "all fit on the chip" if not memory.streamed else f"about {_kib(memory.streamed)} streamed at every inference"
    )
    yield (
        f"Memory, estimated: {_kib(memory.parameters)} of parameters and at most {_kib(memory.activations)} of "
        f"activations (at #{memory.peak}) against {_kib(memory.cache)} on the chip: {fits}."
    )
    yield f"What does not fit comes from the host at every inference, which is slower: {CACHE_SOURCE}."
    yield "These are rules from documents and reports: compiling, and running on a device, is the proof."
    yield f"Fully mapped: {ANSWERS[report.verdict]}."
