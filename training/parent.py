"""Processes that end with the one that started them, however that ended.

python -m training.parent PID COMMAND...      become the command, which ends when its parent, process PID, does
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys


def end_with_parent() -> None:
    """Have this process killed when its parent ends, on Linux; elsewhere nothing.

    It holds for the program that this process becomes by exec, too.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    end_with_parent()
    if os.getppid() == parent:  # else it ended before that was said
        os.execv(command[0], command)


if __name__ == "__main__":
    main()
