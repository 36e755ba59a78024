"""Many devices train what one does: two worker processes on loopback, two devices in a process, and what goes wrong."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for module in ("tensorflow", "tf_keras", "av", "soxr", "scipy", "PIL", "tqdm", "matplotlib"):
    pytest.importorskip(module, reason=f"training needs {module}, which a device does not have")

from l3edge.spec import PRESETS  # noqa: E402
from training import artifacts, devices, launch, pretrain  # noqa: E402
from training.arguments import started  # noqa: E402
from training.cli import TrainingError  # noqa: E402
from training.correspondence import learning_rate  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
STEPS = 24
PEAK = 1e-4
OPTIONS = [
    *("--preset", "edge-s", "--small", "--batch", "8", "--steps", str(STEPS), "--learning-rate", str(PEAK)),
    *("--sync-batch-norm", "--checkpoint-every", "2", "--evaluate-every", "4"),
]

# Runs pretrain and keeps the weights of each replica of this process.
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from training.backend import tf
if "mirrored" in sys.argv:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from training import pretrain

class Kept(pretrain.Trainer):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        Kept.last = self

pretrain.Trainer = Kept
assert pretrain.main(sys.argv[2:]) == 0
found = Kept.last.devices
for i in range(found.local_replicas):
    replica = found.worker * found.local_replicas + i
    weights = [found.local(variable)[i].numpy() for variable in Kept.last.trained.weights]
    np.savez(Path(sys.argv[1]) / f"{replica}.npz", *weights)
"""


@pytest.fixture(scope="module")
def data(run: Path) -> Path:
    return artifacts.load_run(run).data


