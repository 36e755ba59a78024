"""What the commands of benchmarks have in common: which models, on which engine, on a quiet machine, and where to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import l3edge

from . import machine, record


def parser(module: str, text: str, models: bool = True) -> argparse.ArgumentParser:
    """Of `python -m benchmarks.MODULE`; text: the module's docstring, whose first line says what it does."""
    summary, _, rest = text.partition("\n")
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{module}",
        description=summary,
        epilog=rest.split("\n\n", 2)[-1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if models:
        made.add_argument("models", nargs="*", metavar="MODEL", help="built-in names or files (default: all built-in)")
    made.add_argument("--engine", default="auto", help="litert or tflite_runtime (default: the preferred one)")
    made.add_argument("--json", type=Path, metavar="F", help="write the figures here as well")
    made.add_argument("--busy", action="store_true", help="measure although others keep this machine busy")
    return made


def positive(text: str) -> int:
    """A whole number, at least 1, as an option."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def load(arguments: argparse.Namespace, **options: Any) -> list[l3edge.Model]:
    """The models that were asked for."""
    return [l3edge.load(name, engine=arguments.engine, **options) for name in arguments.models or l3edge.models()]


def run(module: str, measure: Callable[[argparse.Namespace], Mapping[str, Any]], made: argparse.ArgumentParser) -> None:
    """Measure, print, and write JSON if asked; refuse on a busy machine. measure: prints, and returns its section."""
    arguments = made.parse_args()
    head = machine.describe()
    print(machine.headline(head))
    if machine.busy(head) and not arguments.busy:
        made.exit(
            1,
            f"error: this machine is busy (load {head['load']} on {head['cores']} cores), and what is measured now "
            "would be of the others too; wait until it is quiet, or measure with --busy\n",
        )
    try:
        section = measure(arguments)
        head["load_after"] = machine.load()
        if arguments.json:
            record.write(arguments.json, record.document(head, {module: section}))
            print(f"wrote {arguments.json}", file=sys.stderr)
    except (l3edge.Error, OSError) as error:
        made.exit(1, f"error: {error}\n")
    except KeyboardInterrupt:
        made.exit(130, "interrupted: nothing was written\n")


def command(module: str, words: Sequence[str] = ()) -> str:
    """As it is written beside what it found."""
    return " ".join(["python -m", f"benchmarks.{module}", *words])
