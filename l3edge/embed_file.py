"""An audio file's embeddings as an .npz file; and, as a process, of one file after the other.

A file is read and pushed through a `Stream` block by block: in memory are one block and the file's results.

The .npz says what it was made from, how and by what. One that already says what would be said now is left as it is, so
that a command that was interrupted goes on where it was.

As a process (`embed_workers` starts them) it reads lines of JSON, [audio file, .npz file], and answers with lines of
JSON: ["heard", seconds, share] now and then if that is asked for, and once ["done", text] or ["error", text].
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import signal
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import __version__, audio, results
from .commands import describe, load_model
from .display import REDRAW_SECONDS
from .errors import Error
from .events import Detector
from .heads import UNKNOWN
from .model import Model
from .session import warnings_above

# Of an audio file: samples per channel; values over full scale, kept; values that were NaN or infinite, now zero.
COUNTS = np.dtype([("samples", np.int64), ("clipped", np.int64), ("non_finite", np.int64)])
MADE_FROM = "made_from"
# What `embed` is told, as far as it concerns one file; a process is told them as JSON.
OPTIONS = (
    *("model", "engine", "threads", "delegate", "delegate_option"),
    *("hop", "center", "tags", "head", "overwrite"),
)

Heard = Callable[[float, float | None], None]  # seconds of sound since the last call, and the share that is done


class Told(NamedTuple):
    """What there is to say of a file: of an error the whole line, else what follows the name of the .npz."""

    done: bool
    text: str


class Embedder:
    """Embeds files as the options of `l3edge embed` say."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        model = self.model = load_model(args)
        self._engine = f"{model.engine.name} {model.engine.version}"
        self._made_by = {
            "model_sha256": model.identity,
            "engine": self._engine,
            "l3edge": __version__,
            "delegate": [args.delegate, *args.delegate_option],
            "hop": args.hop,
            "center": args.center,
            "tags": args.tags,
            "head_sha256": hashlib.sha256(Path(args.head).read_bytes()).hexdigest() if args.head else None,
        }

    def tell(self, path: Path, target: Path, heard: Heard) -> Told:
        """Embed a file into `target`, unless that is there already; errors are told, not raised."""
        try:
            found = b"" if self._args.overwrite else _member(target)
            if found and found == self._made_from(path):
                return Told(True, "already embedded")
            return Told(True, self._embed(path, target, heard))
        except (Error, OSError) as error:
            return Told(False, describe(error, path))

    def _made_from(self, path: Path) -> bytes:
        """What is written of how a file's embeddings were made, as a member of the .npz. OSError where it has gone."""
        status = path.stat()
        of = {**self._made_by, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
        member = io.BytesIO()
        np.save(member, np.array(json.dumps(of)), allow_pickle=False)
        return member.getvalue()

    def _embed(self, path: Path, target: Path, heard: Heard) -> str:
        """Embed one file into `target`; what there is to say of it."""
        args, model = self._args, self.model
        with audio.open_file(path) as file:
            made_from = np.load(io.BytesIO(self._made_from(path)), allow_pickle=False)  # before it is read
            stream = model.stream(file.sample_rate, args.hop, args.center)
            parts = []
            # Of a model with longer steps twice the longest at a time: so that one fits, wherever the last push ended.
            longest = model.network.hops[-1] * model.spec.hop / model.spec.sample_rate if model.network.hops else 0.0
            for block in file.blocks(math.ceil(max(1.0, 2 * longest) * file.sample_rate)):
                parts.append(stream.push(block))
                heard(len(block) / file.sample_rate, stream.counts.samples / file.frames if file.frames else None)
            parts.append(stream.flush())
        embeddings, counts = np.concatenate([e for e, _ in parts]), stream.counts
        times = np.concatenate([t for _, t in parts])
        tagged: dict[str, Any] = {}
        if args.tags:
            # float32 [t, n], 0 to 1; names of the n
            tagged = {"tags": model.tag_scores(embeddings), "tag_names": np.array(model.tag_names)}
        if model.head:
            tagged |= _labelled(model, embeddings, times)
        with results.written(target) as out:
            np.savez(
                out,
                embeddings=embeddings,  # float32 [t, d]
                times=times,  # float64 [t], seconds, centres of the windows
                hop=np.float64(args.hop),  # seconds
                center=np.bool_(args.center),
                sample_rate=np.int64(file.sample_rate),  # Hz, of the audio file
                counts=np.array((counts.samples, counts.clipped, counts.non_finite), COUNTS),
                model=model.name,
                model_sha256=model.identity,
                spec=json.dumps(model.spec.to_json()),
                engine=self._engine,
                l3edge=__version__,
                **{MADE_FROM: made_from},  # JSON
                **tagged,
            )
        altered = {"clipped": counts.clipped, "non-finite": counts.non_finite}
        problems = ", ".join(f"{what} {count}" for what, count in altered.items() if count)
        return f"{len(embeddings)} embeddings" + (f"; {problems}" if problems else "")


def _member(target: Path) -> bytes:
    """What an .npz says of how it was made, as it lies in the file; b"" where there is none, or nothing of the kind.

    The file is untrusted: nothing of it is parsed but the archive's own list.
    """
    if not target.is_file():
        return b""
    try:
        with zipfile.ZipFile(target) as archive, archive.open(f"{MADE_FROM}.npy") as member:
            return member.read(1 << 16)
    except (zipfile.BadZipFile, KeyError, OSError, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error):
        return b""


def _labelled(model: Model, embeddings: NDArray[np.float32], times: NDArray[np.float64]) -> dict[str, Any]:
    """What the model's head says of a file: arrays for its .npz."""
    assert model.head
    scores, decided = model.head.judge(embeddings)
    detector = Detector(model.head.labels)
    hops = zip(map(float, times), scores, decided, strict=True)
    events = [event for hop in hops for event in detector.hop(*hop)] + detector.flush()
    ended = [(event.label, event.onset, event.offset, event.score) for event in events if event.offset is not None]
    width = max(map(len, (*model.head.labels, UNKNOWN)))
    kind = [("label", f"<U{width}"), ("onset", np.float64), ("offset", np.float64), ("score", np.float32)]
    return {
        "labels": scores,  # float32 [t, m], 0 to 1
        "label_names": np.array(model.head.labels),  # of the m
        "label": np.array(decided, f"<U{width}"),  # [t], or "unknown"
        "events": np.array(ended, kind),  # seconds
    }


def main(options: str) -> None:
    """Embed what standard input names, until it ends. SIGTERM leaves no part of a file behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    given = json.loads(options)
    # The pipe becomes ours alone: what a library prints must not get into it.
    with os.fdopen(os.dup(1), "wb", buffering=0) as pipe, warnings_above(None):
        os.dup2(2, 1)
        answers = _Answers(pipe, given["watched"])
        embedder = Embedder(argparse.Namespace(**given))
        for line in sys.stdin.buffer:
            path, target = json.loads(line)
            told = embedder.tell(Path(path), Path(target), answers.heard)
            answers.say("done" if told.done else "error", told.text)


class _Answers:
    """What goes into a process's pipe."""

    def __init__(self, pipe: IO[bytes], watched: bool) -> None:
        self._pipe, self._watched = pipe, watched
        self._seconds, self._said = 0.0, -math.inf  # embedded since, and time.monotonic() of, what was said last

    def say(self, *words: object) -> None:
        self._pipe.write(json.dumps(words).encode() + b"\n")

    def heard(self, seconds: float, share: float | None) -> None:
        """Say so, where somebody watches, and as often as it can be shown."""
        self._seconds += seconds
        if self._watched and time.monotonic() - self._said >= REDRAW_SECONDS:
            self.say("heard", self._seconds, share)
            self._seconds, self._said = 0.0, time.monotonic()
