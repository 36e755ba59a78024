"""MQTT: what a stream tells, as JSON messages to a broker (version 3.1.1, QoS 1), through a bounded queue.

Each message is a JSON object with `run` and `number`: a run of l3edge and a count in it, so that a message that the
broker got twice, as QoS 1 allows, and those that the queue had no room for, can be recognised. `time` is that of the
stream in seconds, `unix` the same as wall-clock time, null where sound has none; both to the microsecond. Numbers that
are not finite are null.
Below the topic (`l3edge` unless told otherwise) there are:

    status  no JSON: online, or offline when the connection has ended, by the broker's last will if need be; retained
    events  time, unix (of the onset), event (label), onset, offset (null while it goes on), score
    gaps    time, unix, seconds, lost
    labels  time, unix, label, labels: {name: score}                        of a stream with a head
    tags    time, unix, tags: {name: score}, of at least 0.1                of a stream with tags
    hops    time, unix, level, change, embedding: base64 of little-endian float32
    health  unix, and the figures of the stream by name

`labels` and `tags` come once in `every` seconds, which is as long as the window that they are about. A broker that
discards what a user may not publish does not say so in this version of MQTT: watch its log.
"""

from __future__ import annotations

import base64
import json
import math
import os
import secrets
import ssl
import stat
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import settings
from ..errors import OptionError
from ..records import About, Event, Gap, Hop, Record
from ..tags import LEAST_SCORE, strongest
from . import Sink
from .broker import Broker, Sender, paho
from .lines import SCORE_DIGITS, TIME_DIGITS, event_values
from .outbox import Outbox

KINDS = ("events", "gaps", "labels", "tags", "hops", "health")
DEFAULT_KINDS = ("events", "gaps", "tags", "health")
PASSWORD_VARIABLE = "L3EDGE_MQTT_PASSWORD"
LONGEST_TEXT = 256  # bytes, of what a broker is told
LONGEST_PASSWORD = 4096
PORT, TLS_PORT = 1883, 8883
MOST_QUEUED = 1_000_000  # messages
MB = 1_000_000


@dataclass(frozen=True)
class Settings:
    """Of a sink to a broker. The password is in `password_file` or in L3EDGE_MQTT_PASSWORD, never in here."""

    host: str
    port: int | None = None  # 1883, with TLS 8883
    topic: str = "l3edge"  # that others are below
    client_id: str | None = None  # for the broker's log; two of the same end each other's connections
    tls: bool = False
    ca_file: Path | None = None  # certificates to trust rather than those of the system
    username: str | None = None
    password_file: Path | None = None
    send: list[str] = field(default_factory=lambda: list(DEFAULT_KINDS))
    every: float = 1.0  # s, between two messages of labels, and of tags
    queue: Path | None = None  # where messages wait; None: in memory, of which they may take queue-mb
    queue_mb: float = 64.0
    queue_messages: int = 100_000
    keepalive: int = 60  # s

    def __post_init__(self) -> None:
        for name, text in (("host", self.host), ("topic", self.topic), ("client-id", self.client_id)):
            _check_text(name, text)
        _check_text("username", self.username)
        if any(mark.isspace() for mark in self.host) or "/" in self.host:
            raise OptionError(f"host must be a name or address, got {self.host!r}")
        if set("+#") & set(self.topic) or self.topic.startswith(("$", "/")) or self.topic.endswith("/"):
            raise OptionError(f"topic must be a name without + and #, without / at its ends, got {self.topic!r}")
        settings.check_range("port", PORT if self.port is None else self.port, 1, 65535)
        settings.check_range("keepalive", self.keepalive, 5, 3600)
        settings.check_range("every", self.every, 0, 3600)
        settings.check_range("queue-mb", self.queue_mb, 0.1, 10_000)
        settings.check_range("queue-messages", self.queue_messages, 1, MOST_QUEUED)
        if unknown := [kind for kind in self.send if kind not in KINDS]:
            raise OptionError(f"send must be some of {', '.join(KINDS)}, got {unknown[0]!r}")
        if self.ca_file and not self.tls:
            raise OptionError("ca-file is for TLS: say tls = true, or leave it out")
        if self.password_file and self.username is None:
            raise OptionError("password-file needs a username")


def _check_text(name: str, text: str | None) -> None:
    if text is not None and (not text.isprintable() or len(text.encode()) > LONGEST_TEXT):
        raise OptionError(f"{name} must be at most {LONGEST_TEXT} bytes of printable text")


def open_sink(options: Mapping[str, Any], about: About) -> Sink:
    """Messages to a broker, which need not be there yet; Error for what can never be."""
    return Mqtt(settings.read(Settings, options, "mqtt"), about)


