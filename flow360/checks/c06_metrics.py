"""Checks of 06_metrics: each asks Prometheus, and compares with what the services themselves say."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import yaml

from flow360 import clients
from flow360.checks import rehearsal
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type
from flow360.clients.query import sql
from flow360.errors import FlowError, ServiceError
from flow360.monitoring.dashboards import DRAWERS
from flow360.monitoring.incidents import LONGEST, SERVICES, Incident
from flow360.waiting import wait_for

ORDERS, GAUGE = "lab06_orders_total", "lab06_largest_order_euros"
TOPIC, GROUP = "primeur.lab06", "lab06-billing"
NEIGHBOUR = "lab06-letters"  # reads the same topic, is far behind, and nobody has to be called for it
ALERT, LIMIT = "LabBacklog", 500
FIRES, ENDS = 30, 20  # seconds within which the alert has to fire, and to end
QUEUES = {
    "market-api": "sum(market_api_requests_in_progress)",
    "postgres-dwh": 'sum(pg_stat_activity_count{state="active"})',
    "kafka": "sum(kafka_consumergroup_lag)",
}


def _asked(name: str, promql: str, at: float | None = None) -> pd.DataFrame:
    """The learner's expression; what Prometheus says against it is the verdict."""
    try:
        return clients.prometheus().query(promql, at)
    except ServiceError:
        raise
    except FlowError as error:
        raise NotYet(f"{name}: {error}") from None


@exercise
def own_metric(registry: Any) -> None:
    """A counter by channel and a gauge, pushed, with the warehouse's own numbers in Prometheus."""
    expect(hasattr(registry, "collect"), f"registry: expected a CollectorRegistry, found {type(registry).__name__}")
    mine = {metric.name: metric for metric in registry.collect()}
    counter = mine.get(ORDERS.removesuffix("_total")) or mine.get(ORDERS)
    if counter is None:
        raise NotYet(f"registry: expected a metric {ORDERS}, found {', '.join(mine) or 'none'}")
    expect_equal("registry", found=counter.type, expected="counter", why=f"{ORDERS} only ever rises")
    labels = {key for sample in counter.samples for key in sample.labels}
    expect_equal("registry", found=labels, expected={"channel"}, why="each label with its values multiplies the series")
    gauge = mine.get(GAUGE)
    if gauge is None or gauge.type != "gauge":
        raise NotYet(f"registry: expected a gauge {GAUGE}, found {gauge.type if gauge else 'none of that name'}")
    truth = sql("select channel, count(*) as orders, max(total_eur) as top from lake.orders group by channel")
    prom = clients.prometheus()
    job = '{job="lab06"}'
    orders, top = truth.set_index("channel")["orders"].to_dict(), float(truth["top"].max())
    prom.await_scrape("pushgateway")  # from now on it knows what was pushed just now
    expect(not prom.query(f"push_time_seconds{job}").empty, 'registry: nothing was pushed under the job "lab06"')
    found, largest = _values(prom.query(ORDERS + job), "channel"), prom.value(GAUGE + job)
    why = "orders of lake.orders by channel, in Prometheus: was it pushed after the counting?"
    expect_equal(ORDERS, found={channel: int(value) for channel, value in found.items()}, expected=orders, why=why)
    expect_equal(GAUGE, found=largest, expected=top, why="the largest total_eur of the week")


@exercise
def slow_routes(p95: Any) -> None:
    """The PromQL of p95 by route, over the last minute."""
    expect_type("p95", p95, str)
    at = time.time()
    pieces = "sum by (le, route) (rate(market_api_request_seconds_bucket[1m]))"
    truth = _values(_asked("p95", f"histogram_quantile(0.95, {pieces}) > 0", at), "route")
    expect(truth, "p95: nobody asked the API in the last minute: run the cell with Traffic again, then this one")
    rows = _asked("p95", p95, at)
    if rows.empty:
        raise NotYet("p95: the expression gives nothing: is a name or a label misspelt?")
    if "route" not in rows:
        raise NotYet("p95: expected one value for each route, found no label route: what does sum by (…) keep?")
    found = _values(rows, "route")
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
            if _close(found, {k: v for k, v in _values(_asked("p95", promql, at), "route").items() if k in truth}):
                raise NotYet(f"p95: this is {what}")
        route = next(key for key in truth if not _close({key: found.get(key)}, {key: truth[key]}))
        raise NotYet(f"p95: expected {truth[route]:.3f} s for {route} over the last minute, found {found.get(route)}")
    if case := rehearsal.differs("p95", p95, f"histogram_quantile(0.95, {pieces})", "route", _lived(draw())):
        raise NotYet(f"p95: right at this moment, but in a rehearsal it gives other numbers when {case.what}")


