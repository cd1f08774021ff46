"""The lake loses machines, disks and services: no byte is lost, and nobody waits without end."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from flow360 import clients, lesson
from flow360.errors import FlowError
from flow360.waiting import patient
from tests.faults.support import SEED, kill, ready, report, until

SERVICES = ("replication", "hive-server")
FOLDER = "/fault"
MOST = 30.0  # seconds until a person hears that something is gone


@pytest.fixture
def lake(started) -> Iterator[Callable[[], object]]:
    """HDFS on three machines, with an empty folder; afterwards everything runs again and the folder is gone."""
    started("replication")
    clients.lake().rm(FOLDER, recursive=True, missing_ok=True)
    yield clients.lake
    started("replication")
    clients.lake().rm(FOLDER, recursive=True, missing_ok=True)


@pytest.fixture
def table(started) -> Iterator[str]:
    """An external table of 1,000 rows in Hive; afterwards the services run again and it is gone."""
    started("hive-server")
    clients.lake().rm(FOLDER, recursive=True, missing_ok=True)
    rows = "\n".join(f"{number},{number * number}" for number in range(1000))
    clients.lake().write(f"{FOLDER}/table/rows.csv", rows.encode())
    lesson.sql("drop table if exists fault_rows", db="lake")
    lesson.sql(
        "create external table fault_rows (n bigint, square bigint) row format delimited fields terminated by ',' "
        f"location '{FOLDER}/table'",
        db="lake",
    )
    assert rows_of("fault_rows") == (1000, 332833500)
    yield "fault_rows"
    started("hive-server")
    lesson.sql("drop table if exists fault_rows", db="lake")
    clients.lake().rm(FOLDER, recursive=True, missing_ok=True)


def rows_of(name: str) -> tuple[int, int]:
    row = lesson.sql(f"select count(*), sum(square) from {name}", db="lake").iloc[0]
    return int(row.iloc[0]), int(row.iloc[1])


def content(number: int, size: int = 200_000) -> bytes:
    return random.Random(SEED * 1000 + number).randbytes(size)


@contextmanager
def killed_for_good(stack, *names: str) -> Iterator[float]:
    """SIGKILL, and the supervisor does not bring them back; at the end they are started again, side by side."""
    moment = time.monotonic()
    for name in names:
        kill(stack, name)
        stack.host.supervisor.stop(name)
    try:
        yield moment
    finally:
        for name in names:
            stack.host.supervisor.start(name)
        until(lambda: all(ready(stack, name) for name in names), f"{', '.join(names)} to answer again", 90)


def told(call: Callable[[], object], *words: str) -> tuple[str, float]:
    """The one line that a call ends with, and the seconds that it took."""
    start = time.monotonic()
    with pytest.raises(FlowError) as caught:
        call()
    seconds = time.monotonic() - start
    assert seconds < patient(MOST), f"{seconds:.0f} s until: {caught.value.message}"
    assert len(caught.value.message.splitlines()) == 1
    for word in words:
        assert word in caught.value.message
    return caught.value.message, seconds


@pytest.mark.timeout(300)
def test_a_datanode_is_killed(stack, lake):
    """Fault 25: every block that lost a copy has it again, every file has its bytes."""
    files = {f"{FOLDER}/{number:02d}.bin": content(number) for number in range(20)}
    for path, data in files.items():
        lake().write(path, data, replication=2, block_size=65_536)
    blocks = sum(len(lake().blocks(path)) for path in files)
    hit = sum(lake().blocks(path)["on"].str.contains("datanode-3").sum() for path in files)

    def healed() -> bool:
        found = [lake().blocks(path) for path in files]
        return all((one["copies"] == 2).all() and not one["on"].str.contains("datanode-3").any() for one in found)

    with killed_for_good(stack, "datanode-3") as moment:
        unread = sum(_unreadable(lake, path) for path in files)
        until(healed, "two copies of every block on the machines that live", 120, pause=0.3)
        healing = time.monotonic() - moment
        lost = sum(lake().cat_file(path) != data for path, data in files.items())
    report(
        "25 DataNode killed",
        files=len(files),
        blocks=blocks,
        copies_lost=int(hit),
        reads_sent_to_the_dead=unread,
        healed=healing,
        files_changed=lost,
    )
    assert hit > 0
    assert lost == 0


def _unreadable(lake, path: str) -> int:
    """Until the NameNode knows, it may send a reader to the dead machine: then the line names it."""
    try:
        lake().cat_file(path)
    except FlowError as error:
        assert "datanode-3" in error.message
        return 1
    return 0


@pytest.mark.timeout(200)
def test_what_is_written_right_after_two_of_three_datanodes_went(stack, lake):
    """The NameNode names them for some seconds more; by themselves they would also make the third one look busy."""
    done = dict.fromkeys(("written", "opened", "appended", "read"), 0)
    for round_, pair in enumerate((("datanode-2", "datanode-3"), ("datanode", "datanode-3"))):
        with killed_for_good(stack, *pair):
            for number in range(8):
                path, data = f"{FOLDER}/{round_}-{number}", content(number, 5_000)
                lake().write(path, data)
                done["written"] += 1
                with lake().open(f"{path}-opened", "wb") as file:
                    file.write(data)
                done["opened"] += 1
                with lake().open(path, "ab") as file:
                    file.write(data)
                done["appended"] += 1
                done["read"] += lake().cat_file(path) == data * 2
                done["read"] += lake().cat_file(f"{path}-opened") == data
    report("2 of 3 DataNodes gone", **done)
    assert done == {"written": 16, "opened": 16, "appended": 16, "read": 32}


@pytest.mark.timeout(200)
def test_a_block_is_overwritten_on_one_disk(stack, lake):
    """Fault 25: every reader gets the right bytes, the bad copy is found by its checksum and replaced by a good one."""
    path, data = f"{FOLDER}/precious.bin", content(77, 60_000)
    # Two copies on three machines: a good one is made on the third before the bad one goes.
    lake().write(path, data, replication=2)
    block = int(lake().blocks(path)["block"].iat[0])

    def on_disk() -> list[bytes]:
        folders = [
            stack.host.programs.data(stack.model[name]) / "blocks" for name in ("datanode", "datanode-2", "datanode-3")
        ]
        return [file.read_bytes() for folder in folders for file in folder.rglob(f"blk_{block}")]

    def again() -> bool:
        """One more reader. The copies are equally near, so chance decides whose disk is asked."""
        seen["reads"] += 1
        seen["wrong_bytes_read"] += lake().cat_file(path) != data
        return on_disk() == [data, data]

    until(lambda: on_disk() == [data, data], "two copies on the disks", 60)
    holder = lake().blocks(path)["on"].iat[0].split(", ")[0]
    victim = next((stack.host.programs.data(stack.model[holder]) / "blocks").rglob(f"blk_{block}"))
    victim.write_bytes(bytes(len(data)))
    copies, spoilt = len(on_disk()), sum(copy != data for copy in on_disk())
    seen, start = {"reads": 0, "wrong_bytes_read": 0}, time.monotonic()
    until(again, "two good copies again", 120, pause=0.3)
    healing = time.monotonic() - start
    corrupt = bool(re.search(r"CORRUPT|Corrupt blocks:\s+[1-9]", lesson.hdfs("fsck", FOLDER)))
    report(
        "25 block overwritten with zeros", copies=copies, spoilt=spoilt, **seen, replaced=healing, corrupt_after=corrupt
    )
    assert spoilt == 1
    assert seen["wrong_bytes_read"] == 0
    assert not corrupt


@pytest.mark.timeout(200)
def test_a_folder_is_full(lake):
    """A quota is a full disk on demand: the write that does not fit is refused, and what was there stays."""
    lake().mkdir(f"{FOLDER}/small")
    lake().set_quota(f"{FOLDER}/small", space=1_500_000)
    kept, refused = {}, 0
    for number in range(8):
        path, data = f"{FOLDER}/small/{number}.bin", content(number, 100_000)
        try:
            # While a file is written, HDFS reserves a whole block for each copy.
            lake().write(path, data, replication=3, block_size=262_144)
            kept[path] = data
        except FlowError as error:
            assert "quota" in error.message
            assert len(error.message.splitlines()) == 1
            refused += 1
    changed = sum(lake().cat_file(path) != data for path, data in kept.items())
    lake().set_quota(f"{FOLDER}/small")
    lake().write(f"{FOLDER}/small/after.bin", content(99), replication=3, block_size=262_144)
    sizes = [one["size"] for one in lake().ls(f"{FOLDER}/small", detail=True)]
    there = sum(size > 0 for size in sizes)
    report("25 full quota", tried=len(kept) + refused, kept=len(kept), refused=refused, kept_files_changed=changed,
           whole_after_raising=there, empty_names_of_the_refused=sizes.count(0))  # fmt: skip
    assert len(kept) > 0
    assert refused > 0
    assert there == len(kept) + 1
    assert changed == 0


@pytest.mark.timeout(200)
def test_the_namenode_is_down(stack, table):
    """Fault 25: anyone who asks hears it within 30 s, by HDFS's clients and by Hive; afterwards everything is there."""
    before = hashlib.sha256(clients.lake().cat_file(f"{FOLDER}/table/rows.csv")).hexdigest()
    seconds = {}
    with killed_for_good(stack, "namenode"):
        _, seconds["lake"] = told(clients.lake, "namenode does not answer", "flow360 up namenode")
        _, seconds["hive"] = told(lambda: rows_of(table), "namenode does not answer", "flow360 up namenode")
    until(lambda: ready(stack, "datanode"), "the DataNode to be back at its NameNode", 60)
    # Neither dead nor alive: it accepts the connection and says nothing.
    fs = clients.lake(seconds=4)
    pid = stack.host.pids()["namenode"]
    os.kill(pid, signal.SIGSTOP)
    try:
        _, seconds["silent"] = told(lambda: fs.ls(FOLDER), "namenode gave no answer within 4 s")
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: ready(stack, "datanode"), "the DataNode to be back at its NameNode", 60)
    after = hashlib.sha256(clients.lake().cat_file(f"{FOLDER}/table/rows.csv")).hexdigest()
    report("25 NameNode down", **seconds, rows_after=rows_of(table)[0], files_changed=int(after != before))
    assert after == before
    assert rows_of(table) == (1000, 332833500)


