"""What a second of sound costs: ours and its peers side by side, in one run, on one thread of the same engine.

    python -m benchmarks.peers [ROW...] [--rounds N] [--hops N] [--engine E] [--json F] [--plot DIR]

Each row gives an embedding every 0.1 s, and one of YAMNet's every 0.48 s, its own hop. Its cost is the time of one
embedding, times embeddings a second: of ours a `Stream.push` of 0.1 s, with all that the SDK does; of the others a call
of the bare engine, sound in and embedding out. All front ends are in the graphs and timed with them; resampling is not:
each hears the same sound at its own rate. The clock is that of the process' own CPU time: by a wall clock others would
interrupt every long call and miss nearly all short ones, and the dear rows would look dearer than they are. The default
model is always among the rows: ratios are relative to it.

All is measured twice. Back to back, as in an archive or in a process of many streams, rows take turns of several calls,
and ratios are of the medians of a round's turns, so what disturbs the machine disturbs both sides: this is what the
arithmetic costs. In real time, as on a device, the process sleeps 0.1 s before every call, each row has one call in a
round, and ratios are of those: this has in it that caches, branch predictors and the clock are cold after a sleep, and
that other rows have run since, which is the smaller part. It costs the cheap rows most, ours also for the Python of the
SDK, which the bare engine of the others is without, and ratios shrink.

Memory is that of a fresh process that imports NumPy and the engine, loads the file and runs it; of ours also that of
one that imports l3edge and streams. Accuracy is not measured here: docs/accuracy.json has it (`python -m
benchmarks.accuracy --write`), of those that have learned something. A row that cannot be made says why.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import l3edge
from l3edge import engine as engines
from l3edge.engine import Engine
from l3edge.model import DEFAULT

from . import options, peer_memory, record, timing
from .peer_models import HOP, OURS, PEER, ROWS, WINDOW, Row, Subject
from .timing import Ratio, Times

ACCURACY = record.ROOT / "docs" / "accuracy.json"
TURN = 0.03  # seconds, of those whose calls are so short
REAL_TIME = ", in real time"  # what the names of its ratios end with

# (dearer, cheaper, how many times at least): what this project promises of itself.
TARGETS = (
    ("mel256-float32", DEFAULT, 300),
    ("mel256-int8", DEFAULT, 75),
    ("yamnet-10hz", DEFAULT, 3),
    ("yamnet", "edge-s", 1),
)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = options.parser("peers", str(__doc__), models=False)
    made.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)} (default: all)")
    made.add_argument(
        "--rounds", type=options.positive, default=40, help="every row has a turn in each (default: %(default)s)"
    )
    made.add_argument(
        "--hops",
        type=options.positive,
        default=25,
        help="calls of every row in real time, each after a sleep of 0.1 s (default: %(default)s)",
    )
    return made


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time and weigh the rows, and print the tables; the section."""
    if unknown := [name for name in arguments.rows if name not in ROWS]:
        raise l3edge.OptionError(f"no row {unknown[0]!r}: the rows are {', '.join(ROWS)}")
    engine = engines.find(arguments.engine)
    rows = [row for row in ROWS.values() if row.name in {DEFAULT, *(arguments.rows or ROWS)}]
    subjects, missing = _subjects(rows, engine)
    stages = {name: subject.embed for name, subject in subjects.items()}
    calls = timing.affordable(stages, TURN)
    options.progress(f"{len(stages)} rows, {arguments.rounds} rounds")
    times = timing.in_turns(stages, arguments.rounds, calls, clock=time.process_time_ns)
    options.progress(f"in real time, {arguments.hops} calls of each")
    real = in_real_time(stages, arguments.hops)
    options.progress("memory, in fresh processes")
    with tempfile.TemporaryDirectory() as compiled:
        engine_mb = peer_memory.of_engine(engine, compiled)["resident_mb"]
        memory = {name: _memory(ROWS[name], subjects[name], engine, calls[name], compiled) for name in subjects}
    judged, judged_on = _judged()
    figures = {
        "engine": f"{engine.name} {engine.version}",
        "threads": 1,
        "rounds": arguments.rounds,
        "hops": arguments.hops,
        "engine_mb": engine_mb,
        "judged_on": judged_on,
        "rows": [
            {**_head(row), "missing": missing[row.name]}
            if row.name in missing
            else {
                **_head(row),
                **_times(row, times),
                "real_time": _cost(row, real),
                **_numbers(row, subjects[row.name]),
                **memory[row.name],
                "accuracy": judged.get(subjects[row.name].judged),
            }
            for row in rows
        ],
        "targets": _targets(times, real),
    }
    ratios = _ratios(times)
    ratios.update({name + REAL_TIME: found for name, found in _ratios(real).items()})
    section = record.section(options.command("peers"), ratios, figures)
    print(tables(section))
    return section


