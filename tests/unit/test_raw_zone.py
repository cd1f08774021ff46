"""The raw zone without HDFS: what is landed, what counts as landed, and what came out of the shop."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from flow360.errors import FlowError
from flow360.ingestion import night, readings
from flow360.primeur.snapshot import FILES
from flow360.storage import raw

DAY = date(2026, 5, 7)


class Lake(MemoryFileSystem):
    """As much of HDFS as the raw zone uses; it breaks when it has written so many files."""

    cachable = False
    store: dict = {}
    pseudo_dirs: list = [""]

    def __init__(self, breaks_at: int = 99) -> None:
        super().__init__()
        self.store, self.pseudo_dirs, self.left = {}, [""], breaks_at

    def write(self, path: str, data: bytes) -> None:
        if self.left == 0:
            raise FlowError("lake: no more")
        self.left -= 1
        self.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.pipe_file(path, data)

    replace = write

    def rm(self, path: str, recursive: bool = False, missing_ok: bool = False) -> None:
        if self.exists(path):
            super().rm(path, recursive=recursive)


GIVEN = [("orders.csv", b"order_id\n1\n2\n", 2), ("price_list.csv", "Gérard".encode("cp1252"), None)]


def test_what_came_lies_there_byte_for_byte_with_its_rows_bytes_and_mark():
    lake = Lake()
    landed = raw.put(lake, "shop", DAY, "manual__2026-05-08T06:00:00+00:00", GIVEN, {"weather.parquet": "has not come"})
    assert landed.folder == "/raw/shop/day=2026-05-07/run=manual__2026-05-08T06-00-00-00-00"
    for file, (name, data, rows) in zip(landed.files, GIVEN, strict=True):
        assert (file.name, file.rows, file.bytes) == (name, rows, len(data))
        assert lake.cat_file(landed.path(file)) == data
        assert file.defect(data) == ""
        assert file.defect(data[:-1]) == f"not what was landed: {len(data) - 1} bytes of {len(data)}"
        assert file.defect(data[:-1] + b"x") == "not what was landed: other bytes"
    assert raw.latest(lake, "shop", DAY) == landed


def test_a_run_that_was_killed_does_not_exist_and_can_be_repeated():
    lake = Lake(breaks_at=2)
    with pytest.raises(FlowError, match="no more"):
        raw.put(lake, "shop", DAY, "a", GIVEN)
    assert raw.runs(lake, "shop", DAY) == []
    with pytest.raises(FlowError, match="nothing has been landed of shop for 2026-05-07"):
        raw.latest(lake, "shop", DAY)
    lake.left = 99
    landed = raw.put(lake, "shop", DAY, "a", GIVEN)
    assert raw.runs(lake, "shop", DAY) == [landed]


def test_a_run_that_is_repeated_takes_its_own_place_and_another_one_stands_beside_it():
    lake = Lake()
    first = raw.put(lake, "shop", DAY, "a", GIVEN)
    other = raw.put(lake, "shop", DAY, "b", GIVEN[:1])
    again = raw.put(lake, "shop", DAY, "a", GIVEN[1:])
    assert raw.runs(lake, "shop", DAY) == [other, again]
    assert first.folder == again.folder
    assert not lake.exists(f"{again.folder}/orders.csv")
    assert raw.runs(lake, "shop", date(2026, 5, 6)) == raw.runs(lake, "api", DAY) == []


@pytest.mark.parametrize("name", ["_hidden.csv", "../up.csv", "a/b.csv", "", "a:b"])
def test_a_name_that_hdfs_or_spark_would_read_otherwise_is_refused(name):
    with pytest.raises(FlowError, match="cannot be the name of a file"):
        raw.put(Lake(), "files", DAY, "a", [(name, b"", None)])


def test_two_files_of_one_name_are_refused():
    with pytest.raises(FlowError, match="is there already"):
        raw.put(Lake(), "files", DAY, "a", [GIVEN[0], GIVEN[0]])


def test_a_manifest_is_read_as_it_was_written():
    one = raw.Manifest("files", DAY, "a", datetime(2026, 5, 8, 1, 2, 3, 4, UTC), (raw.File("é.csv", None, 3, "ab"),))
    assert raw.Manifest.parse(one.json()) == one


def test_a_night_lands_the_day_s_files_as_they_lie_there_and_says_which_has_not_come(tmp_path):
    lake = Lake()
    landed = night.take_files(lake, DAY, "a")
    many_days = ["reviews.jsonl", "weather.parquet"]
    assert [one.name for one in landed.files] == ["orders_2026-05-07.csv", "price_list_2026-05-07.csv", *many_days]
    assert landed.missing == {}
    for file in landed.files:
        assert lake.cat_file(landed.path(file)) == (FILES / file.name).read_bytes()
    assert [one.name for one in night.take_files(lake, date(2026, 6, 1), "a").files] == many_days
    empty = night.take_files(lake, DAY, "b", [tmp_path])
    assert (empty.files, empty.missing) == ((), {"orders_2026-05-07.csv": "has not come"})


def test_readings_of_a_day_are_read_by_spark_s_list_of_the_files_that_count():
    """Twelve batches of one log, of which the tenth's entry holds all before it, and a file of a batch that died."""
    lake, at = Lake(), "/raw/readings/log=abc"

    def landed(batch: int, day: date = DAY) -> str:
        path = f"{at}/day={day}/part-{batch}.parquet"
        rows = pa.table({"key": [b"VAN-03", b"VAN-04"], "offset": [batch, batch]})
        pq.write_table(rows, path, filesystem=lake)
        return json.dumps({"path": f"hdfs://namenode:8020{path.replace('=', '%3D')}", "action": "add"})

    lines = [landed(batch) for batch in range(12)]
    lines[3] = landed(3, date(2026, 5, 8))
    for batch, listed in {8: lines[8:9], 9: lines[:10], 10: lines[10:11], 11: lines[11:]}.items():
        name = f"{batch}.compact" if batch == 9 else f"{batch}"
        lake.write(f"{at}/_spark_metadata/{name}", "\n".join(["v1", *listed]).encode())
    found = dict(readings.of_day(lake, DAY, columns=["offset"], filters=[("key", "=", b"VAN-03")]))
    assert sorted(one["offset"][0].as_py() for one in found.values()) == [0, 1, 2, *range(4, 12)]
    assert {len(one) for one in found.values()} == {1}
    assert list(readings.of_day(lake, date(2026, 5, 9))) == list(readings.of_day(Lake(), DAY)) == []


