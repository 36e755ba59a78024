"""The command `l3edge stream`, and what it has in common with the other commands that load a model."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from . import results, sources
from .backlog import Block
from .display import Terminal
from .errors import BehindError, Error, MicrophoneError
from .health import Board, Endpoint
from .keeping_up import LIMIT
from .model import Model, load
from .notify import Notifier
from .session import Session, warnings_above
from .sources import Interrupt, Source


def load_model(args: argparse.Namespace, seen: bool = False) -> Model:
    """The model that the options ask for, with its head; with --tags or where its tags will be seen ready to tag.

    OptionError where tags are asked of a model that has none.
    """
    with native_log_held():
        model = load(args.model, args.engine, args.threads, args.delegate, dict(args.delegate_option))
        if model.tag_names and (args.tags or seen):
            model.tag_scores(np.zeros(model.spec.embedding_size, np.float32))
    if args.head:
        model = model.with_head(args.head)
    if args.tags:
        model.tag_scores(np.zeros((0, model.spec.embedding_size), np.float32))  # an error where it has none
    return model


@contextlib.contextmanager
def native_log_held() -> Iterator[None]:
    """Keep what C++ libraries write to stderr, and show it only on failure: LiteRT greets at every load."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        saved = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(saved, log.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def stream(args: argparse.Namespace, interrupt: Interrupt) -> int | argparse.Namespace:
    """`l3edge stream`: embeddings as sound comes. Returns the exit status, or the options of the next stream."""
    seen = Terminal(sys.stderr).moves
    model = load_model(args, seen)  # before the microphone opens: nothing may pile up meanwhile
    failure: MicrophoneError | BehindError | results.RecordingError | None = None
    following: argparse.Namespace | None = None
    notifier = Notifier()

    def reread() -> bool:
        nonlocal following
        if args.input == "-":
            warnings.warn("the configuration is not read again: standard input cannot begin anew", stacklevel=1)
            return False
        try:
            following = args.reread()
        except (Error, OSError) as error:
            warnings.warn(f"the configuration is not read again: {describe(error)}", stacklevel=1)
        return following is not None

    def idle() -> None:
        """While a microphone that is not there yet is waited for."""
        notifier.alive()
        if interrupt.hung_up():
            raise KeyboardInterrupt

    interrupt.reload = reread
    with contextlib.ExitStack() as stack:
        board = Board(args.hop)
        if args.health.port is not None:
            endpoint = stack.enter_context(Endpoint(args.health.host, args.health.port, board))
            print(f"l3edge: health at {endpoint.url}/metrics", file=sys.stderr)
        if args.wait:  # however long that takes: the service is there
            notifier.tell("READY=1")
        try:
            with interrupt.opening(), warnings_above(None):
                source = stack.enter_context(_source(args, idle))
        except KeyboardInterrupt:
            return 128 + interrupt.signal if interrupt.signal or following is None else following
        session = Session(args, model, source, board, stack)
        notifier.tell("READY=1")
        try:
            # A microphone's blocks that wait when Ctrl-C comes were heard before it, and are embedded.
            stop = source.microphone.stop if source.microphone else None
            for block in interrupt.until(_shaped(source, args), stop):
                session.hear(block)
                notifier.alive()
        except (MicrophoneError, BehindError, results.RecordingError) as error:
            failure = error  # what was heard cannot be heard again: keep it, then fail
        if following is None:
            notifier.tell("STOPPING=1")
        session.finish()
    print(session.summary(), file=sys.stderr)
    if failure:
        raise failure
    if interrupt.signal:
        return 128 + interrupt.signal
    return following if following is not None else 0


def _source(args: argparse.Namespace, idle: Callable[[], None]) -> contextlib.AbstractContextManager[Source]:
    if args.input is None:
        return sources.microphone(
            args.device, args.rate, args.channels, reconnect=args.reconnect, wait=args.wait, share=args.share, idle=idle
        )
    if args.input == "-":
        live = args.when_behind in ("skip", "fail")
        return sources.standard_input(args.rate, args.channels or 1, args.dtype or "int16", live)
    return sources.file(args.input)


def _shaped(source: Source, args: argparse.Namespace) -> Iterator[Block]:
    """The source's blocks, as long and as fast as the options say."""
    if args.realtime:
        source.blocks = sources.paced(source.blocks, source.sample_rate)
    source.keep_up(args.when_behind or ("skip" if source.microphone else "catch-up"), args.behind or LIMIT)
    if args.duration is not None:
        return sources.limited(source.blocks, round(args.duration * source.sample_rate))
    return source.blocks


def describe(error: Exception, path: Path | None = None) -> str:
    """One line for people, with the path of the file it is about."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(text.split())
    return text if path is None or str(path) in text else f"{path}: {text}"
