"""The options of `python -m training.distill`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from . import lessons
from .cli import ListHelpFormatter, positive_float, positive_int
from .targets import TARGETS

_EPILOG = """\
teachers (--teacher):
  yamnet            YAMNet, in the folder of L3EDGE_DATA (yamnet/yamnet.tflite and its class map): 1024 values and 521
                    scores
  edge-m, M.tflite  a model of l3edge, built-in or from a file: its embedding; python -m export.import_weights makes
                    one of OpenL3's or SEA's weights
  T.tflite          any model that takes one window of sound, float32 [n] or [1, n] at --teacher-rate, with
                    --embedding-tensor and --scores-tensor: numbers of tensors in its main graph
  A teacher of another sample rate than the data's hears the clips resampled. Its outputs depend on the data, the
  teacher and --teacher-hop alone: another run takes them from the cache, and a pass that was stopped goes on.

students (--student):
  edge-m                                 a preset
  pairs:32-64-128-256                    blocks of two 3x3 convolutions of so many filters
  separable:32-64-128-256                of depthwise and 1x1 convolutions; ,dense=2: the first two blocks as above
  separable:32-64-128-256,step=100,size=512,pool=mean
                                         frames every 100 samples, not 200; an embedding of 512 values; the mean over
                                         frequency, not the maximum
  mobilenet:32-64-128-128-256-256-512,pool=mean
                                         YAMNet's own form, which --inherit fills with its weights

examples:
  python -m training.corpus --out corpus
  python -m training.distill --data corpus --run runs/a
  python -m training.distill --data corpus --run runs/b --student separable:32-64-128-256 --exclude fold-3
  python -m training.distill --data corpus --run runs/c --target whiten --components 128 --domain music --scores 0
  python -m training.distill --data corpus --run runs/d --teacher edge-l --relational 1
  python -m training.distill --data corpus --run runs/g --inherit --keep 2 \\
      --student mobilenet:32-64-128-128-256-256-512-512-512,time=6,pool=mean+time --batch 48 --crop 2
  python -m training.distill --data corpus --run runs/e --videos shards --avc 0.3
  python -m training.supervised --data shards --run runs/seen
  python -m training.distill --data shards --run runs/f --videos shards --vision 1 --vision-teacher runs/seen \\
      --embedding 0 --scores 0
then:
  python -m training.probe runs/a random:runs/a      what the embedding is worth
  python -m export runs/a --output mine.tflite       a model file
"""


def weight(text: str) -> float:
    """argparse type: a finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value


