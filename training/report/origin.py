"""Sections on where the network comes from: its data, its layers, its arguments."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np

from l3edge.frontend import LogMel

from .. import arguments, supervised
from ..backend import tf_keras
from . import embedded
from .excitation import card, heard
from .findings import SIDES, Findings
from .markup import bar, facts, figure, note, table, text

SAMPLES = 8  # clips shown
MOST_LABELS = 60  # listed
LINE = 100  # characters of a command

KINDS = {
    "InputLayer": "input",
    "Conv2D": "convolution",
    "MaxPooling2D": "maximum",
    "GlobalMaxPooling2D": "maximum over all",
    "Dense": "fully connected",
    "Concatenate": "concatenation",
    "Permute": "axes exchanged",
    "Flatten": "flattened",
}


def _shell(words: list[str]) -> str:
    """A command in lines of at most `LINE` characters, where its words allow it."""
    lines = [words[0]]
    for word in words[1:]:
        fits = len(lines[-1]) + 1 + len(word) <= LINE
        lines[-1:] = [f"{lines[-1]} {word}"] if fits else [lines[-1], word]
    return " \\\n    ".join(lines)


def command(findings: Findings) -> str:
    """The commands that make the run and this page."""
    recorded = findings.run.arguments["arguments"]
    program, parse = ("supervised", supervised.parser().parse_args) if findings.supervised else (
        "pretrain", arguments.parse_arguments
    )  # fmt: skip
    defaults = vars(parse(["--data", "-", "--run", "-"]))
    words = [f"python -m training.{program}"]
    for name in sorted(recorded, key=lambda name: (name not in ("preset", "data", "run"), name)):
        value, option = recorded[name], name.replace("_", "-")
        if isinstance(value, bool):
            if value or defaults.get(name) is True:
                words.append(f"--{option}" if value else f"--no-{option}")
        elif value not in (None, []):
            values = value if isinstance(value, list) else [value]
            words.append(f"--{option} {shlex.join(map(str, values))}")
    report = ["python -m training.report", shlex.quote(findings.name)]
    report.append(f"--data {shlex.quote(str(findings.data.directory))}")
    return f"<pre>{text(_shell(words))}\n{text(_shell(report))}</pre>"


def _samples(findings: Findings) -> str:
    """A few clips, of different videos and as far as possible of different labels."""
    clips = findings.clips
    videos = np.sort(np.unique(clips.groups, return_index=True)[1])
    by_label = {clips.labels[row]: row for row in reversed(videos)}
    rows = np.array(sorted(by_label.values()) if len(by_label) >= SAMPLES else videos)
    rows = rows[np.arange(min(SAMPLES, len(rows))) * len(rows) // min(SAMPLES, len(rows))]
    cards = [
        card(findings, int(row), embedded.picture(embedded.frame(clips.images[row])), [embedded.picture(sound)])
        for row, sound in zip(rows, heard(findings, rows), strict=True)
    ]
    return figure(
        f'<div class="cards samples">{"".join(cards)}</div>',
        "<b>Held-out clips as the network gets them</b>: the frame, and the second of sound around it as a spectrogram "
        "(time to the right, low frequencies below, the lighter the louder).",
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
                "<b>Kept videos by label.</b> "
                + (
                    "The towers were trained on them."
                    if findings.supervised
                    else "Correspondence is learned without them."
                )
                + more,
            )
        )
    else:
        parts.append(note("The data carry no labels."))
    parts.append(_samples(findings))
    return "".join(parts)


def _tower(findings: Findings, side: str) -> str:
    """The layers of a tower; padding, normalisation and ReLU are in the row of their convolution."""
    tower = findings.run.model.get_layer(side)
    rows: list[list[Any]] = []  # name, kind, shape, parameters
    for layer in tower.layers:
        shape = " × ".join(str(n) for n in layer.output.shape[1:])
        if layer.name.startswith("pad"):
            continue
        if layer.name.startswith(("bn", "relu")):
            rows[-1][1] += ", BN" if layer.name.startswith("bn") else ", ReLU"
            rows[-1][3] += layer.count_params()
            continue
        extent = getattr(layer, "kernel_size", getattr(layer, "pool_size", ()))
        kind = KINDS.get(type(layer).__name__, type(layer).__name__.lower())
        if getattr(layer, "activation", None) is tf_keras.activations.relu:
            kind += ", ReLU"
        rows.append([layer.name, " ".join([" × ".join(map(str, extent)), kind]).strip(), shape, layer.count_params()])
    cells = [(text(name), text(kind), shape, f"{count:,}" if count else "") for name, kind, shape, count in rows]
    total = f"{tower.count_params():,} parameters"
    told = {
        "audio": f"<b>The audio tower</b>: {total}. Outputs are time × frequency × channels.",
        "image": f"<b>The image tower</b>: {total}. Outputs are height × width × channels.",
        "fusion": f"<b>The fusion of both</b>: {total}. Its two outputs are the logits of “no” and “yes”."
        + (" It was not trained." if findings.supervised else ""),
    }
    return figure(table(("layer", "kind", "output", "parameters"), cells, "layers"), told[side])


def network(findings: Findings) -> str:
    """Front end, layers and arguments."""
    run = findings.run
    spec, front = run.spec, run.spec.front_end

    def samples(n: int) -> str:
        return f"{n:,} samples ({1000 * n / spec.sample_rate:g} ms)"

    length = front.frame_length if isinstance(front, LogMel) else front.fft_length
    scale = f"natural log of (magnitude + {front.offset:g})" if isinstance(front, LogMel) else (
        f"decibels below the window's maximum, {front.RANGE:g} at most"
    )  # fmt: skip
    numbers = [
        ("sample rate", f"{spec.sample_rate:,} Hz"),
        ("frames", f"{samples(length)}, every {samples(front.frame_step)}"),
        ("Fourier transform", f"{front.fft_length:,} points"),
        ("bins", f"{front.bins} {'mel bands' if front.bands else 'linear'}, {front.low:,.0f} to {front.high:,.0f} Hz"),
        ("scale", scale),
        ("window", f"{samples(spec.window)}: {spec.frames} frames, of which {spec.frames_used} are used"),
        ("hop", f"{samples(spec.hop)}; {'streams exactly' if spec.streaming else 'each window by itself'}"),
        ("picture", f"{spec.image.size} × {spec.image.size} × 3, in [-1, 1]"),
        ("embedding", f"{spec.embedding_size:,} values ({text(spec.embedding)})"),
    ]
    given = [
        (text(name.replace("_", " ")), text(value))
        for name, value in run.arguments["arguments"].items()
        if value is not None
    ]
    return (
        f'<div class="two"><div><h3>Front end</h3>{facts(numbers)}</div>'
        f"<div><h3>Arguments</h3>{facts(given)}</div></div>"
        "<h3>Layers</h3><p>BN is batch normalisation; its running means and variances are counted.</p>"
        f'<div class="two">{"".join(_tower(findings, side) for side in (*SIDES, "fusion"))}</div>'
    )
