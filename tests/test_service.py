"""As a service: the configuration file, health over HTTP, signals, and the unit as systemd's own tools judge it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l3edge
from l3edge import config, figures, health, service
from l3edge.health import Board, Endpoint
from tests.conftest import STUBS, TAGGED
from tests.test_cli import COMMAND, ENVIRONMENT, parse, run

SCENE = Path(__file__).parent.parent / "examples" / "scene.flac"
PATIENCE = 30.0  # s, for what comes at once unless the machine is busy


def until(condition: Callable[[], Any], what: str) -> Any:
    """What a condition gives as soon as it is true of anything."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} did not come about in {PATIENCE:g} s"
        time.sleep(0.02)
    return found


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Running:
    """`l3edge stream --config` as a process, its lines in files."""

    def __init__(self, folder: Path, text: str, **environment: str) -> None:
        self.file, self.out, self.errors = folder / "field.toml", folder / "out", folder / "errors"
        self.file.write_text(text)
        with self.out.open("wb") as out, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, "stream", "--config", str(self.file)],
                stdout=out,
                stderr=errors,
                env={**ENVIRONMENT, **environment},
                cwd=folder,
            )

    def told(self) -> str:
        return self.errors.read_text()

    def url(self, nth: int = 0) -> str:
        """Where the nth stream tells its health."""
        return str(until(lambda: re.findall(r"health at (\S+)/metrics", self.told())[nth : nth + 1], "health")[0])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started = []

    def begin(text: str, **environment: str) -> Running:
        started.append(Running(tmp_path, text, **environment))
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.process.wait()


LIVE = f"""
[stream]
model = "{STUBS[0]}"
input = "{SCENE}"
realtime = true
format = "jsonl"
[health]
port = 0
"""


# --- the configuration file -------------------------------------------------------------------------------------------


