"""The Apache Beam pipeline of `prepare`: one element is one shard, so its bytes do not depend on who makes it when.

    Create(shards) | Reshuffle | WriteShard

Only names of shards and counts travel through Beam. Items are read from, and records, journals and verdicts written to
the directory, which all workers and the launcher must reach: a local or shared folder, or a URL.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from . import journal, plan
from .cli import TrainingError
from .decoder import Decoded, Decoders, stop
from .manifest import Item
from .plan import Shard
from .videos import Settings

LOCAL_RUNNER = "DirectRunner"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Beam's import warns of optional packages of Google's that are not there, and sets up logging to say so."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


with _quiet():
    import apache_beam as beam
    from apache_beam.metrics import Metrics
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner


class WriteShard(beam.DoFn):
    """Shard -> (verdict, count) of what was decoded here; the shard itself goes to the directory."""

    def __init__(self, run: str, directory: str, settings: Settings, jobs: int, timeout: float) -> None:
        self._run = run
        self._directory = directory
        self._settings = settings
        self._jobs = jobs
        self._timeout = timeout

    def setup(self) -> None:
        self._decoders = Decoders(self._run, self._settings, self._jobs, self._timeout)

    def teardown(self) -> None:
        self._decoders.close()

    def process(self, element: Sequence[Any]) -> None:
        shard = Shard(*element)
        try:
            items = plan.read_items(self._directory, shard)
        except OSError as error:
            raise TrainingError(f"{self._directory}/{plan.ITEMS} cannot be read: {error}") from error
        journal.write_shard(self._directory, shard.name, items, self._decode)

    def _decode(self, items: Sequence[Item]) -> Iterator[Decoded]:
        for decoded in self._decoders.decode(items):
            Metrics.counter("videos", decoded.verdict).inc()  # what a runner's own page shows
            yield decoded


def unknown(arguments: Sequence[str]) -> list[str]:
    """Of the arguments, the options that this Beam does not know: a runner may, `DirectRunner` does not."""
    known = PipelineOptions([]).get_all_options()
    return sorted(set(PipelineOptions(list(arguments)).get_all_options(retain_unknown_options=True)) - set(known))


def run(
    directory: str,
    shards: Sequence[Shard],
    settings: Settings,
    *,
    jobs: int | None,
    timeout: float,
    runner: str = LOCAL_RUNNER,
    arguments: Sequence[str] = (),
) -> None:
    """Make the shards. Raises TrainingError; the same call goes on from there.

    `jobs` decoding processes work at a time: in all with DirectRunner (None: one a core), else on each shard (None: 1).
    """
    name = secrets.token_hex(8)
    if runner == LOCAL_RUNNER:
        total = jobs or os.cpu_count() or 1
        workers = min(total, len(shards))
        # The runner that DirectRunner means within Python. The name itself would try to download another one, in Go.
        engine: Any = FnApiRunner()
        mode = "multi_threading" if workers > 1 else "in_memory"
        defaults = [f"--direct_num_workers={workers}", f"--direct_running_mode={mode}"]
        options = PipelineOptions([*defaults, *arguments])
        each = max(1, total // workers)
    else:
        engine, options, each = runner, PipelineOptions(list(arguments)), jobs or 1
    result = None
    with _short_log():
        try:
            pipeline = beam.Pipeline(runner=engine, options=options)
            _ = (
                pipeline
                | "shards" >> beam.Create([tuple(shard) for shard in shards])
                | "spread" >> beam.Reshuffle()
                | "write" >> beam.ParDo(WriteShard(name, directory, settings, each, timeout))
            )
            result = pipeline.run()
            result.wait_until_finish()
        except BaseException as error:
            stop(name)
            if isinstance(error, Exception):
                raise TrainingError(_message(error, runner)) from error
            with contextlib.suppress(Exception):
                if result is not None:
                    result.cancel()  # or it would write on beside the command that continues it
            raise
    if result.state not in (None, "DONE"):
        raise TrainingError(f"{runner} ended the pipeline as {result.state}; the same command goes on from here")


def _message(error: BaseException, runner: str) -> str:
    """What a worker raised, out of the traceback as which runners hand it on."""
    if isinstance(error, TrainingError):
        return str(error)
    found = re.search(r"TrainingError: (.+?)(?: \[while running|\\n|\n|$)", str(error))
    if found:
        return f"{found[1]}. The same command goes on from here"
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [""]
    return f"{runner}: {type(error).__name__}: {lines[-1].strip()}. The same command goes on from here"


@contextlib.contextmanager
def _short_log() -> Iterator[None]:
    """Beam's warnings on stderr, a line each; tracebacks left out, for the launcher says what was wrong."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: not record.exc_info and "Traceback" not in record.getMessage())
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("apache_beam")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
