"""Hours of sound through `l3edge stream` as fast as it goes, into rotating files: every hop, exact times, the bits of
`embed`, and a process that does not grow. Two hours here; L3EDGE_LONG_HOURS=24 for a day."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import l3edge
from tests.reliability import record
from tests.test_cli import COMMAND, ENVIRONMENT, sounds

HOURS = float(os.environ.get("L3EDGE_LONG_HOURS", "2"))
RATE = 16_000
MINUTES = round(60 * HOURS)
CHECKED = 10  # minutes that are embedded again, at each of some places
GROWTH = 2 * 1024 * 1024  # bytes of resident memory, from the first minute on


def minute(number: int) -> np.ndarray:
    """Sound that no other minute has, int16 [60 s]: the same noises and tones, shifted, and as loud as never before."""
    base = np.tile((sounds(RATE, 6.0) * 32_767).astype(np.int16), 10)
    shifted = np.roll(base, 977 * number).astype(np.int32)
    return (shifted * (100 + number * 37 % 900) // 1000).astype(np.int16)


def proc(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """Resident bytes that are the process's own, open files and threads."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    files = list(Path(f"/proc/{process.pid}/fd").iterdir())
    return {
        "resident": 1024 * int(fields["VmRSS"].split()[0]),
        "files": len(files),
        "threads": int(fields["Threads"]),
    }


def stored(folder: Path) -> Iterator[dict[str, np.ndarray]]:
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as made:
            yield {name: made[name] for name in ("embeddings", "times", "gaps", "missed")}


def test_hours_of_sound(tmp_path: Path) -> None:
    folder = tmp_path / "heard"
    command = [*COMMAND, "stream", "--input", "-", "--rate", str(RATE), "--health", "0"]
    command += ["--sink", f"files:dir={folder},format=npz,max-mb=16"]
    begun = time.monotonic()
    with (tmp_path / "errors").open("wb") as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors, env=ENVIRONMENT)
    assert process.stdin is not None
    seen = []
    for number in range(MINUTES):
        process.stdin.write(minute(number).tobytes())  # returns when all but a pipe's worth, two seconds, was read
        seen.append(proc(process))
    process.stdin.close()
    assert process.wait(60) == 0, (tmp_path / "errors").read_text()
    took = time.monotonic() - begun

    hops = 1 + (60 * RATE * MINUTES - RATE) // (RATE // 10)
    model, checked, count = l3edge.load(), 0, 0
    places = sorted({0, (MINUTES - CHECKED) // 2, MINUTES - CHECKED})
    expected = {
        place: model.embed(np.concatenate([minute(n) for n in range(place, place + CHECKED)]), RATE)[0]
        for place in places
    }
    for part in stored(folder):
        times = (np.arange(count, count + len(part["times"])) * 1600 + RATE // 2) / RATE
        np.testing.assert_array_equal(part["times"], times)
        assert not len(part["gaps"])
        assert not len(part["missed"])
        for place, embeddings in expected.items():
            first = place * 600  # the number of its first hop
            begin, end = max(count, first), min(count + len(times), first + len(embeddings))
            if begin < end:
                np.testing.assert_array_equal(
                    part["embeddings"][begin - count : end - count], embeddings[begin - first : end - first]
                )
                checked += end - begin
        count += len(times)
    assert count == hops
    assert checked == sum(map(len, expected.values()))

    # Finishing a file takes descriptors and memory for a moment: what stays is the least of some samples.
    first, last = seen[0], {name: min(each[name] for each in seen[-CHECKED:]) for name in seen[0]}
    assert last["resident"] - first["resident"] <= GROWTH
    assert last["files"] <= first["files"]
    assert last["threads"] <= first["threads"]
    most = {name: max(each[name] for each in seen) for name in first}
    assert most["files"] <= first["files"] + 4
    record(
        "long",
        {
            "hours": HOURS,
            "hops": hops,
            "checked": checked,
            "resident after a minute, MB": round(first["resident"] / 1e6, 1),
            "growth by the end, kB": (last["resident"] - first["resident"]) // 1000,
            "most, while a file of 16 MB is finished, MB": round(most["resident"] / 1e6, 1),
            "open files after a minute, at the end": [first["files"], last["files"]],
            "threads after a minute, at the end": [first["threads"], last["threads"]],
            "times real time": round(3600 * HOURS / took),
        },
    )
