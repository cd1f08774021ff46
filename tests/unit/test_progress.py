"""The learner's record: counted, replaced whole, and never lost."""

from __future__ import annotations

import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flow360.course import progress
from flow360.errors import FlowError


def test_attempts_are_counted_and_the_first_pass_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    assert progress.load(path) == {}
    progress.record("01_sources", "paged_client", False, path)
    progress.record("01_sources", "paged_client", True, path)
    first = progress.load(path)["01_sources/paged_client"]
    assert first["attempts"] == 2
    assert first["first_passed"].endswith("+00:00")
    progress.record("01_sources", "paged_client", True, path)
    again = progress.load(path)["01_sources/paged_client"]
    assert (again["attempts"], again["first_passed"]) == (3, first["first_passed"])
    assert progress.passed_in("01_sources", path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["progress.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 9, "exercises": {}}',
        '{"version": 1, "exercises": {"a": 1}}',
        "[" * 100_000,
        '{"version": 1, "exercises": {"a/b": {"chapter": "a", "exercise": "b", "attempts": 1, "first_passed": 5}}}',
    ],  # fmt: skip
)
def test_an_unreadable_file_is_kept_aside(tmp_path: Path, text: str) -> None:
    path = tmp_path / "progress.json"
    path.write_text(text, "utf-8")
    with pytest.raises(FlowError, match="cannot be read"):
        progress.load(path)
    note = progress.record("01_sources", "paged_client", True, path)
    assert "progress.unreadable-1.json" in note
    assert (tmp_path / "progress.unreadable-1.json").read_text("utf-8") == text
    assert progress.passed_in("01_sources", path) == 1


def test_two_kernels_do_not_lose_an_attempt(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: progress.record("01_sources", "paged_client", False, path), range(40)))
    assert progress.load(path)["01_sources/paged_client"]["attempts"] == 40


@pytest.mark.parametrize("locks", [True, False], ids=["NFS", "a file system without locks"])
def test_it_is_written_where_a_folder_cannot_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    """NFS locks only what is open for writing."""
    flock = fcntl.flock

    def as_there(fd: int, operation: int) -> None:
        if not locks or fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", as_there)
    path = tmp_path / "progress.json"
    with ThreadPoolExecutor(8) as pool:
        notes = list(pool.map(lambda _: progress.record("01_sources", "x", False, path), range(24 if locks else 1)))
    assert notes == [None] * len(notes)
    assert progress.load(path)["01_sources/x"]["attempts"] == len(notes)


def test_a_folder_that_cannot_be_written_does_not_spoil_the_verdict(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", "utf-8")
    note = progress.record("01_sources", "paged_client", True, blocked / "progress.json")
    assert "was not written" in note


def test_the_table_counts(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    progress.record("01_sources", "paged_client", True, path)
    rows = progress.progress_rows(path=path)
    assert json.loads(json.dumps(rows)) == rows
    assert sum(1 for row in rows if row["first_passed"]) == 1
    assert progress.progress_table(path=path).caption == f"1 of {len(rows)} exercises passed"


def test_no_part_is_left_when_the_write_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress.json"
    progress.record("01_sources", "paged_client", True, path)
    before = path.read_bytes()

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left" in progress.record("01_sources", "paged_client", True, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["progress.json"]


def test_watch_says_what_each_check_found_and_what_is_next(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    lines = progress.watch(path, seconds=0)
    name = "00_welcome, The store with the most orders"
    assert next(lines) == progress.next_line(path=path)
    progress.record("00_welcome", "busiest_store", False, path)
    assert next(lines) == f"{name}: not yet"
    progress.record_help("00_welcome", "busiest_store", "hint 1", path)
    assert next(lines) == f"{name}: hint 1"
    progress.record("00_welcome", "busiest_store", True, path)
    assert [next(lines), next(lines)] == [f"{name}: passed, 2 tries", progress.next_line(path=path)]
    progress.record("00_welcome", "busiest_store", True, path)
    assert next(lines) == f"{name}: checked again, 3 tries"
    path.unlink()
    assert next(lines) == f"{name}: the record begins again"