@pytest.mark.timeout(200)
def test_the_metastore_is_killed(stack, table):
    """Fault 26: queries fail clearly and within 30 s, no data is touched, and it knows its tables afterwards."""
    before = list(lesson.sql("show tables", db="lake").iloc[:, 0])
    with killed_for_good(stack, "hive-metastore"):
        _, seconds = told(lambda: rows_of(table), "hive-metastore", "flow360 up hive-metastore")
        files = len(clients.lake().find(f"{FOLDER}/table"))
    start = time.monotonic()
    after = list(lesson.sql("show tables", db="lake").iloc[:, 0])
    back = time.monotonic() - start
    report("26 metastore killed", told=seconds, tables_before=len(before), tables_after=len(after), first_answer=back)
    assert after == before
    assert files == 1
    assert rows_of(table) == (1000, 332833500)


@pytest.mark.timeout(200)
def test_the_metastore_s_database_is_killed(stack, table):
    """Fault 26: the same when PostgreSQL goes; the metastore stays up and finds its database again."""
    before = list(lesson.sql("show tables", db="lake").iloc[:, 0])
    metastore = stack.host.pids()["hive-metastore"]
    with killed_for_good(stack, "postgres-dwh"):
        _, seconds = told(lambda: rows_of(table))
    until(lambda: ready(stack, "hive-metastore"), "the metastore to find its database again", 60)
    after = list(lesson.sql("show tables", db="lake").iloc[:, 0])
    same = stack.host.pids()["hive-metastore"] == metastore
    report("26 metastore's database killed", told=seconds, tables_before=len(before), tables_after=len(after))
    assert after == before
    assert same
    assert rows_of(table) == (1000, 332833500)


