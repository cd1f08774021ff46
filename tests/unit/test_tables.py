"""Tables as a notebook shows them: text left, numbers right, nothing written as only a program would."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from flow360.course import tables
from flow360.course.notebooks import read
from flow360.course.tables import LEFT, aligned
from flow360.settings import ROOT

FRAME = pd.DataFrame(
    {
        "van": ["VAN-01", "VAN-02"],
        "readings": pd.array([3, None], dtype="Int64"),
        "share": [0.25, float("nan")],
        "since": ["2026-05-07", None],
        "text of digits": ["12,5 °C", "7"],
        "nothing": [None, None],
        "pair": [(np.int64(3), np.float64(0.5)), (np.int64(4), "np.int64(4)")],
        "np": [np.int64(7), np.int64(8)],
    }
)


def column(html: str, name: str) -> list[tuple[bool, str]]:
    """The cells of a column, its head first: whether it is set to the left, and what it says."""
    rows = [
        re.findall(r"<t[hd]([^>]*)>(.*?)</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr.*?</tr>", html, re.S)
    ]
    place = [said for _, said in rows[0]].index(name)
    return [(LEFT in row[place][0], row[place][1]) for row in rows]


def test_text_stands_on_the_left_and_numbers_on_the_right() -> None:
    html = aligned(FRAME._repr_html_())
    lefts = {name: {left for left, _ in column(html, name)} for name in FRAME.columns}
    assert lefts == {
        "van": {True}, "readings": {False}, "share": {False}, "since": {True}, "text of digits": {True},
        "nothing": {False}, "pair": {True}, "np": {False},
    }  # fmt: skip


def test_what_only_a_program_would_write_is_written_as_a_person_does() -> None:
    html = aligned(FRAME._repr_html_())
    assert column(html, "readings")[1:] == [(False, "3"), (False, "–")]
    assert column(html, "pair")[1][1] == "(3, 0.5)"
    assert "np." not in html
    assert "&lt;NA&gt;" not in html


def test_a_second_time_changes_nothing() -> None:
    once = aligned(FRAME._repr_html_())
    assert aligned(once) == once


@pytest.mark.parametrize("said", ["0", "-1,234.50", "12%", "1e+06", ".5", "inf", "np.int64(3)"])
def test_a_number(said: str) -> None:
    assert tables._is_number(said)


@pytest.mark.parametrize("said", ["-", "%", "3 EUR", "2026-05-07", "12:00", "VAN-01", "1.2.3"])
def test_no_number(said: str) -> None:
    assert not tables._is_number(said)


@pytest.mark.parametrize(
    "frame",
    [
        FRAME.set_index(["van", "since"]),
        FRAME.groupby("van").agg({"share": ["min", "max"], "since": ["first"]}),
        pd.DataFrame(),
        pd.DataFrame({"a": range(100), "b": ["x"] * 100}),
    ],
)
def test_no_shape_of_a_table_loses_a_cell(frame: pd.DataFrame) -> None:
    drawn = frame._repr_html_()
    plain = re.sub(r"<[^>]*>", "|", drawn).replace("&lt;NA&gt;", "–")
    assert re.sub(r"<[^>]*>", "|", aligned(drawn)) == tables._SCALAR.sub(r"\1", plain)
    if len(frame) == 100:
        assert {left for left, _ in column(aligned(drawn), "b")} == {True}


def test_a_kernel_draws_them_so_once_the_lesson_is_there() -> None:
    shell = InteractiveShell.instance()
    try:
        tables.register()
        data, _ = shell.display_formatter.format(FRAME)
        assert data["text/html"] == aligned(FRAME._repr_html_())
        assert data["text/plain"] == repr(FRAME), "in a terminal it is pandas' own"
        plain = shell.display_formatter.formatters["text/plain"]
        assert [plain(one) for one in (np.int64(3), [np.float64(0.5)], np.bool_(True), {"a": np.str_("x")})] == [
            "3", "[0.5]", "True", "{'a': 'x'}",
        ]  # fmt: skip
    finally:
        InteractiveShell.clear_instance()


def test_outputs_that_are_kept_are_drawn_so() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in read(path).cells:
            for output in cell.get("outputs", []):
                html = output.get("data", {}).get("text/html", "")
                assert aligned(html) == html, f"{path.name}: {cell.id}: flow360 run {path.stem} --keep"
