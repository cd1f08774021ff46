"""Exercise 3: a streaming query that survives a kill at the worst moment.

The driver is killed, and of its last batch the note is taken away that it was done: as if it had died between writing
the rows and noting them. A real kill hits that moment once in a hundred times, and the check has one.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from flow360 import clients, lesson
from flow360.checks import liberal
from flow360.checks.c04b_big_data.tables import LAKE, duck, limited_on_spark
from flow360.checks.compare import expect_rows
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect
from flow360.processing.spark import configured
from flow360.waiting import patient, rounds

ROWS = 1_200
START = 60.0
"""Seconds in which `copy` must have started its query."""
WORK = 120.0
"""Seconds in which the query must have copied what there is, an executor that has to start first among them."""
QUIET = 12.0
"""Seconds without a new row after which a query that waits for its next trigger has done what it will do."""
IDLE = 3.0
"""The same for one that has asked for records, and has heard that there are none."""
VANISHING = 5.0
"""Seconds for which files may come and go while they are read."""
_NO_MORE = "Waiting for data to arrive"


@exercise
def exact_stream(copy: Callable[..., Any]) -> None:
    """Check copy(spark, topic, target, checkpoint): each record once, though the driver dies before it notes so."""
    liberal.function("copy", copy)
    numbers = _numbers(draw())
    first, second = numbers[: ROWS // 2], numbers[ROWS // 2 :]
    topic = f"lab-04b-{time.time_ns()}"
    base = LAKE / topic
    target, checkpoint = base / "rows", base / "checkpoint"
    running = {query.id for query in clients.spark().streams.active}
    try:
        with clients.kafka_admin() as admin:
            admin.create_topics({topic: {"num_partitions": 2, "replication_factor": 1}})
        _send(topic, first)
        query = _copied(copy, topic, target, checkpoint, first)
        _expect_ids("copy, before the kill", query, target, first)
        expect(
            _notes(checkpoint),
            "copy: the rows are there, but no batch was noted below the folder checkpoint: does it use the checkpoint?",
        )
        with contextlib.redirect_stdout(io.StringIO()):
            lesson.kill("spark-connect")
            lesson.start("spark-connect")
        _forget_last_note(checkpoint)
        _send(topic, second)
        query = _copied(copy, topic, target, checkpoint, numbers)
        _expect_ids("copy, after the kill", query, target, numbers)
    finally:
        # First the query: its tasks would wait for a topic that has gone, and hold every core while they do.
        _stop_all_but(running)
        _forget(topic)
        shutil.rmtree(base, ignore_errors=True)


def _numbers(chance: random.Random) -> list[int]:
    """Draw numbers that only a long holds, small ones, and some that come twice: two records are two rows."""
    some = [2**53 + 1, 2**62, 0, *chance.sample(range(1, 10**9), ROWS - 63)]
    both = [*some, *chance.sample(some, 60)]
    chance.shuffle(both)
    return both


def _copied(copy: Callable[..., Any], topic: str, target: Path, checkpoint: Path, numbers: list[int]) -> Any:
    """Call the answer and wait until as many rows are there as records, or nothing comes any more."""
    query = _start(copy, topic, target, checkpoint)
    again, seen, since = 1, -1, time.monotonic()
    for _ in rounds(patient(WORK), every=0.2):
        found = _ids(target)
        there = len(found)
        if _all_came(found, numbers) and _settled(query, checkpoint):
            break
        status = query.status
        if there != seen or _at_work(status):
            seen, since = there, time.monotonic()
        if _over(query):
            if query.exception() or not again:
                break
            # A query that takes one batch and ends is called once more, as the next night would.
            again, query = again - 1, _start(copy, topic, target, checkpoint)
        elif time.monotonic() - since > patient(IDLE if status["message"] == _NO_MORE else QUIET):
            break
    return query


def _all_came(found: list[Any], numbers: list[int]) -> bool:
    """Say whether there is a row for each record; one that came twice does not stand for another that has not come."""
    wanted = Counter(numbers)
    came = Counter(one for one in found if isinstance(one, int))
    doubled = sum(max(0, times - wanted[one]) for one, times in came.items() if one in wanted)
    return len(found) - doubled >= len(numbers)


def _start(copy: Callable[..., Any], topic: str, target: Path, checkpoint: Path) -> Any:
    session = clients.spark()
    # What a query remembers beside its offsets is kept by partition: one is enough for so few rows.
    with configured(session, shuffle_partitions=1):
        query = limited_on_spark(START, "copy", lambda: copy(session, topic, str(target), str(checkpoint)))
    if not hasattr(query, "isActive"):
        raise NotYet(f"copy: expected the running query (what .start() returns), found {type(query).__name__}")
    return query


def _at_work(status: Mapping[str, Any]) -> bool:
    """Say whether a query makes itself ready or computes a batch; one that only asks for records does not."""
    batch = status["isTriggerActive"] and status["isDataAvailable"]
    return batch or status["message"].startswith("Initializing")


def _over(query: Any) -> bool:
    return not query.isActive


def _settled(query: Any, checkpoint: Path) -> bool:
    """Say whether the last batch that was begun is noted as done: its rows may be there a moment before."""
    begun = max((int(path.name) for path in checkpoint.rglob("offsets/[0-9]*")), default=-1)
    return _over(query) or begun < 0 or any(int(path.name) == begun for path in _notes(checkpoint))


def _notes(checkpoint: Path) -> list[Path]:
    return sorted(checkpoint.rglob("commits/[0-9]*"), key=lambda path: int(path.name))


def _forget_last_note(checkpoint: Path) -> None:
    last = _notes(checkpoint)[-1]
    last.unlink()
    (last.parent / f".{last.name}.crc").unlink(missing_ok=True)


def _expect_ids(name: str, query: Any, target: Path, numbers: list[int]) -> None:
    """Raise NotYet unless the files hold one column, `id` (long), and each record's number as often as it was sent."""
    found = _ids(target)
    failed = _failed(query, _all_came(found, numbers))
    if not found:
        raise NotYet(
            f"{name}: no row in {target.name!r} ({failed or 'where does a query that never ran begin to read?'})"
        )
    kinds = duck(f"describe select * from read_parquet({_listed(_files(target))}, hive_partitioning = false)")
    said = ", ".join(f"{one['column_name']} {one['column_type'].lower()}" for one in kinds)
    expect(said == "id bigint", f"{name}: expected one column in the files, id (long), found {said}")
    doubled = sum((Counter(found) - Counter(numbers)).values())
    why = failed or (
        "was a batch written twice, since nobody had noted that it was done?" if doubled else "two records are two rows"
    )
    expect_rows(
        name,
        found=[{"id": one} for one in found],
        expected=[{"id": one} for one in numbers],
        key=("id",),
        why=why,
    )