def in_real_time(stages: Mapping[str, timing.Call], rounds: int, pause: float = HOP) -> dict[str, Times]:
    """One call of each in every round, after a sleep of so many seconds, which is not timed: [rounds, 1]."""
    times: dict[str, list[list[float]]] = {name: [] for name in stages}
    for _ in range(rounds):
        for name, stage in stages.items():
            time.sleep(pause)
            times[name].append([timing.timed(stage, time.process_time_ns)])
    return {name: np.array(values) for name, values in times.items()}


def _subjects(rows: Sequence[Row], engine: Engine) -> tuple[dict[str, Subject], dict[str, str]]:
    """By row what it measures, or why it cannot."""
    made: dict[str, Subject] = {}
    missing: dict[str, str] = {}
    for row in rows:
        try:
            made[row.name] = row.make(engine)
        except (l3edge.Error, OSError) as error:
            if row.name == DEFAULT:
                raise
            missing[row.name] = str(error)
        except ModuleNotFoundError as error:
            missing[row.name] = f'{error.name} is not installed: pip install -e ".[train]"'
    return made, missing


def _head(row: Row) -> dict[str, Any]:
    return {"name": row.name, "title": row.title, "kind": row.kind, "a_second": round(1 / row.hop, 2)}


def _times(row: Row, times: Mapping[str, Times]) -> dict[str, Any]:
    """Of one embedding, the first of a turn (others have filled the caches), and of a second of sound."""
    own = times[row.name]
    return {
        "microseconds": {**timing.spread(own), "cold": round(float(np.median(own[:, 0])), 1)},
        **_cost(row, times),
        "calls_a_turn": own.shape[1],
    }


def _cost(row: Row, times: Mapping[str, Times]) -> dict[str, Any]:
    """Of a second of sound."""
    return {
        "ms_a_second": float(f"{np.median(times[row.name]) / row.hop / 1000:.4g}"),
        "times_default": _compared(row.name, DEFAULT, times).plain(),
    }


def _compared(dearer: str, cheaper: str, times: Mapping[str, Times]) -> Ratio:
    """How many times as much a second of sound costs."""
    medians = [np.median(times[name], axis=1) / ROWS[name].hop for name in (dearer, cheaper)]
    return timing.of_rounds(medians[0] / medians[1])


def _ratios(times: Mapping[str, Times]) -> record.Ratios:
    """To the default, and of each window to its own model's hop: the dearer a peer, the better for us."""
    ratios = record.Ratios()
    for name in times:
        row = ROWS[name]
        if row.kind == OURS and name != DEFAULT:
            ratios.lower(f"{row.title} / default", _compared(name, DEFAULT, times))
        elif row.kind == WINDOW and (own := name.removesuffix("-window")) in times:
            ratios.higher(f"{row.title} / {own}", _compared(name, own, times))
        elif row.kind == PEER:
            ratios.higher(f"{row.title} / default", _compared(name, DEFAULT, times))
    for dearer, cheaper, _ in TARGETS:
        if cheaper != DEFAULT and {dearer, cheaper} <= times.keys():
            ratios.higher(f"{ROWS[dearer].title} / {ROWS[cheaper].title}", _compared(dearer, cheaper, times))
    return ratios


def _targets(times: Mapping[str, Times], real: Mapping[str, Times]) -> list[dict[str, Any]]:
    return [
        {
            "what": f"{ROWS[dearer].title} / {ROWS[cheaper].title}",
            "least": least,
            "found": _compared(dearer, cheaper, times).plain(),
            "real_time": _compared(dearer, cheaper, real).plain(),
        }
        for dearer, cheaper, least in TARGETS
        if {dearer, cheaper} <= times.keys()
    ]


def _memory(row: Row, subject: Subject, engine: Engine, calls: int, compiled: str) -> dict[str, Any]:
    made = peer_memory.of_file(engine, subject.path, subject.signature, subject.samples, calls, compiled)
    with_sdk = peer_memory.of_sdk(engine, subject.path, calls, compiled) if row.kind == OURS else {}
    return {**made, **{f"sdk_{name}": size for name, size in with_sdk.items()}}


def _numbers(row: Row, subject: Subject) -> dict[str, Any]:
    return {
        "model": subject.model,
        "file_mb": round(subject.path.stat().st_size / 1e6, 2),
        "macs": subject.macs,
        "macs_a_second": round(subject.macs / row.hop),
        "embedding_size": subject.embedding_size,
    }


