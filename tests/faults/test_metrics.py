"""Who watches goes blind or is blinded: a target away, a target that hiccups, Prometheus killed."""

from __future__ import annotations

import time

import pytest

from flow360 import clients
from flow360.errors import FlowError
from flow360.waiting import patient
from tests.faults.support import kill, recovered, report, until

SERVICES = ("prometheus", "market-api")


def firing(job: str) -> set:
    """The moments since when ServiceDown fires for this job: one element is one alert."""
    found = clients.prometheus().alerts("ServiceDown")
    return {row.since for row in found.itertuples() if row.state == "firing" and row.labels["job"] == job}


def told(job: str) -> bool:
    """Whether people hear of it: other services of the tests may be away as well."""
    return clients.prometheus().notified("ServiceDown")["summary"].str.startswith(f"{job} ").any()


def up(job: str) -> float | None:
    try:
        return clients.prometheus().value(f'up{{job="{job}"}}')
    except FlowError:  # Prometheus itself is away
        return None


@pytest.mark.timeout(200)
def test_a_target_that_is_away_is_noticed_once_and_forgiven(stack, started):
    """Fault 30: up is 0 after two scrapes at most, one alert fires, and it ends when the target is back."""
    started("prometheus", "market-api")
    until(lambda: up("market-api") == 1, "the first scrape")
    stack.down(["market-api"])
    stopped, alerts = time.monotonic(), set()
    until(lambda: up("market-api") == 0, "up to be 0", 10)
    noticed = time.monotonic() - stopped
    until(lambda: firing("market-api"), "the alert", 30)
    fired = time.monotonic() - stopped
    until(lambda: told("market-api"), "Alertmanager to know", 10)
    for _ in range(20):  # it goes on firing as one alert, and does not begin again
        alerts |= firing("market-api")
        time.sleep(0.2)
    stack.up(["market-api"])
    back = time.monotonic()
    until(lambda: not firing("market-api"), "the alert to end", 30)
    resolved = time.monotonic() - back
    until(lambda: not told("market-api"), "Alertmanager to forget it", 30)
    report("30 target away", noticed=noticed, fired=fired, alerts=len(alerts), resolved=resolved)
    assert noticed < patient(5), "two scrapes"
    assert fired < patient(30)
    assert len(alerts) == 1
    assert resolved < patient(15)


@pytest.mark.timeout(120)
def test_a_hiccup_calls_nobody(stack, started):
    """Killed with -9 and restarted by the supervisor within `for`: Prometheus may see it, nobody is called."""
    started("prometheus")
    until(lambda: up("node-exporter") == 1, "the first scrape")
    since = kill(stack, "node-exporter")
    back = recovered(stack, "node-exporter", since)
    seen = set()
    while time.monotonic() - since < 10:
        seen |= firing("node-exporter")
        time.sleep(0.2)
    zeros = clients.prometheus().value('count_over_time((up{job="node-exporter"} == 0)[15s:1s])') or 0
    report("30 target hiccups", back=back, seconds_seen_down=int(zeros), alerts=len(seen))
    assert back < 4, "longer than `for` would not be a hiccup"
    assert not seen


def samples(until_: float) -> set[tuple[str, float, float]]:
    """What Prometheus holds of the last minute before a moment: (job, time, value) of `up`."""
    rows = clients.prometheus().query("up[1m]", at=until_)
    return {(row.job, row.time.timestamp(), row.value) for row in rows.itertuples()}


@pytest.mark.timeout(200)
def test_prometheus_killed_loses_no_sample_that_it_had_shown(stack, started):
    """SIGKILL, restart, replay of its write-ahead log: all that could be asked for before can be asked for after."""
    started("prometheus")
    asked = len(clients.prometheus().targets())
    until(lambda: len(samples(time.time())) >= 5 * asked, "five samples of each target")
    moment = time.time()
    before = samples(moment)
    killed = kill(stack, "prometheus")
    recovery = recovered(stack, "prometheus", killed)
    after = samples(moment)
    first = until(
        lambda: clients.prometheus().value(f"min(timestamp(up) > {moment})"), "the first sample after the restart", 30
    )
    report(
        "Prometheus killed",
        shown_before=len(before),
        lost=len(before - after),
        recovery=recovery,
        gap=first - max(at for _, at, _ in before),
    )
    assert before - after == set()
    assert recovery < patient(60)
