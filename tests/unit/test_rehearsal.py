"""Rehearsing a learner's alert: what promtool is asked, what its answer means; no Prometheus runs."""

from __future__ import annotations

import itertools
import random
import subprocess
from types import SimpleNamespace

import pytest
import yaml

from flow360.checks import rehearsal
from flow360.checks.c06_metrics import backlog, routes
from flow360.checks.verdict import NotYet
from flow360.errors import FlowError
from flow360.settings import ROOT, settings
from flow360.stack.docker.engine import DockerEngine
from flow360.stack.model import model
from flow360.stack.native.engine import NativeEngine

CASES = [
    rehearsal.Case("is calm", {'lag{group="a"}': [0, 1.5]}, (rehearsal.Probe(0, fires=False),)),
    rehearsal.Case("is late", {'lag{group="a"}': [9, 9]}, (rehearsal.Probe(0, fires=True), rehearsal.Probe(2, True))),
]


@pytest.fixture
def promtool(monkeypatch, tmp_path):
    """What promtool is asked, with an answer to be filled in."""
    seen = SimpleNamespace(code=1, said="", asked={}, called="LabBacklog", rules=["the rules"])

    def complete(command, *, seconds):
        assert command == ["promtool", "test", "rules", str(tmp_path / f"{seen.called}.test")]
        seen.asked = yaml.safe_load((tmp_path / f"{seen.called}.test").read_text("utf-8"))
        assert [(tmp_path / name).read_text("utf-8") for name in seen.asked["rule_files"]] == seen.rules
        return subprocess.CompletedProcess(command, seen.code, "", seen.said)

    stack = SimpleNamespace(
        path_in=lambda _name, path: str(path),
        tool_command=lambda _name, program, subcommand, args: [program, subcommand, *args],
    )
    monkeypatch.setattr(rehearsal, "open_stack", lambda: stack)
    monkeypatch.setattr(rehearsal, "settings", lambda: SimpleNamespace(rules_dir=tmp_path))
    monkeypatch.setattr(rehearsal, "complete", complete)
    yield seen
    assert list(tmp_path.iterdir()) == []


def test_each_probe_is_asked_and_the_first_that_is_missed_comes_back(promtool):
    promtool.said = """  FAILED:
    expr: "(max(2 * ALERTS{alertname=\\"LabBacklog\\"}) or vector(0))  # 1/1", time: 2s,
        exp: {} 2E+00
        got: {} 1E+00
    expr: "(max(2 * ALERTS{alertname=\\"LabBacklog\\"}) or vector(0))  # 1/0", time: 4s,
        exp: {} 2E+00
        got: {} 0E+00
"""
    miss = rehearsal.rehearse("the rules", "LabBacklog", CASES)
    assert miss == rehearsal.Miss(CASES[1], CASES[1].probes[1], "pending")
    calm, late = promtool.asked["tests"]
    assert calm["input_series"] == [{"series": 'lag{group="a"}', "values": "0 1.5"}]
    assert [probe["eval_time"] for probe in late["promql_expr_test"]] == ["0s", "2s"]
    assert [probe["exp_samples"] for probe in calm["promql_expr_test"]] == [[{"value": 0}]]
    promtool.code = 0
    assert rehearsal.rehearse("the rules", "LabBacklog", CASES) is None


def test_rules_that_promtool_cannot_read_are_refused_in_its_words(promtool):
    promtool.said = '  FAILED:\n/somewhere/LabBacklog.rules: not a valid duration string: "4x"\n'
    with pytest.raises(NotYet, match='^rules: not a valid duration string: "4x"$'):
        rehearsal.rehearse("the rules", "LabBacklog", CASES)


def test_an_expression_is_held_against_another_one(promtool):
    promtool.called, promtool.rules = "flow360-rate", []
    promtool.said = (
        'expr: "(count(((\\nmine\\n) >= 0)) or vector(0)) # 1/1", time: 2s,\n exp: {} 0E+00\n got: {} 7E+00\n'
    )
    assert rehearsal.differs("rate", "mine", "right", "route", CASES) is CASES[1]
    asked = promtool.asked["tests"][1]["promql_expr_test"][1]
    assert asked["exp_samples"] == [{"value": 0}]
    assert asked["expr"].count("\nmine\n") == 3  # on a line of its own: a comment at its end takes nothing with it
    promtool.code = 0
    assert rehearsal.differs("rate", "mine", "right", "route", CASES) is None


