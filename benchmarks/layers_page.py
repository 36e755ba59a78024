"""What `benchmarks.layers` found, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .layer_rows import PARTS

LEAST_SHARE = 0.01  # of the hop: what takes less, and multiplies nothing, is one line of the table


def tables(section: Mapping[str, Any]) -> str:
    """Of a section: a table of the models, and one of the operators of each."""
    figures = section["figures"]
    copies = " and ".join(f"{value:.0f} GB/s in {name}" for name, value in figures["copying_gb_a_second"].items())
    head = ["| model | hop µs | front end | convolutions | the rest | at the ceiling µs | at most faster |"]
    head.append("|---|---:|---:|---:|---:|---:|---:|")
    parts = []
    for name, found in figures["models"].items():
        hop, least = (found[key]["value"] for key in ("microseconds", "microseconds_at_the_ceiling"))
        shares = " | ".join(f"{100 * found['parts'][part]['share']['value']:.0f} %" for part in PARTS)
        head.append(f"| {name} | {hop:.1f} | {shares} | {least:.1f} | {hop / least:.2f}x |")
        parts.append(_table(name, found))
    return "\n".join([*head, f"\nCopying: {copies}, read and written.\n", *parts])


def _table(name: str, found: Mapping[str, Any]) -> str:
    ceilings = " and ".join(f"{rate['value']:.0f} in {dtype}" for dtype, rate in found["ceiling_gmacs"].items())
    lines = [
        f"### {name} on {found['engine']}, {found['macs'] / 1e6:.1f} MMAC a hop, ceiling {ceilings} GMAC/s\n",
        "| operator | makes | MMAC | µs (95 %) | of the hop | GMAC/s | of the ceiling | kB | GB/s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    shown, small = shown_and_small(found["rows"])
    for row in shown:
        us = row["microseconds"]
        shape = "x".join(map(str, row["output"]))
        spans = f"{us['value']:.2f} ({us['low']:.2f} to {us['high']:.2f})"
        lines.append(
            f"| {row['title']} | {shape} | {row['macs'] / 1e6:.3f} | {spans} | {100 * row['share']:.1f} % "
            f"| {_shown(row['gmacs'])} | {_shown(row['of_the_ceiling'], 100, ' %')} | {row['bytes'] / 1000:.0f} "
            f"| {_shown(row['gb_a_second'])} |"
        )
    taken, share = (sum(row["microseconds"]["value"] for row in small), sum(row["share"] for row in small))
    lines.append(f"| {len(small)} others | | | {taken:.2f} | {100 * share:.1f} % | | | | |\n")
    return "\n".join(lines)


def shown_and_small(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The rows that are told of one by one, and those that are added up."""
    small = [row for row in rows if not row["macs"] and row["share"] < LEAST_SHARE]
    return [row for row in rows if row not in small], small


def _shown(value: float | None, times: float = 1, unit: str = "") -> str:
    return "" if value is None else f"{times * value:.0f}{unit}"
