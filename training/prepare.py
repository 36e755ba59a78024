"""Videos -> TFRecord shards of sound and pictures, split by video into train, validation and test.

    python -m training.prepare VIDEOS --out SHARDS

Files that cannot make honest audio-visual pairs (still picture, silent, no audio, no video, corrupt, too
short) are skipped, counted and listed in SHARDS/statistics.json. The output depends on the videos and the
settings alone, not on the number of processes, and appears as a whole or not at all.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from l3edge.audio import check_rate
from l3edge.errors import OptionError

from .cli import HelpFormatter, TrainingError, positive_float, positive_int, run
from .videos import STATISTICS, VERDICTS, Settings, Video, read_video

# `shards` imports TensorFlow, and the decoding processes import this module: it is imported where it is used.

# fmt: off
EXTENSIONS = frozenset({
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
})
# fmt: on


def find_videos(sources: list[Path]) -> dict[str, Path]:
    """Name -> file, sorted. A folder is searched for EXTENSIONS; a file is taken whatever its name.

    Names are relative to the given folder, so that the split does not depend on where the folder lies.
    """
    videos: dict[str, Path] = {}
    for source in sources:
        if not source.exists():
            raise TrainingError(f"no such file or folder: {source}")
        files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
        for path in files:
            if source.is_dir() and (path.suffix.lower() not in EXTENSIONS or path.name.startswith(".")):
                continue
            name = path.name if source.is_file() else path.relative_to(source).as_posix()
            if len(sources) > 1 and source.is_dir():
                name = f"{source.resolve().name}/{name}"
            if name in videos:
                raise TrainingError(f"two videos would be called {name}: {videos[name]} and {path}")
            videos[name] = path
    if not videos:
        raise TrainingError(f"no video files in {', '.join(map(str, sources))}")
    return dict(sorted(videos.items()))


def read_kinds(videos: dict[str, Path]) -> dict[str, str]:
    """Name -> kind, from the columns `file` and `kind` of an index.csv beside the video; optional.

    What is wrong with an index is said on stderr, and no error: kinds only describe the evaluation.
    """
    tables: dict[Path, dict[str, str]] = {}
    for folder in sorted({path.parent for path in videos.values()}):
        index = folder / "index.csv"
        if index.is_file():
            text = index.read_bytes().decode("utf-8-sig", errors="replace")
            if "\ufffd" in text:
                print(f"warning: {index} is not UTF-8; names and kinds may not be recognised", file=sys.stderr)
            try:
                rows = list(csv.DictReader(io.StringIO(text, newline="")))
            except csv.Error as error:
                print(f"warning: {index} is ignored, no kinds known: {error}", file=sys.stderr)
                continue
            tables[folder] = {row["file"]: row["kind"] for row in rows if row.get("file") and row.get("kind")}
    return {name: tables.get(path.parent, {}).get(path.name, "") for name, path in videos.items()}


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the workers


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _ignore_interrupt)


def _stop(pool: ProcessPoolExecutor) -> None:
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()


def _read_alone(path: Path, settings: Settings) -> Video:
    with _pool(1) as pool:
        try:
            return pool.submit(read_video, path, settings).result()
        except BrokenProcessPool:
            return Video("corrupt", "it crashes the decoder")


def read_videos(paths: list[Path], settings: Settings, jobs: int) -> Iterator[Video]:
    """Decode in processes, in order, a few ahead of the reader; a file that kills its process is corrupt."""
    pool = _pool(jobs)
    waiting = deque(paths)
    pending: deque[tuple[Path, Any]] = deque()
    try:
        while waiting or pending:
            while waiting and len(pending) < 2 * jobs:
                path = waiting.popleft()
                pending.append((path, pool.submit(read_video, path, settings)))
            path, future = pending.popleft()
            try:
                video = future.result()
            except BrokenProcessPool:
                # Any of the files in work may have done it: this one is tried by itself, the others again.
                _stop(pool)
                waiting.extendleft(p for p, _ in reversed(pending))
                pending.clear()
                video = _read_alone(path, settings)
                pool = _pool(jobs)
            yield video
    finally:
        _stop(pool)


def split_videos(names: list[str]) -> dict[str, list[str]]:
    """About 80/10/10 by the rank of each name's hash; from three videos on, no split is empty.

    The order within a split is the hash's too: shards are shuffled once, the same way everywhere.
    """
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())
    held_out = max(1, round(len(ranked) / 10)) if len(ranked) >= 3 else 0
    return {
        "test": ranked[:held_out],
        "validation": ranked[held_out : 2 * held_out],
        "train": ranked[2 * held_out :],
    }


class _Spool:
    """Records in arrival order in a temporary file, until all verdicts are known and videos can be split."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.places: dict[str, list[tuple[int, int]]] = {}

    def add(self, name: str, records: list[bytes]) -> None:
        for record in records:
            self.places.setdefault(name, []).append((self._file.tell(), len(record)))
            self._file.write(record)

    def size(self, names: list[str]) -> int:
        return sum(length for name in names for _, length in self.places[name])

    def records(self, names: list[str]) -> Iterator[bytes]:
        self._file.flush()
        for name in names:
            for offset, length in self.places[name]:
                yield os.pread(self._file.fileno(), length, offset)


