"""docs/reliability.md: what goes wrong in the field, done to the real thing by tests, with the figures they measured.

python -m benchmarks.reliability               runs the tests (about ten minutes) and writes the page
python -m benchmarks.reliability --hours 24    the same with a whole day of sound, as fast as it goes
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from l3edge.model_file import replacing

from . import machine

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reliability.md"


class Fault(NamedTuple):
    """What can happen, what is done to find out, and where."""

    title: str
    done: str
    tests: tuple[str, ...]
    records: tuple[str, ...]  # beginnings of the names under which the tests keep their figures


FAULTS = (
    Fault(
        "It listens for long",
        "Sound goes through `l3edge stream` as fast as it goes, into rotating files. Every hop is there, each "
        "time exact to the sample, bits equal to `embed` at several places; resident memory at the end is within "
        "2 MB of what it was after a minute, and neither open files nor threads grow.",
        ("test_long.py",),
        ("long",),
    ),
    Fault(
        "The microphone goes away and comes back",
        "A PulseAudio source is unloaded and loaded, the sound server killed and started again, and stopped so "
        "that it hangs. The stream goes on, each gap is marked and counted, no window spans one, and what was "
        "heard between gaps has the bits of `embed`.",
        ("test_reconnect.py",),
        ("microphone", "sound-server"),
    ),
    Fault(
        "It is killed while it writes",
        "`kill -9` at random moments while rotating files, the queue and the index of an archive are written. No "
        "record is broken, and none is missing that was said to be written.",
        ("test_files_sink.py", "test_search.py"),
        ("kill-9", "index-killed"),
    ),
    Fault(
        "The disk is full, read-only, or gone",
        "A small file system is filled, made read-only, its folder removed. What cannot be written is counted, "
        "told once, and written again when that is possible; the files say how much they miss.",
        ("test_files_sink.py", "test_outbox.py"),
        ("disk", "folder"),
    ),
    Fault(
        "The broker is away, flaps, refuses, or is slow",
        "A real Mosquitto is stopped, restarted, refuses the password, and is reached through a slow network, "
        "while an hour's messages are sent. Within the queue's bound nothing is lost; beyond it the oldest, "
        "counted.",
        ("test_mqtt.py",),
        ("broker",),
    ),
    Fault(
        "The processor is busy",
        "The stream is starved: by a competing load under `SCHED_IDLE`, and by being stopped. The chosen policy "
        "does what it says, and what it drops is counted to the sample.",
        ("test_starved.py",),
        ("starved",),
    ),
    Fault(
        "The clock jumps",
        "The system clock is set forward and back by a day while a stream runs. Embeddings, times and their "
        "number are unharmed.",
        ("test_wall_clock.py",),
        ("wall-clock",),
    ),
    Fault(
        "What comes from outside is hostile",
        "A thousand mutants for each parser of outside data: audio files, raw sound, heads, configuration, MQTT "
        "settings. Each is taken or refused with an error of one line; none crashes or hangs.",
        ("test_hostile.py", "test_heads.py", "test_mqtt.py"),
        ("hostile",),
    ),
    Fault(
        "Two are started where one is wanted",
        "A second instance on the same microphone, or on the same folder of files, says so and leaves.",
        ("test_files_sink.py", "test_capture.py"),
        ("two-instances",),
    ),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the tests of faults, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0, metavar="H", help="of sound in the long test (default: 2)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder for the figures, or with figures of before")
    parser.add_argument(
        "--no-run", action="store_true", help="write the page of the figures in --keep, and run nothing"
    )
    args = parser.parse_args(arguments)
    if args.no_run and not args.keep:
        parser.error("--no-run needs --keep, the folder with the figures")
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = (args.keep or Path(temporary)).resolve()
        if not args.no_run and (status := _run(folder, args.hours)):
            print("the tests failed: the page is not written", file=sys.stderr)
            return status
        text = page({path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))})
    with replacing(PAGE) as part:
        part.write_text(text)
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


def _run(folder: Path, hours: float) -> int:
    """Run the tests with their figures kept; their exit status."""
    tests = sorted({f"tests/{test}" for fault in FAULTS for test in fault.tests})
    environment = {**os.environ, "L3EDGE_RELIABILITY": str(folder), "L3EDGE_LONG_HOURS": str(hours), "CI": "true"}
    return subprocess.run([sys.executable, "-m", "pytest", *tests], cwd=ROOT, env=environment, check=False).returncode


def page(records: dict[str, dict[str, Any]]) -> str:
    """The page; ValueError where a fault has no figures."""
    where = machine.describe()
    told = f"{where['cpu']}, {where['cores']} cores, {where['system']}, Python {where['python']}"
    parts = [
        "# Reliability\n\n"
        "What goes wrong in the field, and what tests found that did it to the real thing. All of them run in CI.\n"
        f"Written by `python -m benchmarks.reliability` on {date.today().isoformat()}; {told}.\n"
    ]
    for number, fault in enumerate(FAULTS, 1):
        own = {name: figures for name, figures in records.items() if name.startswith(fault.records)}
        if not own:
            raise ValueError(f"no figures of {fault.title!r}: run without --no-run")
        tests = ", ".join(f"[{test}](../tests/{test})" for test in fault.tests)
        rows = [f"| {name} | {_told(figures)} |" for name, figures in own.items()]
        parts.append(
            f"## {number}. {fault.title}\n\n{fault.done} ({tests})\n\n| | |\n|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def _told(figures: dict[str, Any]) -> str:
    return "; ".join(f"{name}: {_shown(value)}" for name, value in figures.items()).replace("|", "\\|")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    sys.exit(main())