def _failed(query: Any, all_came: bool) -> str:
    """Say why a query has not done all; "" for one that did what it wanted to."""
    if error := query.exception():
        return f"the query failed: {str(error).splitlines()[0][:160]}"
    return (
        f"after {patient(WORK):.0f} s the query still computes its batch"
        if not all_came and query.isActive and _at_work(query.status)
        else ""
    )


def _ids(target: Path) -> list[int]:
    import duckdb

    for _ in rounds(patient(VANISHING), every=0.1):
        files = _files(target)
        if not files:
            return []
        query = f"select * from read_parquet({_listed(files)}, hive_partitioning = false, union_by_name = true)"
        with contextlib.suppress(duckdb.IOException):  # a batch that is written once more takes its files away first
            return [row.get("id") for row in duck(query)]
    raise NotYet(f"copy: for {VANISHING} s, files came and went in {target.name!r} faster than they could be read")


def _listed(files: Iterable[Path]) -> str:
    return "[" + ", ".join(f"'{path}'" for path in files) + "]"


def _files(target: Path) -> list[Path]:
    """List the files that count: those that Spark's file sink vouches for; without its list, all that were finished."""
    if log := [path for path in (target / "_spark_metadata").glob("[0-9]*") if path.is_file()]:
        lines = [line for path in log for line in path.read_text("utf-8").splitlines()[1:]]
        return sorted({Path(unquote(urlsplit(json.loads(line)["path"]).path)) for line in lines})
    files = (path.relative_to(target) for path in target.rglob("*.parquet"))
    named = sorted(target / path for path in files if not any(part.startswith(("_", ".")) for part in path.parts))
    return [path for path in named if _is_whole(path)]


def _is_whole(path: Path) -> bool:
    """Say whether a Parquet file was written to its end."""
    with contextlib.suppress(FileNotFoundError):  # a writer gives it another name at this moment
        return path.read_bytes()[-4:] == b"PAR1"
    return False


def _stop_all_but(running: set[str]) -> None:
    """Stop what was started since, whatever the answer returned."""
    for query in clients.spark().streams.active:
        if query.id not in running:
            query.stop()


def _send(topic: str, numbers: list[int]) -> None:
    with clients.producer(acks="all", linger_ms=20) as producer:
        for number in numbers:
            producer.send(topic, json.dumps({"id": number}).encode())


def _forget(topic: str) -> None:
    with clients.kafka_admin() as admin:
        if topic in admin.list_topics():
            admin.delete_topics([topic])
