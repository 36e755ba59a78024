"""The thread that moves messages from an outbox to an MQTT broker, and forgets them when the broker has them."""

from __future__ import annotations

import random
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from ..errors import Error
from .outbox import Outbox
from .trouble import Trouble

MOST_IN_FLIGHT = 32  # messages sent and not yet acknowledged
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0  # in which a broker acknowledges something, else it is given up and connected to anew
POLL_SECONDS = 0.1
DRAIN_SECONDS = 0.6
CLOSE_SECONDS = 0.9
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # between attempts to connect: doubled from one to the next
REFUSED_WAIT = 60.0


@dataclass(frozen=True)
class Broker:
    """Where messages go, and as whom."""

    host: str
    port: int
    client_id: str
    username: str | None
    password: str | None = field(repr=False)
    tls: ssl.SSLContext | None
    keepalive: int  # s
    status: str  # topic: "online" or "offline", retained


def paho() -> Any:
    """The module paho.mqtt.client; Error where it is missing, or too old."""
    try:
        from paho.mqtt import client
    except ImportError as error:
        raise Error("MQTT needs the package paho-mqtt: pip install 'l3edge[mqtt]'") from error
    if not hasattr(client, "CallbackAPIVersion"):
        raise Error("MQTT needs paho-mqtt 2 or later: pip install -U 'l3edge[mqtt]'")
    return client


class Sender:
    """Connects, sends, waits and connects again, on a thread of its own, until it is closed.

    A message leaves the outbox when the broker has acknowledged it. One that was sent and not acknowledged when the
    connection ended is sent again: the broker may get it twice, as QoS 1 says, and never not at all.

    Attributes:
        connected: whether the broker has accepted us
        connections: so far
        refused, away: troubles, for the session to tell
    """

    def __init__(self, broker: Broker, outbox: Outbox) -> None:
        self._paho = paho()
        self._broker, self._outbox = broker, outbox
        self.connected, self.connections = False, 0
        where = f"mqtt {broker.host}:{broker.port}"
        self.refused, self.away = Trouble(where), Trouble(where)
        self._reason: str | None = None  # why the broker refused us
        self._in_flight: dict[int, int] = {}  # what MQTT calls a message, to what the outbox does
        self._acknowledged: list[int] = []  # still in the outbox
        self._heard = 0.0  # when the broker answered last, or had nothing to answer, of the monotonic clock
        self._ending = threading.Event()
        self._deadline = 0.0
        self._thread = threading.Thread(target=self._run, name="l3edge-mqtt", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send what can be sent in a second; the outbox keeps the rest."""
        self._deadline = time.monotonic() + DRAIN_SECONDS
        self._ending.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        wait = FIRST_WAIT
        while not self._ending.is_set():
            before = self.connections
            problem = self._connection()
            self.connected = False
            if self._ending.is_set():
                break
            if self._reason:
                self.refused.set(
                    f"refused us ({self._reason}); messages wait, and it is tried every {REFUSED_WAIT:g} s"
                )
                self.away.clear()
                self._rest(REFUSED_WAIT)
                continue
            self.away.set(f"{problem}; messages wait, and it is tried again")
            wait = FIRST_WAIT if self.connections != before else wait
            self._rest(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, LONGEST_WAIT)

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._ending.wait(min(left, 1.0)):
            self._outbox.store()

    def _connection(self) -> str:
        """One connection, from its beginning to its end; what ended it."""
        self._reason = None
        self._in_flight.clear()
        client = self._client()
        try:
            client.connect(self._broker.host, self._broker.port, self._broker.keepalive)
            self._heard = time.monotonic()
            while client.loop(POLL_SECONDS) == 0:
                self._turn(client)
                if self._ending.is_set() and self._drained():
                    if self.connected:
                        self._leave(client)
                    break
        except Exception as error:  # whatever a network has, and whatever paho makes of what a broker sent
            return f"cannot be reached ({error})"
        finally:
            if opened := client.socket():
                opened.close()
        return "the connection ended"

    def _client(self) -> Any:
        """A client for one connection: what it has not sent when that ends, the outbox still has."""
        broker, paho = self._broker, self._paho
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, broker.client_id, reconnect_on_failure=False)
        client.connect_timeout = CONNECT_SECONDS
        client.max_inflight_messages_set(2 * MOST_IN_FLIGHT)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls:
            client.tls_set_context(broker.tls)
        client.will_set(broker.status, "offline", qos=1, retain=True)
        client.on_connect, client.on_publish = self._on_connect, self._on_publish
        return client

    def _on_connect(self, client: Any, _data: object, _flags: object, reason: Any, _properties: object) -> None:
        if reason.is_failure:
            self._reason = str(reason)
            return
        self._heard = time.monotonic()
        self.connected = True
        self.connections += 1
        self.refused.clear()
        self.away.clear()
        client.publish(self._broker.status, "online", qos=1, retain=True)

    def _on_publish(self, _client: Any, _data: object, name: int, _reason: object, _properties: object) -> None:
        self._heard = time.monotonic()
        if name in self._in_flight:  # else it was the status
            self._acknowledged.append(self._in_flight.pop(name))

    def _turn(self, client: Any) -> None:
        """What is to be done between two looks at the network."""
        self._forget()
        if self.connected and len(self._in_flight) <= MOST_IN_FLIGHT // 2:
            self._fill(client)
        self._outbox.store()
        now = time.monotonic()
        if self.connected and not self._in_flight:
            self._heard = now
        if now - self._heard > (ANSWER_SECONDS if self.connected else CONNECT_SECONDS):
            raise TimeoutError("it does not answer")

    def _forget(self) -> None:
        """What the broker has."""
        if self._acknowledged and self._outbox.done(self._acknowledged):
            self._acknowledged.clear()

    def _fill(self, client: Any) -> None:
        """Send the oldest messages that are not under way."""
        taken = {*self._in_flight.values(), *self._acknowledged}
        for message in self._outbox.oldest(MOST_IN_FLIGHT):
            if message.id in taken:
                continue
            try:
                sent = client.publish(message.topic, message.payload, qos=1)
            except ValueError:  # of a queue that others have written to: no topic that could be sent
                self._acknowledged.append(message.id)
            else:
                self._in_flight[sent.mid] = message.id

    def _drained(self) -> bool:
        return not self.connected or not self._outbox.waiting or time.monotonic() > self._deadline

    def _leave(self, client: Any) -> None:
        """Say that we go, rather than let the broker find out."""
        said = client.publish(self._broker.status, "offline", qos=1, retain=True)
        end = time.monotonic() + (CLOSE_SECONDS - DRAIN_SECONDS) / 2
        while not said.is_published() and time.monotonic() < end and client.loop(POLL_SECONDS) == 0:
            pass
        client.disconnect()
        self._forget()
