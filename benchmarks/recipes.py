"""What each recipe costs and keeps: export, check, compare and time a run by all of them.

    python -m benchmarks.recipes RUN [--seeds 0 1 2] [--data FOLDER] [--work DIR] [--out docs/recipes.md]

For each recipe and seed the run is exported by `python -m export`, calibrated and fine-tuned on the run's own sound
and on one fold of recordings: seed s on fold s modulo the number of folds. A model file that is there already is not
made again, so an interrupted command goes on where it was. Then, of each file:

- All checks of `python -m export.verify M.tflite --against RUN`; a file that fails one ends the command.
- Size, and size by gzip.
- Cosine of its embeddings against those of the float32 file, over the windows of the folds it was not prepared on.
- Window accuracy of a linear probe (`training.probe`), pooled over fold rotations and seeds, and the difference to
  float32 on the same windows, with its 95 % interval over recordings. A second difference leaves out the rotations
  whose test fold the model was prepared on, without labels.
- Time of one step, all recipes in turns (as in `benchmarks.latency`), relative to int8_qat.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gzip
import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import l3edge
from export import __main__ as exporter
from export import recipes
from l3edge import engine
from training import datasets, embedders, rotation
from training.artifacts import read_json, write, write_json
from training.cli import HelpFormatter, TrainingError, positive_int, run
from training.pretrain import load_run

from . import bare
from .choices import cosines
from .machine import describe
from .timing import TURN, in_turns

HERE = Path(__file__).parents[1]
REFERENCE, BASE = "float32", "int8_qat"


def prepared_on(seed: int, folds: Sequence[int]) -> int:
    """The fold that a seed's exports are calibrated and fine-tuned on."""
    return folds[seed % len(folds)]


def files(arguments: argparse.Namespace, folds: Sequence[int], names: Sequence[str]) -> dict[tuple[str, int], Path]:
    """A model file for each recipe and seed, made where there is none with these settings."""
    from tqdm import tqdm

    arguments.work.mkdir(parents=True, exist_ok=True)
    made: dict[tuple[str, int], Path] = {}
    todo = [(recipe, seed) for seed in arguments.seeds for recipe in recipes.RECIPES]
    for recipe, seed in tqdm(todo, desc="exporting", unit=" files", disable=None):
        listens = recipes.RECIPES[recipe].listens
        made[recipe, seed] = path = arguments.work / (f"{recipe}-{seed}.tflite" if listens else f"{recipe}.tflite")
        options = [str(arguments.run), "--output", str(path), "--recipe", recipe, "--seed", str(seed)]
        options += ["--steps", str(arguments.steps)] if arguments.steps else []
        fold = prepared_on(seed, folds)
        heard = [str(arguments.data / name) for name in names if int(Path(name).name.split("-")[0]) == fold]
        options += ["--representative", *heard] if listens else []
        wanted = exporter.parser().parse_args(options)
        if not _is_as_wanted(path, wanted):
            exporter.export(wanted)
    return made


def _is_as_wanted(path: Path, wanted: argparse.Namespace) -> bool:
    """Whether a file is there and was exported from this run with these settings."""
    if not path.exists():
        return False
    provenance = l3edge.load(path).metadata["provenance"]
    heard = ["training split", *(recording.name for recording in wanted.representative)]
    told = {key: value for key, value in provenance["export"].items() if key in _matters(wanted.recipe)}
    settings = {key: getattr(wanted, key) for key in told}
    return (provenance["run"], told, provenance["representative"]) == (wanted.run.name, settings, heard)


def _matters(recipe: str) -> set[str]:
    """The settings that a recipe's result depends on: those that hear nothing have no seed."""
    return {"recipe", "steps", "batch", "learning_rate", "seed"} if recipes.RECIPES[recipe].listens else {"recipe"}


