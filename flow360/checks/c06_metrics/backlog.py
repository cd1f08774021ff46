"""Exercise 3: an alert on a backlog."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from flow360 import clients
from flow360.checks import rehearsal
from flow360.checks.c06_metrics.asking import asked
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type
from flow360.errors import FlowError, ServiceError
from flow360.waiting import wait_for

TOPIC, GROUP = "primeur.lab06", "lab06-billing"
NEIGHBOUR = "lab06-letters"  # reads the same topic, is far behind, and nobody has to be called for it
ALERT, LIMIT = "LabBacklog", 500
MOST = 10**9
FIRES, ENDS = 30, 20  # seconds within which the alert has to fire, and to end


@exercise
def backlog_alert(rules: Any) -> None:
    """Check that the rule goes the right way in a rehearsal with drawn backlogs; then, in force, at a real one."""
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
    asked("rules", str(rule.get("expr")))
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
    """Draw backlogs on both sides of each boundary, with what the exporter says of them."""
    parts, calm = chance.randint(4, 6), [0] * chance.randint(5, 15)
    few, more, most = chance.randint(0, 400), chance.randint(LIMIT + 1, 900), chance.randint(10**7, MOST)
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
        case(f"is {most:,} records behind {together}, the worst that was ever seen", [*calm, *[most] * 30]),
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
    """Yield what is due at each sample: firing 30 s after a backlog began, not 20 s after it ended; or neither."""
    began = 0
    for number, is_over in enumerate(over):
        if number and is_over != over[number - 1]:
            began = number
        # A backlog may be older than what shows it: by a scrape, and by an evaluation.
        since = (number - began + 2) * rehearsal.EVERY
        if since >= (FIRES if is_over else ENDS) or not (is_over or began):
            yield rehearsal.Probe(number * rehearsal.EVERY, is_over, since)


def _exported(lags: Sequence[Sequence[int]], others: Sequence[int]) -> dict[str, list[int]]:
    """Write what Prometheus would have of the exporter: at each sample a group so far behind, two that always are."""
    target = 'job="kafka-exporter", instance="kafka-exporter:9308"'
    length, end = len(lags), MOST
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
