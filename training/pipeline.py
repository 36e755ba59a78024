"""The Apache Beam pipeline of `prepare`: one element is one shard, so its bytes do not depend on who makes it when.

    Create(shards) | Reshuffle | WriteShard

(`prepare` says when they do: where a machine is too slow, or has too little memory, for a video.)
Only names of shards and counts travel through Beam. Items are read from, and records, journals and verdicts written to
the directory, which all workers and the launcher must reach: a local or shared folder, or a URL.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from . import journal, plan
from .children import Decoded, Decoders, stop
from .cli import TrainingError
from .manifest import Item
from .plan import Shard
from .videos import Settings

LOCAL_RUNNER = "DirectRunner"
_PATIENCE = 0.5  # s between looks for signals on systems where they do not end waiting


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
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle
    from apache_beam.runners.runner import PipelineState


class _Lines(logging.Handler):
    """Beam's warnings on stderr, a line each. Without tracebacks: `run` says what was wrong."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if not record.exc_info and "Traceback" not in message:
            print(f"{record.levelname.lower()}: {message}", file=sys.stderr)


_LOGGER = logging.getLogger("apache_beam")
_LOGGER.addHandler(_Lines(logging.WARNING))
_LOGGER.propagate = False


_errors: dict[str, list[TrainingError]] = {}  # by run launched in this process


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
            journal.write_shard(self._directory, shard.name, items, self._decode)
        except TrainingError as error:
            if self._run not in _errors:
                raise  # for the runner to try again, or to hand on
            _errors[self._run].append(error)  # Beam would print its traceback
            stop(self._run)

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
        defaults = [f"--direct_num_workers={workers}", "--direct_running_mode=multi_threading"]
        options = PipelineOptions([*defaults, "--default_sdk_harness_log_level=WARNING", *arguments])
        engine: Any = _local_runner(options)
        each = max(1, total // workers)
    else:
        engine, options, each = runner, PipelineOptions(list(arguments)), jobs or 1
    write = beam.ParDo(WriteShard(name, directory, settings, each, timeout))
    job = _Job(engine, options, [tuple(shard) for shard in shards], write)
    _errors[name] = []
    try:
        job.start()
        while job.is_alive():
            job.join(_PATIENCE)
    finally:
        stop(name)
        if job.is_alive():
            job.cancel()  # or it would write on beside the command that goes on with it
        errors = _errors.pop(name)
    if errors:
        raise TrainingError(f"{errors[0]}. The same command goes on from here") from errors[0]
    if job.error:
        raise TrainingError(f"{_message(job.error, runner)}. The same command goes on from here") from job.error


class _Job(threading.Thread):
    """The pipeline, in a thread: this way the main thread is there for signals, wherever in a runner they come."""

    def __init__(self, runner: Any, options: PipelineOptions, shards: list[Any], write: beam.PTransform) -> None:
        super().__init__(daemon=True)
        self._runner = runner
        self._options = options
        self._shards = shards
        self._write = write
        self._result: Any = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            pipeline = beam.Pipeline(runner=self._runner, options=self._options)
            _ = pipeline | "shards" >> beam.Create(self._shards) | "spread" >> beam.Reshuffle() | "write" >> self._write
            self._result = pipeline.run()
            self._result.wait_until_finish()
            if self._result.state not in (None, PipelineState.DONE):
                self.error = TrainingError(f"the runner ended the pipeline as {self._result.state}")
        except Exception as error:
            self.error = error

    def cancel(self) -> None:
        with contextlib.suppress(Exception):
            if self._result is not None:
                self._result.cancel()


def _local_runner(options: PipelineOptions) -> FnApiRunner:
    """What DirectRunner is within Python. By its name Beam would first try to download another runner, in Go."""
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options(drop_default=True))
    provision = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return FnApiRunner(provision_info=ExtendedProvisionInfo(provision))


def _message(error: BaseException, runner: str) -> str:
    """What a worker raised, out of the traceback as which runners hand it on."""
    if isinstance(error, TrainingError):
        return str(error)
    found = re.search(r"TrainingError: (.+?)(?: \[while running|\\n|\n|$)", str(error))
    if found:
        return found[1]
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [""]
    return f"{runner}: {type(error).__name__}: {lines[-1].strip()}"