def _write_split(directory: Path, split: str, spool: _Spool, names: list[str], count: int) -> list[dict[str, Any]]:
    from .backend import tf

    count = max(1, min(count, sum(len(spool.places[name]) for name in names)))
    files = [f"{split}-{i:05d}-of-{count:05d}.tfrecord" for i in range(count)]
    writers = [tf.io.TFRecordWriter(str(directory / file)) for file in files]
    records = [0] * count
    for i, record in enumerate(spool.records(names)):
        writers[i % count].write(record)
        records[i % count] += 1
    for writer in writers:
        writer.close()
    contents = [(directory / file).read_bytes() for file in files]
    return [
        {"file": file, "records": n, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for file, n, content in zip(files, records, contents, strict=True)
    ]


def prepare(videos: dict[str, Path], out: Path, settings: Settings, jobs: int, shard_size: int) -> dict[str, Any]:
    """Write shards and statistics.json into the existing, empty directory `out`; returns the statistics."""
    from . import shards

    kinds = read_kinds(videos)
    skipped: list[dict[str, str]] = []
    segments: Counter[str] = Counter()
    samples = frames = 0
    with (out / "spool").open("w+b") as file:
        spool = _Spool(file)
        read = zip(videos, read_videos(list(videos.values()), settings, jobs), strict=True)
        bar = tqdm(read, "prepare", len(videos), unit=" videos", disable=None)
        for name, video in bar:
            segments.update(video.segments)
            if video.verdict != "kept":
                skipped.append({"video": name, "verdict": video.verdict, "reason": video.reason})
            spool.add(
                name,
                [shards.serialize(name, name, [kinds[name]] if kinds[name] else [], segment) for segment in video.kept],
            )
            samples += sum(len(segment.audio) for segment in video.kept)
            frames += sum(len(segment.frames) for segment in video.kept)
            bar.set_postfix(kept=len(spool.places), skipped=len(skipped), refresh=False)
        verdicts = Counter(kept=len(spool.places)) + Counter(entry["verdict"] for entry in skipped)
        counts = {verdict: verdicts[verdict] for verdict in VERDICTS}
        if not spool.places:
            raise TrainingError(f"none of {len(videos)} videos is usable: {_listed(skipped)}")
        splits = split_videos(list(spool.places))
        files = {
            split: _write_split(out, split, spool, names, math.ceil(spool.size(names) / shard_size))
            for split, names in splits.items()
        }
    (out / "spool").unlink()
    statistics = {
        "format": shards.FORMAT,
        "sample_rate": settings.sample_rate,
        "settings": settings._asdict(),
        "videos": len(videos),
        "verdicts": counts,
        "hours": round(samples / settings.sample_rate / 3600, 6),
        "frames": frames,
        "bytes": sum(shard["bytes"] for listed in files.values() for shard in listed),
        "segments": dict(sorted(segments.items())),
        "splits": {
            split: {"videos": len(names), "groups": len(names), "records": sum(s["records"] for s in files[split])}
            for split, names in splits.items()
        },
        "labels": dict(sorted(Counter(kinds[name] for name in spool.places if kinds[name]).items())),
        "shards": files,
        "skipped": skipped,
    }
    (out / STATISTICS).write_text(json.dumps(statistics, indent=1) + "\n", encoding="utf-8")
    return statistics


def _listed(skipped: list[dict[str, str]]) -> str:
    lines = [f"{entry['video']} ({entry['verdict']}: {entry['reason']})" for entry in skipped[:5]]
    return "; ".join(lines) + (f"; and {len(skipped) - 5} more" if len(skipped) > 5 else "")


def _check_out(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise TrainingError(f"{out} exists and is not a folder")
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise TrainingError(f"{out} is not empty; give another --out, or --overwrite to replace it")
        if not (out / STATISTICS).is_file():
            raise TrainingError(f"{out} was not written by prepare, so --overwrite will not replace it")


def _restore(out: Path, old: Path) -> None:
    """Put back the data set that --overwrite had moved away, if the new one did not get to its place."""
    if not out.exists() and (old / STATISTICS).is_file():
        old.replace(out)


def _remove(directory: Path) -> None:
    """Remove a data set, first what makes it one: if that is interrupted, nothing takes the rest for a whole."""
    with contextlib.suppress(OSError):
        (directory / STATISTICS).unlink()
    shutil.rmtree(directory, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.prepare",
        description="Turn videos into shards for training.",
        formatter_class=HelpFormatter,
    )
    defaults = Settings()
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEOS", help="folders (searched) or files")
    parser.add_argument("--out", type=Path, required=True, metavar="SHARDS", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a folder written by prepare")
    parser.add_argument("--jobs", type=positive_int, default=os.cpu_count() or 1, help="decoding processes")
    parser.add_argument(
        "--frame-rate", type=positive_float, default=defaults.frame_rate, help="pictures kept per second"
    )
    parser.add_argument(
        "--frame-size", type=positive_int, default=defaults.frame_size, help="small side of a picture, pixels"
    )
    parser.add_argument("--jpeg-quality", type=positive_int, default=defaults.jpeg_quality, help="1 to 95")
    parser.add_argument(
        "--sample-rate",
        type=positive_int,
        default=defaults.sample_rate,
        help="of the sound, Hz: 16000 for edge-*, 48000 for l3-net and openl3-*",
    )
    parser.add_argument("--shard-size", type=positive_float, default=64.0, help="megabytes, about")
    args = parser.parse_args(arguments)
    if args.jpeg_quality > 95:
        parser.error(f"--jpeg-quality must be at most 95, got {args.jpeg_quality}")
    try:
        check_rate(args.sample_rate)
    except OptionError as error:
        parser.error(str(error))
    out = args.out.resolve()
    partial, old = out.parent / f".{out.name}.partial", out.parent / f".{out.name}.old"
    _restore(out, old)  # a run was killed between the two renames below
    _check_out(args.out, args.overwrite)
    videos = find_videos(args.videos)
    settings = Settings(args.frame_rate, args.frame_size, args.jpeg_quality, args.sample_rate)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `finally` below runs
    out.parent.mkdir(parents=True, exist_ok=True)
    for left_by_a_killed_run in (partial, old):
        _remove(left_by_a_killed_run)
    partial.mkdir()
    try:
        statistics = prepare(videos, partial, settings, args.jobs, int(args.shard_size * 1e6))
        if out.exists():
            out.replace(old)
        partial.replace(out)
    finally:
        _restore(out, old)
        _remove(partial)
        _remove(old)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in statistics["verdicts"].items() if count)
    sizes = ", ".join(f"{split} {sizes['videos']}" for split, sizes in statistics["splits"].items())
    print(f"{args.out}: {counts}; {sizes}; {statistics['hours']:.2f} h, {statistics['bytes'] / 1e6:.1f} MB")
    if statistics["skipped"]:
        print(f"skipped: {_listed(statistics['skipped'])}; all are in {args.out}/{STATISTICS}")
    return 0


if __name__ == "__main__":
    run(main)
