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
    """The figures as they were last written, for other threads to read."""

    def __init__(self) -> None:
        self.figures: Mapping[str, float] = {}
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


class Endpoint:
    """The HTTP server, on a thread of its own; a context manager."""

    def __init__(self, host: str, port: int, board: Board) -> None:
        handler = type("Handler", (_Handler,), {"board": board})
        try:
            self._server = _Server((host, port), handler)
        except (OSError, OverflowError) as error:
            raise Error(f"health cannot be told at {host} port {port}: {error}; choose another port or host") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="l3edge-health", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, also where the port was chosen by the system (0)."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def __enter__(self) -> Endpoint:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(HTTPServer):
    allow_reuse_address = True

    def process_request(self, request: Any, client_address: Any) -> None:
        """As its parent's, for so long: one byte a second would keep all others waiting."""
        cut = threading.Timer(REQUEST_SECONDS, _shut, [request])
        cut.daemon = True
        cut.start()
        try:
            super().process_request(request, client_address)
        finally:
            cut.cancel()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or sent what is no HTTP, is none of our business."""

    def server_bind(self) -> None:
        """As HTTPServer's, without looking up our own name, which may take many seconds where DNS is away."""
        super(HTTPServer, self).server_bind()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


def _shut(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    board: Board
    server_version, sys_version = "l3edge", ""

    def do_GET(self) -> None:
        if self.path == "/metrics":
            text = figures.prometheus(self.board.figures, self.board.sinks)
            self._answer(200, "text/plain; version=0.0.4; charset=utf-8", text)
        elif self.path == "/health":
            idle = self.board.idle
            well = idle < STALE_SECONDS
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
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: months of scrapes would fill the journal."""
