"""A real Mosquitto for tests, someone who listens to it, and a network in between that can be slow, stuck or cut."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.sinking import until


def need(*programs: str) -> None:
    """Skip where one is missing; in CI that is a failure."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        reason = f"a broker needs {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; CI must have it")
        pytest.skip(reason)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class Mosquitto:
    """A broker that keeps what subscribers with a session have not got yet, also while it is stopped."""

    folder: Path
    lines: tuple[str, ...] = ("allow_anonymous true",)
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        need("mosquitto")
        self.folder.mkdir(exist_ok=True)
        settings = [
            f"listener {self.port} 127.0.0.1",
            "user root",
            "persistence true",
            f"persistence_location {self.folder}/",
            "max_queued_messages 0",
            *self.lines,
        ]
        (self.folder / "mosquitto.conf").write_text("\n".join(settings) + "\n")
        with (self.folder / "log").open("ab") as log:
            command = ["mosquitto", "-c", str(self.folder / "mosquitto.conf")]
            self._process = subprocess.Popen(command, stderr=log, stdout=log)
        until(self._answers)

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, (self.folder / "log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
            return True
        return False

    def reload(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(30)
        self._process = None


class Listener:
    """A client of the broker that keeps all it hears, across restarts of the broker."""

    def __init__(self, broker: Mosquitto, topic: str = "l3edge/#", **client: Any) -> None:
        from paho.mqtt import client as paho

        self.heard: list[tuple[str, bytes, bool]] = []  # topic, payload, whether it was retained
        self.repeats = 0  # messages that the broker itself says it sends again, as it had no answer of ours
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, f"listener-{id(self)}", clean_session=False)
        self._client.reconnect_delay_set(0.05, 0.2)
        if "username" in client:
            self._client.username_pw_set(client["username"], client["password"])
        if "ca_file" in client:
            self._client.tls_set(str(client["ca_file"]))
        subscribed = threading.Event()
        self._client.on_connect = lambda made, *_: made.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = self._hear
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert subscribed.wait(30)

    def _hear(self, _client: object, _data: object, message: Any) -> None:
        self.heard.append((message.topic, message.payload, message.retain))
        self.repeats += message.dup

    def messages(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for topic, payload, _ in list(self.heard) if topic.endswith(f"/{kind}")]

    def status(self) -> list[bytes]:
        return [payload for topic, payload, _ in list(self.heard) if topic.endswith("/status")]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Network:
    """What lies between a client and a broker: a port that passes on bytes, as slowly as asked, until it is cut.

    Attributes:
        rate: bytes a second, either way; None as fast as they come
        stuck: nothing is passed on, though connections are accepted
        connections: so far
    """

    def __init__(self, port: int) -> None:
        self.rate: int | None = None
        self.stuck = False
        self.connections = 0
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._mutex, self._ended = threading.Lock(), False
        self.port: int = self._server.getsockname()[1]
        self._threads = [threading.Thread(target=work) for work in (self._accept, self._pass)]
        for thread in self._threads:
            thread.start()

    def _accept(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                client, _ = self._server.accept()
                if self._ended:
                    client.close()
                    return
                self.connections += 1
                try:
                    broker = socket.create_connection(("127.0.0.1", self._target), 5.0)
                except OSError:
                    client.close()
                    continue
                with self._mutex:
                    self._pairs |= {client: broker, broker: client}

    def _pass(self) -> None:
        while not self._ended:
            with self._mutex:
                pairs = dict(self._pairs)
            if self.stuck or not pairs:
                time.sleep(0.01)
                continue
            with selectors.DefaultSelector() as selector:
                with contextlib.suppress(ValueError, OSError):  # closed meanwhile
                    for one in pairs:
                        selector.register(one, selectors.EVENT_READ)
                most = max(1, self.rate // 100) if self.rate else 65536
                for key, _ in selector.select(0.01):
                    one: Any = key.fileobj
                    try:
                        data = one.recv(most)
                        pairs[one].sendall(data)
                    except OSError:
                        data = b""
                    if not data:
                        self._close(one)
            if self.rate:
                time.sleep(0.01)

    def _close(self, one: socket.socket) -> None:
        with self._mutex:
            for each in (one, self._pairs.pop(one, None)):
                if each:
                    self._pairs.pop(each, None)
                    each.close()

    def cut(self) -> None:
        """End all connections, with what is under way."""
        for one in list(self._pairs):
            self._close(one)

    def close(self) -> None:
        self._ended = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 5.0).close()
        for thread in self._threads:
            thread.join(30)
        self.cut()
        self._server.close()