@pytest.fixture(scope="module")
def single(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one device on the batches that two workers would take."""
    directory = tmp_path_factory.mktemp("single") / "run"
    assert pretrain.main(["--data", str(data), "--run", str(directory), *OPTIONS, "--streams", "2"]) == 0
    return directory


@pytest.fixture(scope="module")
def pair(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run of two workers; beside it, the weights of each."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "script.py"), str(folder), "--data", str(data)]
    command += ["--run", str(folder / "run"), "--strategy", "multi_worker", *OPTIONS]
    os.environ["PYTHONPATH"], before = str(ROOT), os.environ.get("PYTHONPATH")
    try:
        workers = launch.start(2, command)
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before
    assert [worker.wait(timeout=300) for worker in workers] == [0, 0]
    return folder


def losses(run: Path) -> np.ndarray:
    with (run / "history.csv").open() as file:
        return np.array([[float(row["train_loss"]), float(row["validation_loss"])] for row in csv.DictReader(file)])


def assert_like(run: Path, single: Path) -> None:
    """The same losses and weights but for the order of sums.

    Adam divides each gradient by its own size, so where a gradient is rounding and nothing else its weight moves by up
    to the learning rate, in any direction. Such weights are few: of each tensor the root mean square of the differences
    is held to a hundredth of the longest way that a weight can have gone, and of moving statistics, which follow
    activations, to a hundredth of the standard deviation or variance itself. Measured: losses to 2.4e-6, weights to
    0.4 hundredths. Statistics of half the batch move whole tensors.
    """
    np.testing.assert_allclose(losses(run), losses(single), atol=0, rtol=1e-5)
    way = sum(learning_rate(step, STEPS, PEAK, 50) for step in range(STEPS))
    with np.load(run / "weights.npz") as one, np.load(single / "weights.npz") as two:
        for name in two:
            layer, kind = name.rsplit("/", 1)
            unit = way
            if kind.startswith("moving_"):
                variance = two[f"{layer}/moving_variance"]
                unit = variance if kind == "moving_variance" else np.sqrt(variance)
            assert np.sqrt(np.mean(((one[name] - two[name]) / unit) ** 2)) < 0.01, name


def assert_equal_weights(first: Path, second: Path) -> None:
    with np.load(first) as one, np.load(second) as two:
        assert set(one) == set(two)
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_two_workers_train_what_one_device_does(pair: Path, single: Path) -> None:
    assert_equal_weights(pair / "0.npz", pair / "1.npz")
    assert_like(pair / "run", single)
    recorded = artifacts.read_json(pair / "run" / "arguments.json")
    assert recorded["devices"] == {"replicas": 2, "workers": 2, "kinds": ["CPU"], "tensor_float_32": False}
    assert len(list((pair / "run" / "tensorboard").iterdir())) == 1  # the chief's


def test_two_devices_train_what_one_does(data: Path, single: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path), "--data", str(data)]
    command += ["--run", str(tmp_path / "run"), "--strategy", "mirrored", *OPTIONS, "--streams", "2"]
    result = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert_equal_weights(tmp_path / "0.npz", tmp_path / "1.npz")
    assert_like(tmp_path / "run", single)


def workers_of(launcher: subprocess.Popen[str]) -> dict[int, int]:
    """Which worker -> its process, of a launcher."""
    found = {}
    for pid in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        config = [v.partition(b"=")[2] for v in variables if v.startswith(b"TF_CONFIG=")]
        if config:
            found[json.loads(config[0])["task"]["index"]] = int(pid)
    return found


def checkpoint_after(directory: Path, before: set[Path], launcher: subprocess.Popen[str]) -> set[Path]:
    deadline = time.monotonic() + 200
    while (now := set(directory.glob("checkpoints/*.index"))) <= before:
        assert launcher.poll() is None, "it ended before it could be disturbed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return now


def test_a_killed_worker_and_a_stop_change_nothing(data: Path, pair: Path, tmp_path: Path) -> None:
    """kill -9 of worker 1: worker 0 says so and ends, both are started again; SIGTERM stops both, with status 0."""
    directory = tmp_path / "run"
    command = [sys.executable, "-m", "training.launch", "--workers", "2", "--restarts", "1", "--"]
    command += ["--data", str(data), "--run", str(directory), *OPTIONS]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as launcher:
        before = checkpoint_after(directory, set(), launcher)
        os.kill(workers_of(launcher)[1], signal.SIGKILL)
        time.sleep(1)  # what the chief had begun to write when its peer went is no sign of the restart
        before |= set(directory.glob("checkpoints/*.index"))
        checkpoint_after(directory, before, launcher)
        os.kill(workers_of(launcher)[1], signal.SIGTERM)
        errors = launcher.communicate(timeout=200)[1]
    assert launcher.returncode == 0, errors
    assert "worker 1 went away" in errors
    assert "starting all again, 0 restarts left" in errors
    assert "the same command continues" in errors
    assert "Traceback" not in errors
    assert not (directory / "metrics.json").exists()
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=300).returncode == 0
    assert_equal_weights(directory / "weights.npz", pair / "run" / "weights.npz")
    assert (directory / "history.csv").read_bytes() == (pair / "run" / "history.csv").read_bytes()


def test_workers_end_with_a_killed_launcher() -> None:
    code = "import sys; from training import launch; launch.start(2, [sys.executable, '-c', 'input()'])[0].wait()"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE) as launcher:
        deadline = time.monotonic() + 60
        while (
            len(workers := [pid for pid in workers_of(launcher).values() if words(pid)[1:] == [b"-c", b"input()"]]) < 2
        ):
            assert launcher.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        launcher.kill()
        launcher.wait()
        while any(map(words, workers)):
            assert time.monotonic() < deadline, "they live on"
            time.sleep(0.01)


def words(pid: int) -> list[bytes]:
    """A process's command line; empty where it has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def test_a_run_goes_on_in_the_same_layout(tmp_path: Path) -> None:
    """Four replicas on another number of workers take the clips in another order."""

    def document(replicas: int, workers: int) -> dict[str, Any]:
        return {
            "arguments": {"streams": None},
            "data": {"sha256": "0"},
            "devices": {"replicas": replicas, "workers": workers},
        }

    spec = PRESETS["edge-s"]
    for _ in range(2):
        with started(tmp_path / "run", spec, document(4, 2)):
            pass
    for layout, told in ((4, 4), "4 replicas on 4 workers"), ((2, 2), "2 replicas on 2 workers"):
        message = f"there were 4 replicas on 2 workers, now {told}"
        with pytest.raises(TrainingError, match=message), started(tmp_path / "run", spec, document(*layout)):
            pass


def config(cluster: object, kind: str = "worker", index: int = 0) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def test_tf_config() -> None:
    hosts = ["a:1", "b:1"]
    assert devices.parse_config(config({"worker": hosts}, index=1)) == (1, 2)
    assert devices.parse_config(config({"chief": ["c:1"], "worker": hosts}, "chief")) == (0, 3)
    assert devices.parse_config(config({"chief": ["c:1"], "worker": hosts}, index=1)) == (2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "needs the environment variable TF_CONFIG"),
        ("{", "cannot be used"),
        ("[]", "cannot be used"),
        ('{"cluster": {"worker": ["a:1"]}}', "it has no 'task'"),
        (config({"worker": ["a:1"]}, index=1), "the cluster has no worker 1"),
        (config({"worker": ["a:1"], "ps": ["b:1"]}), "it has ps"),
        (config({"worker": ["a"]}), "host:port"),
        (config({"worker": 3}), "cannot be used"),
    ],
)
def test_bad_tf_config(text: str | None, message: str) -> None:
    with pytest.raises(TrainingError, match=message) as error:
        devices.parse_config(text)
    assert '"index": 0' in str(error.value)


def test_refusals(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrainingError, match="not the number of workers"):
        devices.check_share(8, devices.Devices(None, 2, 2, 0), 3)
    with pytest.raises(TrainingError, match="shared out evenly to 3 replicas"):
        devices.check_share(8, devices.Devices(None, 3, 1, 0), None)
    with pytest.raises(SystemExit, match="2"):
        launch.main(["--workers", "2"])
    with pytest.raises(SystemExit, match="2"):
        launch.main(["--restarts", "-1", "--", "--data", "x"])
    assert "at least 0" in capsys.readouterr().err
