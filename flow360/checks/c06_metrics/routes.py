"""Exercises 2 and 4: expressions about the API's routes, now and in drawn minutes."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

from flow360.checks import rehearsal
from flow360.checks.c06_metrics.asking import asked, values_by
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type
from flow360.monitoring.dashboards import DRAWERS

BOUNDS = ("0.005", "0.05", "0.25", "1", "5", "+Inf")
MINUTE = 60 // rehearsal.EVERY


@exercise
def slow_routes(p95: Any) -> None:
    """Check the PromQL of p95 by route, over the last minute."""
    expect_type("p95", p95, str)
    at = time.time()
    pieces = "sum by (le, route) (rate(market_api_request_seconds_bucket[1m]))"
    wanted = f"histogram_quantile(0.95, {pieces})"
    truth = values_by(asked("p95", f"{wanted} > 0", at), "route")
    expect(truth, "p95: nobody asked the API in the last minute: run the cell with Traffic again, then this one")
    rows = asked("p95", p95, at)
    if rows.empty:
        raise NotYet("p95: the expression gives nothing: is a name or a label misspelt?")
    if "route" not in rows:
        raise NotYet("p95: expected one value for each route, found no label route: what does sum by (…) keep?")
    found = values_by(rows, "route")
    if len(found) < len(rows.dropna(subset="value")):
        raise NotYet("p95: expected one value for each route, found several: sum by (le, route) first")
    wrong = {
        "since the service started, not over the last minute": f"histogram_quantile(0.95, {_all(pieces)})",
        "the median": f"histogram_quantile(0.5, {pieces})",
        "p99": f"histogram_quantile(0.99, {pieces})",
        "the average": "sum by (route) (rate(market_api_request_seconds_sum[1m]))"
        " / sum by (route) (rate(market_api_request_seconds_count[1m]))",
    }
    if not _close(found, truth):
        for what, promql in wrong.items():
            if _close(found, {k: v for k, v in values_by(asked("p95", promql, at), "route").items() if k in truth}):
                raise NotYet(f"p95: this is {what}")
        route = next(key for key in truth if not _close({key: found.get(key)}, {key: truth[key]}))
        raise NotYet(f"p95: expected {truth[route]:.3f} s for {route} over the last minute, found {found.get(route)}")
    if case := rehearsal.differs("p95", p95, wanted, "route", _lived(draw())):
        raise NotYet(f"p95: right at this moment, but in a rehearsal it gives other numbers when {case.what}")


@exercise
def error_panel(panel: Any) -> None:
    """Check a panel in Grafana's JSON: the share of errors by route, over the last minute."""
    expect_type("panel", panel, dict)
    missing = [key for key in ("title", "type", "targets", "fieldConfig") if key not in panel]
    expect(not missing, f"panel: {', '.join(missing)} is missing")
    expect(panel["type"] in DRAWERS, f"panel: type must be one of {', '.join(DRAWERS)}, found {panel['type']!r}")
    expect(str(panel["title"]).strip(), "panel: it has no title, and nobody can guess the question")
    unit = panel["fieldConfig"].get("defaults", {}).get("unit")
    expect_equal("panel: unit", found=unit, expected="percentunit", why="a share between 0 and 1, shown in percent")
    expect(len(panel["targets"]) == 1, f"panel: expected one target, found {len(panel['targets'])}")
    (target,) = panel["targets"]
    expect(
        "{{route}}" in target.get("legendFormat", "").replace(" ", ""), "panel: legendFormat does not name {{route}}"
    )
    at = time.time()
    failed, answered = (
        f"sum by (route) (rate(market_api_requests_total{which}[1m]))" for which in ('{status=~"5.."}', "")
    )
    errors, everything = (values_by(asked("panel", promql, at), "route") for promql in (failed, answered))
    truth = {route: errors[route] / everything[route] for route in errors if everything.get(route)}
    expect(any(truth.values()), "panel: no errors in the last minute: run the cell with Traffic again, then this one")
    rows = asked("panel", target["expr"], at)
    expect("route" in rows, "panel: expected one value for each route; does the expression keep the label?")
    found = values_by(rows, "route")
    expect(
        len(found) == len(rows.dropna(subset="value")),
        "panel: several series for one route: what does by (…) keep on both sides?",
    )
    if _close({k: (v or 0) / 100 for k, v in found.items()}, truth):
        raise NotYet("panel: the expression gives percent, and percentunit multiplies by 100 again")
    if _close(found, {route: errors[route] for route in truth}):
        raise NotYet("panel: these are errors a second; a share is errors over all answers of the route")
    whole = sum(everything.values())
    if _close(found, {route: errors[route] / whole for route in truth}):
        raise NotYet("panel: divided by the answers of all routes; the question is about each route's own")
    expect(_close(found, truth), f"panel: expected {_shares(truth)}, found {_shares({k: found.get(k) for k in truth})}")
    if case := rehearsal.differs("panel", target["expr"], f"{failed} / {answered}", "route", _lived(draw())):
        raise NotYet(f"panel: right at this moment, but in a rehearsal it gives other shares when {case.what}")


