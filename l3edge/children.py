"""Python processes of ours: a module's `main` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import IO

# With the paths of this process, so that the same packages are found, before anything is imported: `python -c` looks
# first in the working directory, where anybody's files may be. `sys` is built in. From Python 3.13 on the interpreter
# imports something of its own before that; PYTHONSAFEPATH, since 3.11, keeps that out of the working directory.
CODE = "import sys; sys.path[:] = sys.argv[2:]; from l3edge import {0}; {0}.main(sys.argv[1])"


def start(module: str, options: str, stderr: int | IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """`main(options)` of a module of this package, with unbuffered pipes for its standard input and output. Ctrl-C in
    the terminal is not for it. Raises OSError where no process can be started.
    """
    return subprocess.Popen(
        [sys.executable, "-c", CODE.format(module), options, *sys.path],
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        bufsize=0,
        start_new_session=True,
    )
