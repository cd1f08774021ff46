"""Rehearse an alert before it is in force, or an expression: `promtool test rules` plays numbers nobody has measured.

    calm = Case("is not behind", {'lag{group="bills"}': [0] * 30}, (Probe(58, fires=False),))
    miss = rehearse(rules, "LabBacklog", [calm])  # None, or the first moment that goes another way

It takes a fraction of a second, however long the story is; what it decides needs no service that is waited for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from flow360.checks.verdict import NotYet
from flow360.files import write
from flow360.process import complete
from flow360.settings import settings
from flow360.stack.facade import open_stack
from flow360.waiting import patient

EVERY = 2
"""Seconds from a sample to the next, and from an evaluation to the next: those of stack/prometheus/prometheus.yml."""
STATES = {0: "not even pending", 1: "pending", 2: "firing"}
_REFUSED = re.compile(r'expr: ".*", time: .*, err: (.*)')
_MISSED = re.compile(r'expr: ".*# (\d+)/(\d+)", time: .*\n\s+exp: .*\n\s+got: \{\} (\S+)')


@dataclass(frozen=True)
class Probe:
    """A moment and what is due then.

    Attributes:
        at: seconds since the first sample.
        fires: whether the alert is to fire.
        since: for how many seconds things have been as they are, for the message.
    """

    at: int
    fires: bool
    since: int = 0


@dataclass(frozen=True)
class Case:
    """A story: what is so in it, the samples of each series (`name{label="value"}`), and the moments to look at."""

    what: str
    series: Mapping[str, Sequence[float]]
    probes: tuple[Probe, ...]


@dataclass(frozen=True)
class Miss:
    """A moment that went another way: `state` is what the alert was then."""

    case: Case
    probe: Probe
    state: str


def rehearse(rules: str, alert: str, cases: Sequence[Case], interval: str = f"{EVERY}s") -> Miss | None:
    """Play the cases, and return the first moment at which the alert was not as it should be.

    Args:
        rules: the rule file.
        alert: the name of the alert.
        cases: in this order.
        interval: how often the rules are evaluated.

    Raises:
        NotYet: promtool cannot read the rules: its own words.
        FlowError: there is no promtool, or it does not end.
    """
    return _played(alert, rules, list(_tests(alert, cases)), cases, interval, "rules")


def differs(name: str, expr: str, truth: str, by: str, cases: Sequence[Case]) -> Case | None:
    """Play the cases, and return the first in which an expression gives other numbers than it should.

    Args:
        name: the learner's variable, at the beginning of a message.
        expr: what the learner asks. truth: what gives the right numbers.
        by: the label by which the numbers are told apart; what is not a number, as nothing by nothing, is left out.
        cases: in this order; each probe is a moment at which both are asked.

    Raises:
        NotYet: promtool cannot carry the expression out, or it gives several numbers for one value of the label.
    """
    mine, right = (f"((\n{one}\n) >= 0)" for one in (expr, truth))
    parts = (
        f"count({right} unless on ({by}) {mine})",
        f"count({mine} unless on ({by}) {right})",
        f"count(abs({mine} - on ({by}) {right}) > 0.001 * {right})",
    )
    return _unlike(name, " + ".join(f"({part} or vector(0))" for part in parts), 0, cases)


def fails(name: str, condition: str, cases: Sequence[Case]) -> Case | None:
    """Play the cases, and return the first in which a condition in PromQL does not hold, at one of its probes.

    Args:
        name: the learner's variable, at the beginning of a message.

    Raises:
        NotYet: promtool cannot carry it out.
    """
    return _unlike(name, f"(count({condition}) or vector(0))", 1, cases)


def _unlike(name: str, expr: str, value: int, cases: Sequence[Case]) -> Case | None:
    """Play the cases, and return the first in which an expression has another value at one of its probes."""
    tests = [
        _case(case, [_probed(expr, value, probe, number, index) for index, probe in enumerate(case.probes)])
        for number, case in enumerate(cases)
    ]
    miss = _played(f"flow360-{name}", None, tests, cases, f"{EVERY}s", name)
    return miss and miss.case


def _played(
    called: str, rules: str | None, tests: list[dict[str, Any]], cases: Sequence[Case], interval: str, name: str
) -> Miss | None:
    """Let promtool play the tests, and return the first probe that went another way."""
    stack, folder = open_stack(), settings().rules_dir
    # Not .yml: what is called so, Prometheus loads.
    played, asked = folder / f"{called}.rules", folder / f"{called}.test"
    whole = {"rule_files": [played.name] if rules else [], "evaluation_interval": interval, "tests": tests}
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if rules:
            write(played, rules)
        write(asked, yaml.safe_dump(whole))
        path = stack.path_in("prometheus", asked)
        done = complete(stack.tool_command("prometheus", "promtool", "test", ["rules", path]), seconds=patient(30))
    finally:
        played.unlink(missing_ok=True)
        asked.unlink(missing_ok=True)
    if done.returncode == 0:
        return None
    if found := _MISSED.search(done.stderr):
        case = cases[int(found[1])]
        return Miss(case, case.probes[int(found[2])], STATES.get(int(float(found[3])), ""))
    if found := _REFUSED.search(done.stderr):
        several = "duplicate series" in found[1] or "multiple matches" in found[1]
        raise NotYet(
            f"{name}: {'several numbers where one is wanted: what does by (…) keep?' if several else found[1]}"
        )
    said = " ".join(line.strip() for line in done.stderr.splitlines() if line.strip() not in ("", "FAILED:"))
    raise NotYet(f"{name}: {said.split(f'{played.name}: ')[-1]}")


def _tests(alert: str, cases: Iterable[Case]) -> Iterable[dict[str, Any]]:
    """Write the cases in promtool's form, with the alert's state at each probe."""
    named = f'ALERTS{{alertname="{alert}", alertstate="%s"}}'
    state = f"(max(2 * {named % 'firing'} or {named % 'pending'}) or vector(0))"
    for number, case in enumerate(cases):
        probes = [
            # A quiet alert may be pending: 0 and 1 are both right.
            _probed(state if probe.fires else f"{state} == 2 or vector(0)", 2 * probe.fires, probe, number, index)
            for index, probe in enumerate(case.probes)
        ]
        yield _case(case, probes)


def _probed(expr: str, value: int, probe: Probe, number: int, index: int) -> dict[str, Any]:
    """Ask for a value at a probe; the expression ends with its case and probe, which come back in a failure."""
    return {"expr": f"{expr} # {number}/{index}", "eval_time": f"{probe.at}s", "exp_samples": [{"value": value}]}


def _case(case: Case, probes: list[dict[str, Any]]) -> dict[str, Any]:
    """Write a case in promtool's form, with what is asked of it."""
    samples = [
        {"series": name, "values": " ".join(f"{value:.15g}" for value in values)}
        for name, values in case.series.items()
    ]
    return {"interval": f"{EVERY}s", "input_series": samples, "promql_expr_test": probes}
