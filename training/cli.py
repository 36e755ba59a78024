"""What the training commands share: their error, and how a command ends."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from l3edge.errors import Error


class TrainingError(Error):
    """A training command cannot go on: missing data, contradictory arguments, nothing usable."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, except those that say nothing."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is None or action.default == [] or action.nargs == 0  # nargs 0: a flag
        return action.help if silent else super()._get_help_string(action)


class ListHelpFormatter(HelpFormatter):
    """Keeps the lines of the epilog, which is a list, and wraps all else."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a command and exit: its status, or 1 with a message on stderr, or 130 after Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a file's name may be no text at all
    try:
        status = main() or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # the reader of our output went away, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error}", file=sys.stderr)
        status = 1
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    sys.exit(status)


def positive_int(text: str) -> int:
    """argparse type: an integer of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def positive_float(text: str) -> float:
    """argparse type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def held_out_share(text: str) -> float:
    """argparse type: the share of each held-out split, from 0 to less than a half."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 0.5:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to less than 0.5, got {text!r}")
    return value
