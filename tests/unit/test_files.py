"""Files that others read while we write them."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from flow360 import files

OLD, NEW = "old\n" * 20_000, "new\n" * 30_000


def test_whoever_reads_while_it_is_written_finds_all_of_the_old_or_all_of_the_new(tmp_path):
    path, seen, done = tmp_path / "server.conf", set(), threading.Event()
    files.write(path, OLD)

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_text())

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(50):
        files.write(path, NEW)
        files.write(path, OLD)
    done.set()
    for reader in readers:
        reader.join()
    assert seen <= {OLD, NEW}
    assert len(seen) == 2, "the readers were to see both"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_has_its_content_already_is_left_alone(tmp_path):
    path = tmp_path / "server.conf"
    assert files.write(path, OLD)
    before = path.stat()
    assert not files.write(path, OLD.encode())
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_secret_is_its_owners_alone_at_every_moment(tmp_path, monkeypatch):
    modes = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (modes.append(stat.S_IMODE(os.fstat(fd).st_mode)), real(fd)))
    monkeypatch.setattr(os, "fchmod", lambda fd, mode: modes.append(stat.S_IMODE(os.fstat(fd).st_mode)))
    files.write(tmp_path / "secret", "x", 0o600)
    assert modes == [0o600, 0o600]


def test_a_disk_that_is_full_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "server.conf"
    files.write(path, OLD)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write(path, NEW)
    assert path.read_text() == OLD
    assert list(tmp_path.iterdir()) == [path]
