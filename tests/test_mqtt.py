"""MQTT against a real Mosquitto: stopped, refusing, behind a slow, stuck or cut network; what is lost is counted."""

from __future__ import annotations

import base64
import contextlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import l3edge
from l3edge.records import Event, Gap
from l3edge.settings import read
from l3edge.sinks import Sink, mqtt, open_sink
from tests.brokers import Listener, Mosquitto, Network, free_port, need
from tests.reliability import record
from tests.sinking import STARTED, about, hop, until

pytestmark = pytest.mark.once

pytest.importorskip("paho.mqtt")
ROOT = Path(__file__).parent.parent
LABELS = ("door", "rain")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fractions of a second between attempts rather than minutes."""
    for name, seconds in (("FIRST_WAIT", 0.05), ("LONGEST_WAIT", 0.2), ("REFUSED_WAIT", 0.2)):
        monkeypatch.setattr(f"l3edge.sinks.broker.{name}", seconds)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path / "broker")
    made.start()
    yield made
    made.stop()


@dataclass
class Sending:
    """A sink of events alone, and what it warns of."""

    sink: Sink
    caught: list[warnings.WarningMessage]

    def events(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.sink.write(Event("door", number * 0.1, None, 0.5))

    def figure(self, name: str) -> float:
        return self.sink.figures()[name]

    @property
    def warned(self) -> list[str]:
        self.sink.health({})  # which lets it tell
        return [str(warning.message) for warning in self.caught]


@contextlib.contextmanager
def sending(port: int, **options: Any) -> Iterator[Sending]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = {"host": "127.0.0.1", "port": port, "send": ["events"], **options}
        sink = open_sink("mqtt", options, about(labels=LABELS))
        try:
            yield Sending(sink, caught)
        finally:
            sink.close()


@contextlib.contextmanager
def listening(broker: Mosquitto, **client: Any) -> Iterator[Listener]:
    listener = Listener(broker, **client)
    try:
        yield listener
    finally:
        listener.close()


def counts(listener: Listener, kind: str = "events") -> list[int]:
    return [message["number"] for message in listener.messages(kind)]


def without_repeats(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_messages_say_all_of_it(broker: Mosquitto) -> None:
    kinds = ["events", "gaps", "labels", "tags", "hops", "health"]
    told = about(tags=("Dog", "Rain"), labels=LABELS)
    with listening(broker, topic="yard/mic 1/#") as listener:
        options = {"host": "127.0.0.1", "port": broker.port, "topic": "yard/mic 1", "send": kinds}
        sink = open_sink("mqtt", options, told)
        scores = np.array([0.25, 0.75], np.float32)
        sink.write(hop(3, change=float("nan"), tags=np.array([0.9, 0.05], np.float32), labels=scores, label="rain"))
        sink.write(Gap(2.0, 0.25, 12_000))
        sink.write(Event("rain", 0.8, None, 0.75))
        sink.write(Event("rain", 0.8, 1.5, 0.875))
        sink.health({"hops": 7.0, "latency": float("inf")})
        until(lambda: sink.figures()["published"] == 7)
        sink.close()
        until(lambda: len(listener.heard) == 9)
    assert listener.status() == [b"online", b"offline"]
    ((hopped,), (labels,), (tags,)) = map(listener.messages, ("hops", "labels", "tags"))
    run = hopped.pop("run")
    at = {"time": 0.8, "unix": STARTED + 0.8}
    embedding = np.frombuffer(base64.b64decode(hopped.pop("embedding")), "<f4")
    np.testing.assert_array_equal(embedding, hop(3).embedding)
    assert hopped == {"number": 2, **at, "level": -40.0, "change": None}
    assert labels == {"run": run, "number": 0, **at, "label": "rain", "labels": {"rain": 0.75, "door": 0.25}}
    assert tags == {"run": run, "number": 1, **at, "tags": {"Dog": 0.9}}
    (gap,) = listener.messages("gaps")
    assert gap == {"run": run, "number": 3, "time": 2.0, "unix": STARTED + 2.0, "seconds": 0.25, "lost": 12_000}
    begun, ended = listener.messages("events")
    assert begun == {
        **{"run": run, "number": 4, **at, "event": "rain"},
        **{"onset": 0.8, "offset": None, "score": 0.75},
    }
    assert (ended["number"], ended["offset"]) == (5, 1.5)
    (health,) = listener.messages("health")
    assert abs(health.pop("unix") - time.time()) < 600
    assert health == {"run": run, "number": 6, "hops": 7.0, "latency": None}


def test_numbers_are_as_long_as_people_need(broker: Mosquitto) -> None:
    """Times that are sums of hops, and scores that were float32, do not show that."""
    with listening(broker) as listener, sending(broker.port, send=["events", "gaps"]) as sender:
        sender.sink.write(Event("door", 11.950000000000001, 12.350000000000001, 0.9594935774803162))
        sender.sink.write(Gap(0.1 + 0.2, 12_000 / 44_100, 12_000))
        until(lambda: sender.figure("published") == 2)
        until(lambda: len(listener.heard) >= 3)
    ((event,), (gap,)) = map(listener.messages, ("events", "gaps"))
    assert {name: event[name] for name in ("time", "onset", "offset", "score", "unix")} == {
        **{"time": 11.95, "onset": 11.95, "offset": 12.35, "score": 0.9595},
        "unix": STARTED + 11.95,
    }
    assert (gap["time"], gap["seconds"]) == (0.3, 0.272109)


def test_what_is_sent_can_be_chosen_and_labels_come_once_a_second(broker: Mosquitto) -> None:
    scores = np.array([0.25, 0.75], np.float32)
    with listening(broker) as listener, sending(broker.port, send=["labels"]) as sender:
        for number in range(100):
            sender.sink.write(hop(number, labels=scores, label="rain"))
        sender.events([0])
        until(lambda: len(listener.messages("labels")) == 10)
        until(lambda: sender.figure("waiting") == 0)
        assert {topic for topic, _, _ in listener.heard} == {"l3edge/labels", "l3edge/status"}
    assert [round(message["time"], 3) for message in listener.messages("labels")] == [n + 0.5 for n in range(10)]


def test_status_is_retained_and_told_by_the_last_will(broker: Mosquitto, tmp_path: Path) -> None:
    code = (
        "import time\nfrom l3edge.sinks import open_sink\nfrom tests.sinking import about\n"
        f"sink = open_sink('mqtt', {{'host': '127.0.0.1', 'port': {broker.port}}}, about())\n"
        "time.sleep(60)"
    )
    with listening(broker) as listener:
        child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        until(lambda: listener.status() == [b"online"])
        with listening(broker) as late:
            until(lambda: late.heard == [("l3edge/status", b"online", True)])
        child.send_signal(signal.SIGKILL)
        child.wait()
        until(lambda: listener.status() == [b"online", b"offline"])


# --- a broker that is away --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["disk", "memory"])
def test_a_broker_that_is_stopped_and_started_costs_nothing(kept: str, broker: Mosquitto, tmp_path: Path) -> None:
    options = {"queue": str(tmp_path / "queue")} if kept == "disk" else {}
    with listening(broker) as listener, sending(broker.port, **options) as sender:
        sender.events(range(10))
        until(lambda: sender.figure("published") == 10)
        broker.stop()
        until(lambda: sender.figure("connected") == 0)
        sender.events(range(10, 20))
        assert sender.figure("waiting") == 10
        until(lambda: sender.warned)
        broker.start()
        until(lambda: sender.figure("waiting") == 0)
        until(lambda: len(set(counts(listener))) == 20)
        until(lambda: len(sender.warned) == 2)
        waiting, recovered = sender.warned
    assert without_repeats(counts(listener)) == list(range(20))
    assert (sender.figure("published"), sender.figure("reconnects"), sender.figure("dropped")) == (20, 1, 0)
    assert "messages wait" in waiting
    assert "recovered" in recovered


@pytest.mark.parametrize("bound", [50_000, 10_000])
def test_a_broker_away_for_an_hour_of_sound(bound: int, broker: Mosquitto, tmp_path: Path) -> None:
    """36,000 hops; within the bound all arrive, beyond it the oldest are dropped and counted, and the rest in order."""
    options = {"queue": str(tmp_path / "queue"), "queue-messages": bound, "send": ["labels"], "every": 0}
    waiting, scores = min(36_000, bound), np.array([0.25, 0.75], np.float32)
    with listening(broker) as listener:
        broker.stop()
        with sending(broker.port, **options) as sender:
            for number in range(36_000):
                sender.sink.write(hop(number, labels=scores, label="rain"))
            assert (sender.figure("waiting"), sender.figure("dropped")) == (waiting, 36_000 - waiting)
            broker.start()
            until(lambda: sender.figure("waiting") == 0, 120)
            until(lambda: len({payload for _, payload, _ in list(listener.heard)}) > waiting, 120)  # and the status
    assert without_repeats(counts(listener, "labels")) == list(range(36_000 - waiting, 36_000))
    assert (sender.figure("published"), sender.figure("dropped")) == (waiting, 36_000 - waiting)
    name = "within the bound" if bound > 36_000 else "beyond the bound"
    record(f"broker away {name}", {"messages": 36_000, "bound": bound, "arrived": waiting, "dropped": 36_000 - waiting})


def test_what_is_not_sent_at_the_end_is_sent_next_time(broker: Mosquitto, tmp_path: Path) -> None:
    queue = {"queue": str(tmp_path / "queue")}
    begun = time.monotonic()
    with sending(free_port(), **queue) as sender:
        sender.events(range(100))
        begun = time.monotonic()
    assert time.monotonic() - begun < 10
    with listening(broker) as listener, sending(broker.port, **queue) as sender:
        until(lambda: sender.figure("waiting") == 0)
        until(lambda: len(counts(listener)) == 100)
    assert counts(listener) == list(range(100))


@pytest.mark.parametrize(
    ("count", "lost"),
    [(1, "1 message was not delivered, and is lost"), (3, "3 messages were not delivered, and are lost")],
)
def test_what_is_lost_at_the_end_is_told(count: int, lost: str) -> None:
    port = free_port()
    with sending(port) as sender:
        sender.events(range(count))
    told = [str(warning.message) for warning in sender.caught]
    assert told[-1] == f"mqtt 127.0.0.1:{port}: {lost} (queue=PATH keeps them for the next run)"


def test_what_waits_for_the_next_run_is_told(broker: Mosquitto, tmp_path: Path) -> None:
    queue = {"queue": str(tmp_path / "queue")}
    port = free_port()
    for count, what in ((1, "1 message waits"), (2, "2 messages wait")):
        with sending(port, **queue) as sender:
            sender.events([count])
        told = [str(warning.message) for warning in sender.caught]
        assert told[-1] == f"mqtt 127.0.0.1:{port}: {what} in {queue['queue']} for the next run"
    with sending(broker.port, **queue) as sender:
        until(lambda: sender.figure("waiting") == 0)
    assert sender.caught == []


def test_at_the_end_what_can_be_sent_is_sent(broker: Mosquitto) -> None:
    with listening(broker) as listener:
        with sending(broker.port) as sender:
            until(lambda: sender.figure("connected"))
            sender.events(range(200))
        until(lambda: len(counts(listener)) == 200)
        until(lambda: listener.status() == [b"online", b"offline"])
    assert sender.caught == []


# --- a bad network ----------------------------------------------------------------------------------------------------


@pytest.fixture
def network(broker: Mosquitto) -> Iterator[Network]:
    made = Network(broker.port)
    yield made
    made.close()


def test_flapping_loses_nothing_and_repeats_what_qos_1_allows(
    broker: Mosquitto, network: Network, tmp_path: Path
) -> None:
    """30 connections cut at random moments, and 5 restarts of the broker, while messages come all the time."""
    chance, sent = random.Random(8), 0
    with listening(broker) as listener, sending(network.port, queue=str(tmp_path / "queue")) as sender:
        for fault in range(35):
            until(lambda: sender.figure("connected"))
            again = sender.figure("reconnects") + 1
            end = time.monotonic() + chance.uniform(0.0, 0.15)
            while time.monotonic() < end:
                sender.events(range(sent, sent + 20))
                sent += 20
                time.sleep(0.002)
            if fault % 7 == 6:
                broker.stop()
                broker.start()
            else:
                network.cut()
            until(lambda again=again: sender.figure("reconnects") >= again)
        until(lambda: sender.figure("waiting") == 0)
        until(lambda: len(set(counts(listener))) == sent)
        reconnects = sender.figure("reconnects")
    arrived = counts(listener)
    assert without_repeats(arrived) == list(range(sent))
    repeats = len(arrived) - sent - listener.repeats
    assert 0 <= repeats <= 32 * reconnects  # those in flight when a connection ends
    assert (sender.figure("published"), sender.figure("dropped"), sender.figure("failed")) == (sent, 0, 0)
    figures = {"faults": 35, "messages": sent, "arrived": sent, "arrived again": repeats, "lost": 0}
    record("broker flapping", figures)


def test_a_slow_network_loses_nothing_and_nobody_waits_for_it(
    broker: Mosquitto, network: Network, tmp_path: Path
) -> None:
    network.rate = 20_000
    with listening(broker) as listener, sending(network.port, queue=str(tmp_path / "queue")) as sender:
        until(lambda: sender.figure("connected"))
        begun = time.monotonic()
        sender.events(range(1000))  # some 150 kB
        took = time.monotonic() - begun
        assert sender.figure("waiting") > 500, "the network was not slow"
        assert took < 10
        until(lambda: len(counts(listener)) > 20)
        network.rate = None
        until(lambda: len(counts(listener)) >= 1000)
    assert counts(listener) == list(range(1000))
    record("broker slow", {"messages": 1000, "lost": 0, "arrived again": 0, "longest a thousand writes took, s": took})


def test_a_network_that_is_stuck_is_given_up_and_tried_again(
    broker: Mosquitto, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it was connected, and before: neither has an end that anybody would tell."""
    monkeypatch.setattr("l3edge.sinks.broker.ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("l3edge.sinks.broker.CONNECT_SECONDS", 0.3)
    with listening(broker) as listener, sending(network.port) as sender:
        sender.events(range(10))
        until(lambda: sender.figure("published") == 10)
        network.stuck = True
        before = network.connections
        sender.events(range(10, 20))
        until(lambda: network.connections >= before + 3)
        until(lambda: any("does not answer" in text for text in sender.warned))
        network.stuck = False
        network.cut()
        until(lambda: sender.figure("waiting") == 0)
        until(lambda: len(set(counts(listener))) == 20)
    assert without_repeats(counts(listener)) == list(range(20))


def test_closing_does_not_wait_for_a_network_that_is_stuck(broker: Mosquitto, network: Network, tmp_path: Path) -> None:
    with sending(network.port, queue=str(tmp_path / "queue")) as sender:
        until(lambda: sender.figure("connected"))
        network.stuck = True
        sender.events(range(10))
        begun = time.monotonic()
    assert time.monotonic() - begun < 10


def test_what_is_no_broker_is_survived() -> None:
    """Whatever bytes a stranger sends: an error, told once."""
    chance = random.Random(9)
    server = socket.create_server(("127.0.0.1", 0))
    served = 0

    def serve() -> None:
        nonlocal served
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                accepted = b"\x20\x02\x00\x00" if served % 2 else b""
                connection.sendall(accepted + chance.randbytes(chance.randrange(1, 200)))
                connection.settimeout(0.05)
                connection.recv(1000)
            served += 1

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with sending(server.getsockname()[1]) as sender:
        sender.events(range(10))
        until(lambda: served >= 60)
        assert sender.warned
        assert sender.figure("waiting") + sender.figure("published") == 10


# --- who may ----------------------------------------------------------------------------------------------------------


def passwords(path: Path, password: str) -> None:
    need("mosquitto_passwd")
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(path), "device", password], check=True)
    path.chmod(0o644)