@pytest.mark.timeout(200)
def test_hiveserver2_is_killed_in_a_query(stack, table):
    """Fault 26: the query ends with one line, the server comes back by itself, the table is as it was."""
    found: list[FlowError] = []
    begun = threading.Event()

    def ask() -> None:
        begun.set()
        try:
            # Every row with every row: long enough to be interrupted.
            lesson.sql(f"select sum(a.n * b.n) from {table} a cross join {table} b cross join {table} c", db="lake")
        except FlowError as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert begun.wait(10)
    until(lambda: _running_queries(stack) > 0, "the query to run", 60)
    moment = kill(stack, "hive-server")
    thread.join(MOST)
    ended = time.monotonic() - moment
    assert not thread.is_alive(), "the client still waits"
    until(lambda: ready(stack, "hive-server"), "HiveServer2 to come back by itself", 90)
    back = time.monotonic() - moment
    report("26 HiveServer2 killed in a query", told=ended, back=back, rows_after=rows_of(table)[0])
    assert len(found) == 1
    assert "hive-server" in found[0].message
    assert len(found[0].message.splitlines()) == 1
    assert rows_of(table) == (1000, 332833500)


def _running_queries(stack) -> int:
    """Queries that HiveServer2 has begun and not ended, from its log."""
    log = stack.logs("hive-server", 400)
    return log.count(": Executing command") - log.count(": Completed executing command")
