"""`flow360 goto` without services: which chapters come before, and when a snapshot is no longer good."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from flow360.course import goto
from flow360.course.registry import course
from flow360.errors import FlowError
from flow360.settings import settings
from flow360.stack.native import snapshot


def test_before_a_chapter_stand_all_that_lead_to_it():
    found = [chapter.number for chapter in goto.before(course().chapter("05a"))]
    assert found == ["00", "01", "02", "03", "04a", "04b", "04c"]
    assert goto.before(course().chapter("00")) == []


def test_a_snapshot_is_good_until_what_made_it_changes(tmp_path, monkeypatch):
    stack = SimpleNamespace(host=SimpleNamespace(state=tmp_path))
    first, second = course().chapter("00"), course().chapter("01")
    before = goto.place(stack, first), goto.place(stack, second)
    assert goto.place(stack, first) == before[0]
    monkeypatch.setenv("POSTGRES_DWH_PASSWORD", "another")
    settings.cache_clear()
    assert goto.place(stack, first) != before[0]
    monkeypatch.undo()
    settings.cache_clear()
    monkeypatch.setattr(goto, "ROOT", tmp_path)
    for chapter, text in ((first, "solved"), (second, "solved")):
        (tmp_path / chapter.solution).parent.mkdir(exist_ok=True)
        (tmp_path / chapter.solution).write_text(text, "utf-8")
    before = goto.place(stack, first), goto.place(stack, second)
    (tmp_path / second.solution).write_text("solved otherwise", "utf-8")
    assert goto.place(stack, first) == before[0]
    assert goto.place(stack, second) != before[1]


def test_what_services_keep_comes_back_as_it_was(tmp_path):
    state = tmp_path / "a state"
    data, mark = state / "postgres-dwh" / "data", state / "run" / "primeur-load.done"
    engine = SimpleNamespace(state=state, kept=lambda: [path for path in (data, mark) if path.exists()])
    data.mkdir(parents=True)
    mark.parent.mkdir()
    mark.touch()
    (data / "rows").write_text("one", "utf-8")
    snapshot.save(engine, tmp_path / "kept")
    (data / "rows").write_text("two", "utf-8")
    (data / "more").touch()
    mark.unlink()
    snapshot.load(engine, tmp_path / "kept")
    assert {path.name for path in data.iterdir()} == {"rows"}
    assert (data / "rows").read_text("utf-8") == "one"
    assert mark.exists()


def test_nothing_kept_is_nothing_saved_and_a_full_disk_is_one_line(tmp_path):
    engine = SimpleNamespace(state=tmp_path / "state", kept=lambda: [])
    snapshot.save(engine, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []
    gone = SimpleNamespace(state=tmp_path, kept=lambda: [tmp_path / "not there"])
    with pytest.raises(FlowError, match="copying the services' data failed"):
        snapshot.save(gone, tmp_path / "again")
    assert not (tmp_path / "again").exists()


OURS = ("stack/a.conf", "dbt/models/marts/fct_orders.sql", "dags/nightly_dbt.py", "flow360/monitoring/logs/a.py")
NOT_OURS = (
    "stack/prometheus/learner/mine.yml", "stack/__pycache__/a.pyc", "dbt/lab/mine.sql", "dbt/target/manifest.json",
    "dbt/logs/dbt.log", "dbt/.user.yml", "dags/lab/mine.py", "dags/__pycache__/nightly_dbt.pyc",
    "flow360/__pycache__/cli.pyc", "notebooks/01_sources.ipynb",
)  # fmt: skip


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A user called learner has all files below a folder of that name: that does not decide."""
    root = tmp_path / "learner" / "course"
    for name in (course().chapter("00").solution, *OURS, *NOT_OURS):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("as it was", "utf-8")
    monkeypatch.setattr(goto, "ROOT", root)
    return root


@pytest.mark.parametrize("name", OURS)
def test_a_snapshot_is_stale_once_what_makes_data_changes_or_moves(checkout, tmp_path, name):
    stack = SimpleNamespace(host=SimpleNamespace(state=tmp_path))
    before = goto.place(stack, course().chapter("00"))
    (checkout / name).write_text("changed", "utf-8")
    assert goto.place(stack, course().chapter("00")) != before
    (checkout / name).write_text("as it was", "utf-8")
    assert goto.place(stack, course().chapter("00")) == before
    (checkout / name).rename(checkout / f"{name}.moved")
    assert goto.place(stack, course().chapter("00")) != before


@pytest.mark.parametrize("name", NOT_OURS)
def test_what_a_learner_writes_or_a_tool_leaves_keeps_the_snapshot(checkout, tmp_path, name):
    stack = SimpleNamespace(host=SimpleNamespace(state=tmp_path))
    before = goto.place(stack, course().chapter("00"))
    (checkout / name).write_text("changed", "utf-8")
    assert goto.place(stack, course().chapter("00")) == before


def test_what_a_learner_wrote_is_there_again_whatever_happens(tmp_path):
    answers, rules, place = tmp_path / "lab", tmp_path / "rules", tmp_path / "mine"
    answers.mkdir()
    (answers / "lab_load.py").write_text("mine", "utf-8")
    with pytest.raises(ZeroDivisionError), goto._put_aside([answers, rules], place):
        (answers / "lab_load.py").write_text("the solution", "utf-8")
        (answers / "lab_more.py").touch()
        rules.mkdir()
        raise ZeroDivisionError
    assert {path.name: path.read_text("utf-8") for path in answers.iterdir()} == {"lab_load.py": "mine"}
    assert not rules.exists()
    assert not place.exists()


def test_what_a_killed_run_left_aside_is_put_back_first(tmp_path):
    answers, place = tmp_path / "lab", tmp_path / "mine"
    for folder, text in ((answers, "the solution"), (place / "0", "mine")):
        folder.mkdir(parents=True)
        (folder / "lab_load.py").write_text(text, "utf-8")
    with goto._put_aside([answers], place):
        assert (answers / "lab_load.py").read_text("utf-8") == "mine"
    assert (answers / "lab_load.py").read_text("utf-8") == "mine"