def _judged() -> tuple[dict[str | None, dict[str, Any]], str | None]:
    """Clip accuracy by model, of clips that it has not heard where there is such; and of which clips, and when."""
    try:
        document = json.loads(ACCURACY.read_text())
    except OSError:
        return {}, None
    rows = sorted(document["rows"], key=lambda row: row["hearing"] == "clean")  # of the same name the last one counts
    found = {row["model"]: {**row["clip_accuracy"], "hearing": row["hearing"]} for row in rows}
    return found, f"{document['data']}, {document['clips']} clips, {document['date']}"


def tables(section: Mapping[str, Any]) -> str:
    """Markdown: the rows, ratios first, what is missing and why, and what was promised."""
    figures = section["figures"]
    lines = [
        "| model | times the default, back to back | times the default, in real time | back to back: CPU ms for a "
        "second of sound | in real time: CPU ms | embeddings a second | clip accuracy | file MB | MMAC for a second "
        "| resident MB | with the SDK | values |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [_line(row) for row in figures["rows"]]
    lines += ["", f"Resident with NumPy and {figures['engine']} alone: {figures['engine_mb']:.1f} MB."]
    if figures["judged_on"]:
        lines.append(
            f"Clip accuracy: of `python -m benchmarks.accuracy`, {figures['judged_on']}; †: whether it has heard these "
            "recordings is not known. The weights of the published L3 networks are seeded here, and have none."
        )
    if figures["targets"]:
        lines += ["", *_promises(figures)]
    return "\n".join(lines)


def _promises(figures: Mapping[str, Any]) -> list[str]:
    """What was promised, whether it is kept back to back and in real time, and why these differ."""
    lines = [
        "| a second of sound, times as much | promised | back to back | kept? | in real time | kept? |",
        "|---|---:|---:|---|---:|---|",
    ]
    for target in figures["targets"]:
        least = target["least"]
        found = [f"**{_ratio(each)}** | {_kept(each, least)}" for each in (target["found"], target["real_time"])]
        lines.append(f"| {target['what']} | at least {least} | {' | '.join(found)} |")
    rows = [row for row in figures["rows"] if "missing" not in row]
    default = next(row for row in rows if row["name"] == DEFAULT)
    dearest = max(rows, key=lambda row: float(row["ms_a_second"]))
    why = (
        "In real time a process sleeps between hops, and the next call finds caches, branch predictors and the clock "
        "cold: that costs a small model as much as its arithmetic or more, and a large one next to nothing (here "
        f"{default['title']} takes {_dearer(default)} times as much as back to back, {dearest['title']} "
        f"{_dearer(dearest)}), and ours have the Python of the SDK in them, which the peers' bare engine has not; the "
        "promises are read as of the arithmetic, back to back, and where one is not kept in real time the table says "
        "so."
    )
    return [*lines, "", why]


def _kept(found: Mapping[str, float], least: float) -> str:
    return "kept" if found["low"] >= least else "not kept" if found["high"] < least else "undecided"


def _dearer(row: Mapping[str, Any]) -> str:
    return timing.shown(row["real_time"]["ms_a_second"] / row["ms_a_second"])


def _line(row: Mapping[str, Any]) -> str:
    if "missing" in row:
        return f"| {row['title']} | missing: {row['missing']} |" + " |" * 10
    accuracy, sdk = row["accuracy"], row.get("sdk_resident_mb")
    measured = (row, row["real_time"])
    cells = [
        row["title"],
        *(f"**{_ratio(each['times_default'])}**" if row["name"] != DEFAULT else "**1**" for each in measured),
        *(timing.shown(each["ms_a_second"]) for each in measured),
        f"{row['a_second']:g}",
        f"{100 * accuracy['value']:.1f} %{'†' if accuracy['hearing'] == 'unknown' else ''}" if accuracy else "–",
        f"{row['file_mb']:.2f}",
        f"{row['macs_a_second'] / 1e6:,.0f}",
        f"{row['resident_mb']:.1f}",
        f"{sdk:.1f}" if sdk else "–",
        str(row["embedding_size"]),
    ]
    return f"| {' | '.join(cells)} |"


def _ratio(found: Mapping[str, float]) -> str:
    return str(Ratio(**found))


def _draw(section: Mapping[str, Any], folder: Path) -> None:
    from .peers_plot import draw  # for which matplotlib is needed, and nowhere else

    draw(section, folder)


def main() -> None:
    """The command."""
    options.run("peers", measure, parser(), draw=_draw)


if __name__ == "__main__":
    main()
