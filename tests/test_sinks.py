"""Kinds of sinks: built in, and added by a package that is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import l3edge
from l3edge import sinks
from tests.sinking import about

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


def test_an_unknown_kind_is_refused() -> None:
    for use in (lambda: sinks.open_sink("kafka", {}, about()), lambda: sinks.check("kafka", {}, "here")):
        with pytest.raises(l3edge.OptionError, match="there is no sink 'kafka'; there are files, mqtt"):
            use()


@pytest.mark.parametrize("kind", ["files", "mqtt"])
def test_options_are_checked_before_anything_is_opened(kind: str) -> None:
    with pytest.raises(l3edge.OptionError, match=r"^here: there is no setting colour"):
        sinks.check(kind, {"colour": "red"}, "here")
