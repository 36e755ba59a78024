"""What is wrong with a sink: told once when it begins, and once when it is over."""

from __future__ import annotations

import warnings


class Trouble:
    """A fault that may come and go, of which people hear as a warning.

    Any thread may say that it has come (`set`) or gone (`clear`). The session's thread alone tells it, as it is the one
    that knows what else is on the screen.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._now: str | None = None
        self._told = False

    def set(self, problem: str) -> None:
        """It has come, or is still there: what is wrong, and what happens meanwhile."""
        self._now = problem

    def clear(self) -> None:
        """It is gone, or never came."""
        self._now = None

    def tell(self) -> None:
        """Warn, where that is news."""
        problem = self._now
        if problem is not None and not self._told:
            self._told = True
            warnings.warn(f"{self._where}: {problem}", stacklevel=2)
        elif problem is None and self._told:
            self._told = False
            warnings.warn(f"{self._where}: recovered", stacklevel=2)
