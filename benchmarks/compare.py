"""What changed between two results of the benchmarks: every ratio that both have, and those that got worse.

    python -m benchmarks.compare OLD.json NEW.json [--within PERCENT] [--fail]

Ratios are compared, never times: a ratio is of two things in the same run, so that it means the same on a machine that
is slower today. One got worse when it moved by more than --within (15 % unless told) in the wrong direction, and its
intervals then and now do not touch. Without --fail the exit status says only whether the comparison could be made:
on a shared machine nothing should be refused because of a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training import cli

from . import machine, options, record
from .timing import Ratio

WITHIN = 15.0  # percent


@dataclass(frozen=True)
class Change:
    """A ratio then and now. `factor` is now over then, over 1 where it got worse."""

    name: str
    then: Ratio
    now: Ratio
    lower_is_better: bool

    @property
    def factor(self) -> float:
        return self.now.value / self.then.value if self.lower_is_better else self.then.value / self.now.value

    @property
    def apart(self) -> bool:
        """Whether the intervals do not touch."""
        return self.now.low > self.then.high or self.then.low > self.now.high

    def verdict(self, within: float) -> str:
        """Within so many percent, or else what happened."""
        limit = 1 + within / 100
        if 1 / limit <= self.factor <= limit:
            return "the same"
        if not self.apart:
            return "unclear"
        return "worse" if self.factor > 1 else "better"


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """All ratios that two documents have in common."""
    for name, section in new["sections"].items():
        before = old["sections"].get(name, {"ratios": {}})["ratios"]
        for ratio, found in section["ratios"].items():
            if ratio in before:
                yield Change(f"{name}: {ratio}", _ratio(before[ratio]), _ratio(found), found["better"] == "lower")


def _ratio(found: Mapping[str, Any]) -> Ratio:
    return Ratio(found["value"], found["low"], found["high"])


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = options.described("python -m benchmarks.compare", str(__doc__))
    made.add_argument("old", type=Path, metavar="OLD.json", help="such as one in benchmarks/results/")
    made.add_argument("new", type=Path, metavar="NEW.json")
    made.add_argument("--within", type=cli.positive_float, default=WITHIN, metavar="PERCENT", help="that do not count")
    made.add_argument("--all", action="store_true", help="show what is the same as well")
    made.add_argument("--fail", action="store_true", help="exit with 1 if a ratio got worse")
    return made


def main() -> int:
    """Compare, and print what is not the same."""
    arguments = parser().parse_args()
    old, new = record.read(arguments.old), record.read(arguments.new)
    for key in ("cpu", "kind", "engine", "numpy", "python"):
        then, now = (each["machine"].get(key) for each in (old, new))
        if then != now:
            print(f"note: {key} was {then}, is {now}")
    found = sorted(changes(old, new), key=lambda change: -change.factor)
    if not found:
        raise cli.TrainingError(f"{arguments.old} and {arguments.new} have no ratio in common")
    counts = dict.fromkeys(("worse", "unclear", "better", "the same"), 0)
    rows = []
    for change in found:
        verdict = change.verdict(arguments.within)
        counts[verdict] += 1
        if verdict != "the same" or arguments.all:
            moved = change.now.value / change.then.value
            rows.append(f"| {change.name} | {change.then} | {change.now} | {moved:.2f} | {verdict} |")
    if rows:
        print("| ratio | then (95 %) | now (95 %) | now / then | |\n|---|---:|---:|---:|---|", *rows, sep="\n")
    print(f"\n{len(found)} ratios: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    print(f"then {old['date']} {old['commit']}, now {new['date']} {new['commit']} on {machine.name(new['machine'])}")
    return int(arguments.fail and counts["worse"] > 0)


if __name__ == "__main__":
    cli.run(main)
