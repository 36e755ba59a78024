"""Where records go. A sink is made for one run: `open_sink(kind, options, about)`, `write` for each record, `close`.

Built-in kinds are those in BUILT_IN; a package adds its own as an entry point of the group `l3edge.sinks`, which names
a callable like those: it takes the options that the user gave (by name: str, int, float, bool or list of str) and what
the records come from, and returns a `Sink`. docs/sinks.md has an example.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .. import settings
from ..errors import Error, OptionError
from ..records import About, Record

GROUP = "l3edge.sinks"  # of entry points
CLOSE_SECONDS = 2.0  # that a sink is waited for at the end
BUILT_IN = {"files": ".files", "mqtt": ".mqtt"}  # modules, imported when asked for: `Settings` and `open_sink`


class Sink:
    """Base of all sinks.

    A device that cannot be written to now, a full card or a broker that is away, is no error: it is counted, reported
    once, and tried again. OptionError, or another l3edge.Error, at the beginning says what can never work.
    """

    def write(self, record: Record) -> None:
        """Take a record. Must not wait: sound goes on."""

    def health(self, figures: Mapping[str, float]) -> None:
        """Take the figures of the stream, now and then, by name; for those who pass them on."""

    def figures(self) -> dict[str, float]:
        """What to know of this sink, by name, such as `written`, `failed`, `dropped`, `waiting`."""
        return {}

    def close(self) -> None:
        """No more will come. Done within a second or two, whatever happens: what is unsent then stays for next time."""


Opener = Callable[[Mapping[str, Any], About], Sink]


def kinds() -> list[str]:
    """Of the sinks that there are, installed ones included."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def open_sink(kind: str, options: Mapping[str, Any], about: About) -> Sink:
    """A sink of a kind; OptionError where there is no such kind, or where the options are not its own."""
    if kind in BUILT_IN:
        opener: Opener = importlib.import_module(BUILT_IN[kind], __name__).open_sink
        return opener(options, about)
    point = _installed(kind)
    try:
        opener = point.load()
    except Exception as error:  # whatever a package does when it is imported
        raise Error(f"the sink {kind!r} ({point.value}) does not load: {type(error).__name__}: {error}") from error
    return opener(options, about)


def close_all(sinks: Mapping[str, Sink]) -> None:
    """Close them at the same time, so that it takes as long as the slowest."""
    closing = [threading.Thread(target=_close, args=each, daemon=True) for each in sinks.items()]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join(CLOSE_SECONDS)


def _close(name: str, sink: Sink) -> None:
    try:
        sink.close()
    except Exception as error:  # of a package's own sink: the others are closed all the same
        warnings.warn(f"sink {name} could not be closed: {error}", stacklevel=1)


def check(kind: str, options: Mapping[str, Any], where: str) -> None:
    """Raise OptionError, which begins with `where`, for options that the kind does not take; of what a package has
    added, only whether it is there."""
    if kind in BUILT_IN:
        settings.read(importlib.import_module(BUILT_IN[kind], __name__).Settings, options, where)
    else:
        _installed(kind)


def _installed(kind: str) -> EntryPoint:
    points = list(entry_points(group=GROUP, name=kind))
    if not points:
        raise OptionError(f"there is no sink {kind!r}; there are {', '.join(kinds())}")
    return points[0]
