"""`l3edge service`: a systemd unit that listens for months, made, checked, looked at and taken away.

The unit runs `l3edge stream --config FILE` as a user of its own (DynamicUser) in a sandbox: of the whole system only
its state folder, /var/lib/l3edge, can be written; no new privileges, no devices but those of sound. systemd restarts
it when it ends, whatever the reason, or has not said for a minute that it is alive.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from . import config, health
from .errors import Error, OptionError
from .model_file import replacing

UNIT = "l3edge.service"
UNITS = Path("/etc/systemd/system")
RUNNING = Path("/run/systemd/system")  # there where systemd is the init of this machine
DEFAULT = Path("/etc/l3edge/l3edge.toml")
STATE = Path("/var/lib/l3edge")  # where the service begins, and may write
WRITTEN = ("dir", "queue")  # settings of sinks that are paths
ANSWER_SECONDS = 3.0
MOST_ANSWER = 1 << 20  # bytes of health

TEMPLATE = """\
# Written by `l3edge service install`; what you change here is lost with the next one: use `systemctl edit l3edge`.
[Unit]
Description=l3edge: audio embeddings, tags and events of a microphone
Documentation=file:{config}
# The driver of sound must be there when the sandbox is made, though the microphone may come later.
Wants=modprobe@snd.service
After=modprobe@snd.service sound.target network.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={python} -m l3edge stream --config {config}
ExecReload=/bin/sh -c "kill -HUP $MAINPID"
Restart=always
RestartPreventExitStatus=2
RestartSec=5
WatchdogSec=60
TimeoutStartSec=300
TimeoutStopSec=15
# An address and nothing else is what mqtt needs; a sound server needs a socket.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
DynamicUser=yes
User=l3edge
SupplementaryGroups=audio
StateDirectory=l3edge
RuntimeDirectory=l3edge
WorkingDirectory=/var/lib/l3edge
EnvironmentFile=-{environment}
Environment=HOME=/var/lib/l3edge XDG_RUNTIME_DIR=/run/l3edge PYTHONUNBUFFERED=1
UMask=0027
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
DevicePolicy=closed
DeviceAllow=char-alsa rw
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
OOMScoreAdjust=-100

[Install]
WantedBy=multi-user.target
"""


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's own commands."""
    parser = sub.add_parser(
        "service",
        help="run as a systemd service: check, install, status, uninstall",
        description="Run `l3edge stream` as a systemd service, from a configuration file (docs/field.md).",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    told = {
        "check": "say whether a configuration file is right, and where it is not",
        "install": "write the unit for a configuration file, and start it where systemd runs",
        "status": "what systemd and the service itself say",
        "uninstall": "stop the service and take the unit away; configuration and results stay",
    }
    runs = {"check": _check, "install": _install, "status": _status, "uninstall": _uninstall}
    for name, text in told.items():
        made = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        made.set_defaults(run=runs[name], parser=made)
        if name != "uninstall":
            made.add_argument(
                "file", nargs="?", type=Path, default=DEFAULT, metavar="TOML", help=f"(default: {DEFAULT})"
            )
        if name in ("install", "uninstall"):
            made.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="of another system, offline")


def checked(path: Path) -> config.Config:
    """A configuration in which all that can be known without starting is right; OptionError otherwise."""
    from .cli import check_file  # which knows the options, and imports this module for the command

    check_file(path)
    return config.read(path)


def _check(args: argparse.Namespace) -> int:
    read = checked(args.file)
    kinds = ", ".join(kind for kind, _ in read.sinks) or "none"
    port = read.health.port
    told = "not told" if port is None else f"at {health.url(read.health.host, port)}/metrics"
    print(f"{args.file}: right; sinks: {kinds}; health {told}")
    for note in _forbidden(read):
        print(f"note: {note}")
    return 0


def _forbidden(read: config.Config) -> list[str]:
    """What the unit's sandbox would not let the service do."""
    return [
        f"[[sink]] {number} ({kind}): {key} {options[key]} is not in {STATE}, all that the service can write; "
        "`systemctl edit l3edge` with ReadWritePaths= lets it write elsewhere"
        for number, (kind, options) in enumerate(read.sinks, 1)
        for key in WRITTEN
        if key in options and not (STATE / str(options[key])).is_relative_to(STATE)
    ]


