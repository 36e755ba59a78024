"""Hostile sound and configuration, thrown at the real readers. Run as a process of its own, which a crash would end:

    python -m tests.hostile KIND COUNT SEED FOLDER

KIND: wav, flac, ogg (mutants of a real file, read and embedded), raw (bytes on standard input of `l3edge stream`),
config (mutants of a configuration file, `l3edge service check`). Prints one JSON object, {outcome: count}: "refused"
with one of our own errors, or "taken"; what is neither is shown on stderr, and the status is 1.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import resource
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import soundfile

import l3edge
from l3edge import cli
from tests.conftest import STUBS
from tests.test_cli import sounds

CASE_SECONDS = 20  # a case that takes longer hangs: the traceback is dumped, and the process ends
MEMORY = 4 << 30  # bytes of address space: a header that asks for more is not to be believed
HEADER = 128  # bytes at the beginning where most mutations go
WORDS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
CONFIG = """\
[stream]
model = "edge-s"
hop = 0.2
tags = true
rate = 48000
device = "USB"
when-behind = "skip"

[health]
host = "127.0.0.1"
port = 9099
interval = 30.5

[[sink]]
kind = "files"
dir = "heard"
format = "npz"
"""
TOKENS = [
    *(
        "[stream]",
        "[[sink]]",
        "[health]",
        "[sink]",
        "[[stream]]",
        "[",
        "]",
        "=",
        "'",
        '"',
        '"""',
        "\\",
        "\n",
        "\0",
        ",",
    ),
    *("true", "nan", "-inf", "1e999", "-1", "0", "99999999999999999999", "[1]", "{a=1}", '""', '"\\u0000"', '"../.."'),
    *("1979-05-27", "hop", "model", "kind", "port", "dir", "format", "host", "interval", "é", "\udcff", "a.b.c"),
]


def mutant(data: bytes, random: Random) -> bytes:
    """A copy with some bytes or words changed, mostly in its header, or a piece of it left out, doubled or cut off."""
    made = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at = random.randrange(min(HEADER, len(made)) if random.random() < 0.8 else len(made))
        match random.randrange(6):
            case 0:
                made[at] = random.randrange(256)
            case 1:
                made[at : at + 4] = random.choice(WORDS).to_bytes(4, random.choice(("little", "big")))
            case 2:
                made[at : at + 2] = (random.choice(WORDS) & 0xFFFF).to_bytes(2, "little")
            case 3:
                del made[at : at + random.randrange(1, 64)]
            case 4:
                made[at:at] = made[at : at + random.randrange(1, 64)]
            case _:
                del made[max(at, 8) :]
        if not made:
            return bytes(made)
    return bytes(made)


def audio_file(path: Path, _random: Random) -> bool:
    """Whether it was taken: what is read is sound, and embeds."""
    audio, rate = l3edge.audio.read(path)
    embeddings, times = MODEL.embed(audio[: 3 * rate], rate)
    assert len(embeddings) == len(times)
    assert np.isfinite(embeddings).all()
    return True


def command(arguments: list[str], stdin: bytes = b"") -> bool:
    """Whether a command succeeded; its errors are single lines, and its status one of three."""
    out, errors = io.StringIO(), io.StringIO()
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            try:
                status = cli.main(arguments)
            except SystemExit as error:
                status = int(error.code or 0)
    finally:
        sys.stdin = before
    assert status in (0, 1, 2), status
    if status:
        assert "error: " in errors.getvalue(), errors.getvalue()
        assert "Traceback" not in errors.getvalue(), errors.getvalue()
    return status == 0


def raw(path: Path, random: Random) -> bool:
    rate = random.choice(("1000", "8000", "16000", "44100", "768000", "0", "-5"))
    options = ["--rate", rate, "--channels", random.choice(("1", "2", "7", "64"))]
    options += ["--dtype", random.choice(("int16", "float32")), "--duration", "3"]
    return command(["stream", "--model", str(STUBS[0]), "--input", "-", *options], path.read_bytes())


def configuration(path: Path, _random: Random) -> bool:
    return command(["service", "check", str(path)])


def toml(random: Random) -> bytes:
    """A mutant of a configuration: tokens, lines and bytes changed."""
    lines = CONFIG.splitlines()
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(lines))
        match random.randrange(4):
            case 0:
                words = lines[at].split(" ")
                words[random.randrange(len(words))] = random.choice(TOKENS)
                lines[at] = " ".join(words)
            case 1:
                lines[at] = random.choice(TOKENS) * random.choice((1, 1, 3, 2000))
            case 2:
                lines.insert(at, f"{random.choice(TOKENS)} = {random.choice(TOKENS)}")
            case _:
                lines[at:at] = lines[: random.randrange(len(lines))]
    data = "\n".join(lines).encode(errors="surrogateescape")
    return mutant(data, random) if random.random() < 0.2 else data


def original(kind: str) -> bytes:
    file = io.BytesIO()
    sound = np.stack([sounds(16_000, 2.0)] * 2, axis=1)
    subtype = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS"}[kind]
    soundfile.write(file, sound, 16_000, format=kind.upper(), subtype=subtype)
    return file.getvalue()


def main(kind: str, count: int, seed: int, folder: Path) -> int:
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    random, outcomes, broken = Random(seed), Counter[str](), 0
    data = original(kind) if kind in ("wav", "flac", "ogg") else b""
    case: Callable[[Path, Random], bool] = {"raw": raw, "config": configuration}.get(kind, audio_file)
    path = folder / ("hostile.toml" if kind == "config" else f"hostile.{kind}")
    for number in range(count):
        made = (
            toml(random)
            if kind == "config"
            else mutant(data, random)
            if data
            else random.randbytes(random.randrange(200_000))
        )
        path.write_bytes(made)
        faulthandler.dump_traceback_later(CASE_SECONDS, exit=True)
        try:
            outcomes["taken" if case(path, random) else "refused"] += 1
        except l3edge.Error:
            outcomes["refused"] += 1
        except BaseException:
            broken += 1
            path.with_suffix(f".{number}").write_bytes(made)
            traceback.print_exc()
        faulthandler.cancel_dump_traceback_later()
    print(json.dumps(outcomes))
    return 1 if broken else 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    MODEL = l3edge.load(STUBS[0])
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
