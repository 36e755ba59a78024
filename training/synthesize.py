"""Procedural videos of sounding things, for audio-visual correspondence: `python -m training.synthesize --out
DIR`.

Each MP4 (H.264 yuv420p, AAC mono) shows one of `KINDS` making its sound. Where a thing is struck, it is
struck in the picture too. Pitch, pace, timbre, room, noise and level of the sound, and shape, colour, size,
place and background of the picture are drawn from the seed and the take's number alone: take 7 of seed 0 is
the same file whatever the count and the number of processes. Two videos show the same kind with probability
about 1 / len(KINDS): that share of "negative" pairs cannot be told from positive ones by their content.
"""

import argparse
import contextlib
import csv
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray
from tqdm import tqdm

from training import workers
from training.cli import TrainingError, positive_int, run
from training.drawing import Motion, Scene, compose
from training.kinds import BY_NAME, KINDS
from training.synth import Synth

_ORDER_STREAM = 0x6F72646572  # keeps the order's random numbers apart from every take's
_COLUMNS = ("file", "kind", "seed", "take", "duration")


@dataclass(frozen=True)
class Settings:
    """What the files of one set have in common; `size` in pixels, `fps` in frames per second, rate in Hz."""

    seconds: float = 4.0
    size: int = 128
    fps: Fraction = Fraction(25, 2)
    kinds: tuple[str, ...] = KINDS
    sample_rate: int = 48_000
    audio_bit_rate: int = 96_000

    def __post_init__(self) -> None:
        if not 1 <= self.seconds <= 600:
            raise ValueError(f"seconds must be 1 to 600, not {self.seconds:g}")
        if self.size % 2 or not 32 <= self.size <= 1024:
            raise ValueError(f"size must be an even number of pixels from 32 to 1024, not {self.size}")
        if not 1 <= self.fps <= 60:
            raise ValueError(f"fps must be 1 to 60, not {float(self.fps):g}")
        if unknown := sorted(set(self.kinds) - set(KINDS)):
            raise ValueError(
                f"unknown kind {', '.join(map(repr, unknown))}; --list-kinds shows the {len(KINDS)} there are"
            )
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise ValueError("kinds must be one or more names, each once")

    @property
    def frames(self) -> int:
        return round(self.seconds * self.fps)


def kind_of(take: int, seed: int, kinds: Sequence[str] = KINDS) -> str:
    """The kind that `take` shows: each block of len(kinds) takes holds every kind once, shuffled."""
    block, place = divmod(take, len(kinds))
    return kinds[np.random.default_rng([seed, block, _ORDER_STREAM]).permutation(len(kinds))[place]]


def file_name(take: int, seed: int, kinds: Sequence[str] = KINDS) -> str:
    return f"{take:04d}-{kind_of(take, seed, kinds)}.mp4"


def synthesize_audio(
    kind: str, rng: np.random.Generator, seconds: float = 4.0, sample_rate: int = 48_000
) -> NDArray[np.float32]:
    """A new sound of `kind`, float32 [round(seconds * sample_rate)], peak between -30 and -3 dBFS.

    Raises ValueError for a kind that is not in `KINDS`.
    """
    return _perform(kind, rng, seconds, sample_rate)[0]


def _perform(
    kind: str, rng: np.random.Generator, seconds: float, sample_rate: int
) -> tuple[NDArray[np.float32], Motion]:
    if kind not in BY_NAME:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; not {kind!r}")
    synth = Synth(rng, seconds, sample_rate)
    dry = BY_NAME[kind].sound(synth)
    return synth.finish(dry), Motion(synth.strikes, dry, sample_rate)


def make_scene(kind: str, rng: np.random.Generator, settings: Settings) -> tuple[NDArray[np.float32], Scene]:
    """A new take of `kind`: its sound as from `synthesize_audio`, and the scene that moves with it."""
    samples, motion = _perform(kind, rng, settings.seconds, settings.sample_rate)
    return samples, compose(BY_NAME[kind].look, motion, rng, settings.size)


def write_video(path: str | os.PathLike[str], take: int, seed: int, settings: Settings | None = None) -> str:
    """Write take number `take` of `seed` as an MP4 file to `path` (overwritten), and return its kind.

    The same arguments give the same bytes on the same machine.
    """
    settings = settings or Settings()
    kind = kind_of(take, seed, settings.kinds)
    samples, scene = make_scene(kind, np.random.default_rng([seed, take]), settings)
    pictures = (scene.frame(float(k / settings.fps)) for k in range(settings.frames))
    _encode(path, pictures, samples, settings, _label(take, seed, settings))
    return kind


def _label(take: int, seed: int, settings: Settings) -> str:
    """What a file says of its own making; a run that is resumed compares it."""
    made = f"seed={seed} take={take} seconds={settings.seconds:g} size={settings.size} fps={settings.fps}"
    return f"l3edge synthetic: kind={kind_of(take, seed, settings.kinds)} {made}"


