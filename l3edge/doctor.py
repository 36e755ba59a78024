"""`l3edge doctor`: whether this machine can run l3edge, line by line, and how to mend what it lacks.

Everything that can take a process down, as tflite-runtime beside NumPy 2 and some audio drivers do, is tried in a
child process.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from . import __version__
from .display import Terminal, dbfs
from .engine import ENGINES, find, installed, package_version
from .errors import EngineError, Error, ModelError
from .model import load

TIMEOUT = 60.0  # seconds, of a child
LISTEN_SECONDS = 0.3
COLOURS = {"ok": "32", "warning": "33", "missing": "2", "failed": "31"}


@dataclass
class Finding:
    """One line."""

    what: str
    state: str  # a key of COLOURS
    detail: str
    mend: str = ""


def run(as_json: bool = False) -> int:
    """Print the findings; 0 when an engine runs the default model, else 1."""
    engines = [_engine(name) for name in ENGINES]
    works = any(finding.state == "ok" for finding in engines)
    if works:
        for finding in engines:
            if finding.state == "missing":
                finding.detail, finding.mend = "not installed, and not needed", ""
    findings = [
        Finding("l3edge", "ok", __version__),
        Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Finding("numpy", "ok", np.__version__),
        *engines,
        _package("soxr", "soxr", "sound that does not have the model's rate"),
        _package("soundfile", "soundfile", "audio files"),
        _mqtt(),
        *_microphone(),
        _edge_tpu(),
    ]
    if as_json:
        print(json.dumps({"works": works, "findings": [asdict(finding) for finding in findings]}, indent=1))
        return 0 if works else 1
    terminal = Terminal(sys.stdout)
    for finding in findings:
        state = terminal.paint(f"{finding.state:8}", COLOURS[finding.state])
        mend = f"; {finding.mend}" if finding.mend else ""
        print(f"{state} {finding.what:16} {finding.detail}{mend}")
    if not works:
        print("l3edge: error: no engine runs the default model", file=sys.stderr)
    return 0 if works else 1


def _child(probe: str, *arguments: str) -> tuple[dict[str, Any] | None, str]:
    """What a function of this module, run in a child process, returned; or None and why not."""
    # The path first: with -c Python looks for modules in the working directory, where anything may lie.
    path = f"import sys; sys.path[:] = {sys.path!r}"
    code = f"{path}; import json; from l3edge import doctor; print(json.dumps(doctor.{probe}(*{arguments!r})))"
    try:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return None, f"did not answer within {TIMEOUT:g} s"
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        return None, f"crashed ({last[0]})"
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer, answer.get("error", "")


def _engine(name: str) -> Finding:
    """Whether an engine is installed and runs the default model."""
    package = ENGINES[name][1]
    if name not in installed():
        return Finding(name, "missing", "not installed", f"pip install {package}")
    version = package_version(package)
    answer, error = _child("probe_engine", name)
    if answer is None or error:
        mend = f"pip install --force-reinstall {package}"
        return Finding(name, "failed", f"{version}: {error}", answer.get("mend", mend) if answer else mend)
    detail = f"{version} runs {answer['model']}, {answer['milliseconds']:.2f} ms a hop"
    return Finding(name, "ok", detail)


def probe_engine(name: str) -> dict[str, Any]:
    """Embed two seconds of a chirp on an engine, in one piece and in two."""
    try:
        find(name)
        model = load(engine=name)
        rate = model.spec.sample_rate
        t = np.arange(2 * rate) / rate
        chirp = (0.3 * np.sin(2 * np.pi * (200 + 800 * t) * t)).astype(np.float32)
        model.embed(chirp, rate)  # warm
        begun = time.perf_counter()
        whole, _ = model.embed(chirp, rate)
        seconds = time.perf_counter() - begun
        stream = model.stream(rate)
        pieces = [*(stream.push(part)[0] for part in (chirp[:12345], chirp[12345:])), stream.flush()[0]]
    except EngineError as error:
        return {"error": str(error), "mend": ""}  # it says so itself
    except ModelError as error:
        return {"error": str(error), "mend": "pip install --force-reinstall l3edge"}
    if not (np.isfinite(whole).all() and np.ptp(whole) > 0):
        return {"error": f"{model.name} gives implausible values"}
    if not np.array_equal(whole, np.concatenate(pieces)):
        return {"error": f"{model.name} streamed differs from {model.name} in one piece"}
    return {"model": model.name, "milliseconds": seconds / len(whole) * 1e3}


def _package(module: str, package: str, purpose: str) -> Finding:
    if not importlib.util.find_spec(module):
        return Finding(package, "missing", f"not installed, needed for {purpose}", f"pip install {package}")
    try:
        importlib.import_module(module)
    except (ImportError, OSError) as error:
        return Finding(package, "failed", f"does not load ({error})", f"pip install --force-reinstall {package}")
    return Finding(package, "ok", package_version(package))


def _mqtt() -> Finding:
    """paho-mqtt, which is not installed unless asked for."""
    finding = _package("paho", "paho-mqtt", "--sink mqtt")
    if finding.state == "ok":
        from .sinks.broker import paho

        try:
            paho()
        except Error as error:
            return Finding("paho-mqtt", "failed", f"{finding.detail}: {error}")
    return finding


def _microphone() -> list[Finding]:
    """sounddevice, PortAudio, and the default microphone."""
    if not importlib.util.find_spec("sounddevice"):
        return [Finding("sounddevice", "missing", "not installed, needed for microphones", "pip install sounddevice")]
    package = Finding("sounddevice", "ok", package_version("sounddevice"))
    answer, error = _child("probe_portaudio")
    if answer is None or error:
        return [package, Finding("portaudio", "missing", error or "does not answer")]
    findings = [package, Finding("portaudio", "ok", answer["version"])]
    if not answer["devices"]:
        hint = "connect one; the user needs the group audio: sudo usermod -aG audio $USER"
        return [*findings, Finding("microphone", "missing", "no input device", hint)]
    heard, error = _child("probe_microphone")
    if heard is None or error:
        return [*findings, Finding("microphone", "warning", error, "l3edge devices lists what there is")]
    detail = f"{heard['name']}, {heard['sample_rate']} Hz, {heard['channels']} channel(s), {heard['level']:.1f} dBFS"
    if heard["silent"]:
        return [*findings, Finding("microphone", "warning", f"{detail}: digital silence", "is it muted?")]
    return [*findings, Finding("microphone", "ok", detail)]


def probe_portaudio() -> dict[str, Any]:
    """PortAudio's version and the number of input devices."""
    from .microphone import device_list

    try:
        devices = device_list()
    except Error as error:
        return {"error": str(error)}
    import sounddevice

    return {"version": sounddevice.get_portaudio_version()[1], "devices": len(devices)}


def probe_microphone() -> dict[str, Any]:
    """Listen to the default microphone for a moment."""
    from .microphone import Microphone

    try:
        with Microphone() as mic:
            blocks, frames = [], 0
            for block in mic:
                blocks.append(block.samples)
                frames += len(block.samples)
                if frames >= LISTEN_SECONDS * mic.sample_rate:
                    break
            heard = np.concatenate(blocks)
            power = float(np.mean(np.square(heard, dtype=np.float64)))
            return {
                "name": mic.device.name,
                "sample_rate": mic.sample_rate,
                "channels": mic.channels,
                "level": dbfs(power),
                "silent": not heard.any(),
            }
    except Error as error:
        return {"error": str(error)}


def _edge_tpu() -> Finding:
    try:
        ctypes.CDLL("libedgetpu.so.1")
    except OSError:
        return Finding("edge tpu", "missing", "libedgetpu.so.1 not found; needed for a Coral Edge TPU only")
    return Finding("edge tpu", "ok", "libedgetpu.so.1 loads")