def unit(file: Path, python: str = sys.executable) -> str:
    """The unit's text for a configuration file."""
    environment = file.with_suffix(".env")
    for path in (str(file), python):
        if any(not character.isprintable() or character in " \"'\\%$" for character in path):
            raise OptionError(f"{path!r}: systemd would read this path differently; use one of letters and digits")
    return TEMPLATE.format(config=file, python=python, environment=environment)


def _install(args: argparse.Namespace) -> int:
    file = args.file.resolve()
    checked(file)
    for path in (file, Path(sys.executable), Path(__file__)):
        _refuse_private(path)
    folder: Path = args.root / UNITS.relative_to("/")
    if not folder.is_dir():
        raise Error(f"{folder}: no such folder; `l3edge service` needs systemd")
    target = folder / UNIT
    with replacing(target) as part:
        part.write_text(unit(file))
    print(f"wrote {target}")
    if args.root != Path("/") or not RUNNING.is_dir():
        print("systemd does not run here; where it does: systemctl daemon-reload && systemctl enable --now l3edge")
        return 0
    for command in (["daemon-reload"], ["enable", UNIT], ["restart", UNIT]):
        _systemctl(*command)
    print("started; see `l3edge service status` and `journalctl -u l3edge`")
    return 0


def _refuse_private(path: Path) -> None:
    """Error where the service's own user could not read what it runs."""
    for each, needed in [(path, 0o004), *((parent, 0o001) for parent in path.parents)]:
        if not each.stat().st_mode & needed:
            raise Error(
                f"{path}: the service runs as a user of its own, whom {each} does not let in; install l3edge in "
                "/opt/l3edge and put the configuration into /etc/l3edge (docs/field.md)"
            )


def _uninstall(args: argparse.Namespace) -> int:
    target: Path = args.root / UNITS.relative_to("/") / UNIT
    if not target.exists():
        raise Error(f"{target}: there is no such unit; nothing to uninstall")
    running = args.root == Path("/") and RUNNING.is_dir()
    if running:
        _systemctl("disable", "--now", UNIT)
    target.unlink()
    if running:
        _systemctl("daemon-reload")
    print(f"removed {target}; configuration and results stay")
    return 0


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise Error(
            f"systemctl {' '.join(arguments)} failed; `journalctl -u l3edge -n 20` says why: {done.stderr.strip()}"
        )


def _asked(url: str) -> dict[str, Any]:
    """What /health answers, whatever its status; ValueError where that is no object."""
    # The proxy that the environment may name is not asked: this is our own machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ANSWER_SECONDS) as answer:
            data = answer.read(MOST_ANSWER)
    except urllib.error.HTTPError as error:
        data = error.read(MOST_ANSWER)
    told = json.loads(data)
    if not isinstance(told, dict) or not isinstance(told.get("sinks", {}), dict):
        raise ValueError("no object")
    return told


def _status(args: argparse.Namespace) -> int:
    """Prints; 0 where all is well."""
    state = "systemctl is not there"
    if shutil.which("systemctl"):
        asked = subprocess.run(["systemctl", "is-active", UNIT], check=False, capture_output=True, text=True)
        state = asked.stdout.strip() or asked.stderr.strip()
    print(f"systemd: {' '.join(state.split())}")
    read = config.read(args.file)
    if read.health.port is None:
        print(f"health: {args.file} names no port; give it one to see more here:\n\n[health]\nport = 9099")
        return 0 if state == "active" else 1
    url = f"{health.url(read.health.host, read.health.port)}/health"
    try:
        told = _asked(url)
    except (OSError, ValueError, HTTPException) as error:
        print(f"health: {url} does not answer as l3edge would: {' '.join(str(error).split())}")
        return 1
    well = told.pop("well", False)
    print(f"health: {'well' if well else 'not well'}")
    for sink, own in told.pop("sinks", {}).items():
        told[f"sink {sink}"] = ", ".join(f"{name} {value:g}" for name, value in own.items())
    for name, value in told.items():
        print(f"  {name:28} {value if isinstance(value, str) else f'{round(value, 4):.12g}'}")
    return 0 if well else 1