def test_refused_credentials_are_told_once_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine\n")
    secret.chmod(0o600)
    accepted = tmp_path / "passwords"
    passwords(accepted, "another")
    broker = Mosquitto(tmp_path / "broker", ("allow_anonymous false", f"password_file {accepted}"))
    broker.start()
    network = Network(broker.port)
    try:
        with sending(network.port, username="device", **{"password-file": str(secret)}) as sender:
            sender.events(range(10))
            until(lambda: sender.warned)
            until(lambda: network.connections >= 5)
            (message,) = sender.warned
            assert "refused us" in message
            assert sender.figure("waiting") == 10
            passwords(accepted, "mine")
            broker.reload()
            until(lambda: sender.figure("published") == 10)
            until(lambda: len(sender.warned) == 2)
        record("broker refusing", {"attempts": network.connections, "times told": 1, "lost": 0})
        monkeypatch.setenv("L3EDGE_MQTT_PASSWORD", "mine")
        with sending(broker.port, username="device") as sender:
            until(lambda: sender.figure("connected"))
        monkeypatch.setenv("L3EDGE_MQTT_PASSWORD", "other")
        with sending(broker.port, username="device") as sender:
            until(lambda: sender.warned)
            assert not sender.figure("connected")
    finally:
        network.close()
        broker.stop()


