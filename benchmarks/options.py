"""What the commands of benchmarks have in common: which models, on which engine, on a quiet machine, and where to."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import l3edge
from training import cli
from training.cli import positive_int as positive

from . import machine, record

__all__ = ["command", "described", "load", "parser", "positive", "progress", "run", "tensorflow"]


def described(program: str, text: str) -> argparse.ArgumentParser:
    """Of a command. text: the module's docstring; after its first line and the usage comes what `--help` ends with."""
    summary, _, rest = text.partition("\n\n")
    epilog = rest.partition("\n\n")[2]
    return argparse.ArgumentParser(
        prog=program, description=summary, epilog=epilog, formatter_class=cli.ListHelpFormatter
    )


def parser(module: str, text: str, models: bool = True) -> argparse.ArgumentParser:
    """Of `python -m benchmarks.MODULE`, with what all of them take; text: the module's docstring."""
    made = described(f"python -m benchmarks.{module}", text)
    if models:
        made.add_argument("models", nargs="*", metavar="MODEL", help="built-in names or files (default: all built-in)")
    made.add_argument("--engine", default="auto", help="litert or tflite_runtime; auto is the preferred one")
    made.add_argument("--json", type=Path, metavar="F", help="write the figures here as well (benchmarks/schema.json)")
    made.add_argument("--busy", action="store_true", help="measure although others keep this machine busy")
    return made


def load(arguments: argparse.Namespace, **options: Any) -> list[l3edge.Model]:
    """The models that were asked for, each once."""
    names = dict.fromkeys(arguments.models or l3edge.models())
    return [l3edge.load(name, engine=arguments.engine, **options) for name in names]


def run(
    module: str,
    measure: Callable[[argparse.Namespace], Mapping[str, Any]],
    made: argparse.ArgumentParser,
    more: Callable[[argparse.Namespace, Mapping[str, Any]], None] = lambda *_: None,
) -> None:
    """Measure, and write JSON if asked. measure: prints, and returns its section; more: what else its options ask for,
    with the document.
    """
    cli.run(lambda: _run(module, measure, made.parse_args(), more))


def _run(
    module: str,
    measure: Callable[[argparse.Namespace], Mapping[str, Any]],
    arguments: argparse.Namespace,
    more: Callable[[argparse.Namespace, Mapping[str, Any]], None],
) -> None:
    head = machine.describe()
    print(machine.headline(head), flush=True)
    machine.check_quiet(head, arguments.busy)
    section = measure(arguments)
    head["load_after"] = machine.load()
    document = record.document(head, {module: section})
    if arguments.json:
        record.write(arguments.json, document)
        progress(f"wrote {arguments.json}")
    more(arguments, document)


def tensorflow() -> bool:
    """Whether what needs the extra `train` can be measured too."""
    return importlib.util.find_spec("tensorflow") is not None


def progress(text: str) -> None:
    """Say what is being done."""
    print(text, file=sys.stderr, flush=True)


def command(module: str, words: Sequence[str] = ()) -> str:
    """As it is written beside what it found."""
    return " ".join(["python -m", f"benchmarks.{module}", *words])
