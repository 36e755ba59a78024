"""HTML in small pieces. What is passed as `str` is HTML already; `text` makes it of anything else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def text(value: Any) -> str:
    """Any value as HTML text, also inside attributes."""
    return escape(str(value))


def share(value: float | None, digits: int = 1) -> str:
    """A share as a percentage; a dash where there is none."""
    return "–" if value is None or value != value else f"{100 * value:.{digits}f} %"


def figure(content: str, caption: str, kind: str = "") -> str:
    return f'<figure class="{kind}">{content}<figcaption>{caption}</figcaption></figure>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table whose first column is names and whose other columns are numbers."""
    header = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f"<tr><th>{row[0]}</th>" + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values, one beside the other."""
    return '<dl class="facts">' + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows) + "</dl>"


def bar(value: float | None, shown: str) -> str:
    """A number with a bar of a share in [0, 1] behind it."""
    width = 0.0 if value is None or value != value else 100 * value
    return f'<span class="bar" style="--share:{width:.1f}%">{shown}</span>'


def note(content: str) -> str:
    return f'<p class="note">{content}</p>'