def _encode(
    path: str | os.PathLike[str],
    pictures: Iterable[NDArray[np.uint8]],
    samples: NDArray[np.float32],
    settings: Settings,
    label: str,
) -> None:
    # One thread and "bitexact" (no encoder version, no date) make the bytes a function of the arguments.
    with av.open(os.fspath(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        container.metadata["comment"] = label
        video = container.add_stream("libx264", rate=settings.fps)
        video.width = video.height = settings.size
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        # libx264's macroblock tree gave bits that vary from run to run, at all sizes tried but 128 pixels.
        video.options = {
            "preset": "veryfast",
            "crf": "23",
            "threads": "1",
            "g": "25",
            "x264-params": "mbtree=0",
        }
        audio = container.add_stream("aac", rate=settings.sample_rate, layout="mono")
        audio.bit_rate = settings.audio_bit_rate
        audio.codec_context.thread_count = 1
        edges = [round(k * settings.sample_rate / settings.fps) for k in range(settings.frames)] + [len(samples)]
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(video.encode(frame))
            block = np.ascontiguousarray(samples[None, edges[k] : edges[k + 1]])
            sound = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = (
                settings.sample_rate,
                edges[k],
                Fraction(1, settings.sample_rate),
            )
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def _produce(directory: Path, partial: Path, take: int, seed: int, settings: Settings) -> None:
    """One whole file into `directory`, by way of `partial` on the same file system."""
    name = file_name(take, seed, settings.kinds)
    try:
        write_video(partial / name, take, seed, settings)
    except FFmpegError as error:  # its exceptions do not travel between processes
        raise TrainingError(f"{directory / name}: {error}") from None
    (partial / name).replace(directory / name)


def _is_there(path: Path, label: str, overwrite: bool) -> bool:
    """Whether `path` is already what `label` says; an error if it is anything else, unless `overwrite`."""
    if overwrite or not path.exists():
        return False
    try:
        with av.open(str(path)) as container:
            found = container.metadata.get("comment", "no label")
    except FFmpegError:
        found = "not a video"
    if found != label:
        raise TrainingError(f"{path} was made otherwise ({found}); choose another --out, or --overwrite")
    return True


def _write_index(directory: Path, seed: int, takes: Iterable[int], settings: Settings) -> None:
    """Bring `index.csv` up to date with the files there are, those of earlier runs included."""
    index = directory / "index.csv"
    rows: dict[str, dict[str, object]] = {}
    if index.exists():
        with index.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != _COLUMNS:
                raise ValueError(f"{index} is not an index of synthetic videos: its columns are {reader.fieldnames}")
            rows = {row["file"]: dict(row) for row in reader}
    for take in takes:
        name = file_name(take, seed, settings.kinds)
        values = (name, kind_of(take, seed, settings.kinds), seed, take, f"{settings.seconds:g}")
        rows[name] = dict(zip(_COLUMNS, values, strict=True))
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory) as partial:
        fresh = Path(partial) / index.name
        with fresh.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(row for name, row in sorted(rows.items()) if (directory / name).exists())
        fresh.replace(index)


def synthesize(
    directory: Path, count: int, seed: int, settings: Settings, jobs: int = 1, overwrite: bool = False
) -> int:
    """Write takes 0 to `count` - 1 and `index.csv` into `directory`; returns how many were already there."""
    directory.mkdir(parents=True, exist_ok=True)
    missing = [
        take
        for take in range(count)
        if not _is_there(directory / file_name(take, seed, settings.kinds), _label(take, seed, settings), overwrite)
    ]
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".partial-", dir=directory) as partial,
            tqdm(total=count, initial=count - len(missing), unit="video", file=sys.stderr) as progress,
        ):
            calls = [(directory, Path(partial), take, seed, settings) for take in missing]
            with contextlib.closing(workers.run(_produce, calls, jobs)) as running:
                for _ in running:
                    progress.update()
    finally:
        _write_index(directory, seed, range(count), settings)
    return count - len(missing)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage that buries it."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def _frame_rate(text: str) -> Fraction:
    try:
        return Fraction(text).limit_denominator(1001)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"expected a number such as 12.5 or 30000/1001, got {text!r}") from None


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m training.synthesize",
        description="Write MP4 videos of procedurally drawn things that make their sound (H.264 and AAC), "
        "to train and test audio-visual correspondence with. Files already in DIR are kept, so that a run "
        "that was stopped goes on where it was. DIR/index.csv lists file, kind, seed, take and duration [s].",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    default = Settings()
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="directory to write to, made if it does not exist",
    )
    parser.add_argument("--count", type=positive_int, default=10 * len(KINDS), metavar="N", help="number of videos")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="0 or more; another seed, another set of videos"
    )
    parser.add_argument("--seconds", type=float, default=default.seconds, help="length of each video")
    parser.add_argument("--size", type=int, default=default.size, metavar="PX", help="width and height in pixels, even")
    parser.add_argument(
        "--fps",
        type=_frame_rate,
        default=str(float(default.fps)),
        help="frames per second, such as 12.5 or 30000/1001",
    )
    parser.add_argument("--kinds", default="all", metavar="A,B,...", help="the kinds to show, equally often")
    parser.add_argument(
        "--jobs",
        type=positive_int,
        default=os.cpu_count() or 1,
        metavar="J",
        help="processes; same files for any",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        default=argparse.SUPPRESS,
        help="make files anew that are already there",
    )
    parser.add_argument(
        "--list-kinds",
        action="store_true",
        default=argparse.SUPPRESS,
        help="print the names of all kinds, and stop",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit status: 0, 1 (failed), 2 (bad usage), 130 (Ctrl-C; whole files are kept)."""
    parser = _parser()
    unset = argparse.Namespace(out=None, overwrite=False, list_kinds=False)
    options = parser.parse_args(arguments, unset)
    if options.list_kinds:
        print("\n".join(KINDS))
        return 0
    if options.out is None:
        parser.error("--out DIR is needed: where to write the videos")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out {options.out} is not a directory")
    if options.seed < 0:
        parser.error(f"--seed must be 0 or more, not {options.seed}")
    kinds = KINDS if options.kinds == "all" else tuple(options.kinds.split(","))
    try:
        settings = Settings(options.seconds, options.size, options.fps, kinds)
    except ValueError as error:
        parser.error(str(error))
    kept = synthesize(options.out, options.count, options.seed, settings, options.jobs, options.overwrite)
    print(f"{options.count} videos in {options.out}, {kept} of them kept from before", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run(main)
