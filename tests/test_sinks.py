"""Kinds of sinks: built in, and added by a package that is installed."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import l3edge
from l3edge import sinks
from l3edge.records import About, Event, Gap, Record
from l3edge.sinks import files, mqtt
from l3edge.sinks.lines import Lines
from tests.sinking import SIZE, about, hop

ROOT = Path(__file__).parent.parent
PACKAGE = """
from l3edge.sinks import Sink

class Counter(Sink):
    def __init__(self, options, about):
        self.options, self.about, self.count = options, about, 0
    def write(self, record):
        self.count += 1
    def figures(self):
        return {"written": self.count}
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder of installed packages: `counting`, and `broken`, which does not import."""
    for name, source in (("counting", PACKAGE), ("broken", "import no_such_module")):
        (tmp_path / f"{name}.py").write_text(source)
        information = tmp_path / f"{name}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[l3edge.sinks]\n{name} = {name}:Counter\n")
    return tmp_path


def python(code: str, packages: Path) -> subprocess.CompletedProcess[str]:
    path = f"import sys\nsys.path[:0] = [{str(ROOT)!r}, {str(packages)!r}]\n"
    command = [sys.executable, "-c", path + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_package_adds_a_kind(packages: Path) -> None:
    code = (
        "from l3edge import sinks\nfrom tests.sinking import about, hop\n"
        "print(*sinks.kinds())\n"
        "sinks.check('counting', {'anything': 1}, 'here')\n"
        "sink = sinks.open_sink('counting', {'anything': 1}, about())\n"
        "sink.write(hop(0)); sink.health({}); sink.close()\n"
        "print(sink.figures(), sink.options, sink.about.model)\n"
    )
    done = python(code, packages)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["broken counting files mqtt", "{'written': 1} {'anything': 1} stub-1"]


def test_a_package_that_does_not_load_is_named(packages: Path) -> None:
    code = (
        "from l3edge import sinks\nfrom l3edge.errors import Error\nfrom tests.sinking import about\n"
        "try: sinks.open_sink('broken', {}, about())\n"
        "except Error as error: sys.exit(str(error))\n"
    )
    done = python(code, packages)
    assert done.stderr == (
        "the sink 'broken' (broken:Counter) does not load: ModuleNotFoundError: No module named 'no_such_module'\n"
    )


def written(kind: str, told: About, *records: Record) -> str:
    out = io.StringIO()
    sink = Lines(kind, told, out, flush=False)
    for record in records:
        sink.write(record)
    return out.getvalue()


def test_labels_of_any_name_have_columns_of_their_own() -> None:
    """A head's labels are named by people, who may call one as a column that is there already."""
    labels, scores = ("time", "e0", "label", "Dog", "a, b"), np.linspace(0.1, 0.5, 5).astype(np.float32)
    record = hop(3, tags=np.array([0.9], np.float32), labels=scores, label="a, b")
    text = written("csv", about(tags=("Dog",), labels=labels), record, Gap(1.0, 0.5, 100), Event("Dog", 1, None, 1))
    header, row, gap = csv.reader(text.splitlines())
    values = [f"e{i}" for i in range(SIZE)]
    assert header == ["time", *values, "Dog", *(f"label:{label}" for label in labels), "label"]
    assert len(set(header)) == len(header) == len(row) == len(gap)
    found = dict(zip(header, row, strict=True))
    assert [np.float32(found[f"label:{label}"]) for label in labels] == list(scores)
    assert (found["time"], found["e0"], found["Dog"], found["label"]) == ("0.8", "3.0", "0.9", "a, b")
    assert gap == ["1.0", *[""] * (len(header) - 1)]


def test_events_in_json_are_rounded_and_hops_are_not() -> None:
    inexact = 0.1 + 0.2
    event = Event("bell", 11.950000000000001, 12.350000000000001, 0.9594935774803162)
    text = written("jsonl", about(), hop(0, time=inexact), event, event._replace(offset=None))
    first, ended, begun = map(json.loads, text.splitlines())
    assert first["time"] == inexact
    assert ended == {"event": "bell", "onset": 11.95, "offset": 12.35, "score": 0.9595}
    assert begun == {**ended, "offset": None}


@pytest.mark.parametrize(("title", "kind"), [("Files", files.Settings), ("MQTT", mqtt.Settings)])
def test_the_documentation_has_all_settings_and_their_defaults(title: str, kind: type) -> None:
    text = (ROOT / "docs" / "sinks.md").read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    table = text.split("| setting | default | |\n|---|---|---|\n")[1].split("\n\n")[0]
    told = dict(re.match(r"\| `(.+?)` \| (.+?) \|", line).groups() for line in table.splitlines())  # type: ignore[union-attr]
    assert told == {field.name.replace("_", "-"): _default(field) for field in dataclasses.fields(kind)}


def _default(field: dataclasses.Field[object]) -> str:
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if value is dataclasses.MISSING:
        return "must be given"
    if isinstance(value, float):
        value = f"{value:g}"
    elif isinstance(value, list):
        value = "+".join(value)
    return "none" if value is None else f"`{str(value).lower()}`"


def test_an_unknown_kind_is_refused() -> None:
    for use in (lambda: sinks.open_sink("kafka", {}, about()), lambda: sinks.check("kafka", {}, "here")):
        with pytest.raises(l3edge.OptionError, match="there is no sink 'kafka'; there are files, mqtt"):
            use()


@pytest.mark.parametrize("kind", ["files", "mqtt"])
def test_options_are_checked_before_anything_is_opened(kind: str) -> None:
    with pytest.raises(l3edge.OptionError, match=r"^here: there is no setting colour"):
        sinks.check(kind, {"colour": "red"}, "here")
