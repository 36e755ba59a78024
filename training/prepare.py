"""Videos -> TFRecord shards of sound and pictures, split by source video into train, validation and test.

    python -m training.prepare VIDEOS --out SHARDS

An Apache Beam pipeline (`pipeline`), run on this machine unless --runner says otherwise. Files that cannot make honest
audio-visual pairs (still picture, silent, no audio, no video, corrupt, too short) are skipped, counted, and listed in
SHARDS/videos.csv. The shards depend on the videos and the settings alone, not on the runner, the number of processes
or how often it was interrupted: the same command again goes on where it ended. The exception is a video that takes
longer than --timeout, or whose decoder is killed twice, which a slow or crowded machine may do to a good one: it is
corrupt, as videos.csv says, and stays so until --overwrite, as does one that is repaired later.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence

from l3edge.audio import check_rate
from l3edge.errors import OptionError

from . import manifest, output, plan, storage, verdicts
from .cli import ListHelpFormatter, TrainingError, positive_float, positive_int, run
from .progress import Progress
from .videos import STATISTICS, Settings

# `pipeline` imports Beam, which takes a second: it is imported where it is used.

_LOCAL_RUNNER = "DirectRunner"
_EPILOG = """Other options go to Apache Beam; put them after VIDEOS, or as --option=value:
  --runner DirectRunner --direct_running_mode multi_processing
  --runner FlinkRunner --flink_master HOST:8081 --environment_type EXTERNAL --environment_config HOST:50000
  --runner SparkRunner --spark_master_url spark://HOST:7077 --environment_type DOCKER --environment_config IMAGE
  --runner PortableRunner --job_endpoint HOST:8099 --environment_type LOOPBACK
  --runner DataflowRunner --project P --region R --temp_location gs://B/tmp --sdk_container_image IMAGE
VIDEOS and SHARDS may be URLs that Beam's file systems know (gs://, s3://, hdfs://); all workers must reach them."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.prepare",
        description="Turn videos into shards for training. The same command again goes on where it was interrupted.",
        epilog=_EPILOG,
        formatter_class=ListHelpFormatter,
        allow_abbrev=False,  # an abbreviation could be an option of Beam's
    )
    defaults = Settings()
    manifest.add_arguments(parser)
    parser.add_argument("--out", required=True, metavar="SHARDS", help="folder or URL to write to")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what prepare wrote there: with other options, or a finished one anew. Without it, verdicts stay "
        "though videos were repaired or --timeout was too short",
    )
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
    parser.add_argument(
        "--videos-per-shard", type=positive_int, default=64, metavar="N", help="videos, kept or not, that make a shard"
    )
    parser.add_argument(
        "--timeout",
        type=positive_float,
        default=600.0,
        metavar="S",
        help="seconds; a video that takes longer, be it for a busy machine, is corrupt",
    )
    parser.add_argument("--runner", default=_LOCAL_RUNNER, help="that of Apache Beam; its options are passed to it")
    parser.add_argument(
        "--jobs",
        type=positive_int,
        metavar="N",
        help="decoding processes: in all with DirectRunner (default: one a core), else on each shard (default: 1)",
    )
    return parser


def _arguments(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str], Settings]:
    parser = _parser()
    args, others = parser.parse_known_args(arguments)
    if args.jpeg_quality > 95:
        parser.error(f"--jpeg-quality must be at most 95, got {args.jpeg_quality}")
    try:
        check_rate(args.sample_rate)
    except OptionError as error:
        parser.error(str(error))
    if others:
        from . import pipeline

        # Beam's own options have no hyphen; runners may know more than this Beam does, the one within Python does not.
        wrong = [name for name in pipeline.unknown(others) if args.runner == _LOCAL_RUNNER or "-" in name]
        if wrong or not others[0].startswith("--"):
            parser.error(f"unrecognized arguments: {' '.join(others)}")
    settings = Settings(args.frame_rate, args.frame_size, args.jpeg_quality, args.sample_rate)
    return args, others, settings


def _run(args: argparse.Namespace, others: Sequence[str], planned: plan.Plan, target: str) -> None:
    from . import journal, pipeline

    listed = storage.files(storage.join(target, journal.FOLDER))
    left = [shard for shard in planned.shards if f"{shard.name}.jsonl" not in listed]
    with Progress(target, planned.shards):
        if left:
            pipeline.run(
                target,
                left,
                Settings(**planned.document["settings"]),
                jobs=args.jobs,
                timeout=args.timeout,
                runner=args.runner,
                arguments=others,
            )


def main(arguments: list[str] | None = None) -> int:
    args, others, settings = _arguments(arguments)
    out = output.place(args.out)
    planned = plan.make(manifest.from_arguments(args), settings, args.videos_per_shard)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # so that the pipeline ends as after Ctrl-C
    with output.locked(out):
        target = output.begin(out, planned, args.overwrite)
        if target is None:
            print(f"{args.out} is finished; --overwrite makes it anew, as after a video was replaced")
            print(verdicts.describe(json.loads(storage.read(storage.join(out, STATISTICS)))))
            return 0
        try:
            _run(args, others, planned, target)
        except (KeyboardInterrupt, SystemExit):
            print("stopped; the same command goes on where it was", file=sys.stderr)
            raise
        found = verdicts.collect(target, planned)
        if not found.statistics["verdicts"]["kept"]:
            output.abandon(target)
            raise TrainingError(f"none of {len(planned.items)} videos is usable: {verdicts.listed(found)}")
        verdicts.write(target, found)
        output.finish(target, out)
    print(verdicts.describe(found.statistics))
    for split in ("validation", "test"):
        if (count := found.statistics["splits"][split]["groups"]) < 2:
            print(
                f"warning: {split} has {count} source video{'s' * (count != 1)}: no accuracy can be measured on it. "
                "Give more videos, a larger --held-out, or a manifest with a split",
                file=sys.stderr,
            )
    if found.skipped:
        print(f"\nskipped: {verdicts.listed(found)}; all are in {args.out}/{verdicts.VIDEOS}")
    return 0


if __name__ == "__main__":
    try:
        run(main)
    except SystemExit as end:
        if end.code:
            sys.stderr.flush()
            os._exit(int(end.code))  # not to wait for Beam's threads, which may wait for workers that are gone
