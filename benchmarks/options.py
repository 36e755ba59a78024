"""What the commands of benchmarks have in common: which models, on which engine, on a quiet machine, and where to."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import l3edge
from l3edge import engine
from training import cli
from training.cli import positive_int as positive

from . import machine, record

WHERE = ("--json", "--html", "--plot")
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
    """The models that were asked for; OptionError where two have one name, by which all figures go."""
    names = dict.fromkeys(arguments.models or l3edge.models())
    models = [l3edge.load(name, engine=arguments.engine, **options) for name in names]
    paths: dict[str, Path] = {}
    for model in models:
        if paths.setdefault(model.name, model.path) != model.path:
            told = f"{paths[model.name]} and {model.path} are both {model.name!r}"
            raise l3edge.OptionError(f"{told}: measure them one by one, or one with --compare of the other")
    return models


def run(
    module: str,
    measure: Callable[[argparse.Namespace], Mapping[str, Any]],
    made: argparse.ArgumentParser,
    more: Callable[[argparse.Namespace, Mapping[str, Any]], None] = lambda *_: None,
    draw: Callable[[Mapping[str, Any], Path], object] | None = None,
) -> None:
    """Measure, and write JSON if asked. measure: prints, and returns its section; more: what else its options ask for,
    with the document; draw: the pictures of its section, into a folder, where it has some.
    """
    if draw:
        made.add_argument("--plot", type=Path, metavar="DIR", help="draw the pictures of docs/benchmarks.md there")
    cli.run(lambda: _run(module, measure, made, more, draw))


def _run(
    module: str,
    measure: Callable[[argparse.Namespace], Mapping[str, Any]],
    made: argparse.ArgumentParser,
    more: Callable[[argparse.Namespace, Mapping[str, Any]], None],
    draw: Callable[[Mapping[str, Any], Path], object] | None,
) -> None:
    arguments = made.parse_args()
    drawing = [name for name in ("plot", "html") if getattr(arguments, name, None)]
    for package, wanted in {"jsonschema": arguments.json, "matplotlib": drawing}.items():
        if wanted and not importlib.util.find_spec(package):  # said now, and not after minutes of measuring
            raise l3edge.OptionError(
                f"{package} is not installed, for what is to be written: pip install l3edge[bench]"
            )
    head = machine.describe(engine.find(arguments.engine))
    print(machine.headline(head), flush=True)
    machine.check_quiet(head, arguments.busy)
    section = {**measure(arguments), "command": _command(module)}
    document = record.document({**head, **machine.after()}, {module: section})
    if arguments.json:
        record.write(arguments.json, document)
        progress(f"wrote {arguments.json}")
    if draw and arguments.plot:
        arguments.plot.mkdir(parents=True, exist_ok=True)
        draw(section, arguments.plot)
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


def _command(module: str) -> str:
    """As it was given, without what changes nothing of what is found: where to write, and in spite of what."""
    words, left = [], iter(sys.argv[1:])
    for word in left:
        if word in WHERE:
            next(left, None)
        elif word != "--busy" and not word.startswith(tuple(f"{option}=" for option in WHERE)):
            words.append(word)
    return command(module, [shlex.quote(word) for word in words])