def test_a_password_that_everyone_can_read_is_warned_of(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    secret.chmod(0o644)
    with sending(free_port(), username="device", **{"password-file": str(secret)}) as sender:
        assert "can be read by everyone" in sender.warned[0]


def certificates(folder: Path) -> None:
    """An authority (ca.pem), and a broker of its own at 127.0.0.1 (server.pem, server.key)."""
    need("openssl")
    folder.mkdir()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for command in (
        ("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "2"),
        ("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=broker"),
        (
            *("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-out", "server.pem", "-days", "2", "-extfile", "names"),
        ),
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)


def test_tls_sends_to_those_alone_whom_it_trusts(tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    certificates(ours)
    certificates(tmp_path / "others")
    lines = ("allow_anonymous true", f"certfile {ours}/server.pem", f"keyfile {ours}/server.key")
    broker = Mosquitto(tmp_path / "broker", lines)
    broker.start()
    try:
        trusted = str(ours / "ca.pem")
        with listening(broker, ca_file=trusted) as listener:
            with sending(broker.port, tls=True, **{"ca-file": trusted}) as sender:
                sender.events(range(300))
                until(lambda: len(counts(listener)) == 300)
            assert counts(listener) == list(range(300))
            for options in ({"ca-file": str(tmp_path / "others" / "ca.pem")}, {}):
                with sending(broker.port, tls=True, **options) as sender:
                    sender.events([0])
                    until(lambda: any("certificate" in text for text in sender.warned))
                    assert sender.figure("published") == 0
            with sending(broker.port) as sender:  # no TLS, to one who wants it
                until(lambda: sender.warned)
            assert counts(listener) == list(range(300))
    finally:
        broker.stop()


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "host is missing"),
        ({"host": "two words"}, "host must be a name"),
        ({"host": "mqtt://broker"}, "host must be a name"),
        ({"host": "b", "port": 0}, "port must be from 1"),
        ({"host": "b", "topic": "a/#"}, "topic must be a name without"),
        ({"host": "b", "topic": "+/a"}, "topic must be a name without"),
        ({"host": "b", "topic": "$SYS/a"}, "topic must be a name without"),
        ({"host": "b", "topic": "a" * 257}, "at most 256 bytes"),
        ({"host": "b", "topic": "a\nb"}, "printable"),
        ({"host": "b", "send": ["events", "sound"]}, "send must be some of"),
        ({"host": "b", "ca-file": "ca.pem"}, "ca-file is for TLS"),
        ({"host": "b", "tls": True, "ca-file": "none.pem"}, "is no file"),
        ({"host": "b", "tls": True, "ca-file": __file__}, "no certificates"),
        ({"host": "b", "password-file": "p"}, "needs a username"),
        ({"host": "b", "username": "u", "password-file": "none"}, "cannot be read"),
        ({"host": "b", "username": "u", "password-file": "/dev/zero"}, "is no file"),
        ({"host": "b", "username": "u", "password-file": __file__}, "must hold one line"),
        ({"host": "b", "password": "secret"}, "no setting password; did you mean password-file"),
        ({"host": "b", "queue": "no/such/folder/queue"}, "does not exist"),
        ({"host": "b", "queue": "y" * 5000}, "File name too long"),
        ({"host": "b", "keepalive": 10**400}, "keepalive must be a whole number"),
    ],
)
def test_options_that_can_never_work_are_refused(
    options: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(l3edge.Error, match=words) as refused:
        open_sink("mqtt", options, about())
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named() -> None:
    code = (
        "import sys\nsys.modules['paho'] = None\nfrom l3edge.sinks import open_sink\nfrom l3edge.errors import Error\n"
        "from tests.sinking import about\n"
        "try: open_sink('mqtt', {'host': 'b'}, about())\n"
        "except Error as error: sys.exit(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == "MQTT needs the package paho-mqtt: pip install 'l3edge[mqtt]'\n"


NAMES = [name.replace("_", "-") for name in mqtt.Settings.__dataclass_fields__]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([10**4000, "\ud800", "1e999"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=1000)
@given(st.dictionaries(st.sampled_from(NAMES) | st.text(), VALUES, max_size=8))
def test_no_settings_do_more_than_raise_an_option_error(values: dict[str, Any]) -> None:
    with contextlib.suppress(l3edge.OptionError):
        made = read(mqtt.Settings, values, "mqtt")
        assert 1 <= len(made.host) <= 256


HOSTILE: dict[str, list[Any]] = {
    "host": ["", " ", "a b", "a\0b", "x" * 300, "mqtt://x", "a\nb", 7, None, ["a"], "\ud800"],
    "port": [0, -1, 65536, 10**5000, 1.5, "port", True, None, float("nan")],
    "topic": ["", "#", "a/+", "$SYS", "/a", "a/", "a\0", "x" * 70_000, "a\tb", 3, {}],
    "client-id": ["", "x" * 300, "\x1b[2J", 1, []],
    "tls": ["maybe", 1, None],
    "ca-file": ["/dev/zero", "", 1, "no/such", "."],
    "username": ["", "\0", "u" * 300, 1],
    "password-file": ["/proc/self/mem", "/dev/zero", "no/such", 1, "."],
    "send": ["hops+sound", [1], [["events"]], 1, {"events": True}],
    "every": [-1, float("inf"), "often", 1e9],
    "queue": ["no/such/queue", ".", "/dev/null", "x\0", 1, "y" * 9999],
    "queue-mb": [0, -1, float("nan"), 1e300, "big"],
    "queue-messages": [0, 10**9, 10**5000, 1.5],
    "keepalive": [0, -5, 1e9, "1e5"],
    "password": ["secret"],
    "": [1],
    "x" * 10_000: [1],
}


def test_1000_hostile_settings_are_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chance, threads, reasons = random.Random(10), threading.active_count(), set[str]()
    for _ in range(1000):
        options: dict[str, Any] = {"host": "broker.invalid"}
        for name in chance.sample(sorted(HOSTILE), chance.choice([1, 1, 1, 2, 3])):
            options[name] = chance.choice(HOSTILE[name])
        if "ca-file" in options:
            options.setdefault("tls", True)
        if "password-file" in options:
            options.setdefault("username", "device")
        with pytest.raises(l3edge.Error) as refused:
            open_sink("mqtt", options, about())
        assert len(str(refused.value)) < 12_000
        reasons.add(str(refused.value)[:60])
    assert threading.active_count() == threads
    assert list(tmp_path.iterdir()) == []
    figures = {"settings": 1000, "errors of l3edge": 1000, "different errors": len(reasons), "crashes": 0, "hangs": 0}
    record("hostile-mqtt", figures)