def _lived(chance: random.Random) -> list[rehearsal.Case]:
    """Draw five minutes of an API of several routes, methods, answers and instances: the last is unlike the others."""
    return [
        _life(chance, "the minutes before the last one were slower and had more errors", busy=(3, 1)),
        _life(chance, "the last minute is slower and has more errors than those before", busy=(1, 3)),
        _life(chance, "the last seconds are not like the last minute", busy=(2, 2), quick=True),
    ]


def _life(chance: random.Random, what: str, busy: tuple[int, int], quick: bool = False) -> rehearsal.Case:
    length = 5 * MINUTE + 1
    series: dict[str, list[int]] = {}
    routes = [f"/{word}-{chance.randint(1, 99)}" for word in ("a", "b", "c")]
    for route, method, instance in itertools.product(routes, ("GET", "POST"), ("one:8000", "two:8000")):
        labels = f'route="{route}", instance="{instance}", job="market-api"'
        buckets = {bound: [0] * length for bound in BOUNDS}
        answers = {status: [0] * length for status in ("200", "404", "500", "503", "599")}
        for at in range(1, length):
            heavy = busy[1] if at > length - MINUTE else busy[0]
            if quick and at > length - 5:
                heavy = 5
            counts = {status: chance.randint(0, heavy if status > "499" else 3) for status in answers}
            for status, count in counts.items():
                answers[status][at] = answers[status][at - 1] + count
            slow = [chance.choice(BOUNDS[: 2 + heavy]) for _ in range(sum(counts.values()))]
            for number, bound in enumerate(BOUNDS):
                new = sum(BOUNDS.index(one) <= number for one in slow)
                buckets[bound][at] = buckets[bound][at - 1] + new
        for bound, values in buckets.items():
            name = f'market_api_request_seconds_bucket{{le="{bound}", {labels}}}'
            series[name] = [one + other for one, other in zip(series.get(name, [0] * length), values, strict=True)]
        for status, values in answers.items():
            series[f'market_api_requests_total{{status="{status}", method="{method}", {labels}}}'] = values
    end = (length - 1) * rehearsal.EVERY
    return rehearsal.Case(what, series, tuple(rehearsal.Probe(at, fires=False) for at in (end - 90, end)))


def _all(pieces: str) -> str:
    return pieces.replace("rate(", "(").replace("[1m]", "")


def _close(found: dict[str, Any], truth: dict[str, float]) -> bool:
    """Compare, within a thousandth, for all that the truth holds."""
    return all(
        found.get(key) is not None and abs(found[key] - value) <= 1e-3 * abs(value) for key, value in truth.items()
    )


def _shares(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:.3f}" if value is not None else f"{key} none" for key, value in values.items())