def check(paths: Sequence[Path], against: Path) -> None:
    """Verify files, each once for all: what passed is written down beside it.

    By the command, in a process of its own: tflite-runtime and TensorFlow in one process get in each other's way, and
    the command needs TensorFlow only when the engines are done.
    """
    from tqdm import tqdm

    for path in tqdm(paths, desc="verifying", unit=" files", disable=None):
        passed, digest = path.with_suffix(".verified.json"), l3edge.load(path).identity
        if passed.exists() and read_json(passed)["sha256"] == digest:
            continue
        report = path.with_suffix(".report.json")
        command = [
            sys.executable,
            "-m",
            "export.verify",
            path.resolve(),
            "--against",
            against.resolve(),
            "--json",
            report.resolve(),
        ]
        done = subprocess.run([str(word) for word in command], cwd=HERE, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TrainingError(f"{path} does not pass export.verify: {done.stdout}{done.stderr}")
        write_json(passed, {"sha256": digest, "checks": read_json(report)["checks"]})
        report.unlink()


def _engines() -> str:
    """The engines that `check` ran on: those that are installed and usable here."""
    usable = []
    for name in engine.ENGINES:
        with contextlib.suppress(l3edge.EngineError):
            found = engine.find(name)
            usable.append(f"{found.name} {found.version}")
    return ", ".join(usable)


def step_times(models: dict[str, l3edge.Model], hops: int) -> dict[str, float]:
    """Median microseconds of one step, the models taking turns."""
    stages = {name: bare.invoking(model.engine.interpreter, model.flatbuffer) for name, model in models.items()}
    return {name: float(np.median(values)) for name, values in in_turns(stages, -(-hops // TURN)).items()}


def of_kernels(model: l3edge.Model) -> dict[str, list[float]]:
    """Of each convolution in the file, in order: share of zeros, and most different values in a filter."""
    kernels = recipes.kernels(model.flatbuffer)
    return {
        "sparsity": [round(float((kernel == 0).mean()), 4) for kernel in kernels],
        "values_in_a_filter": [max(len(np.unique(row)) for row in kernel) for kernel in kernels],
    }


def measure(
    made: dict[tuple[str, int], Path], clips: Sequence[datasets.Clip], seeds: Sequence[int], hops: int
) -> dict[str, Any]:
    """All figures, by recipe."""
    from tqdm import tqdm

    folds = sorted({clip.fold for clip in clips})
    models = {path: l3edge.load(path) for path in sorted(set(made.values()))}
    load = functools.cache(datasets.load)
    windows: dict[tuple[Path, int], rotation.Windows] = {}
    counts: dict[tuple[Path, int], rotation.Counts] = {}
    with tqdm(total=len(made), desc="probing", unit=" files", disable=None) as bar:
        for (_, seed), path in made.items():
            if (path, seed) not in windows:
                windows[path, seed] = rotation.embed(embedders.ModelFile(models[path]), clips, seed, load=load)
                counts[path, seed] = rotation.probe(windows[path, seed], clips)
            bar.update()
    times = step_times({recipe: models[made[recipe, seeds[0]]] for recipe in recipes.RECIPES}, hops)
    results = {}
    for recipe, text in ((name, value.text) for name, value in recipes.RECIPES.items()):
        cosines_ = []
        for seed in seeds:
            mine, reference = (windows[made[name, seed], seed] for name in (recipe, REFERENCE))
            unheard = np.array([clip.fold != prepared_on(seed, folds) for clip in clips])[mine.clip]
            cosines_.append(cosines(reference.values[unheard], mine.values[unheard]))
        every = np.concatenate(cosines_)
        own, others = (
            rotation.total([counts[made[name, seed], seed] for seed in seeds]) for name in (recipe, REFERENCE)
        )
        clean_own, clean_others = (
            rotation.total(
                [_unheard(counts[made[name, seed], seed], clips, prepared_on(seed, folds)) for seed in seeds]
            )
            for name in (recipe, REFERENCE)
        )
        files_ = [made[recipe, seed] for seed in seeds]
        first = models[files_[0]]
        results[recipe] = {
            "text": text,
            "bytes": first.path.stat().st_size,
            "gzip_bytes": round(float(np.mean([len(gzip.compress(path.read_bytes(), 9)) for path in files_]))),
            "windows": int(own.windows.sum()),
            "cosine_mean": float(every.mean()),
            "cosine_mean_by_seed": [float(values.mean()) for values in cosines_],
            "cosine_min": float(every.min()),
            "window_accuracy": rotation.estimate(clips, own.correct, own.windows)._asdict(),
            "clip_accuracy": rotation.estimate(clips, own.clips_correct, own.clips)._asdict(),
            "difference": rotation.estimate(clips, own.correct, own.windows, others.correct)._asdict(),
            "difference_unheard": rotation.estimate(
                clips, clean_own.correct, clean_own.windows, clean_others.correct
            )._asdict(),
            "step_microseconds": round(times[recipe], 1),
            "step_relative": round(times[recipe] / times[BASE], 3),
            "parity": [models[path].metadata["parity"] for path in files_],
            "sha256": [models[path].identity for path in files_],
            **of_kernels(first),
        }
    return results


def _unheard(counts: rotation.Counts, clips: Sequence[datasets.Clip], fold: int) -> rotation.Counts:
    """The counts less those of a fold."""
    kept = np.array([clip.fold != fold for clip in clips])
    return rotation.Counts(*(column * kept for column in counts))


def points(estimate: dict[str, float]) -> str:
    """A difference in percentage points, with its interval."""
    return "{:+.2f} ({:+.2f} to {:+.2f})".format(*(100 * estimate[key] for key in ("value", "low", "high")))


def percent(values: Sequence[float]) -> str:
    """Shares as percentages."""
    return " ".join(f"{100 * value:.0f}" for value in values)


def markdown(document: dict[str, Any], picture: str) -> str:
    """The page for people."""
    results, machine, how = document["recipes"], document["machine"], document["how"]
    rows = []
    for name, result in results.items():
        same = name == REFERENCE
        rows.append(
            f"| `{name}` | {result['bytes'] / 1000:.0f} | {result['gzip_bytes'] / 1000:.0f} "
            f"| {'1' if same else format(result['cosine_mean'], '.5f')} "
            f"| {'1' if same else format(result['cosine_min'], '.4f')} "
            f"| {100 * result['window_accuracy']['value']:.1f} | {'0' if same else points(result['difference'])} "
            f"| {'0' if same else points(result['difference_unheard'])} | {result['step_relative']:.2f} |"
        )
    clip_accuracy = results[REFERENCE]["clip_accuracy"]["value"]
    accuracy = "{value:.1%} ({low:.1%} to {high:.1%})".format(**results[REFERENCE]["window_accuracy"])
    values = " ".join(map(str, results["int8_qat_clustered"]["values_in_a_filter"]))
    header = ("recipe", "kB", "gzip, kB", "cosine, mean", "minimum", "window accuracy, %")
    header += ("difference to float32, points (95 %)", "the same, unheard folds", "time of a step, int8_qat = 1")
    return f"""# Recipes

What each recipe of `python -m export` costs and keeps. This page is made by `python -m benchmarks.recipes RUN`; the
figures behind it are in the JSON file beside it.

| {" | ".join(header)} |
|---|{"---:|" * (len(header) - 1)}
{chr(10).join(rows)}

![Size against accuracy]({picture})

{chr(10).join(f"- `{name}`: {result['text']}." for name, result in results.items())}

Measured on run {how["run"]}, seeds {how["seeds"]}, {how["clips"]} clips, {how["windows"]} windows.

- Every file passed `python -m export.verify --against RUN` ({how["engines"]}).
- Prepared ({how["steps"]} steps of training) on the run's sound and on one fold of ESC-10, seed s on fold s + 1,
  without its labels. The cosines are against the float32 file, on the windows of the other folds.
- Accuracy is that of a linear probe (`python -m training.probe`), pooled over fold rotations and seeds; float32 has
  {accuracy} of windows and {clip_accuracy:.1%} of clips.
  The differences are between the same windows, their intervals over recordings. "Unheard folds" leaves out the
  rotations whose test fold the model was prepared on.
- Times: medians of {how["hops"]} steps, the recipes in turns, one thread, {machine["engine"]}, {machine["cpu"]},
  load {machine["load"]}.
- Zeros in each convolution of `int8_qat_pruned`, %: {percent(results["int8_qat_pruned"]["sparsity"])}.
  Dense kernels multiply by zeros like by anything else: pruning saves storage and transfer, not time.
- Most different values in a filter of `int8_qat_clustered`: {values}; the first convolution is left alone.
"""


def draw(results: dict[str, Any]) -> Figure:
    """Size, as a file and compressed, against the difference in window accuracy."""
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    axes = figure.subplots()
    for i, (name, result) in enumerate(results.items()):
        value, low, high = (100 * result["difference"][key] for key in ("value", "low", "high"))
        compressed, file = (result[key] / 1e6 for key in ("gzip_bytes", "bytes"))
        axes.plot([compressed, file], [value] * 2, color=f"C{i}", linewidth=1, alpha=0.6)
        axes.plot(file, value, "o", color=f"C{i}", markerfacecolor="white")
        error = [[value - low], [high - value]]
        axes.errorbar(compressed, value, yerr=error, fmt="o", color=f"C{i}", capsize=3, label=name)
    axes.axhline(-0.5, color="grey", linestyle="--", linewidth=1)
    axes.set(
        xscale="log",
        xlabel="MB: compressed (filled), the file (open)",
        ylabel="window accuracy against float32, points",
    )
    axes.set_xticks([0.5, 1, 2, 5], ["0.5", "1", "2", "5"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.recipes",
        formatter_class=HelpFormatter,
        description="Export a run by every recipe and compare the files: size, likeness to float32, accuracy, time.",
    )
    made.add_argument("run", type=Path, metavar="RUN", help="directory written by python -m training.pretrain")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="S", help="of exports and probes")
    made.add_argument(
        "--data", type=Path, default=datasets.ESC10, metavar="FOLDER", help="as for python -m training.probe"
    )
    made.add_argument("--work", type=Path, metavar="DIR", help="where the model files are (default: RUN/recipes)")
    made.add_argument("--steps", type=positive_int, help="of training in an export (default: the exporter's)")
    made.add_argument("--hops", type=positive_int, default=1000, help="steps to time")
    made.add_argument(
        "--out",
        type=Path,
        default=HERE / "docs" / "recipes.md",
        metavar="F.md",
        help="the page; JSON and PNG beside it",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Export what is missing, measure, write the page."""
    arguments = parser().parse_args(argv)
    arguments.work = arguments.work or arguments.run / "recipes"
    if not arguments.out.parent.is_dir():
        raise TrainingError(f"{arguments.out.parent}: no such directory for the page")
    load_run(arguments.run)  # or an error, before anything is exported
    clips = datasets.read(arguments.data)
    folds = sorted({clip.fold for clip in clips})
    made = files(arguments, folds, [clip.name for clip in clips])
    check(sorted(set(made.values())), arguments.run)
    results = measure(made, clips, arguments.seeds, arguments.hops)
    steps = {l3edge.load(path).metadata["provenance"]["export"]["steps"] for path in set(made.values())}
    document = {
        "machine": describe(l3edge.load(made[BASE, arguments.seeds[0]]).engine),
        "how": {
            "run": arguments.run.name,
            "data": arguments.data.name,
            "engines": _engines(),
            "clips": len(clips),
            "windows": results[REFERENCE]["windows"],
            "seeds": arguments.seeds,
            "steps": steps.pop() if len(steps) == 1 else sorted(steps),
            "hops": arguments.hops,
        },
        "recipes": results,
    }
    picture = io.BytesIO()
    draw(results).savefig(picture, format="png", dpi=120)
    write(arguments.out.with_suffix(".png"), picture.getvalue())
    write_json(arguments.out.with_suffix(".json"), document)
    page = markdown(document, arguments.out.with_suffix(".png").name)
    write(arguments.out, page)
    print(page)
    return 0


if __name__ == "__main__":
    run(main)
