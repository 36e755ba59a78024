"""The command `l3edge`: options, exit status, and the commands that only tell.

Results go to standard output, everything else to standard error. Exit status: 0 done, 1 failed (one line says why),
2 bad usage, 130 ended by Ctrl-C, after what had been heard was flushed (143: the same by SIGTERM).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import (
    __version__,
    commands,
    config,
    doctor,
    embed_command,
    head_file,
    health,
    learn_command,
    model_file,
    search_command,
    service,
)
from .errors import Error, OptionError
from .info import describe, print_facts
from .keeping_up import LIMIT, POLICIES
from .microphone import device_list, find_device
from .model import find, models
from .sinks.lines import FORMATS
from .sources import Interrupt
from .stream import hop_samples

SUFFIXES = ("jsonl", "csv")  # of files, that say their format
TEXT_SUFFIXES = ("", "txt", "log")  # of files that are text, unless --format says otherwise
LONGEST = 1e9  # seconds that may be asked for, some 30 years


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    _open_standard_streams()
    parser = _parser()
    given = sys.argv[1:] if arguments is None else list(arguments)
    args = _parsed(parser, given)
    if not hasattr(args, "run"):
        parser.print_help()
        return 0
    try:
        if getattr(args, "config", None):
            args = configured(args, given)
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read us has read enough, as `| head` does
        _discard_stdout()
        return 0
    except OptionError as error:
        print(f"l3edge: error: {commands.describe(error)}", file=sys.stderr)
        return 2
    except (Error, OSError) as error:
        if isinstance(error, OSError):
            _discard_stdout()  # standard output may be what failed: do not fail again at exit
        print(f"l3edge: error: {commands.describe(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("l3edge: interrupted", file=sys.stderr)
        return 130


def _parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    args, rest = parser.parse_known_args(arguments)
    if rest:
        _refuse(rest, args, parser)
    return args


def configured(args: argparse.Namespace, given: Sequence[str]) -> argparse.Namespace:
    """`l3edge stream` as its configuration file and then the command line want it.

    `reread` does the same again, and raises what the stream would: what runs is not given up for what cannot.
    """
    file = config.read(args.config)
    command = given.index("stream") + 1
    parser = _parser(f"{file.path}: [stream]")
    options = file.arguments(_long_options(args.parser))
    _parsed(parser, ["stream", *options])  # mistakes here are the file's, those of the other are known
    made = _parsed(parser, [*given[:command], *options, *given[command:]])
    made.sink = [*file.sinks, *made.sink]
    if made.health is None:
        made.health = file.health

    def reread() -> argparse.Namespace:
        again = configured(args, given)
        _judge(again)
        return again

    made.reread = reread
    return made


def _long_options(parser: argparse.ArgumentParser) -> dict[str, bool]:
    """Names without their hyphens, and whether each takes a value."""
    options = [(option, action.nargs != 0) for action in parser._actions for option in action.option_strings]
    return {option[2:]: takes for option, takes in options if option.startswith("--")}


def check_file(path: Path) -> None:
    """Raise what `l3edge stream --config PATH` would, as far as that is known without beginning."""
    given = ["stream", "--config", str(path)]
    args = configured(_parsed(_parser(), given), given)
    try:
        _judge(args)
    except Error as error:
        raise OptionError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def _judge(args: argparse.Namespace) -> None:
    """Raise what a stream with these options would, as far as that is known without beginning."""
    _check(args)
    file = model_file.read(find(args.model))
    hop_samples(args.hop, file.spec)
    if args.head:
        head_file.check(head_file.read(args.head), file, os.fspath(args.head))
    if args.tags and not file.tag_names:
        raise OptionError(f"model {file.name} has no tags; `l3edge models` lists which have")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are told as those of a file, where the options come from one."""

    where = ""

    def error(self, message: str) -> NoReturn:
        if self.where:
            raise OptionError(f"{self.where}: {message.replace('argument --', '')}")
        super().error(message)


