"""Settings that people write: a frozen dataclass of the keys and values of a file or command line, or a clear error.

The dataclass says all: its fields are the keys, their types what a value must be, their defaults what it is when left
out, and `__post_init__` raises OptionError for what is out of range. A key's underscores are hyphens for people.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .errors import OptionError

T = TypeVar("T")
LARGEST = 1e15  # of numbers, beyond which none has a meaning
LONGEST_SHOWN = 80  # characters of a wrong value
NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    list[str]: "a list of texts",
}


def read(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """The settings in `values`; `where` begins each error, such as "field.toml: [stream]".

    Values are those of TOML, or texts of a command line, which are read as the field's type.
    """
    fields = {field.name.replace("_", "-"): field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    made: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key)[:LONGEST_SHOWN], fields, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
            raise OptionError(f"{where}: there is no setting {_shown(key, str)}; {hint}")
        name = fields[key].name
        made[name] = _value(hints[name], value, f"{where}: {key}")
    missing = [
        key
        for key, field in fields.items()
        if field.name not in made
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise OptionError(f"{where}: {missing[0]} is missing, and has no default")
    try:
        return kind(**made)
    except OptionError as error:
        raise OptionError(f"{where}: {error}") from error


def check_range(name: str, value: float, low: float, high: float) -> None:
    """OptionError where the value of a setting is not from `low` to `high`."""
    if not low <= value <= high:
        raise OptionError(f"{name} must be from {low:g} to {high:g}, got {value:g}")


def _value(hint: Any, value: Any, where: str) -> Any:
    """A value as its type, which may be `X | None`: a setting that can be left out, never one that is null."""
    if isinstance(hint, types.UnionType):
        hint = next(each for each in typing.get_args(hint) if each is not type(None))
    text = isinstance(value, str)
    if hint is bool:
        value = {"true": True, "false": False}.get(value.casefold(), value) if text else value
        good = type(value) is bool
    elif hint in (int, float):
        number = _number(value, hint) if text else value
        good = type(number) in (int, hint) and abs(number) <= LARGEST  # which what is no number is not, either
        value = hint(number) if good else value
    elif hint == list[str]:
        value = value.split("+") if text else value
        good = isinstance(value, list) and all(isinstance(each, str) and _is_text(each) for each in value)
    else:
        good = text and bool(value) and _is_text(value)
        value = hint(value) if good else value
    if not good:
        raise OptionError(f"{where} must be {NAMES[hint]}, got {_shown(value)}")
    return value


def _is_text(text: str) -> bool:
    """Whether the system can take it, as the name of a file or otherwise."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _shown(value: object, how: Callable[[object], str] = repr) -> str:
    """A value for an error: as much of it as fits into a line."""
    try:
        text = how(value)
    except (ValueError, RecursionError):  # an int of thousands of digits, a list within lists
        return f"{type(value).__name__} of a size that cannot be shown"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _number(text: str, hint: type) -> Any:
    try:
        return hint(text)
    except ValueError:
        return None