class Service:
    """An API of three pages, whose second one comes at the second attempt."""

    def __init__(self) -> None:
        self.broken = True
        self.bodies = [
            b'{"items": [{"a": 1.50}, {"b": "\xc3\xa9"}],  "next_cursor": "2"}',
            b'{"next_cursor": "3", "items": []}',
            b'{"items": [null], "next_cursor": null}',
        ]

    def get(self, path, params, timeout, stream):
        assert params["day"] == "2026-05-07"
        number = int(params.get("cursor", "1"))
        failed = number == 2 and self.broken
        self.broken = self.broken and not failed
        return Answer(500 if failed else 200, b"" if failed else self.bodies[number - 1])


class Answer:
    reason, headers = "", {}

    def __init__(self, status_code: int, body: bytes) -> None:
        self.status_code, self.body = status_code, body

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        pass

    def iter_content(self, size):
        yield self.body


def test_a_night_lands_each_page_of_the_api_byte_for_byte_with_its_items_counted():
    lake, service = Lake(), Service()
    landed = night.take_api(service, lake, DAY, "a")
    names = [f"{name}-{number:04}.json" for name in night.LISTS for number in (1, 2, 3)]
    assert [(one.name, one.rows) for one in landed.files] == list(zip(names, [2, 0, 1] * 3, strict=True))
    for n, file in enumerate(landed.files):
        assert lake.cat_file(landed.path(file)) == service.bodies[n % 3]
