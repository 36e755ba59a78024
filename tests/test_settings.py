"""Settings: what a file or a command line says, as a dataclass, or one line that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l3edge import OptionError
from l3edge.settings import check_range, read
from l3edge.sinks import files


@dataclass(frozen=True)
class Example:
    name: str
    max_count: int = 3
    ratio: float = 0.5
    fast: bool = False
    folder: Path | None = None
    kinds: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.max_count > 100:
            raise OptionError(f"max-count must be at most 100, got {self.max_count}")


def made(**values: Any) -> Example:
    return read(Example, {key.replace("_", "-"): value for key, value in values.items()}, "here")


def test_what_is_left_out_has_its_default() -> None:
    assert made(name="x") == Example("x")


def test_values_of_toml() -> None:
    told = made(name="x", max_count=7, ratio=2, fast=True, folder="a/b", kinds=["p", "q+r"])
    assert told == Example("x", 7, 2.0, True, Path("a/b"), ["p", "q+r"])
    assert type(told.ratio) is float


@pytest.mark.parametrize("value", [0.5, 2, 3.0])
def test_a_range_has_its_ends(value: float) -> None:
    check_range("ratio", value, 0.5, 3)
    for wrong in (value - 3, value + 3, float("nan")):
        with pytest.raises(OptionError, match=r"^ratio must be from 0\.5 to 3, got "):
            check_range("ratio", wrong, 0.5, 3)


def test_texts_of_a_command_line() -> None:
    told = made(name="5", max_count="7", ratio="1e-3", fast="TRUE", folder="a/b", kinds="p+q")
    assert told == Example("5", 7, 0.001, True, Path("a/b"), ["p", "q"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "here: name is missing, and has no default"),
        ({"name": "x", "max-cuont": 1}, "here: there is no setting max-cuont; did you mean max-count?"),
        ({"name": "x", "max_count": 1}, "here: there is no setting max_count; did you mean max-count?"),
        ({"zzz": 1}, "here: there is no setting zzz; there are name, max-count, ratio, fast, folder, kinds"),
        ({"name": 5}, "here: name must be text, got 5"),
        ({"name": ""}, "here: name must be text, got ''"),
        ({"name": "a\0"}, r"here: name must be text, got 'a\x00'"),
        ({"name": "\ud800"}, r"here: name must be text, got '\ud800'"),
        ({"name": "x", "max-count": 1.5}, "here: max-count must be a whole number, got 1.5"),
        ({"name": "x", "max-count": True}, "here: max-count must be a whole number, got True"),
        ({"name": "x", "max-count": "1.5"}, "here: max-count must be a whole number, got '1.5'"),
        ({"name": "x", "max-count": 101}, "here: max-count must be at most 100, got 101"),
        (
            {"name": "x", "max-count": 10**5000},
            "here: max-count must be a whole number, got int of a size that cannot be shown",
        ),
        ({"name": "x", "ratio": float("nan")}, "here: ratio must be a number, got nan"),
        ({"name": "x", "ratio": "inf"}, "here: ratio must be a number, got 'inf'"),
        ({"name": "x", "ratio": None}, "here: ratio must be a number, got None"),
        ({"name": "x", "fast": 1}, "here: fast must be true or false, got 1"),
        ({"name": "x", "fast": "yes"}, "here: fast must be true or false, got 'yes'"),
        ({"name": "x", "folder": 7}, "here: folder must be a path, got 7"),
        ({"name": "x", "kinds": ["p", 1]}, "here: kinds must be a list of texts, got ['p', 1]"),
        ({"name": ["y" * 1000]}, f"here: name must be text, got ['{'y' * 78}..."),
    ],
)
def test_errors_say_where_what_and_what_instead(values: Mapping[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as refused:
        read(Example, values, "here")
    assert str(refused.value) == message


FLOATS = st.floats(allow_subnormal=False)  # 32-bit ARM makes them zero
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text() | st.binary() | st.just(10**4000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([name.replace("_", "-") for name in files.Settings.__dataclass_fields__])


@settings(max_examples=1000)
@given(st.dictionaries(NAMES | st.text() | st.integers(), ANYTHING, max_size=8))
def test_anything_else_is_an_option_error(values: dict[Any, Any]) -> None:
    """Of a line: no other error, whatever the keys and values."""
    try:
        told = read(files.Settings, values, "here")
    except OptionError as error:
        shown = str(error)
    else:
        shown = f"here: {told.format}"
    assert shown.startswith("here: ")
    assert len(shown) < 400
