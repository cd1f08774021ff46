"""Content compared, forms taken liberally, and cases drawn from a seed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pytest

from flow360.checks import draw, liberal
from flow360.checks.compare import expect_rows, expect_untouched, fingerprint_files
from flow360.checks.draw import PARIS
from flow360.checks.scene import Asked, expect_kinds
from flow360.checks.verdict import NotYet

ROWS = [{"id": 1, "eur": Decimal("1.10")}, {"id": 2, "eur": Decimal("2.00")}, {"id": 2, "eur": Decimal("2.00")}]


def compare(found: list) -> None:
    expect_rows("load", found=found, expected=ROWS, key=("id",))


@pytest.mark.parametrize(
    "found",
    [
        ROWS[::-1],
        [{"id": np.int64(1), "eur": 1.1, "more": "x"}, {"id": 2.0, "eur": 2}, {"id": 2, "eur": np.float64(2)}],
        pd.DataFrame(ROWS).to_dict("records"),
    ],
)
def test_the_same_rows(found: list) -> None:
    compare(found)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (ROWS[:2], "expected 3 rows, found 2: 1 is missing, such as id 2"),
        ([*ROWS, ROWS[0]], "expected 3 rows, found 4: 1 is there more than once, such as id 1"),
        ([*ROWS, {"id": 3, "eur": 0}], "1 is not expected, such as id 3"),
        ([{"id": 1, "eur": Decimal("1.11")}, *ROWS[1:]], "id 1: eur expected 1.10, found 1.11"),
        ([{"id": 1, "eur": True}, *ROWS[1:]], "1 is with another value, such as id 1: eur expected 1.10, found True"),
        ([{"id": 1, "eur": None}, *ROWS[1:]], "found None"),
        ([{"id": 1, "eur": float("nan")}, *ROWS[1:]], "found 'nan'"),
        ([{"id": 1}, *ROWS[1:]], "id 1 has no eur"),
        ([{"id": 1, "eur": Decimal("2.00")}, *ROWS[1:2], {"id": 2, "eur": Decimal("1.10")}], "eur expected"),
    ],
)
def test_the_first_difference_is_named(found: list, says: str) -> None:
    with pytest.raises(NotYet, match="^load: ") as verdict:
        compare(found)
    assert says in str(verdict.value)


def test_moments_are_points_in_time() -> None:
    moment = datetime(2026, 5, 7, 12, tzinfo=UTC)
    paris = [{"at": moment.astimezone(PARIS)}, {"at": pd.Timestamp(moment)}]
    expect_rows("load", found=paris, expected=[{"at": moment}] * 2, key=("at",))


def test_no_row_is_expected() -> None:
    expect_rows("load", found=[], expected=[], key=("id",))
    with pytest.raises(NotYet, match="1 is not expected"):
        expect_rows("load", found=[{"id": 1}], expected=[], key=("id",))


def test_what_must_stay(tmp_path) -> None:
    (tmp_path / "a").write_text("1")
    before = fingerprint_files(tmp_path.iterdir())
    expect_untouched("load", "the files", before, fingerprint_files(tmp_path.iterdir()))
    (tmp_path / "a").write_text("2")
    with pytest.raises(NotYet, match="load: the files changed"):
        expect_untouched("load", "the files", before, fingerprint_files(tmp_path.iterdir()))


@pytest.mark.parametrize("value", [3, 3.0, Decimal("3"), np.int64(3), np.float64(3)])
def test_a_whole_number(value) -> None:
    assert liberal.whole("n", value) == 3
    assert liberal.number("n", value) == 3.0


@pytest.mark.parametrize("value", [3.5, "3", None, True, float("nan"), float("inf"), [3], pd.Series([3])])
def test_no_whole_number(value) -> None:
    with pytest.raises(NotYet, match="^n: expected a whole number, found "):
        liberal.whole("n", value)


def test_texts_paths_and_functions() -> None:
    assert liberal.text("t", " a ") == "a"
    assert liberal.path("p", PurePosixPath("a/b")) == liberal.path("p", "a/b")
    assert liberal.function("f", len) is len
    for take, value in ((liberal.text, 1), (liberal.path, 1), (liberal.function, None)):
        with pytest.raises(NotYet):
            take("x", value)


def test_statements_and_names_of_tables() -> None:
    assert liberal.statement("q", " select 1;\n") == "select 1"
    for value in ("orders", "lab.orders", "LAB.Orders", '"lab"."orders"', " lab.orders "):
        assert liberal.relation("t", value, "lab") == "lab.orders"
    assert liberal.relation("t", 'other."Orders"', "lab") == "other.Orders"
    for value in ("", "a.b.c", "lab.orders; drop table x", 3):
        with pytest.raises(NotYet, match="^t: expected a"):
            liberal.relation("t", value, "lab")


def test_the_same_seed_draws_the_same(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv(draw.SEED, "7")
    assert draw.draw().random() == draw.draw().random()
    assert "seed 7" in capsys.readouterr().out
    monkeypatch.delenv(draw.SEED)
    assert draw.draw().random() != draw.draw().random()


def test_both_clock_changes() -> None:
    assert [f"{day:%m-%d}" for day in draw.clock_changes(2026)] == ["03-29", "10-25"]


WANTED = Asked([], {"eur": "numeric", "day": "date", "count": "a whole number"})


def test_a_wider_number_and_another_order_do() -> None:
    expect_kinds("t", Asked([], {"count": "numeric", "day": "date", "eur": "numeric"}), WANTED, exact=True)


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        ({"eur": "a floating-point number"}, "column eur is a floating-point number, expected numeric"),
        ({"day": "a timestamp with its zone"}, "column day is a timestamp with its zone, expected date"),
        ({"count": "a floating-point number"}, "column count is"),
        ({"more": "text"}, "a column that was not asked for: more"),
    ],
)
def test_columns_of_another_kind(kinds: dict[str, str], says: str) -> None:
    with pytest.raises(NotYet, match=f"^t: .*{says}"):
        expect_kinds("t", Asked([], WANTED.kinds | kinds), WANTED, exact=True)


def test_a_column_that_is_not_there() -> None:
    with pytest.raises(NotYet, match="no column day"):
        expect_kinds("t", Asked([], {"eur": "numeric"}), WANTED)
