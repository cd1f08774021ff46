"""Exercises 1 and 4: a file as it came, in as many copies as it should have."""

from __future__ import annotations

import functools
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.c05a_data_lake.setting import DAY, FILES, place
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal

SOURCE = FILES / f"orders_{DAY}.csv"
LANDED = f"/lab/raw/orders/day={DAY}/orders_{DAY}.csv"
PRICES = "/lab/raw/prices/price_list.csv"
PRICE_LIST = FILES / f"price_list_{DAY}.csv"
COPIES = 3


@exercise
def land_day(landed: Any) -> None:
    """Check that a file in the raw zone is the branch's file, byte for byte, with three copies of each block."""
    landed = place("landed", landed)
    expect_equal("landed", found=landed, expected=LANDED, why="the folder carries the day, the file keeps its name")
    lake = clients.lake()
    expect(lake.isfile(landed), f"landed: expected a file at {landed}, HDFS has none")
    expect_bytes("landed", lake.cat_file(landed), SOURCE.name)
    expect_copies("landed", landed)


@exercise
def repair_file(fewest: Any) -> None:
    """Check that the price list is as it came, with three copies asked for, and three copies there."""
    fewest = liberal.whole("fewest", fewest)
    lake = clients.lake()
    expect(lake.isfile(PRICES), f"{PRICES}: HDFS does not have this file: run the cell above it again")
    expect_bytes(PRICES, lake.cat_file(PRICES), PRICE_LIST.name)
    expect_copies(PRICES, PRICES)
    expect_equal("fewest", found=fewest, expected=COPIES, why="the copies of the worst block, after the repair")


def expect_copies(name: str, path: str) -> None:
    """Raise NotYet unless as many copies of each block are asked for and there."""
    lake = clients.lake()
    wanted = lake.info(path)["replication"]
    expect_equal(name, found=wanted, expected=COPIES, why="copies that HDFS is asked to keep of each block")
    there = int(lake.blocks(path)["copies"].min())
    expect_equal(name, found=there, expected=COPIES, why="copies of its worst block: is a machine missing?")


def expect_bytes(name: str, found: bytes, file: str) -> None:
    """Raise NotYet unless these are the file's bytes as the generator makes them, whatever became of the file since."""
    sent = as_sent()[file]
    if found != sent:
        at = next((n for n, (a, b) in enumerate(zip(found, sent, strict=False)) if a != b), min(len(found), len(sent)))
        raise NotYet(
            f"{name}: expected the {len(sent):,} bytes of {file} as they are, found {len(found):,} that differ "
            f"from byte {at:,} on: did a program read and write it on the way?"
        )


@functools.cache
def as_sent() -> dict[str, bytes]:
    """Make the files of the drop zone as the generator makes them, by name."""
    from flow360.primeur import files
    from flow360.primeur.generate import table
    from flow360.primeur.plan import SEED_PLAN
    from flow360.primeur.records import outward

    orders, prices = (outward(table(name, SEED_PLAN)) for name in ("orders", "price_lists"))
    dropped = [*files.order_files(SEED_PLAN, orders), files.price_file(SEED_PLAN, prices)]
    return {file.name: file.data for file in dropped}
