"""Rehearse an alert before it is in force: `promtool test rules` plays numbers that nobody has measured.

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
    stack, folder = open_stack(), settings().rules_dir
    # Not .yml: what is called so, Prometheus loads.
    played, asked = folder / f"{alert}.rules", folder / f"{alert}.test"
    tests = {"rule_files": [played.name], "evaluation_interval": interval, "tests": [*_tests(alert, cases)]}
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write(played, rules)
        write(asked, yaml.safe_dump(tests))
        path = stack.path_in("prometheus", asked)
        done = complete(stack.tool_command("prometheus", "promtool", "test", ["rules", path]), seconds=patient(30))
    finally:
        played.unlink(missing_ok=True)
        asked.unlink(missing_ok=True)
    if done.returncode == 0:
        return None
    if found := _MISSED.search(done.stderr):
        case = cases[int(found[1])]
        return Miss(case, case.probes[int(found[2])], STATES[int(float(found[3]))])
    said = " ".join(line.strip() for line in done.stderr.splitlines() if line.strip() not in ("", "FAILED:"))
    raise NotYet(f"rules: {said.split(f'{played.name}: ')[-1]}")


def _tests(alert: str, cases: Iterable[Case]) -> Iterable[dict[str, Any]]:
    """The cases in promtool's form. Each expression ends with its case and probe, which come back when it is missed."""
    named = f'ALERTS{{alertname="{alert}", alertstate="%s"}}'
    state = f"(max(2 * {named % 'firing'} or {named % 'pending'}) or vector(0))"
    for number, case in enumerate(cases):
        probes = [
            {
                # A quiet alert may be pending: 0 and 1 are both right.
                "expr": f"{state} {'' if probe.fires else '== 2 or vector(0)'} # {number}/{index}",
                "eval_time": f"{probe.at}s",
                "exp_samples": [{"value": 2 if probe.fires else 0}],
            }
            for index, probe in enumerate(case.probes)
        ]
        samples = [
            {"series": name, "values": " ".join(f"{value:g}" for value in values)}
            for name, values in case.series.items()
        ]
        yield {"interval": f"{EVERY}s", "input_series": samples, "promql_expr_test": probes}