BOUNDS = ("0.005", "0.05", "0.25", "1", "5", "+Inf")
MINUTE = 60 // rehearsal.EVERY


def _lived(chance: random.Random) -> list[rehearsal.Case]:
    """Five minutes of an API of several routes, methods, answers and instances: what was before is not the last one."""
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


def _values(rows: pd.DataFrame, label: str) -> dict[str, float]:
    if label not in rows:
        return {}
    return rows.dropna(subset="value").set_index(label)["value"].to_dict()


def _close(found: dict[str, Any], truth: dict[str, float]) -> bool:
    """The same within a thousandth, for all that the truth holds."""
    return all(
        found.get(key) is not None and abs(found[key] - value) <= 1e-3 * abs(value) for key, value in truth.items()
    )


@exercise
def backlog_alert(rules: Any) -> None:
    """The rule goes the right way in a rehearsal with drawn backlogs; then, in force, it meets a real one."""
    expect_type("rules", rules, str)
    try:
        groups = yaml.safe_load(rules)["groups"]
        named = [(rule.get("alert"), rule, group) for group in groups for rule in group["rules"]]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise NotYet("rules: expected YAML with groups, each with a name and rules") from None
    mine = [(rule, group) for name, rule, group in named if name == ALERT]
    if len(mine) != 1:
        found = ", ".join(str(name) for name, _, _ in named if name) or "none"
        raise NotYet(f"rules: expected one alert {ALERT}, found {found}")
    ((rule, group),) = mine
    expect_equal("rules: labels.severity", found=(rule.get("labels") or {}).get("severity"), expected="page")
    _asked("rules", str(rule.get("expr")))
    interval = group.get("interval") or f"{rehearsal.EVERY}s"
    if miss := rehearsal.rehearse(rules, ALERT, _rehearsed(draw()), str(interval)):
        what, probe = f"although {GROUP} {miss.case.what}", miss.probe
        if not probe.fires:
            raise NotYet(f"rules: in a rehearsal {ALERT} fires {what}")
        raise NotYet(
            f"rules: in a rehearsal {ALERT} does not fire {what}: {probe.since} s after that began it is {miss.state}"
        )
    prom = clients.prometheus()
    try:
        prom.rules("lab06", rules)
    except ServiceError:
        raise
    except FlowError as error:
        raise NotYet(f"rules: {error}") from None
    try:
        _backlog(600, NEIGHBOUR)
        _backlog_alert(prom)
    finally:
        for name in (GROUP, NEIGHBOUR):
            _backlog(0, name)
        prom.rules("lab06", None)


