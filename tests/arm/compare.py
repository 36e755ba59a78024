"""Whether ARM gives what x86-64 gives: the bits of the built-in models on examples/scene.flac.

    python -m tests.arm.compare --write F.npz     on each machine: the bits it gives, and that streaming is exact there
    python -m tests.arm.compare A.npz B.npz       then: how far they are apart

On a machine the embeddings that stream out are compared with the window graph's of the same seconds, bit for bit.
Between machines values may differ by one int8 step of the output. Exit status 1 when one of these does not hold.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

import l3edge
from l3edge import audio, engine, model_file
from tests import golden

MOST_STEPS = 1
PACKAGES = ("ai-edge-litert", "tflite-runtime", "numpy", "soxr", "soundfile", "sounddevice")


def machine(runtime: engine.Engine) -> dict[str, Any]:
    """What the bits were made on."""
    versions = {name: engine.package_version(name) for name in PACKAGES}
    return {
        "machine": platform.machine(),
        "kind": engine.cpu_kind(),
        "engine": f"{runtime.name} {runtime.version}",
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        "packages": {name: version for name, version in versions.items() if version != "unknown"},
    }


def write(path: Path, engine_name: str, every: int) -> bool:
    """Bits of each model to a file; whether those of every so manieth window are the ones that streamed out."""
    sound, rate = audio.read(golden.SCENE)
    clip = audio.to_mono(sound).samples
    exact, arrays = {}, {}
    for name in l3edge.models():
        model = l3edge.load(name, engine=engine_name)
        assert rate == model.spec.sample_rate, "no resampler: 32-bit ARM has none"
        window, hop = model.spec.window, model.spec.hop
        begins = range(0, len(clip) - window + 1, every * hop)
        streamed = model.embed(clip, rate)[0][::every][: len(begins)]
        whole = model.network.dequantize(np.stack([model.network.window(clip[i : i + window]) for i in begins]))
        exact[name] = {"values": streamed.size, "differing": int((streamed != whole).sum())}
        arrays[name] = golden.bits(model)
        print(f"{name}: streamed against the window graph, {exact[name]['differing']} of {streamed.size} values differ")
    about = {**machine(model.engine), "streamed against window": exact}
    with model_file.replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
    return not any(row["differing"] for row in exact.values())


def compare(here: Path, there: Path, report: Path | None) -> bool:
    """Print, and write if asked, how far two machines are apart; whether it is no more than may be."""
    with np.load(here, allow_pickle=False) as a, np.load(there, allow_pickle=False) as b:
        machines = [json.loads(str(archive["about"])) for archive in (a, b)]
        rows = {}
        for name in sorted(set(a.files) - {"about"}):
            apart = np.abs(a[name].astype(int) - b[name])
            counts = np.bincount(apart.ravel())
            rows[name] = {
                "values": apart.size,
                "differing": int((apart > 0).sum()),
                "most_steps": int(apart.max()),
                "by_steps": {str(steps): int(count) for steps, count in enumerate(counts) if steps},
            }
    print(" against ".join(f"{m['engine']} on {m['kind']}" for m in machines))
    for name, row in rows.items():
        share = row["differing"] / row["values"]
        print(f"{name}: {share:.3%} of {row['values']} values differ, by {row['most_steps']} int8 step(s) at most")
    if report:
        with model_file.replacing(report) as part:
            part.write_text(json.dumps({"machines": machines, "between machines": rows}, indent=1) + "\n")
    return max(row["most_steps"] for row in rows.values()) <= MOST_STEPS


def main() -> int:
    """Write or compare; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.arm.compare", description=str(__doc__).split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="F.npz", help="two files that --write made")
    parser.add_argument("--write", type=Path, metavar="F.npz", help="write the bits that this machine gives")
    parser.add_argument("--engine", default="auto", help="litert or tflite_runtime (default: the preferred one)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="check one window of N (default: each)")
    parser.add_argument("--json", type=Path, metavar="F", help="write the comparison here as well")
    arguments = parser.parse_args()
    if len(arguments.files) != (0 if arguments.write else 2):
        parser.error("either --write F.npz, or two files to compare")
    good = (
        write(arguments.write, arguments.engine, arguments.every)
        if arguments.write
        else compare(*arguments.files, arguments.json)
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