def _refuse(rest: list[str], args: argparse.Namespace, parser: argparse.ArgumentParser) -> NoReturn:
    """Exit over arguments that nothing takes, with the usage of the command that was given them."""
    loose = [text for text in rest if not text.startswith("-")]
    hint = getattr(args, "run", None) is _stream and args.input is None and len(loose) == 1
    message = f"unrecognized arguments: {' '.join(rest)}"
    command: argparse.ArgumentParser = getattr(args, "parser", parser)
    command.error(f"{message}; did you mean --input {loose[0]}?" if hint else message)


def _open_standard_streams() -> None:
    """Python has None for those that were closed when it began, as by `>&-`: let them be /dev/null instead.

    The lowest free descriptor is taken, hence in this order: no file that we write may become descriptor 2.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDONLY if name == "stdin" else os.O_WRONLY)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8", closefd=False))


def _discard_stdout() -> None:
    """Let what is still buffered go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= LONGEST:
        raise argparse.ArgumentTypeError(f"must be seconds, more than 0 and at most {LONGEST:g}, got {text!r}")
    return value


def _option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, got {text!r}")
    return key, value


def _device(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _sink(text: str) -> tuple[str, dict[str, str]]:
    kind, _, rest = text.partition(":")
    return kind, dict(_option(each) for each in rest.split(",") if each)


def _health(text: str) -> health.Settings:
    host, _, port = text.rpartition(":")
    if not port.isdecimal():
        raise argparse.ArgumentTypeError(f"must be PORT or HOST:PORT, got {text!r}")
    try:
        return health.Settings(port=int(port)) if not host else health.Settings(host.strip("[]"), int(port))
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser(where: str = "") -> argparse.ArgumentParser:
    """The command's parser; `where` the options come from, unless it is the command line."""
    kind = type("Parser", (_Parser,), {"where": where})
    parser: argparse.ArgumentParser = kind(
        prog="l3edge", description="Exact streaming audio embeddings on cheap hardware.", allow_abbrev=not where
    )
    parser.add_argument("--version", action="version", version=f"l3edge {__version__}")
    sub = parser.add_subparsers(title="commands", metavar="COMMAND")

    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", metavar="M", help="built-in name or path of a .tflite (default: the embedded model)")
    model.add_argument(
        "--engine", default="auto", choices=["auto", "litert", "tflite_runtime", "edgetpu"], help="(default: auto)"
    )
    model.add_argument("--threads", type=int, default=1, metavar="N", help="of the engine (default: 1)")
    model.add_argument("--delegate", metavar="LIB", help="path of a TFLite external delegate library")
    model.add_argument(
        "--delegate-option",
        action="append",
        type=_option,
        default=[],
        metavar="KEY=VALUE",
        help="for the delegate, such as device=usb:0; may be repeated",
    )

    windows = argparse.ArgumentParser(add_help=False)
    windows.add_argument(
        "--hop", type=float, default=0.1, metavar="S", help="seconds between embeddings (default: 0.1)"
    )
    windows.add_argument("--center", action="store_true", help="half a window of zeros in front: first time is 0.0")
    windows.add_argument(
        "--tags",
        action="store_true",
        help="write tags as well, of a model that has them: the strongest, and all into CSV and .npz files",
    )
    windows.add_argument(
        "--head",
        type=Path,
        metavar="HEAD",
        help="label what is heard with a head of `l3edge learn`, in place of one that the model file has, and tell "
        "when sounds begin and end",
    )

    stream = sub.add_parser(
        "stream",
        parents=[model, windows],
        allow_abbrev=not where,
        help="embed a microphone, a file or standard input as it comes",
        description="Embed sound as it comes: the default microphone, unless --input or --device says otherwise. "
        "In a terminal a live view is shown, with the strongest tags where the model has such; elsewhere, or with "
        "--format, there is a line for each embedding.",
    )
    stream.add_argument("--input", metavar="FILE", help="an audio file, or - for raw PCM on standard input")
    stream.add_argument("--device", type=_device, metavar="D", help="microphone: index or part of its name")
    stream.add_argument("--duration", type=_seconds, metavar="S", help="stop after so many seconds of sound")
    stream.add_argument("--format", choices=FORMATS, help="of the lines (default: as --output ends, or text)")
    stream.add_argument(
        "--output",
        type=Path,
        metavar="F",
        help="write the lines there, - for standard output; a file appears when complete",
    )
    stream.add_argument("--realtime", action="store_true", help="do not read --input faster than it would sound")
    stream.add_argument("--record", type=Path, metavar="WAV", help="keep what is heard, as float32 WAV")
    stream.add_argument("--rate", type=int, metavar="HZ", help="of standard input, or asked of the microphone")
    stream.add_argument("--channels", type=int, metavar="N", help="of standard input (default: 1) or the microphone")
    stream.add_argument("--dtype", choices=["int16", "float32"], help="of standard input (default: int16)")
    stream.add_argument(
        "--when-behind",
        choices=POLICIES,
        help="when computing falls behind the sound: drop what is oldest, fall further behind, or end with an error "
        "(default: skip at a microphone, else catch-up)",
    )
    stream.add_argument(
        "--behind", type=_seconds, metavar="S", help=f"how far it may fall behind (default: {LIMIT:g} s)"
    )
    stream.add_argument(
        "--no-reconnect",
        dest="reconnect",
        action="store_false",
        help="fail when the microphone goes away, rather than wait for it to come back",
    )
    stream.add_argument("--wait", action="store_true", help="for a microphone that is not there yet")
    stream.add_argument("--share", action="store_true", help="listen beside another l3edge at the same microphone")
    stream.add_argument(
        "--sink",
        action="append",
        type=_sink,
        default=[],
        metavar="KIND:KEY=VALUE,...",
        help="where results go, besides or instead of lines: files:dir=DIR, mqtt:host=HOST, ...; may be repeated; "
        "lines are written to standard output no more, unless --format asks for them (docs/sinks.md)",
    )
    stream.add_argument(
        "--health",
        type=_health,
        metavar="[HOST:]PORT",
        help="tell health there, /metrics in Prometheus' format; HOST is 127.0.0.1 unless given",
    )
    stream.add_argument(
        "--config", type=Path, metavar="TOML", help="read all of these options from a file (docs/field.md)"
    )
    stream.set_defaults(run=_stream, reread=None)

    embed_command.add_parser(sub, model, windows)
    learn_command.add_parser(sub, model, _seconds, _device)
    search_command.add_parser(sub, model)
    sub.add_parser("models", help="list the built-in models").set_defaults(run=_models)
    info = sub.add_parser("info", help="what a model file says of itself")
    info.add_argument("model", metavar="MODEL", nargs="?", help="built-in name or path (default: the embedded model)")
    info.add_argument("--json", action="store_true", help="as one JSON object")
    info.set_defaults(run=_info)
    sub.add_parser("devices", help="list the microphones").set_defaults(run=_devices)
    service.add_parser(sub)
    check = sub.add_parser("doctor", help="check this installation, and say how to mend it")
    check.add_argument("--json", action="store_true", help="as one JSON object")
    check.set_defaults(run=lambda args: doctor.run(as_json=args.json))
    for command in sub.choices.values():
        if command.get_default("parser") is None and command.get_default("run"):
            command.set_defaults(parser=command)
    return parser


def _stream(args: argparse.Namespace) -> int:
    """Refuse options that contradict each other, then stream; anew where a configuration is read again."""
    _check(args)
    with Interrupt(reloads=args.reread is not None) as interrupt:
        while True:
            status = commands.stream(args, interrupt)
            if not isinstance(status, argparse.Namespace):
                return status
            args = status
            args.wait = args.input is None  # what was heard a moment ago will be there again


def _check(args: argparse.Namespace) -> None:
    """Refuse options that contradict each other, and settle those that follow from others."""
    if args.health is None:
        args.health = health.Settings()
    raw = args.input == "-"
    if raw and args.rate is None:
        raise OptionError("--input - reads raw PCM, which does not say its rate: give --rate (and --channels, --dtype)")
    if raw and sys.stdin.isatty():
        raise OptionError("--input - reads raw PCM, and standard input is a terminal: pipe sound into it")
    if args.input is not None and args.device is not None:
        raise OptionError("--input and --device are two sources: give one")
    if args.input is None and args.realtime:
        raise OptionError("--realtime paces --input; a microphone is always real time")
    _check_behind(args)
    if args.input is not None and not raw and (args.rate or args.channels):
        raise OptionError("an audio file says its own rate and channels: --rate and --channels are for --input -")
    if not raw and args.dtype:
        raise OptionError("--dtype describes raw PCM on standard input: it needs --input -")
    if args.channels is not None and not 1 <= args.channels <= 64:
        raise OptionError(f"--channels must be from 1 to 64, got {args.channels}")
    _settle_output(args)
    paths = {"--input": None if raw else args.input, "--output": args.output, "--record": args.record}
    files = [(option, Path(path).resolve()) for option, path in paths.items() if path is not None]
    for (one, first), (other, second) in itertools.combinations(files, 2):
        if first == second:
            raise OptionError(f"{other} would overwrite {one}: give it another name")
    if args.record is not None and args.record.suffix.lower() != ".wav":
        raise OptionError(f"--record writes WAV: give it a name that ends in .wav, not {args.record}")


def _check_behind(args: argparse.Namespace) -> None:
    """Refuse what would have no effect: a file is never late for anything, nor does it go away."""
    if args.when_behind in ("skip", "fail") and args.input not in (None, "-") and not args.realtime:
        raise OptionError(f"--when-behind {args.when_behind}: a file waits, and nothing falls behind; add --realtime")
    catching_up = args.when_behind == "catch-up" or (args.when_behind is None and args.input is not None)
    if args.behind is not None and catching_up:
        raise OptionError("--behind is the limit of --when-behind skip or fail")
    for option, given in (("--no-reconnect", not args.reconnect), ("--wait", args.wait), ("--share", args.share)):
        if given and args.input is not None:
            raise OptionError(f"{option} is about a microphone, and --input is none")


def _settle_output(args: argparse.Namespace) -> None:
    """Let --format be what the name of --output says; `-` is standard output, where lines are wanted then."""
    if args.output == Path("-"):
        args.output, args.format = None, args.format or "text"
    suffix = args.output.suffix.lower().removeprefix(".") if args.output else ""
    if suffix in SUFFIXES:
        if args.format not in (None, suffix):
            raise OptionError(f"--format {args.format} contradicts --output {args.output}: leave out one, or rename it")
        args.format = suffix
    elif args.output and args.format is None and suffix not in TEXT_SUFFIXES and not args.output.exists():
        raise OptionError(
            f"--output {args.output}: .{suffix} is no format of lines; give --format {' or '.join(FORMATS)}"
        )


def _models(_args: argparse.Namespace) -> int:
    default = find()
    for name in models():
        file = model_file.read(find(name))
        spec, mark = file.spec, "*" if file.path == default else " "
        print(
            f"{mark} {name:12} {spec.embedding_size:4} values  {spec.macs_per_hop / 1e6:5.1f} MMAC a hop  "
            f"{file.path.stat().st_size / 1e6:5.2f} MB  {file.metadata['recipe']:10}  "
            f"{len(file.tag_names) or 'no'} tags"
        )
    return 0


def _info(args: argparse.Namespace) -> int:
    facts = describe(model_file.read(find(args.model)))
    if args.json:
        print(json.dumps(facts, indent=1))
    else:
        print_facts(facts)
    return 0


def _devices(_args: argparse.Namespace) -> int:
    for d in device_list() or [find_device(None)]:  # which says what to do when there is none
        mark = "*" if d.default else " "
        print(f"{mark} {d.index:3}  {d.name}  ({d.host_api}, up to {d.channels} channels, {d.sample_rate} Hz)")
    return 0
