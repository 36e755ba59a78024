"""The configuration file of a service: everything that `l3edge stream` takes, as TOML.

    [stream]                        # the options of `l3edge stream`, by their names
    model = "edge-m"
    device = "USB"
    tags = true

    [health]                        # health.Settings
    port = 9099

    [[sink]]                        # as many as wanted; `kind`, and what that kind of sink takes
    kind = "files"
    dir = "/var/lib/l3edge"

Every mistake is told with its table and key. Nothing in it is secret: passwords come from a file or the environment.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import health, settings, sinks
from .errors import OptionError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST = 1 << 20  # bytes of a file that people write
TABLES = ("stream", "health", "sink")
ELSEWHERE = {
    "sink": "each has a table of its own, [[sink]]",
    "health": "it has a table of its own, [health]",
    "config": "a file names no other",
    "record": "it begins anew with each start; write it on the command line",
    "output": 'it begins anew with each start; `[[sink]]` with kind = "files" goes on',
    "help": "it is for the command line",
}
Options = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """What a file says. The options are still to be taken by the command's parser."""

    path: Path
    stream: Options
    health: health.Settings
    sinks: list[tuple[str, Options]]  # kind, options

    def arguments(self, known: Mapping[str, bool]) -> list[str]:
        """The options of [stream] as arguments of `l3edge stream`; OptionError for what is none.

        known: the options that there are, and whether each takes a value.
        """
        made = []
        for key, value in self.stream.items():
            where = f"{self.path}: [stream]"
            if reason := ELSEWHERE.get(key):
                raise OptionError(f"{where}: {key} is not for here: {reason}")
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]}?" if near else "`l3edge stream --help` lists what there is"
                raise OptionError(f"{where}: there is no setting {key}; {hint}")
            if known[key]:
                if isinstance(value, bool) or not isinstance(value, (str, int, float)) or "\0" in str(value):
                    raise OptionError(f"{where}: {key} must be text or a number, got {value!r}")
                made.append(f"--{key}={value}")
            elif not isinstance(value, bool):
                raise OptionError(f"{where}: {key} must be true or false, got {value!r}")
            elif value:
                made.append(f"--{key}")
        return made


def read(path: Path) -> Config:
    """Read a configuration file; OptionError says what is wrong with it, and where."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror}; --config names a TOML file, see docs/field.md") from error
    if len(data) > LARGEST:
        raise OptionError(f"{path}: more than {LARGEST} bytes; a configuration has some hundred")
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, and of what is nested without an end
        raise OptionError(f"{path}: not a TOML file: {error}") from error
    if unknown := [key for key in document if key not in TABLES]:
        raise OptionError(f"{path}: there is no table {unknown[0]!r}; there are [stream], [health] and [[sink]]")
    stream, told, listed = document.get("stream", {}), document.get("health", {}), document.get("sink", [])
    if not isinstance(stream, dict) or not isinstance(told, dict):
        raise OptionError(f"{path}: stream and health must be tables, as [stream] and [health] make them")
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise OptionError(f"{path}: each sink must be a table, as [[sink]] makes it")
    chosen = []
    for number, options in enumerate(listed, 1):
        kind = options.pop("kind", None)
        if not isinstance(kind, str):
            raise OptionError(f"{path}: [[sink]] {number}: kind is missing; there are {', '.join(sinks.kinds())}")
        sinks.check(kind, options, f"{path}: [[sink]] {number} ({kind})")
        chosen.append((kind, options))
    return Config(path, stream, settings.read(health.Settings, told, f"{path}: [health]"), chosen)
