"""Sections on where the network comes from: its data, its layers, its arguments."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

import numpy as np

from .. import correspondence, pretrain
from ..backend import tf
from . import embedded
from .findings import SIDES, Findings
from .markup import bar, facts, figure, note, table, text
from .results import spectrogram

SAMPLES = 8  # clips shown
MOST_LABELS = 60  # listed


def command(findings: Findings) -> str:
    """The commands that make the run and this page."""
    recorded = findings.run.arguments["arguments"]
    defaults = vars(pretrain.parse_arguments(["--data", "-", "--run", "-"]))
    words = ["python", "-m", "training.pretrain"]
    for name in sorted(recorded, key=lambda name: (name not in ("preset", "data", "run"), name)):
        value, option = recorded[name], name.replace("_", "-")
        if isinstance(value, bool):
            if value or defaults.get(name) is True:
                words.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, list):
            words += [f"--{option}", *map(str, value)] if value else []
        elif value is not None:
            words += [f"--{option}", str(value)]
    report = ["python", "-m", "training.report", findings.name, "--data", str(findings.data.directory)]
    return f"<pre>{text(shlex.join(words))}\n{text(shlex.join(report))}</pre>"


def _samples(findings: Findings) -> str:
    """A few clips, of different videos and as far as possible of different labels."""
    clips, spec = findings.clips, findings.run.spec
    chosen: dict[tuple[str, ...], int] = {}
    for row in np.unique(clips.groups, return_index=True)[1]:
        chosen.setdefault(clips.labels[row], int(row))
    every = np.sort(np.unique(clips.groups, return_index=True)[1])
    rows = list(dict.fromkeys([*sorted(chosen.values()), *map(int, every)]))
    rows = [rows[k * len(rows) // min(SAMPLES, len(rows))] for k in range(min(SAMPLES, len(rows)))]
    features = correspondence.features(tf.constant(clips.audio[np.array(rows)]), spec).numpy()[..., 0]
    cards = [
        f'<div class="card"><div class="picture"><img src="{embedded.picture(embedded.frame(clips.images[row]))}" '
        f'alt="frame"><img class="sound" src="{embedded.picture(spectrogram(findings, heard))}" alt="spectrogram"></div>'
        f'<audio controls preload="metadata" src="{embedded.sound(clips.audio[row], spec.sample_rate)}"></audio>'
        f"<p><b>{text(', '.join(clips.labels[row]) or 'no label')}</b> "
        f'<span title="{text(clips.names[row])}">{text(clips.names[row])}</span></p></div>'
        for row, heard in zip(rows, features, strict=True)
    ]
    return figure(
        f'<div class="cards">{"".join(cards)}</div>',
        "<b>Held-out clips as the network gets them</b>: the frame, and the second of sound around it.",
        "wide",
    )


def data(findings: Findings) -> str:
    """Videos, verdicts, splits, labels, and a few clips."""
    told = findings.data.statistics
    verdicts: dict[str, int] = told["verdicts"]
    settings: dict[str, Any] = told["settings"]
    parts = [
        facts(
            [
                ("videos given", f"{told['videos']:,}"),
                ("videos kept", f"{verdicts.get('kept', 0):,}"),
                ("sound kept", f"{told['hours']:.2f} hours"),
                ("frames", f"{told['frames']:,}"),
                ("shards", f"{told['bytes'] / 1e6:,.1f} MB"),
                *((text(name.replace("_", " ")), text(value)) for name, value in settings.items()),
            ]
        )
    ]
    whole = max(1, sum(verdicts.values()))
    rows = [
        (text(name), f"{n:,}", bar(n / whole, f"{100 * n / whole:.1f} %"))
        for name, n in sorted(verdicts.items(), key=lambda entry: (entry[0] != "kept", -entry[1]))
    ]
    parts.append(
        figure(
            table(("verdict", "videos", "share"), rows, "overall"),
            "<b>The verdict on each video.</b> Only those kept can make honest pairs: a still picture or a silent "
            "track corresponds to anything.",
        )
    )
    splits = [
        (split, *(f"{told['splits'].get(split, {}).get(what, 0):,}" for what in ("videos", "groups", "records")))
        for split in ("train", "validation", "test")
    ]
    parts.append(
        figure(
            table(("split", "videos", "sources", "records"), splits, "overall"),
            "<b>The splits.</b> All clips of one source video are in one split. A record is at most 10 s of a video.",
        )
    )
    labels: dict[str, int] = told.get("labels", {})
    if labels:
        order = sorted(labels, key=lambda name: (-labels[name], name))
        most = max(labels.values())
        items = "".join(
            f"<li>{bar(labels[name] / most, f'{text(name)} <i>{labels[name]:,}</i>')}</li>"
            for name in order[:MOST_LABELS]
        )
        more = f" The {MOST_LABELS} most frequent of {len(labels)}." if len(labels) > MOST_LABELS else ""
        parts.append(
            figure(
                f'<ul class="counts">{items}</ul>',
                "<b>Kept videos by label.</b> Training never sees a label; they serve this page alone." + more,
            )
        )
    else:
        parts.append(note("The data carry no labels."))
    parts.append(_samples(findings))
    return "".join(parts)


def _tower(findings: Findings, side: str) -> str:
    tower = findings.run.model.get_layer(side)
    rows = []
    for layer in tower.layers:
        shape = " × ".join(str(n) for n in layer.output.shape[1:])
        kind = type(layer).__name__
        size = ""
        if hasattr(layer, "kernel_size"):
            size = "{} × {}".format(*layer.kernel_size)
        elif hasattr(layer, "pool_size"):
            size = "{} × {}".format(*layer.pool_size)
        rows.append((text(layer.name), text(kind), size, shape, f"{layer.count_params():,}" if layer.weights else ""))
    axes = {"audio": "time × frequency × channels", "image": "height × width × channels"}.get(side, "units")
    return figure(
        table(("layer", "kind", "size", f"output, {axes}", "parameters"), rows, "layers"),
        f"<b>The {side} {'network' if side == 'fusion' else 'tower'}</b>: {tower.count_params():,} parameters, with "
        "those of batch normalisation.",
    )


def network(findings: Findings) -> str:
    """Front end, layers and arguments."""
    run = findings.run
    front = dataclasses.asdict(run.spec.front_end)
    windows = [
        ("window", f"{run.spec.window:,} samples, {run.spec.window / run.spec.sample_rate:g} s"),
        ("frames used", f"{run.spec.frames_used} of {run.spec.front_end.bins} bins"),
        ("embedding", f"{run.spec.embedding_size:,} values ({text(run.spec.embedding)})"),
        ("streaming", "exact" if run.spec.streaming else "no: each window by itself"),
    ]
    given = [(text(name.replace("_", " ")), text(value)) for name, value in run.arguments["arguments"].items()
             if value is not None]  # fmt: skip
    return "".join(
        [
            "<h3>Front end</h3>",
            facts([*((text(name.replace("_", " ")), text(value)) for name, value in front.items()), *windows]),
            "<h3>Layers</h3>",
            *(_tower(findings, side) for side in (*SIDES, "fusion")),
            "<h3>Arguments</h3>",
            facts(given),
        ]
    )
