"""The operators of tests/mutants: what they change, and what they leave alone."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from flow360.course.registry import course
from flow360.course.scores import recorded
from flow360.settings import ROOT
from tests.mutants import python, sql, texts, trial
from tests.mutants.edits import Edit, diff, distinct
from tests.mutants.lab import exercises

LABS = [chapter for chapter in course().chapters if chapter.written]


def mutated(text: str, edits) -> set[str]:
    return {" ".join(edit.apply(text).split()) for edit in edits}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = b < c", {"a = b <= c", "a = b >= c"}),
        ("a = b if c else d", {"a = b if True else d", "a = b if False else d"}),
        ("f(a, b)", {"f(b, a)", "f(a)", "pass"}),
        ("f(a, key=b)", {"f(a)", "pass"}),
        ("a = sorted(b)", {"a = b", "pass"}),
        ("a = min(b)", {"a = max(b)"}),
        ("a = [b for b in c if d]", {"a = [b for b in c if True]"}),
        ("a = x and y", {"a = x or y", "a = True and y", "a = x and True"}),
        ("a = 3", {"a = 4", "a = 2"}),
        ("a = 'Europe/Paris'", {"a = 'UTC'"}),
        ("a = '2026-03-28T22:00Z'", {"a = '2026-03-29T22:00Z'"}),
        ("a = '0 0 * * *'", {"a = '0 0 * * 1-5'", "a = '0 0 1-28 * *'", "a = '0 1 * * *'"}),
        ("def f(x, y):\n    return x", {"def f(x, y): return y", "def f(x, y): return None"}),
        ("a = record.key, record.value", {"a = record.value, record.value", "a = record.key, record.key"}),
    ],
)
def test_python(source: str, expected: set[str]) -> None:
    assert expected <= mutated(source, python.mutations(source))


@pytest.mark.parametrize("source", ["f(a, timeout=3)", "a.flush(30)", "f(a, max_records=100)", '"""A docstring."""'])
def test_python_leaves_paces_and_docstrings_alone(source: str) -> None:
    assert mutated(source, python.mutations(source)) <= {"pass"}


def test_python_finds_sql_in_an_f_string_and_behind_another_alphabet() -> None:
    source = 'é = f"select a from {t} where b >= {c}"'
    assert 'é = f"select a from {t} where b > {c}"' in mutated(source, python.mutations(source))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "select a from t where b = 1 and c < 2",
            {"select a from t where true", "select a from t where b = 1 and true"},
        ),
        ("select distinct a from t", {"select a from t"}),
        ("select count(*) from a left join b using (k)", {"select count(*) from a inner join b using (k)"}),
        ("select a::date from t", {"select a from t"}),
        ("select a at time zone 'Europe/Paris'", {"select a at time zone 'UTC'"}),
        ("select a from t order by b limit 1", {"select a from t order by b desc limit 1"}),
        ("insert into t values (1) on conflict do nothing", {"insert into t values (1)"}),
        ("where a >= %s and a < %s", {"where a > %s and a < %s", "where a >= %s and a <= %s", "where true and a < %s"}),
        ("select a union select b", {"select a union all select b"}),
    ],
)
def test_sql(query: str, expected: set[str]) -> None:
    assert expected <= mutated(query, sql.mutations(query))


def test_sql_takes_the_sign_of_a_set_for_what_it_is() -> None:
    query = "update t set a = 1, b = 2 where c = 3"
    assert not any("a <> 1" in one for one in mutated(query, sql.mutations(query)))


def test_texts() -> None:
    assert "retries: 3" in mutated("retries: 2", texts.lines("retries: 2"))
    assert "up != 0" in mutated("up == 0", texts.promql("up == 0"))
    assert 'avg(rate(a{b="c"}[5m]))' in mutated('sum(rate(a{b="c"}[5m]))', texts.promql('sum(rate(a{b="c"}[5m]))'))
    dockerfile = "FROM a\nCOPY b c\nRUN d\n"
    assert {"FROM a RUN d", "FROM a RUN d COPY b c"} <= mutated(dockerfile, texts.dockerfile(dockerfile))
    rule = 'path "a/data/b/*" { capabilities = ["read"] }'
    wider = {rule.replace("b/*", "b*"), rule.replace("b/*", "b/+"), rule.replace('"read"', '"read", "list"')}
    assert wider | {"", rule.replace("data", "metadata")} <= mutated(rule, texts.policy(rule))


def test_each_change_is_tried_once() -> None:
    twice = [Edit(0, 1, "b", "one"), Edit(0, 1, "b", "two"), Edit(0, 1, "a", "none")]
    assert len(distinct(twice, "a")) == 1
    assert diff("a\nb", "a\nc") == "-b\n+c"


@pytest.mark.parametrize("chapter", LABS, ids=[chapter.stem for chapter in LABS])
def test_each_exercise_has_mutants_in_its_answer_only(chapter) -> None:
    found = exercises(chapter)
    assert list(found) == [one.name for one in chapter.exercises]
    for name, solved in found.items():
        mutants = solved.mutants()
        assert len(mutants) >= 2, name
        assert solved.variables(), name
        for mutant in mutants[:200]:
            assert mutant.source != mutant.cell.source
            if not mutant.source.startswith("%%"):
                ast.parse(mutant.source)


def test_recorded_scores_are_of_the_solutions_as_they_are() -> None:
    for number, found in recorded().items():
        solved = exercises(course().chapter(number))
        for name, score in found.items():
            again = f"flow360 mutants {number} --exercise {name} --record"
            assert score.mutants == len(solved[name].mutants()), f"{number} {name} has changed: {again}"
            assert 0 <= score.refused <= score.tried - score.equivalent <= score.mutants
            assert score.share >= trial.GOAL


def test_what_is_listed_as_equivalent_is_a_mutant_still() -> None:
    names = {name: solved for chapter in LABS for name, solved in exercises(chapter).items()}
    for one in trial._listed():
        mutants = names[one["exercise"]].mutants()
        assert any(trial._same(one["diff"], diff(m.cell.source, m.source)) for m in mutants), one["diff"]
        assert len(one["reason"]) > 10


def test_a_program_that_a_mutant_starts_does_not_read_what_is_meant_for_the_worker():
    """`git cat-file --batch` without its input waited for the next mutant, and that one for 90 seconds."""
    code = """if True:
        import subprocess, sys
        from tests.mutants.worker import own_streams
        commands, answer_to = own_streams()
        answer_to.write("ready\\n")
        for line in commands:
            print("into nowhere")
            swallowed = subprocess.run([sys.executable, "-c", "import sys; print(sys.stdin.read())"], timeout=20,
                                       capture_output=True, text=True).stdout.strip()
            answer_to.write(f"{line.strip()} {swallowed!r}\\n")
    """
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        said = []
        for command in ("one", "two"):  # its input stays open between them
            process.stdin.write(f"{command}\n")
            process.stdin.flush()
            said.append(process.stdout.readline())
        process.stdin.close()
    assert said == ["one ''\n", "two ''\n"]
