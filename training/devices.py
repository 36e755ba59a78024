"""The devices that a run is trained on: one, all of a machine, or those of many machines.

one           the first device of this process
mirrored      tf.distribute.MirroredStrategy: every visible GPU of this machine
multi_worker  tf.distribute.MultiWorkerMirroredStrategy: a process on each machine, each with all GPUs that it sees

A replica is a device with a copy of the model, a worker a process. Workers are started by hand, Kubernetes, SLURM or
`python -m training.launch`, each with the environment variable TF_CONFIG as TensorFlow documents it
(https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable). Worker 0 is the
chief: it alone evaluates, and writes the run directory, which all workers must see.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from .backend import tf
from .cli import TrainingError

STRATEGIES = ("one", "mirrored", "multi_worker")

EXAMPLE = (
    'TF_CONFIG=\'{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}\''
)


class Devices(NamedTuple):
    """A distribution strategy, and which of the workers this process is."""

    strategy: tf.distribute.Strategy
    replicas: int = 1  # of all workers
    workers: int = 1
    worker: int = 0  # this process; 0 is the chief

    @property
    def chief(self) -> bool:
        return self.worker == 0

    @property
    def local_replicas(self) -> int:
        return self.replicas // self.workers

    def local(self, variable: Any) -> list[Any]:
        """The copies of a variable that are in this process; reading them involves no other."""
        return list(self.strategy.experimental_local_results(variable))

    def described(self) -> dict[str, Any]:
        """For arguments.json."""
        kinds = sorted({device.device_type for device in tf.config.list_logical_devices()})
        return {
            "replicas": self.replicas,
            "workers": self.workers,
            "kinds": kinds,
            "tensor_float_32": tf.config.experimental.tensor_float_32_execution_enabled(),
        }

    def shared_out(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Endless batches of this worker -> a replica's part each, in order."""
        count = self.local_replicas
        if count > 1:
            batches = batches.map(
                lambda batch: {k: tf.reshape(v, [count, v.shape[0] // count, *v.shape[1:]]) for k, v in batch.items()}
            ).unbatch()
        return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    def barrier(self) -> None:
        """Wait until every worker is here."""
        if self.workers > 1:
            self.strategy.reduce("SUM", tf.constant(1.0), axis=None)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """What TensorFlow raises where another worker has gone, as TrainingError."""
        try:
            yield
        except tf.errors.OpError as error:
            message = error.message or ""
            # A collective ends with the first RPC that fails or, of a peer that hangs, with its missing heartbeat.
            why = re.search(r"aborted by: *(.*)", message)
            if self.workers == 1 or not (why or "/job:" in message):
                raise
            raise TrainingError(
                f"worker {self.worker} of {self.workers} stops: {_peers(message)} went away "
                f"({why[1] if why else message.splitlines()[0]}). Start all workers again: training continues from "
                "the last checkpoint"
            ) from error


def _peers(message: str) -> str:
    """The tasks that TensorFlow names in an error message."""
    found = sorted(set(re.findall(r"/job:(\w+)/(?:replica:0/)?task:(\d+)", message)))
    return " and ".join(f"{job} {task}" for job, task in found) or "another worker"


def configure(*, deterministic: bool) -> None:
    """float32 as IEEE 754 has it, and the same bits on each run where asked for."""
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def check_share(batch: int, found: Devices, streams: int | None) -> None:
    """Raise TrainingError where a batch cannot be shared out as it was to be."""
    if batch % found.replicas:
        raise TrainingError(f"--batch {batch} cannot be shared out evenly to {found.replicas} replicas")
    if found.workers > 1 and streams not in (None, found.workers):
        raise TrainingError(f"--streams {streams} is not the number of workers, {found.workers}")


def find(name: str) -> Devices:
    """The devices of a strategy in STRATEGIES; before TensorFlow is used for anything else.

    Raises TrainingError where TF_CONFIG is missing or says something impossible.
    """
    if name == "one":
        return Devices(tf.distribute.get_strategy())
    if name == "mirrored":
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([device.name for device in found])
        return Devices(strategy, strategy.num_replicas_in_sync)
    worker, workers = parse_config(os.environ.get("TF_CONFIG"))
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    return Devices(strategy, strategy.num_replicas_in_sync, workers, worker)


def parse_config(text: str | None) -> tuple[int, int]:
    """(this worker, number of workers) of a TF_CONFIG; the chief, if it has one, counts as worker 0."""
    if not text:
        raise TrainingError(
            "--strategy multi_worker needs the environment variable TF_CONFIG, which names all workers and says which "
            f"of them this is; for the first of two: {EXAMPLE}. `python -m training.launch` sets it for workers on "
            "this machine"
        )
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        hosts = [host for job in ("chief", "worker") for host in cluster.get(job, [])]
        kind, index = task["type"], int(task["index"])
        strangers = sorted(set(cluster) - {"chief", "worker"})
        if strangers:
            raise ValueError(f"there are no tasks but chief and worker here, it has {', '.join(strangers)}")
        if not all(isinstance(host, str) and ":" in host for host in hosts):
            raise ValueError("each host must be a string host:port")
        if len(cluster.get("chief", [])) > 1:
            raise ValueError("there is one chief")
        if kind not in cluster or not 0 <= index < len(cluster[kind]):
            raise ValueError(f"the cluster has no {kind} {index}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        raise TrainingError(f"TF_CONFIG cannot be used: {why}. It is {text!r}; an example: {EXAMPLE}") from None
    return index + (len(cluster.get("chief", [])) if kind == "worker" else 0), len(hosts)
