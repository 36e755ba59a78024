"""Locks of microphones: one holder, who is named, and a place for them that is the user's own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

import l3edge
from l3edge.lock import microphone_lock, runtime_folder


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_one_holder_at_a_time() -> None:
    lock, other = microphone_lock("default", "ALSA"), microphone_lock("default", "JACK")
    with pytest.raises(l3edge.InUseError, match=f"microphone default is in use by process {os.getpid()}: .*--share"):
        microphone_lock("default", "ALSA")
    lock.close()
    microphone_lock("default", "ALSA").close()
    other.close()


def test_a_link_is_not_followed(runtime: Path) -> None:
    microphone_lock("default", "ALSA").close()
    (path,) = runtime.iterdir()
    path.unlink()
    precious = runtime / "precious"
    precious.write_text("precious")
    path.symlink_to(precious)
    with pytest.raises(OSError, match="symbolic links"):
        microphone_lock("default", "ALSA")
    assert precious.read_text() == "precious"


def test_without_a_runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under cron, or sudo."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = tmp_path / f"l3edge-{os.getuid()}"
    for given in ("", str(tmp_path / "gone")):
        monkeypatch.setenv("XDG_RUNTIME_DIR", given)
        assert runtime_folder() == own
        assert own.stat().st_mode & 0o077 == 0
    own.rmdir()
    own.symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="not this user's own"):
        runtime_folder()