def test_a_file_is_the_options(tmp_path: Path) -> None:
    file = tmp_path / "field.toml"
    file.write_text(f'[stream]\nmodel = "{TAGGED}"\ninput = "{SCENE}"\nformat = "jsonl"\ntags = true\nhop = 0.2\n')
    configured = run("stream", "--config", file)
    given = run("stream", "--model", TAGGED, "--input", SCENE, "--format", "jsonl", "--tags", "--hop", 0.2)
    assert configured.returncode == given.returncode == 0, configured.stderr
    assert configured.stdout == given.stdout
    overridden = run("stream", "--hop", 0.4, "--config", file, "--format", "csv")  # the command line has the last word
    assert [line.partition(",")[0] for line in overridden.stdout.splitlines()[:3]] == ["time", "0.5", "0.9"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hop = 0.2", r"no table 'hop'; there are \[stream\], \[health\] and \[\[sink\]\]"),
        ("[stream]\nhopp = 0.2", r"\[stream\]: there is no setting hopp; did you mean hop\?"),
        ("[stream]\ntgas = false", r"\[stream\]: there is no setting tgas; did you mean tags\?"),
        ("[stream]\nreconnect = false", r"there is no setting reconnect; did you mean no-reconnect\?"),
        ("[stream]\ntag = true", "there is no setting tag; did you mean tags"),
        ("[stream]\nhop = 0.123", r"field.toml: hop must be a multiple of .* use 0.1"),
        ("[stream]\nhead = '/nowhere.json'", r"/nowhere.json: cannot be read"),
        ("[stream]\nmodel = 'avc-s'\ntags = true", "field.toml: model avc-s-1 has no tags"),
        ("[stream]\nconfig = 'other.toml'", "config is not for here: a file names no other"),
        ("[stream]\nhealth = 9097", r"health is not for here: it has a table of its own, \[health\]"),
        ("[stream]\nsink = 'files:dir=x'", r"sink is not for here: each has a table of its own, \[\[sink\]\]"),
        ("[stream]\nrecord = 'heard.wav'", "record is not for here: it begins anew with each start"),
        ("[stream]\nhelp = true", "help is not for here"),
        (
            "[[sink]]\nkind = 'files'\ndir = 'x'\nformat = 'xml'",
            r"\[\[sink\]\] 1 \(files\): format must be jsonl or npz",
        ),
        ("[stream]\ntags = 'yes'", r"\[stream\]: tags must be true or false, got 'yes'"),
        ("[stream]\nhop = true", r"\[stream\]: hop must be text or a number, got True"),
        ("[stream]\nhop = 'often'", r"\[stream\]: hop: invalid float value: 'often'"),
        ("[stream]\nhop = [0.2]", r"\[stream\]: hop must be text or a number, got \[0.2\]"),
        ("[stream]\nformat = 'xml'", r"\[stream\]: format: invalid choice: 'xml'"),
        ("[stream]\ninput = 'a'\ndevice = 'b'", "--input and --device are two sources"),
        ("[stream]\nmodel = 'edge-x'", "no model 'edge-x'"),
        ("[health]\nport = 70000", r"\[health\]: port must be from 0 to 65535, got 70000"),
        ("[health]\nprot = 1", r"\[health\]: there is no setting prot; did you mean port\?"),
        ("[health]\ninterval = true", r"\[health\]: interval must be a number, got True"),
        ("[sink]\nkind = 'files'", r"each sink must be a table, as \[\[sink\]\] makes it"),
        ("[[sink]]\ndir = 'x'", r"\[\[sink\]\] 1: kind is missing; there are files, mqtt"),
        ("[[sink]]\nkind = 'kafka'", "no sink 'kafka'; there are files, mqtt"),
        ("[stream\n", r"not a TOML file: .*line 1"),
        ("a = " + "[" * 20_000, "not a TOML file"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "field.toml"
    file.write_text(text)
    done = run("service", "check", file)
    assert done.returncode in (1, 2), done.stdout
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.startswith("l3edge: error: ")
    assert done.stderr.count("\n") == 1


def test_what_the_sandbox_forbids_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "field.toml"
    sinks = [("heard", ""), ("/var/lib/l3edge/heard", ""), ("/srv/heard", "/srv/heard is not in /var/lib/l3edge")]
    for folder, note in sinks:
        file.write_text(f"[[sink]]\nkind = 'files'\ndir = '{folder}'\n")
        done = run("service", "check", file)
        assert done.returncode == 0
        assert note in done.stdout
        assert bool(note) == ("note: " in done.stdout), done.stdout


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.toml"):
        with pytest.raises(l3edge.OptionError, match="--config names a TOML file"):
            config.read(path)
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (config.LARGEST + 1))
    with pytest.raises(l3edge.OptionError, match="more than 1048576 bytes"):
        config.read(large)
    large.write_bytes(b'a = "\xff"')
    with pytest.raises(l3edge.OptionError, match="not a TOML file"):
        config.read(large)


def test_check_says_what_is_right(tmp_path: Path) -> None:
    file = tmp_path / "field.toml"
    file.write_text("[stream]\nmodel = 'edge-s'\n[health]\nport = 9099\n")
    done = run("service", "check", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{file}: right; sinks: none; health at http://127.0.0.1:9099/metrics\n"


# --- health -----------------------------------------------------------------------------------------------------------


def test_health_of_a_running_stream(start: Callable[..., Running]) -> None:
    running = start(LIVE)
    url = running.url()

    def metrics() -> dict[str, float]:
        status, text = get(f"{url}/metrics")
        assert status == 200
        return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", text, re.MULTILINE)}

    seen = until(lambda: (found := metrics()) and found.get("l3edge_hops_total", 0) > 0 and found, "a hop")
    assert 0 < seen["l3edge_latency_p50_seconds"] <= seen["l3edge_latency_worst_seconds"] < PATIENCE
    assert seen["l3edge_lost_samples_total"] == 0
    assert seen["l3edge_resident_bytes"] > 1e7
    later = until(lambda: (found := metrics())["l3edge_hops_total"] > seen["l3edge_hops_total"] and found, "hops")
    assert later["l3edge_seconds_total"] > seen["l3edge_seconds_total"]
    assert "# TYPE l3edge_hops_total counter" in get(f"{url}/metrics")[1]
    status, text = get(f"{url}/health")
    assert (status, json.loads(text)["well"]) == (200, True)
    assert get(f"{url}/elsewhere")[0] == 404


def test_every_figure_is_one_that_prometheus_reads() -> None:
    """The text format's lines: a name, labels, and a value that Go's ParseFloat takes."""
    told = figures.prometheus(dict.fromkeys(figures.FIGURES, True), {'a"b\\c\n': {"x": 3, "connected": False}})
    for line in told.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            assert re.fullmatch(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{(\w+="([^"\\\n]|\\["\\n])*",?)*\})?', name), line
            assert float(value) in (0, 1, 3)
    assert len(re.findall(r"^# TYPE ", told, re.MULTILINE)) == len(figures.FIGURES) + 1


def test_health_over_ipv6() -> None:
    board = Board()
    try:
        endpoint = Endpoint("::1", 0, board)
    except l3edge.Error as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with endpoint:
        assert endpoint.url.startswith("http://[::1]:")
        assert get(f"{endpoint.url}/health")[0] == 200


def test_health_is_told_to_this_machine_alone() -> None:
    assert health.Settings().host == "127.0.0.1"
    with Endpoint("127.0.0.1", 0, Board()) as endpoint, pytest.raises(l3edge.Error, match="choose another port"):
        Endpoint("127.0.0.1", int(endpoint.url.rpartition(":")[2]), Board())


def test_no_hop_for_a_while_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    board.write({"hops": 3}, {"mqtt": {"waiting": 2}})
    with Endpoint("127.0.0.1", 0, board) as endpoint:
        assert get(f"{endpoint.url}/health")[0] == 200
        monkeypatch.setattr(board, "stale", 0.0)
        assert get(f"{endpoint.url}/health")[0] == 503
        assert 'l3edge_sink{sink="mqtt",figure="waiting"} 2' in get(f"{endpoint.url}/metrics")[1]
    assert Board(hop=60.0).stale == 180.0  # where hops are long, it takes longer to know


def test_clients_that_say_nothing_keep_no_one_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "REQUEST_SECONDS", 0.2)
    board = Board()
    board.write({"hops": 3}, {})
    with Endpoint("127.0.0.1", 0, board) as endpoint:
        address = ("127.0.0.1", int(endpoint.url.rpartition(":")[2]))
        silent = [socket.create_connection(address) for _ in range(4)]
        for each in silent:
            each.sendall(b"GET /metr")
        assert get(f"{endpoint.url}/health")[0] == 200
        for garbage in (b"\0" * 70_000, b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n", b"\xff\xfe\r\n\r\n"):
            with socket.create_connection(address) as client:
                try:
                    client.sendall(garbage)
                    client.recv(100)
                except OSError:
                    pass  # cut off in the middle, as it may be
        assert get(f"{endpoint.url}/health")[0] == 200
        for each in silent:
            each.close()


def test_quantiles_are_those_of_all_latencies() -> None:
    latency = figures.Latency()
    assert (latency.quantile(0.5), latency.worst) == (0.0, 0.0)
    values = [0.002 * 1.01**k for k in range(500)]
    for value in values:
        latency.add(value)
    for share in (0.5, 0.9, 0.99):
        exact = values[round(share * 500) - 1]
        assert exact <= latency.quantile(share) <= exact * 1.13
    assert latency.quantile(1.0) == latency.worst == values[-1]


# --- signals ----------------------------------------------------------------------------------------------------------


def test_a_term_drains_within_two_seconds(start: Callable[..., Running], tmp_path: Path) -> None:
    """Also where a broker takes the connection and never answers, and arrays are to be made of what was heard."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        sinks = f"""
            [[sink]]
            kind = "mqtt"
            host = "127.0.0.1"
            port = {port}
            send = ["hops"]
            queue = "{tmp_path / "queue"}"
            [[sink]]
            kind = "files"
            format = "npz"
            dir = "{tmp_path / "heard"}"
        """
        running = start(LIVE + sinks)
        until(lambda: running.out.read_text().count("\n") > 3, "a few hops")
        begun = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE) == 128 + signal.SIGTERM
        assert time.monotonic() - begun < 2
    lines = running.out.read_text()
    assert lines.endswith("}\n")
    assert f"{len(lines.splitlines())} hops" in running.told()
    (heard,) = (tmp_path / "heard").iterdir()
    with np.load(heard) as made:
        np.testing.assert_array_equal(made["times"], parse(lines)[1])


def test_a_hangup_reads_the_configuration_again(start: Callable[..., Running]) -> None:
    running = start(LIVE)
    first = running.url()
    until(lambda: running.out.read_text().count("\n") > 2, "a few hops")
    wrong = [
        LIVE.replace("realtime", "reeltime"),
        LIVE.replace("[stream]", "[stream]\nhead = '/nowhere.json'"),
        LIVE.replace("[stream]", "[stream]\nhop = 0.123"),
        LIVE.replace(str(STUBS[0]), "/nowhere.tflite"),
        LIVE + "[[sink]]\nkind = 'files'\ndir = 'heard'\nformat = 'xml'\n",
    ]
    refusal = "warning: the configuration is not read again: "
    for number, text in enumerate(wrong, 1):
        running.file.write_text(text)
        running.process.send_signal(signal.SIGHUP)
        until(lambda refusals=number: running.told().count(refusal) == refusals, "a refusal")
        assert running.process.poll() is None
        assert get(f"{first}/health")[0] == 200  # as it was
    running.file.write_text(LIVE.replace(str(STUBS[0]), str(TAGGED)))
    running.process.send_signal(signal.SIGHUP)
    second = running.url(1)
    assert second != first
    until(lambda: running.out.read_text().count('"time": 0.5,') == 2, "the second stream's first hop")
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert running.told().count(" hops, ") == 2  # each stream said how it went


def test_systemd_is_told(start: Callable[..., Running], tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(address))
        listener.settimeout(PATIENCE)
        running = start(LIVE, NOTIFY_SOCKET=str(address), WATCHDOG_USEC="300000")
        assert listener.recv(100) == b"READY=1"
        assert listener.recv(100) == b"WATCHDOG=1"
        assert listener.recv(100) == b"WATCHDOG=1"
        running.process.send_signal(signal.SIGTERM)
        while (told := listener.recv(100)) == b"WATCHDOG=1":
            pass
        assert told == b"STOPPING=1"


def test_a_microphone_that_is_not_there_yet(start: Callable[..., Running], tmp_path: Path) -> None:
    """At boot the service is ready before its microphone is, is alive meanwhile, and reads its configuration again."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(address))
        listener.settimeout(PATIENCE)
        waiting = f"[stream]\nmodel = '{STUBS[0]}'\ndevice = 'no such microphone'\nwait = true\n"
        running = start(waiting, NOTIFY_SOCKET=str(address), WATCHDOG_USEC="300000")
        assert listener.recv(100) == b"READY=1"
        until(lambda: "looking for it" in running.told(), "that it says so")
        assert listener.recv(100) == b"WATCHDOG=1"
        running.file.write_text(LIVE)
        running.process.send_signal(signal.SIGHUP)
        assert get(f"{running.url()}/metrics")[0] == 200
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE) == 128 + signal.SIGTERM


# --- the unit ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The root of a system, as far as units go."""
    root = tmp_path / "root"
    (root / "etc/systemd/system").mkdir(parents=True)
    return root


@pytest.fixture
def installed(system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unit of a configuration file."""
    monkeypatch.setattr(service, "_refuse_private", lambda path: None)  # pytest's own folders are private
    file = tmp_path / "field.toml"
    file.write_text("[stream]\nmodel = 'edge-s'\n")
    assert l3edge.cli.main(["service", "install", "--root", str(system), str(file)]) == 0
    return system / "etc/systemd/system" / service.UNIT


def test_the_unit_is_what_systemd_wants(installed: Path) -> None:
    if not shutil.which("systemd-analyze"):
        assert not os.environ.get("CI"), "CI must have systemd-analyze"
        pytest.skip("systemd-analyze is not here to judge the unit")
    verified = subprocess.run(["systemd-analyze", "verify", installed], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", installed],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-300:]  # at most 2.0 of 10, "OK"


def test_install_and_uninstall(installed: Path, system: Path) -> None:
    text = installed.read_text()
    assert f"ExecStart={sys.executable} -m l3edge stream --config " in text
    assert l3edge.cli.main(["service", "uninstall", "--root", str(system)]) == 0
    assert not list(installed.parent.iterdir())
    assert l3edge.cli.main(["service", "uninstall", "--root", str(system)]) == 1


def test_a_wrong_configuration_is_not_installed(system: Path, tmp_path: Path) -> None:
    file = tmp_path / "field.toml"
    file.write_text("[stream]\nmodel = 'edge-x'\n")
    done = run("service", "install", "--root", system, file)
    assert done.returncode == 2
    assert "no model 'edge-x'" in done.stderr
    assert not list((system / "etc/systemd/system").iterdir())


def test_what_the_services_user_cannot_read_is_not_installed(system: Path, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    file = private / "field.toml"
    file.write_text("[stream]\nmodel = 'edge-s'\n")
    done = run("service", "install", "--root", system, file)
    assert done.returncode == 1
    assert "the service runs as a user of its own" in done.stderr
    assert not list((system / "etc/systemd/system").iterdir())


def test_paths_that_systemd_reads_differently() -> None:
    for name in ("a b.toml", "100%.toml", "$HOME.toml", 'a".toml', "a\n.toml"):
        with pytest.raises(l3edge.OptionError, match="systemd would read this path differently"):
            service.unit(Path("/etc") / name)


def test_status_of_what_does_not_run(tmp_path: Path) -> None:
    file = tmp_path / "field.toml"
    with socket.socket() as taken:  # a port that nobody answers at
        taken.bind(("127.0.0.1", 0))
        file.write_text(f"[health]\nport = {taken.getsockname()[1]}\n")
        done = run("service", "status", file)
    assert done.returncode == 1
    assert "does not answer as l3edge would" in done.stdout


@pytest.mark.parametrize("answer", [b"HTTP/1.1 404 No\r\n\r\n<html>", b"\0\0\0", b"HTTP/1.1 200 OK\r\n\r\n[1]", b""])
def test_status_of_what_is_something_else(tmp_path: Path, answer: bytes) -> None:
    file = tmp_path / "field.toml"
    with socket.create_server(("127.0.0.1", 0)) as other:

        def respond() -> None:
            with other.accept()[0] as client:
                client.recv(1000)
                client.sendall(answer)

        thread = threading.Thread(target=respond, daemon=True)
        thread.start()
        file.write_text(f"[health]\nport = {other.getsockname()[1]}\n")
        done = run("service", "status", file)
        thread.join(PATIENCE)
    assert done.returncode == 1
    assert "does not answer as l3edge would" in done.stdout
    assert not done.stderr


def test_status_of_what_runs(start: Callable[..., Running], tmp_path: Path) -> None:
    running = start(LIVE)
    url = running.url()
    until(lambda: "l3edge_hops_total" in get(f"{url}/metrics")[1], "figures")
    file = tmp_path / "asked.toml"
    file.write_text(f"[health]\nport = {url.rpartition(':')[2]}\n")
    done = run("service", "status", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "health: well" in done.stdout
    assert re.search(r"^  hops +\d+$", done.stdout, re.MULTILINE)
