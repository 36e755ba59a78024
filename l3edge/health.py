"""Health of a stream, at a local HTTP endpoint.

`/metrics` has all figures in Prometheus' text format, `/health` whether all is well, as JSON and as the status: 200,
or 503 where no hop has come for a while. One request is answered at a time, within two seconds, so that whoever asks
cannot make the device run out of threads. No one is asked for a password: it listens on loopback unless told otherwise.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from . import figures
from .errors import Error, OptionError

REQUEST_SECONDS = 2.0
STALE_SECONDS = 10.0  # without a hop
STALE_HOPS = 3  # the same, where hops are long
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Settings:
    """Where health is told, and how often sinks are told of it."""

    host: str = "127.0.0.1"
    port: int | None = None  # without one there is no endpoint
    interval: float = 60.0  # s, between the health messages to sinks

    def __post_init__(self) -> None:
        if self.port is not None and not 0 <= self.port <= 65_535:
            raise OptionError(f"port must be from 0 to 65535, got {self.port}")
        if not 1 <= self.interval <= 86_400:
            raise OptionError(f"interval must be from 1 to 86400 s, got {self.interval:g}")


class Board:
    """The figures as they were last written, for other threads to read. hop: seconds between two."""

    def __init__(self, hop: float = 0.1) -> None:
        self.stale = max(STALE_SECONDS, STALE_HOPS * hop)
        self.figures: Mapping[str, float] = {"hops": 0, "connected": 0}  # until there is a source
        self.sinks: Mapping[str, Mapping[str, float]] = {}
        self._hops, self._progress = 0.0, time.monotonic()

    def write(self, now: Mapping[str, float], sinks: Mapping[str, Mapping[str, float]]) -> None:
        """Replace them."""
        if now["hops"] != self._hops:
            self._hops, self._progress = now["hops"], time.monotonic()
        self.figures, self.sinks = now, sinks

    @property
    def idle(self) -> float:
        """Seconds since the number of hops was seen to grow."""
        return time.monotonic() - self._progress


def url(host: str, port: int) -> str:
    """The endpoint's address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Endpoint:
    """The HTTP server, on a thread of its own; a context manager."""

    def __init__(self, host: str, port: int, board: Board) -> None:
        handler = type("Handler", (_Handler,), {"board": board})
        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), handler)
        except (OSError, OverflowError) as error:
            raise Error(f"health cannot be told at {host} port {port}: {error}; choose another port or host") from error
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, args=[POLL_SECONDS], name="l3edge-health", daemon=True)

    @property
    def url(self) -> str:
        """Where it is, also where the port was chosen by the system (0)."""
        host, port = self._server.server_address[:2]
        return url(str(host), int(port))

    def __enter__(self) -> Endpoint:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.cut()
        self._server.shutdown()
        self._server.server_close()


class _Server(HTTPServer):
    allow_reuse_address = True
    _current: socket.socket | None = None

    def cut(self) -> None:
        """End the request that is being answered."""
        if current := self._current:
            _shut(current)

    def process_request(self, request: Any, client_address: Any) -> None:
        """As its parent's, for so long: one byte a second would keep all others waiting."""
        cut = threading.Timer(REQUEST_SECONDS, _shut, [request])
        cut.daemon = True
        cut.start()
        self._current = request
        try:
            super().process_request(request, client_address)
        finally:
            self._current = None
            cut.cancel()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or sent what is no HTTP, is none of our business."""

    def server_bind(self) -> None:
        """As HTTPServer's, without looking up our own name, which may take many seconds where DNS is away."""
        super(HTTPServer, self).server_bind()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Server6(_Server):
    address_family = socket.AF_INET6


def _shut(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    board: Board
    server_version, sys_version = "l3edge", ""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.path == "/metrics":
            text = figures.prometheus(self.board.figures, self.board.sinks)
            self._answer(200, "text/plain; version=0.0.4; charset=utf-8", text)
        elif self.path == "/health":
            idle = self.board.idle
            well = idle < self.board.stale
            told = {
                "well": well,
                "seconds_since_a_hop": round(idle, 1),
                **self.board.figures,
                "sinks": self.board.sinks,
            }
            self._answer(200 if well else 503, "application/json", json.dumps(told, indent=1) + "\n")
        else:
            self._answer(404, "text/plain; charset=utf-8", "there are /metrics and /health\n")

    def _answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: months of scrapes would fill the journal."""