class Mqtt(Sink):
    """Messages of one run."""

    def __init__(self, options: Settings, about: About) -> None:
        self._options, self._about, self._topic = options, about, options.topic
        self._run, self._number = secrets.token_hex(4), 0
        self._due = {"labels": -math.inf, "tags": -math.inf}  # from which time in the stream on there is another one
        self._broker = _broker(options, f"{options.topic}/status")
        paho()  # an error where it is missing, before the queue is made
        try:
            self._outbox = Outbox(options.queue, options.queue_messages, int(options.queue_mb * MB))
        except OSError as error:
            raise OptionError(f"mqtt: queue {options.queue}: {error.strerror}") from error
        self._sender = Sender(self._broker, self._outbox)

    def write(self, record: Record) -> None:
        if isinstance(record, Event):
            self._put("events", record.onset, event_values(record))
        elif isinstance(record, Gap):
            self._put("gaps", record.time, {"seconds": _time(record.seconds), "lost": record.lost})
        else:
            self._hop(record)
        self._tell()

    def _hop(self, hop: Hop) -> None:
        if hop.labels is not None and self._is_due("labels", hop.time):
            scores = _scores(strongest(self._about.labels, hop.labels))
            self._put("labels", hop.time, {"label": hop.label, "labels": scores})
        if hop.tags is not None and self._is_due("tags", hop.time):
            scores = _scores(strongest(self._about.tags, hop.tags, least=LEAST_SCORE))
            self._put("tags", hop.time, {"tags": scores})
        if "hops" in self._options.send:
            embedding = base64.b64encode(hop.embedding.astype("<f4").tobytes()).decode()
            self._put("hops", hop.time, {"level": hop.level, "change": hop.change, "embedding": embedding})

    def _is_due(self, kind: str, when: float) -> bool:
        if kind not in self._options.send or when < self._due[kind]:
            return False
        self._due[kind] = when + self._options.every - self._about.hop / 2  # of a sum of hops, which is not exact
        return True

    def _put(self, kind: str, when: float | None, told: Mapping[str, Any]) -> None:
        if kind not in self._options.send:
            return
        unix = _time(time.time() if when is None else self._about.unix(when))
        at = {} if when is None else {"time": _time(when)}
        values = {name: _finite(value) for name, value in told.items()}
        message = {"run": self._run, "number": self._number, **at, "unix": unix, **values}
        self._number += 1
        self._outbox.put(f"{self._topic}/{kind}", json.dumps(message).encode())

    def health(self, figures: Mapping[str, float]) -> None:
        self._put("health", None, figures)
        self._tell()

    def figures(self) -> dict[str, float]:
        """Messages published, waiting, dropped beyond the bound, and failed to be queued; of the connection."""
        outbox, sender = self._outbox, self._sender
        return {
            "published": outbox.sent,
            "waiting": outbox.waiting,
            "dropped": outbox.dropped,
            "failed": outbox.failed,
            "reconnects": max(0, sender.connections - 1),
            "connected": int(sender.connected),
        }

    def _tell(self) -> None:
        self._sender.refused.tell()
        self._sender.away.tell()
        self._outbox.tell()

    def close(self) -> None:
        self._sender.close()
        self._outbox.close()
        self._tell()
        if self._outbox.waiting:
            left = _left(self._outbox.waiting, self._options.queue)
            warnings.warn(f"mqtt {self._broker.host}:{self._broker.port}: {left}", stacklevel=2)


def _left(count: int, queue: Path | None) -> str:
    """What becomes of messages that the broker did not get."""
    if queue is None:
        what = "1 message was not delivered, and is" if count == 1 else f"{count} messages were not delivered, and are"
        return f"{what} lost (queue=PATH keeps them for the next run)"
    return f"{'1 message waits' if count == 1 else f'{count} messages wait'} in {queue} for the next run"


def _finite(value: Any) -> Any:
    """A value for JSON, which has no number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _time(seconds: float | None) -> Any:
    """To the microsecond, for JSON."""
    return None if seconds is None else _finite(round(seconds, TIME_DIGITS))


def _scores(named: Sequence[tuple[str, np.float32]]) -> dict[str, float | None]:
    return {name: _finite(round(float(score), SCORE_DIGITS)) for name, score in named}


def _broker(options: Settings, status: str) -> Broker:
    return Broker(
        host=options.host,
        port=options.port or (TLS_PORT if options.tls else PORT),
        client_id=options.client_id or f"l3edge-{secrets.token_hex(4)}",
        username=options.username,
        password=_password(options) if options.username is not None else None,
        tls=_tls(options.ca_file) if options.tls else None,
        keepalive=options.keepalive,
        status=status,
    )


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        if ca_file and not ca_file.is_file():
            raise OptionError(f"mqtt: ca-file {ca_file} is no file")
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise OptionError(f"mqtt: ca-file {ca_file} has no certificates that can be read ({error})") from error


def _password(options: Settings) -> str | None:
    path = options.password_file
    if path is None:
        return os.environ.get(PASSWORD_VARIABLE)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise OptionError(f"mqtt: password-file {path} is no file")
            text = file.read(LONGEST_PASSWORD + 1).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"mqtt: password-file {path} cannot be read ({error})") from error
    if not text or len(text) > LONGEST_PASSWORD or not text.isprintable():
        raise OptionError(f"mqtt: password-file {path} must hold one line, of at most {LONGEST_PASSWORD} characters")
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        warnings.warn(f"mqtt: password-file {path} can be read by everyone on this machine: chmod o= it", stacklevel=2)
    return text
