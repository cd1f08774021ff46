"""README's generated tables."""

from __future__ import annotations

import pytest

from flow360.course import scores
from flow360.course.readme import TABLES, chapter_table, render, score_table, service_table
from flow360.course.registry import Chapter, Course, Exercise
from flow360.errors import FlowError
from flow360.settings import ROOT
from flow360.stack.model import model

SMALL = Course(
    (Chapter("04a_streams", "Streams", "4", 90, ("kafka",), None, (Exercise("a", "A", ("h",)),)),),
)
START, END = "<!-- chapters:start -->", "<!-- chapters:end -->"
OTHERS = "".join(f"<!-- {name}:start -->\n<!-- {name}:end -->\n" for name in TABLES if name != "chapters")


def test_the_table_of_chapters_links_lesson_and_lab():
    row = chapter_table(SMALL).splitlines()[-1]
    assert (
        row
        == "| 04a | [Streams](notebooks/04a_streams.ipynb) | 4 | `kafka` | 90 | [1 exercise](labs/04a_streams.ipynb) |"
    )


def test_the_table_of_services_names_each_that_stays_and_what_it_really_is():
    text = service_table()
    for service in model().services.values():
        rows = [row for row in text.splitlines() if f"`{service.name}`" in row]
        assert len(rows) == (0 if service.job else 1), service.name
        assert all(service.native.runs in row and (service.image or "host") in row for row in rows)


def test_the_table_of_scores_says_what_was_tried_of_a_lab():
    tried = {"lag_by_hand": scores.Score(20, 20, 4, 15), "dead_letters": scores.Score(90, 10, 0, 10)}
    row = score_table({"02": tried}).splitlines()[-1]
    assert row.startswith("| [02](labs/02_ingestion.ipynb) | 30 | 4 | 25 of 26 |")
    assert row.endswith("`lag_by_hand` 94% |")
    assert "`dead_letters` 100% (10 of 90)" in row
    assert "`safe_group` no score yet" in row


def test_a_score_is_recorded_beside_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(scores, "RECORDED", tmp_path / "scores.json")
    scores.RECORDED.write_text("{}", "utf-8")
    scores.record("02", {"a": scores.Score(3, 3, 1, 2)})
    scores.record("00", {"c": scores.Score(1, 1, 0, 1)})
    scores.record("02", {"b": scores.Score(9, 2, 2, 0)})
    assert scores.recorded() == {
        "00": {"c": scores.Score(1, 1, 0, 1)},
        "02": {"a": scores.Score(3, 3, 1, 2), "b": scores.Score(9, 2, 2, 0)},
    }


def test_the_readme_keeps_everything_else():
    text = f"before\n{START}\nold\n{END}\nafter\n{OTHERS}"
    once = render(text)
    assert once.startswith(f"before\n{START}\n|")
    assert f"|\n{END}\nafter\n" in once
    assert render(once) == once
    assert render((ROOT / "README.md").read_text("utf-8")) == (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("text", ["none", f"{END}{START}", f"{START}{START}{END}"])
def test_a_readme_without_its_marks_is_refused(text):
    with pytest.raises(FlowError, match="README.md"):
        render(text + OTHERS)
