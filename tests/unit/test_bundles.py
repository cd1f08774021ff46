"""The queue of bundles: what is in it, which lane takes what, and what a report's lines count."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from flow360.course.registry import course
from flow360.course.run import CELL_SECONDS, cell_seconds
from flow360.settings import PORTS
from flow360.waiting import PATIENCE, patient
from tests import bundles
from tests.bundles import ALONE, Bundle, choose, drawn, services_of
from tests.environment import LEFT, ROOT, ports
from tests.suite import AGAIN, Result

KAFKA = frozenset({"zookeeper", "kafka"})


def bundle(name: str, *services: str) -> Bundle:
    return Bundle(name, (), frozenset(services))


def test_each_test_file_and_each_chapter_is_in_one_bundle(monkeypatch):
    monkeypatch.delenv("FLOW360_TEST_CHAPTER", raising=False)
    named = [argument for one in bundles.all_bundles() for argument in one.arguments if argument.startswith("tests/")]
    files = {str(path.relative_to(ROOT)) for path in ROOT.glob("tests/*/test_*.py")}
    elsewhere = ("tests/leaks/", "tests/ending/", "tests/compose/")  # when the queue is done
    missing = [one for one in files if not one.startswith(elsewhere) and not any(one.startswith(n) for n in named)]
    assert missing == []
    assert {one.chapter for one in bundles.all_bundles()} == {"", *(c.number for c in course().chapters if c.written)}


def test_the_longest_goes_first_and_an_unknown_one_before_it():
    waiting = [bundle("short"), bundle("long"), bundle("new")]
    assert choose(waiting, {"short": 10, "long": 90}).name == "new"
    assert choose(waiting[:2], {"short": 10, "long": 90}).name == "long"


def test_services_that_run_already_are_worth_a_little():
    waiting = [bundle("other", "mosquitto"), bundle("same", *KAFKA)]
    assert choose(waiting, {"other": 95, "same": 90}, running=KAFKA).name == "same"
    assert choose(waiting, {"other": 200, "same": 90}, running=KAFKA).name == "other"


def test_two_bundles_that_read_the_same_dag_files_do_not_run_side_by_side():
    airflow = bundle("airflow", ALONE)
    assert choose([airflow], {}, beside=[bundle("unit"), bundle("chapters/03", ALONE)]) is None
    assert choose([airflow, bundle("unit")], {"airflow": 500, "unit": 1}, beside=[airflow]).name == "unit"


def test_services_of_all_lanes_fit_into_the_memory():
    spark = bundle("spark", "spark-connect", "spark-worker")
    beside = [bundle("kafka", *KAFKA), bundle("shop", "postgres-source")]
    room = spark.memory_mb + sum(one.memory_mb for one in beside)
    assert choose([spark], {}, beside=beside, room_mb=room) is spark
    assert choose([spark], {}, beside=beside, room_mb=room - 1) is None
    assert choose([spark], {}, room_mb=1) is spark, "alone it is tried in any case"


def test_an_order_by_lot_can_be_drawn_again():
    names = ["a", "b", "c", "d"]
    assert drawn(names, 7) == drawn(reversed(names), 7) != drawn(names, 8)


def test_a_test_file_says_its_services(tmp_path: Path):
    file = tmp_path / "test_it.py"
    file.write_text('"""It."""\n\nSERVICES = ("kafka", "02")\n')
    assert services_of(file) == ("kafka", "02")
    file.write_text('"""It."""\n')
    with pytest.raises(ValueError, match=r"test_it.py: say which services it needs"):
        services_of(file)


def test_a_report_s_tests_are_counted_each_by_what_it_came_to(tmp_path: Path):
    report = tmp_path / "report.xml"
    report.write_text(
        f"""<testsuites><testsuite>
        <testcase classname="a" name="good" time="2.5"/>
        <testcase classname="a" name="bad"><failure message="no"/></testcase>
        <testcase classname="a" name="broken"><error message="no"/></testcase>
        <testcase classname="a" name="later"><skipped message="{LEFT}longer"/></testcase>
        <testcase classname="a" name="not here"><skipped message="needs root"/></testcase>
        <testcase classname="" name="b"><skipped message="collection skipped">no docker</skipped></testcase>
        </testsuite></testsuites>"""
    )
    found = Result(bundle("it"), 1)
    assert found.count(report) == 6
    assert (found.passed, found.failed, found.left) == (1, 2, [f"{LEFT}longer"])
    assert found.skipped == ["a.not here: needs root", ".b: no docker"]
    assert max(found.slowest) == (2.5, "a.good")


BY_CHANCE = """
from pathlib import Path
def fails_at_first(name):
    mark = Path(__file__).with_name(name)
    there = mark.exists()
    mark.touch()
    assert there, f"{name}: nobody was there"
"""


def test_what_fails_by_chance_is_unsteady_and_what_fails_again_has_failed(tmp_path: Path):
    file = tmp_path / "test_it.py"
    tests = [f"def test_{name}(): fails_at_first('{name}')" for name in ("one", "two", "four")]
    file.write_text("\n".join([BY_CHANCE, tests[0], "def test_always(): assert False", *tests[1:]]))
    cell = nbformat.v4.new_code_cell("from test_it import fails_at_first\nfails_at_first('cell')")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "it.ipynb")
    report = tmp_path / "report.xml"
    plugins = ["-c", ROOT / "pyproject.toml", "-p", "tests.limits", "-p", "no:cacheprovider", f"--junitxml={report}"]
    argv = [sys.executable, "-m", "pytest", "-q", *plugins, *AGAIN, "--nbval-lax", "--nbval-current-env", tmp_path]
    subprocess.run(argv, cwd=ROOT, timeout=patient(120), stdout=subprocess.DEVNULL, check=False)
    found = Result(bundle("it"), 1)
    assert found.count(report) == 5
    assert (found.passed, found.failed) == (2, 3), (
        "a cell is not run again, one fails always, and after three nothing is"
    )
    assert len(found.unsteady) == 2 and all("nobody was there" in line for line in found.unsteady)


def test_two_lanes_get_blocks_of_ports_that_do_not_meet():
    one, other = ports("a lane", len(PORTS)), ports("a lane", len(PORTS))
    assert len(one) == len(other) == len(PORTS)
    assert not set(one) & set(other)
    assert max(*one, *other) < 32768, "from there on the system gives them to outgoing connections"


def test_a_deadline_is_longer_on_a_slow_machine(monkeypatch):
    assert patient(30) == 30
    monkeypatch.setenv(PATIENCE, "2.5")
    assert patient(30) == 75


@pytest.mark.parametrize(("tags", "seconds"), [([], CELL_SECONDS), (["parameters", "seconds-400"], 400)])
def test_a_cell_has_a_limit_and_may_name_a_longer_one(tags, seconds):
    assert cell_seconds(nbformat.v4.new_code_cell("1", metadata={"tags": tags})) == seconds