def test_a_condition_has_to_hold_at_each_probe(promtool):
    promtool.called, promtool.rules = "flow360-evidence", []
    promtool.said = 'expr: "(count(mine < 5) or vector(0)) # 0/0", time: 2s,\n exp: {} 1E+00\n got: {} 0E+00\n'
    assert rehearsal.fails("evidence", "mine < 5", CASES) is CASES[0]
    assert promtool.asked["tests"][0]["promql_expr_test"] == [
        {"expr": "(count(mine < 5) or vector(0)) # 0/0", "eval_time": "0s", "exp_samples": [{"value": 1}]}
    ]
    promtool.code = 0
    assert rehearsal.fails("evidence", "mine < 5", CASES) is None


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("multiple matches for labels: many-to-one matching", "several numbers where one is wanted"),
        ("found duplicate series for the match group", "several numbers where one is wanted"),
        ('5:1: parse error: unexpected "}"', "5:1: parse error"),
    ],
)
def test_an_expression_that_promtool_refuses(promtool, said: str, means: str):
    promtool.called, promtool.rules = "flow360-rate", []
    promtool.said = f'    expr: "count(mine) # 0/0", time: 2s, err: {said}\n'
    with pytest.raises(NotYet, match=f"^rate: {means}"):
        rehearsal.differs("rate", "mine", "right", "route", CASES)


def test_each_life_of_the_api_only_ever_counts_up():
    for case in routes._lived(random.Random(3)):
        for name, values in case.series.items():
            assert all(one <= other for one, other in itertools.pairwise(values)), name
        assert len({len(values) for values in case.series.values()}) == 1
        assert max(probe.at for probe in case.probes) == rehearsal.EVERY * (len(values) - 1)


def test_the_drawn_backlogs_lie_on_both_sides_of_each_boundary():
    """Totals of each sample, what is due when, and no partition alone over the limit where all are meant."""
    for seed in range(20):
        due = []
        for case in backlog._rehearsed(random.Random(seed)):
            mine = [v for name, v in case.series.items() if "_lag{" in name and f'"{backlog.GROUP}"' in name]
            totals = [sum(parts) for parts in zip(*mine, strict=True)]
            over = [total > 500 for total in totals]
            assert all(probe.fires == over[probe.at // 2] for probe in case.probes)
            assert all(len(values) == len(totals) for values in case.series.values())
            due.append((case, totals))
            if over[-1] and "one partition" not in case.what and totals[-1] == 501:
                assert max(map(max, mine)) <= 500
                began = over.index(True) * 2
                assert min(probe.at for probe in case.probes if probe.fires) == began - 4 + 30
        lasting = [totals[-1] for _, totals in due]
        assert lasting.count(500) == 3
        assert 501 in lasting
        case, totals = due[-1]
        ended = 2 * next(n for n, total in enumerate(totals) if n and total <= 500 < totals[n - 1])
        assert min(probe.at for probe in case.probes if not probe.fires and probe.at >= ended) == ended - 4 + 20


def test_the_rehearsal_goes_by_the_clock_of_the_real_one():
    told = yaml.safe_load((ROOT / "stack" / "prometheus" / "prometheus.yml").read_text("utf-8"))["global"]
    assert {told["scrape_interval"], told["evaluation_interval"]} == {f"{rehearsal.EVERY}s"}


def test_promtool_and_its_files_are_found_where_prometheus_runs(monkeypatch, tmp_path):
    file = ROOT / "stack" / "prometheus" / "learner" / "a.test"
    native, docker = NativeEngine(model(), tmp_path), DockerEngine(model())
    command = native.tool_command("prometheus", "promtool", "test", ["rules", native.path_in("prometheus", file)])
    assert command[0].endswith("/usr/bin/promtool")
    assert command[1:] == ["test", "rules", str(file)]
    command = docker.tool_command("prometheus", "promtool", "test", ["rules", docker.path_in("prometheus", file)])
    assert command[-5:] == ["prometheus", "promtool", "test", "rules", "/etc/prometheus/learner/a.test"]
    with pytest.raises(FlowError, match="prometheus has no such file in its container"):
        docker.path_in("prometheus", settings().progress_file)
