"""The picture of the data's way: who stands where, what is at work, and that it can be read without being seen."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from flow360.home.handlers import drawn
from flow360.home.picture import HEIGHT, WIDTH, Picture, picture
from flow360.home.work import Work
from flow360.monitoring.lineage.graph import Arrow, Edge, recorded
from tests.unit.test_home import home, record  # noqa: F401 - its own record of the learner

NOW = datetime(2026, 5, 7, 12, tzinfo=UTC)


def edge(source: str, program: str, target: str, ago: timedelta | None = None, rows: int | None = None) -> Edge:
    return Edge(Arrow(source, program, target), None if ago is None else NOW - ago, rows)


def x_of(found: Picture) -> dict[str, float]:
    return {place.name: place.x for place in found.places}


def test_each_place_stands_to_the_right_of_what_it_comes_from() -> None:
    found = picture([Edge(one) for one in recorded()], NOW)
    where = {(f"{one.service}: {one.name}" if one.service else one.name): one for one in found.places}
    where["market-api: /"] = where["market-api"]
    for one in recorded():
        start, end = one.source or one.program, one.target or one.program
        assert where[start].x + WIDTH < where[end].x, one
    boxes = [(one.x, one.y) for one in found.places]
    assert all(abs(a[1] - b[1]) >= HEIGHT for a in boxes for b in boxes if a != b and a[0] == b[0]), "none on another"
    assert all(0 <= x <= found.width - WIDTH and 0 <= y <= found.height - HEIGHT for x, y in boxes)
    assert picture([Edge(one) for one in sorted(recorded(), reverse=True)], NOW).places == found.places


def test_a_circle_does_not_turn_for_ever() -> None:
    found = x_of(picture([edge("k: a", "p", "k: b"), edge("k: b", "p", "k: c"), edge("k: c", "p", "k: a")], NOW))
    assert len(set(found.values())) == 3
    assert picture([], NOW).places == []


def test_what_moves_now_what_moved_and_what_never_did() -> None:
    found = picture(
        [
            edge("k: a", "now", "k: b", timedelta(seconds=30), 1234),
            edge("k: a", "before", "k: c", timedelta(hours=3), 5),
            edge("k: a", "long-ago", "k: d", timedelta(days=3)),
            edge("k: a", "never", "k: e"),
        ],
        NOW,
    )
    assert {line.program: line.state for line in found.lines} == {
        "now": "fresh", "before": "moved", "long-ago": "moved", "never": "still",
    }  # fmt: skip
    said = {place.name: (place.state, place.said) for place in found.places}
    assert said == {
        "a": ("fresh", ""),
        "b": ("fresh", "11:59:30, 1,234 rows"),
        "c": ("moved", "09:00:00, 5 rows"),
        "d": ("moved", "04 May 12:00"),
        "e": ("still", ""),
    }
    assert next(line.said for line in found.lines if line.program == "now") == (
        "k: a → now → k: b: last on 07 May at 11:59:30 UTC, 1,234 rows in all"
    )


def test_the_page_draws_it_and_a_table_says_the_same() -> None:
    facts = home.Facts(logging.getLogger())
    facts.flow.value = [edge("k: <a>", "p", "k: b", timedelta(0), 7), edge("", "maker", "k: b")]
    text = drawn("now.html", facts.shown(), Work(lambda: None))
    assert 'role="img" aria-label="Which program carries data from where to where; the table below' in text
    assert "&lt;a&gt;" in text
    assert "<a></text>" not in text
    assert "k: &lt;a&gt; → p → k: b: last on 07 May at 12:00:00 UTC, 7 rows in all" in text
    assert "<td>maker</td>" in text
    assert "1 of 2 hops" in text
    assert "style=" not in text, "the page's policy lets no style in"


@pytest.mark.parametrize("count", [1, 2])
def test_a_small_picture_has_a_size(count: int) -> None:
    found = picture([edge("k: a", f"p{n}", f"k: {n}") for n in range(count)], NOW)
    assert (found.width, found.height) > (WIDTH, HEIGHT - 1)
