"""A day that is asked for and followed, without a database: what is said of it, and how its vans are kept going."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from flow360 import lesson
from flow360.errors import FlowError
from flow360.monitoring.lineage import Carrier
from flow360.primeur import plays
from flow360.primeur.clock import PARIS
from flow360.primeur.day import Day, day
from flow360.primeur.plan import DAY, business_day
from flow360.primeur.player import OVERLAP, _Play
from flow360.primeur.plays import Play, State


def state(word: str = "done", vans: str = "complete", said: str = "") -> State:
    clock = datetime(2026, 5, 7, 14, 5, tzinfo=PARIS)
    return State(word, clock, 0.5, vans, said, {"placed": 20, "delivered": 180}, (1917, 2431))


def test_a_line_says_how_far_a_day_is() -> None:
    assert str(state("playing")) == "14:05   50%  placed 20, delivered 180"
    assert str(state("done")).startswith("done ")
    assert str(State("asked", None, 0.0, "waiting", "", {}, ())) == "asked    0%  no order yet"
    assert [word for word in ("asked", "playing", "done", "refused", "failed") if not state(word).ended] == [
        "asked",
        "playing",
    ]


@pytest.mark.parametrize(
    ("vans", "says"),
    [
        ("complete", "2026-05-07 was played; its vans' readings are those of the run play-2026-05-07-9"),
        ("asked", "flow360 logs market-sensors"),
        ("waiting", "its vans stood still: flow360 up market-sensors"),
    ],
)
def test_what_is_said_at_the_end(vans: str, says: str) -> None:
    first, second = Play(9, DAY, 0).result(state(vans=vans))
    assert says in first
    assert second == "customers who moved: 1917, 2431"


@pytest.mark.parametrize("word", ["refused", "failed"])
def test_a_day_that_was_not_played_says_why(word: str) -> None:
    with pytest.raises(FlowError, match=f"2026-05-07 (was )?{word}: the shop is empty"):
        Play(9, DAY, 0).result(state(word, said="the shop is empty"))


@pytest.mark.parametrize("wanted", ["20260507", "2026-W19-4", "7 May", "", None, 7, datetime(2026, 5, 7), "2026-05-03"])
def test_a_day_is_read_in_one_way_wherever_it_is_asked_for(wanted) -> None:
    with pytest.raises(ValueError, match="^day: "):
        business_day(wanted)
    with pytest.raises(FlowError, match="day: "):
        plays.play(wanted)
    assert business_day(DAY) == business_day("2026-05-07") == DAY


def test_a_lesson_waits_or_gets_the_handle(monkeypatch, capsys) -> None:
    asked = []
    monkeypatch.setattr(plays, "play", lambda *words: asked.append(words) or Play(9, DAY, words[1]))
    monkeypatch.setattr(Play, "wait", lambda self, deadline=None: state())
    assert lesson.play("2026-05-07", speed=0).number == 9
    assert capsys.readouterr().out.splitlines()[0] == str(state())
    assert lesson.play("2026-05-07", wait=False).run == "play-2026-05-07-9"
    assert "play-2026-05-07-9" in capsys.readouterr().out
    assert asked == [("2026-05-07", 0), ("2026-05-07", 3600)]


class Vans:
    """market-sensors, as far as a played day sees it."""

    def __init__(self) -> None:
        self.service: str | None = None
        self.asked: list[tuple[float, float, float]] = []
        self.done = False

    def ask(self, run: str, when: str, speed: float, since: float, clock: float) -> None:
        assert (run, when) == ("play-2026-05-07-9", "2026-05-07")
        self.asked.append((speed, since, clock))

    def ended(self, run: str, seconds: float = 0) -> bool:
        return self.done


@pytest.fixture(scope="module")
def today() -> Day:
    return day(DAY)


def played(today: Day, vans: Vans, speed: float = 60.0) -> _Play:
    opens, leaves = (datetime.fromtimestamp(second, UTC) for second in (today.opens, today.vans_from))
    row = SimpleNamespace(play_id=9, position=0, vans="waiting", clock=opens, speed=speed, vans_at=leaves)
    return _Play(None, today, row, vans, Carrier("test"))


def test_the_vans_leave_at_their_time_and_are_asked_for_again_when_their_service_was_restarted(today: Day) -> None:
    vans, leaves = Vans(), today.vans_from
    vans.service = "first"
    play = played(today, vans)
    play._keep_vans(leaves - 1)
    assert vans.asked == []
    play._keep_vans(leaves + 5)
    assert vans.asked == [(60.0, leaves, leaves + 5)]
    play._keep_vans(leaves + 600)
    vans.service = None
    play._keep_vans(leaves + 700)
    vans.service = "second"
    play._keep_vans(leaves + 800)
    # nothing is left out: from before the moment at which it was last seen
    assert vans.asked[1:] == [(60.0, leaves + 600 - OVERLAP * 60, leaves + 800)]
    vans.done = True
    play._keep_vans(leaves + 900)
    vans.service = "third"
    play._keep_vans(leaves + 1000)
    assert play.vans_state == "complete"
    assert len(vans.asked) == 2


def test_vans_that_come_late_bring_all_their_readings(today: Day) -> None:
    vans = Vans()
    play = played(today, vans, speed=0)
    play._keep_vans(today.closes)
    assert (play.vans_state, vans.asked) == ("waiting", [])
    vans.service = "first"
    play._keep_vans(today.closes)
    vans.service = "second"
    play._keep_vans(today.closes)
    assert vans.asked == [(0, today.vans_from, today.closes)] * 2