def _rehearsed(chance: random.Random) -> list[rehearsal.Case]:
    """Backlogs on both sides of each boundary, with what the exporter says of them."""
    parts, calm = chance.randint(4, 6), [0] * chance.randint(5, 15)
    few, more = chance.randint(0, 400), chance.randint(LIMIT + 1, 900)
    steps = sorted(chance.sample(range(1, LIMIT), 12))

    def case(what: str, totals: Sequence[int], alone: bool = False, others: int = 0) -> rehearsal.Case:
        shares = {total: _share(chance, total, parts, alone) for total in totals}
        series = _exported([shares[total] for total in totals], _share(chance, others, parts))
        return rehearsal.Case(what, series, tuple(_due([total > LIMIT for total in totals])))

    together = f"in {parts} partitions together"
    return [
        case(f"is {LIMIT} records behind {together}, and no more", [*calm, *[LIMIT] * 30]),
        case(f"is {LIMIT} records behind in one partition, and no more", [*calm, *[LIMIT] * 30], alone=True),
        case(f"comes to be {LIMIT} records behind {together}, and no more", [*calm, *steps, *[LIMIT] * 15]),
        case(
            f"is {few} records behind: only {NEIGHBOUR} and {GROUP}-archive are far, which is another alert's business",
            [few] * 30,
            others=chance.randint(600, 9000),
        ),
        case(f"is {LIMIT + 1} records behind {together}", [*calm, *[LIMIT + 1] * 150]),
        case(f"is {more} records behind in one partition", [*calm, *[more] * 30], alone=True, others=more),
        case(
            f"is more than {LIMIT} records behind {together}, and never as many as before",
            [*calm, *chance.sample(range(LIMIT + 1, 900), 40)],
        ),
        case(
            f"was {more} records behind {together}, and for 20 s has been {LIMIT} or fewer behind",
            [*calm, *[more] * 25, *[LIMIT] * 15, *[0] * 15],
            others=more,
        ),
    ]


def _share(chance: random.Random, total: int, parts: int, alone: bool = False) -> list[int]:
    """Spread records over partitions, some in each; or all in one."""
    if alone or total < parts:
        shares = [0] * parts
        shares[chance.randrange(parts)] = total
        return shares
    cuts = [0, *sorted(chance.sample(range(1, total), parts - 1)), total]
    return [end - begin for begin, end in itertools.pairwise(cuts)]


def _due(over: Sequence[bool]) -> Iterator[rehearsal.Probe]:
    """What is due at each sample: it fires 30 s after a backlog began, and not 20 s after it ended; or never began."""
    began = 0
    for number, is_over in enumerate(over):
        if number and is_over != over[number - 1]:
            began = number
        # A backlog may be older than what shows it: by a scrape, and by an evaluation.
        since = (number - began + 2) * rehearsal.EVERY
        if since >= (FIRES if is_over else ENDS) or not (is_over or began):
            yield rehearsal.Probe(number * rehearsal.EVERY, is_over, since)


def _exported(lags: Sequence[Sequence[int]], others: Sequence[int]) -> dict[str, list[int]]:
    """What Prometheus would have of the exporter, with a group that is behind by so much in each partition, at each
    sample, and of two others, always so far behind."""
    target = 'job="kafka-exporter", instance="kafka-exporter:9308"'
    length, end = len(lags), 10_000
    series = {f"up{{{target}}}": [1] * length, f"kafka_up{{{target}}}": [1] * length}
    for number, other in enumerate(others):
        where = f'topic="{TOPIC}", partition="{number}"'
        series[f"kafka_topic_partition_current_offset{{{where}, {target}}}"] = [end] * length
        series[f"kafka_topic_partition_oldest_offset{{{where}, {target}}}"] = [0] * length
        behind = {
            GROUP: [lag[number] for lag in lags],
            NEIGHBOUR: [other] * length,
            f"{GROUP}-archive": [other] * length,
        }
        for group, lag in behind.items():
            labels = f'{{consumergroup="{group}", {where}, {target}}}'
            series[f"kafka_consumergroup_lag{labels}"] = lag
            series[f"kafka_consumergroup_current_offset{labels}"] = [end - one for one in lag]
    return series


def _backlog_alert(prom: Any) -> None:
    def firing() -> bool:
        return "firing" in set(prom.alerts(ALERT)["state"])

    _backlog(600)
    began = time.monotonic()
    try:
        wait_for(firing, FIRES + 5)
    except FlowError:
        raise NotYet(
            f"rules: 600 records behind (200 in each of 3 partitions) for {FIRES} s, and {ALERT} does not fire: "
            f"it is {', '.join(prom.alerts(ALERT)['state']) or 'not even pending'}"
        ) from None
    print(f"fired {time.monotonic() - began:.1f} s after the backlog was made")
    _backlog(0)
    try:
        wait_for(lambda: not firing(), ENDS + 5)
    except FlowError:
        raise NotYet(f"rules: the group has read everything for {ENDS} s, and {ALERT} still fires") from None