def focus(text: str) -> tuple[str, int]:
    """argparse type: LABEL=N."""
    label, _, times = text.rpartition("=")
    if not label or not times.isdecimal() or not 1 <= int(times) <= 100:
        raise argparse.ArgumentTypeError(f"expected LABEL=N with N from 1 to 100, got {text!r}")
    return label, int(times)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m training.distill",
        description="Learn sound embeddings from a teacher's, on unlabelled sound. The teacher's outputs are computed "
        "once and kept. The same command again continues a run that was stopped.",
        formatter_class=ListHelpFormatter,
        epilog=_EPILOG,
    )
    made.add_argument("--teacher", default="yamnet", help="yamnet, a model of l3edge, or a .tflite (see below)")
    made.add_argument("--student", default="edge-m", help="a preset, or such as separable:32-64-128-256,size=512")
    made.add_argument("--data", type=Path, required=True, metavar="DATA", help="folder written by corpus or prepare")
    made.add_argument("--run", type=Path, required=True, metavar="DIR", help="folder for everything it makes")
    made.add_argument(
        "--exclude", nargs="+", default=[], metavar="LABEL", help="leave out clips with one of these labels"
    )
    made.add_argument(
        "--focus", metavar="LABEL=N", type=focus, help="take training clips with this label N times in each pass"
    )
    made.add_argument("--init", metavar="RUN", help="begin with the audio tower of another run, or of RUN@CLIPS")
    made.add_argument(
        "--inherit",
        action="store_true",
        help="begin with the teacher's own first convolutions, as many as the student has alike: of yamnet, a student "
        "mobilenet:...",
    )
    made.add_argument("--steps", type=positive_int, default=2000, help="batches to train on")
    made.add_argument("--batch", type=positive_int, default=16, help="clips in a step, each with all its windows")
    made.add_argument(
        "--crop",
        type=positive_int,
        metavar="N",
        help="of each clip so many successive windows of the teacher's, drawn at random; else all of them",
    )
    made.add_argument("--learning-rate", type=positive_float, default=3e-3, help="of Adam, at its peak")
    made.add_argument("--warmup", type=positive_int, default=50, help="steps until the peak; a cosine follows")
    made.add_argument("--weight-decay", type=weight, default=1e-5, help="L2, on kernels")
    made.add_argument("--seed", type=int, default=0, help="of weights, order and degradation")
    made.add_argument("--evaluate-every", type=positive_int, help="steps between evaluations (default: a 10th of all)")
    made.add_argument("--checkpoint-every", type=positive_int, default=200, help="steps between checkpoints")
    asked = made.add_argument_group("what is learned", "Losses and their weights; 0 leaves one out.")
    asked.add_argument("--embedding", type=weight, default=1.0, metavar="W", help="regression on the embedding")
    asked.add_argument("--scores", type=weight, default=0.2, metavar="W", help="divergence from the scores")
    asked.add_argument("--relational", type=weight, default=0.0, metavar="W", help="cosines between windows")
    asked.add_argument(
        "--keep",
        type=weight,
        default=0.0,
        metavar="W",
        help="difference from what the network of --inherit or --init gave at first, for the sound as the teacher "
        "hears it",
    )
    asked.add_argument("--target", choices=TARGETS, default="standardise", help="what the embedding is scaled by")
    asked.add_argument("--components", type=positive_int, metavar="N", help="of --target whiten: so many alone")
    asked.add_argument("--domain", metavar="LABEL", help="scale by the clips of this label alone")
    asked.add_argument(
        "--no-degrade",
        dest="degrade",
        action="store_false",
        help="let the student hear what the teacher hears, and not worse (level, equaliser, band limits, noise)",
    )
    # None where not given, as in the arguments.json of runs that knew no videos.
    seen = made.add_argument_group("videos", "More losses, on videos; what only they need is thrown away afterwards.")
    seen.add_argument("--videos", type=Path, metavar="SHARDS", help="folder written by prepare")
    seen.add_argument("--videos-batch", type=positive_int, metavar="N", help="clips in a step (default: 32)")
    seen.add_argument("--avc", type=weight, metavar="W", help="audio-visual correspondence")
    seen.add_argument("--vision", type=weight, metavar="W", help="divergence from what an image network sees")
    seen.add_argument("--vision-teacher", metavar="RUN", help="of training.supervised: its image network")
    other = made.add_argument_group(
        "the teacher", "How it is asked. Which there are, and of which rates, is told below."
    )
    other.add_argument("--teacher-hop", type=positive_float, default=0.2, metavar="S", help="seconds between windows")
    other.add_argument("--embedding-tensor", type=int, metavar="N", help="of a .tflite that is no model of l3edge")
    other.add_argument("--scores-tensor", type=int, metavar="N", help="likewise: posteriors from 0 to 1")
    other.add_argument("--teacher-rate", type=positive_int, default=16_000, metavar="HZ", help="likewise")
    other.add_argument("--teacher-names", type=Path, metavar="CSV", help="likewise: names of the scores, display_name")
    other.add_argument("--cache", type=Path, default=lessons.DEFAULT, metavar="DIR", help="keep its outputs here")
    return made


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Checked arguments."""
    made = parser()
    args = made.parse_args(argv)
    if args.components and args.target != "whiten":
        made.error("--components are those of --target whiten")
    if bool(args.videos) != bool(args.avc or args.vision):
        made.error("--videos and --avc or --vision go together: where to look, and what for")
    if bool(args.vision) != bool(args.vision_teacher):
        made.error("--vision and --vision-teacher go together: how much, and whose pictures' classes")
    if args.inherit and args.init:
        made.error("--inherit and --init: a student begins with one or the other")
    if args.keep and not (args.inherit or args.init):
        made.error("--keep: random weights are nothing to keep; begin with --inherit or --init")
    if args.videos_batch == 1 and args.avc:
        made.error("--videos-batch must be at least 2: negatives of --avc are made within a batch")
    return args
