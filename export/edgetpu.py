"""Will the Edge TPU compiler map a model, and how its output becomes an l3edge model again.

    python -m export.edgetpu check M.tflite [--json F]
    python -m export.edgetpu attach COMPILED.tflite --spec-from M.tflite --output OUT.tflite

`check` reads any .tflite, without TensorFlow, and says operator by operator what the compiler would do with it and why:
export/edgetpu_rules.py has the rules and their sources. It ends with status 0 if everything is mapped, 1 if not.

`attach` puts `l3edge.json` back into what the compiler wrote, which drops it, after checking that inputs and outputs
are still those the metadata describes.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import zipfile
from pathlib import Path

import l3edge
from l3edge import flatbuffer, model_file
from l3edge.errors import ModelFileError
from l3edge.flatbuffer import Tensor
from training.cli import HelpFormatter, run

from .edgetpu_report import COMPILED_OPERATOR, check_file, describe
from .edgetpu_rules import MAPPED, named


class AttachError(l3edge.Error):
    """A compiled file that is not the model whose metadata it is to carry."""


def attach(compiled: Path, spec_from: Path, output: Path) -> list[str]:
    """Write what the compiler wrote with the metadata of the model it compiled. Returns warnings.

    Both files' inputs and outputs must agree in order, name, shape, dtype, scale and zero point: AttachError if not.
    """
    source = model_file.read(spec_from)
    if source.target != "edgetpu":
        raise AttachError(f"{spec_from} was made for target {source.target!r}; export it with `--target edgetpu`")
    data = compiled.read_bytes()
    try:
        graph = flatbuffer.parse(data)
    except ModelFileError as error:
        raise ModelFileError(f"{compiled}: {error}") from error
    if zipfile.is_zipfile(io.BytesIO(data)):
        raise AttachError(f"{compiled} has an archive attached already; give the file that the compiler wrote")
    if len(graph.subgraphs) != 1:
        raise AttachError(f"{compiled}: {len(graph.subgraphs)} subgraphs, expected the one of {spec_from}")
    ours, theirs = source.graph.subgraphs[0], graph.subgraphs[0]
    for kind, wanted, found in (("input", ours.inputs, theirs.inputs), ("output", ours.outputs, theirs.outputs)):
        if len(wanted) != len(found):
            raise AttachError(f"{compiled}: {len(found)} {kind}s, {spec_from} has {len(wanted)}: another model")
        for position, (a, b) in enumerate(zip(wanted, found, strict=True)):
            expected, got = _interface(ours.tensors[a]), _interface(theirs.tensors[b])
            if expected != got:
                raise AttachError(f"{compiled}: {kind} {position} is {got}, {spec_from} has {expected}: another model")
    mapped = [op for op in theirs.operators if op.custom and op.name == COMPILED_OPERATOR]
    left = len(theirs.operators) - len(mapped)
    warnings = []
    if not mapped:
        warnings.append(
            f"{compiled} has no {COMPILED_OPERATOR}: not compiled, or nothing was mapped; it runs on the CPU"
        )
    elif left:
        warnings.append(
            f"{compiled} leaves {left} operators on the CPU: see the compiler's log, or `check {spec_from}`"
        )
    provenance = {
        **source.metadata["provenance"],
        "compiled": {"from_sha256": source.sha256, "edgetpu_operators": len(mapped), "cpu_operators": left},
    }
    model_file.write(output, data, {**source.metadata, "provenance": provenance})
    return warnings


def _interface(tensor: Tensor) -> str:
    quantised = "".join(f", scale {s:.9g}" for s in tensor.scales) + "".join(f" zero {z}" for z in tensor.zero_points)
    return f"{named(tensor)}{quantised}"


def _check_command(arguments: argparse.Namespace) -> int:
    report = check_file(arguments.model)
    print(describe(report))
    if arguments.json:
        with model_file.replacing(arguments.json) as part:
            part.write_text(json.dumps(report.to_json(), indent=1) + "\n")
    return 0 if report.verdict == MAPPED else 1


def _attach_command(arguments: argparse.Namespace) -> int:
    for warning in attach(arguments.compiled, arguments.spec_from, arguments.output):
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{arguments.output}: {arguments.compiled} with the metadata of {arguments.spec_from}", file=sys.stderr)
    return 0


def main() -> int:
    """Parse the command line and run one of the two commands."""
    parser = argparse.ArgumentParser(
        prog="python -m export.edgetpu", description=str(__doc__).split("\n")[0], formatter_class=HelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    sub = commands.add_parser(
        "check",
        help="say, operator by operator, what the Edge TPU compiler would map and why not",
        description="Say, operator by operator, what the Edge TPU compiler would map. Status 0: everything; 1: not.",
        formatter_class=HelpFormatter,
    )
    sub.add_argument("model", type=Path, metavar="M.tflite", help="any TFLite model")
    sub.add_argument("--json", type=Path, metavar="F", help="also write the report to F, for programs")
    sub.set_defaults(command=_check_command)
    sub = commands.add_parser(
        "attach",
        help="put the metadata back into what the compiler wrote",
        description="Put l3edge.json back into what the Edge TPU compiler wrote.",
        formatter_class=HelpFormatter,
    )
    sub.add_argument("compiled", type=Path, metavar="COMPILED.tflite", help="what edgetpu_compiler wrote")
    sub.add_argument("--spec-from", type=Path, required=True, metavar="M.tflite", help="the model that was compiled")
    sub.add_argument("--output", type=Path, required=True, metavar="OUT.tflite", help="the model to write")
    sub.set_defaults(command=_attach_command)
    arguments = parser.parse_args()
    inputs = (getattr(arguments, name, None) for name in ("model", "compiled", "spec_from"))
    for path in inputs:
        if path is not None and not path.is_file():
            parser.exit(2, f"error: {path}: no such file\n")
    return int(arguments.command(arguments))


if __name__ == "__main__":
    run(main)