def _backlog(records: int, group_id: str = GROUP) -> None:
    """Let a group be this many records behind, evenly over three partitions."""
    from confluent_kafka import Consumer, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient(clients.confluent())
    if TOPIC not in admin.list_topics(timeout=10).topics:
        admin.create_topics([NewTopic(TOPIC, 3, 1)])[TOPIC].result(15)
    group = Consumer(clients.confluent(group_id=group_id, enable_auto_commit="false"))
    try:
        ends = [group.get_watermark_offsets(TopicPartition(TOPIC, number), timeout=10)[1] for number in range(3)]
        if min(ends) < 200:
            producer = Producer(clients.confluent())
            for number in range(900):
                producer.produce(TOPIC, b"bill", partition=number % 3)
            expect(producer.flush(20) == 0, "kafka did not take the records of this check: try again")
            ends = [end + 300 for end in ends]
        offsets = [TopicPartition(TOPIC, number, end - records // 3) for number, end in enumerate(ends)]
        group.commit(offsets=offsets, asynchronous=False)
    finally:
        group.close()


@exercise
def error_panel(panel: Any) -> None:
    """A panel in Grafana's JSON: the share of errors by route, over the last minute."""
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
    errors, everything = (
        _values(_asked("panel", f"sum by (route) (rate(market_api_requests_total{which}[1m]))", at), "route")
        for which in ('{status=~"5.."}', "")
    )
    truth = {route: errors[route] / everything[route] for route in errors if everything.get(route)}
    expect(any(truth.values()), "panel: no errors in the last minute: run the cell with Traffic again, then this one")
    rows = _asked("panel", target["expr"], at)
    expect("route" in rows, "panel: expected one value for each route; does the expression keep the label?")
    found = _values(rows, "route")
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
    share = " / ".join(
        f"sum by (route) (rate(market_api_requests_total{which}[1m]))" for which in ('{status=~"5.."}', "")
    )
    if case := rehearsal.differs("panel", target["expr"], share, "route", _lived(draw())):
        raise NotYet(f"panel: right at this moment, but in a rehearsal it gives other shares when {case.what}")


def _shares(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:.3f}" if value is not None else f"{key} none" for key, value in values.items())


@exercise
def saturated_service(incident: Any, saturated: Any, evidence: Any) -> None:
    """Which service has a queue that grew, and the PromQL that shows it."""
    expect_type("incident", incident, Incident)
    expect_type("saturated", saturated, str)
    expect_type("evidence", evidence, str)
    expect(saturated in SERVICES, f"saturated: expected one of {', '.join(SERVICES)}, found {saturated!r}")
    at = min(incident.ended or time.time(), incident.began + LONGEST - 10)  # it ends by itself, and then nothing waits
    # What waits in each service, before and now: the truth is measured, too, and not only remembered.
    grown = {
        name: _one("the queue", promql, at) - _one("the queue", promql, incident.began)
        for name, promql in QUEUES.items()
    }
    if saturated != incident.answer:
        raise NotYet(
            f"saturated: the queue of {saturated} grew by {max(0, grown[saturated]):,.0f}; look at the other two"
        )
    if rate := re.search(r"\b(i?rate|increase|i?delta|deriv)\s*\(", evidence):
        raise NotYet(f"evidence: {rate[1]}() says how busy a service is: how much waits there?")
    before, now = _one("evidence", evidence, incident.began), _one("evidence", evidence, at)
    expect(
        now >= 5 and now >= 3 * before,
        f"evidence: {before:,.3g} before and {now:,.3g} in the incident: that is not a queue",
    )


def _one(name: str, promql: str, at: float) -> float:
    rows = _asked(name, promql, at)
    expect(len(rows) <= 1, f"{name}: expected one number, found {len(rows)} series: sum() them")
    return 0.0 if rows.empty else float(rows["value"].iat[0])
