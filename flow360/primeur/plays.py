"""Asking market-day for a day of the business, and following it: the table `play.plays` of postgres-source.

It has a schema of its own: the shop's own tables know nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from flow360 import clients
from flow360.errors import Exit, FlowError, ServiceError
from flow360.primeur.clock import PARIS
from flow360.primeur.plan import SEED_PLAN, business_day
from flow360.primeur.schema import ORDER_STATUSES
from flow360.waiting import rounds, wait_for

SESSION = "market-day"
"""The service's name as a session of the server: it has no port by which one could see that it lives."""
ALIVE = "select 1 from pg_stat_activity where application_name = %s and datname = current_database()"
SPEED = 600.0
"""A day in less than three minutes."""
FASTEST = 1e6

SCHEMA = """
create schema if not exists play;
comment on schema play is 'How market-day plays days of the business. Not part of the shop.';
create table if not exists play.plays (
  play_id bigint generated always as identity primary key,
  day date not null,
  speed double precision not null check (speed >= 0),
  state text not null default 'asked' check (state in ('asked', 'playing', 'done', 'refused', 'failed')),
  position integer not null default 0,
  events integer,
  clock timestamptz,
  vans text not null default 'waiting' check (vans in ('waiting', 'asked', 'complete')),
  vans_at timestamptz,
  movers bigint[],
  said text,
  asked_at timestamptz not null default now(),
  started_at timestamptz,
  ended_at timestamptz
);
comment on table play.plays is 'One row is one day that was asked for: the first `position` of its events are applied.';
create unique index if not exists one_at_a_time on play.plays ((true)) where state in ('asked', 'playing');
"""


def run_of(number: int, day: date) -> str:
    """Name the vans' run of a played day: the `run` of its readings."""
    return f"play-{day.isoformat()}-{number}"


@dataclass(frozen=True)
class State:
    """How far a day is.

    Attributes:
        state: asked, playing, done, refused or failed.
        clock: what time it is there, in Paris; None before it begins.
        share: of its events, from 0 to 1.
        vans: waiting, asked or complete.
        said: why it was refused or failed.
        orders: how many of the day's orders have each status, in the order in which an order has them.
        movers: the customers whose address changes on that day.
    """

    state: str
    clock: datetime | None
    share: float
    vans: str
    said: str
    orders: dict[str, int]
    movers: tuple[int, ...]

    @property
    def ended(self) -> bool:
        return self.state not in ("asked", "playing")

    def __str__(self) -> str:
        clock = self.clock.strftime("%H:%M") if self.clock and not self.ended else self.state
        counts = ", ".join(f"{status} {n}" for status, n in self.orders.items())
        return f"{clock:<6} {self.share:4.0%}  {counts or 'no order yet'}"


@dataclass(frozen=True)
class Play:
    """A day that was asked for: `state()` says how far it is, `wait()` returns at its end."""

    number: int
    day: date
    speed: float

    @property
    def run(self) -> str:
        """The `run` of its readings over MQTT."""
        return run_of(self.number, self.day)

    def state(self) -> State:
        """Read how far it is.

        Raises:
            ServiceError: the database or market-day does not answer; the day goes on when they are back.
        """
        opens, closes = (datetime.fromtimestamp(SEED_PLAN.midnight(n), PARIS) for n in self._days())
        with _database() as db:
            row = db.execute("select * from play.plays where play_id = %s", [self.number]).fetchone()
            if row is None:
                raise FlowError(f"{self.run}: postgres-source was emptied since: play the day again")
            alive = db.execute(ALIVE, [SESSION]).fetchone()
            counts = dict(
                db.execute(
                    "select status, count(*) from public.orders where ordered_at >= %s and ordered_at < %s group by 1",
                    [opens, closes],
                ).fetchall()
                if row.events
                else ()
            )
        if row.state in ("asked", "playing") and not alive:
            raise _is_down()
        return State(
            row.state,
            row.clock and row.clock.astimezone(PARIS),
            row.position / row.events if row.events else 0.0,
            row.vans,
            row.said or "",
            {status: counts[status] for status in ORDER_STATUSES if status in counts},
            tuple(row.movers or ()),
        )

    def _days(self) -> tuple[int, int]:
        n = (self.day - SEED_PLAN.start).days
        return n, n + 1

    def follow(self, every: float = 0.5) -> Iterator[State]:
        """Yield how far it is, again and again until it has ended, for as long as its speed takes and two minutes more.

        Args:
            every: seconds between two looks.

        Raises:
            ServiceError: the database or market-day does not answer; the day goes on when they are back.
            FlowError: it has not ended by then.
        """
        for _ in rounds(self._deadline(), every):
            found = self.state()
            yield found
            if found.ended:
                return
        raise FlowError(f"{self.day} is not over after {self._deadline():.0f} s: flow360 logs market-day")

    def wait(self, deadline: float | None = None) -> State:
        """Wait until the day has been played; a service that is away for a while is waited for.

        Args:
            deadline: seconds on an idle machine; None means as long as its speed takes, and two minutes more.

        Raises:
            FlowError: it was refused, failed, or is not over by then.
        """

        def end() -> State | None:
            found = self.state()
            return found if found.ended else None

        found = wait_for(end, self._deadline() if deadline is None else deadline, f"the end of {self.day}")
        self.result(found)
        return found

    def _deadline(self) -> float:
        return 120 + (86_400 / self.speed if self.speed else 0)

    def result(self, state: State) -> list[str]:
        """Say in lines what there is to be said of a day that has ended.

        Raises:
            FlowError: it was refused or failed; the line says why.
        """
        if state.state != "done":
            raise FlowError(f"{self.day} {'was refused' if state.state == 'refused' else 'failed'}: {state.said}")
        vans = {
            "complete": f"its vans' readings are those of the run {self.run}",
            "asked": f"not all readings of the run {self.run} were sent: flow360 logs market-sensors",
            "waiting": "its vans stood still: flow360 up market-sensors, and play it again",
        }[state.vans]
        return [f"{self.day} was played; {vans}", f"customers who moved: {', '.join(map(str, state.movers))}"]


def play(wanted: date | str, speed: float = SPEED) -> Play:
    """Ask for a day of the business, 4 May 2026 or later.

    A day that was played already is taken back first, and then played again. While it is being played, the same request
    only changes its speed.

    Args:
        wanted: a date, or its ISO text.
        speed: how much faster than life; 0 is at once.

    Raises:
        FlowError: there is no such day, or another one is being played.
        ServiceError: postgres-source or market-day does not answer.
    """
    try:
        when = business_day(wanted)
    except ValueError as error:
        raise FlowError(f"{wanted}: {error}", Exit.USAGE) from None
    if not 0 <= speed <= FASTEST:
        raise FlowError(f"speed {speed:g}: a number from 0 (at once) to {FASTEST:,.0f}", Exit.USAGE)
    with _database() as db:
        try:
            if not db.execute(ALIVE, [SESSION]).fetchone():
                raise _is_down()
            with db.transaction():
                number = db.execute(
                    "insert into play.plays (day, speed) values (%s, %s) returning play_id", [when, speed]
                ).fetchone()[0]
        except psycopg.errors.UndefinedTable:
            raise _is_down() from None
        except psycopg.errors.UniqueViolation:
            number = _faster(db, when, speed)
    return Play(number, when, speed)


def _faster(db: psycopg.Connection, wanted: date, speed: float) -> int:
    """Change the speed of the day that is being played, if it is the one that is wanted."""
    row = db.execute(
        """update play.plays set speed = case day when %s then %s else speed end where state in ('asked', 'playing')
           returning play_id, day, clock""",
        [wanted, speed],
    ).fetchone()
    if row is None:
        raise FlowError("a day has just ended: ask again")
    if row.day != wanted:
        clock = f" ({row.clock.astimezone(PARIS):%H:%M} there)" if row.clock else ""
        fix = f"wait for its end, or bring it about: flow360 play {row.day} --speed 0"
        raise FlowError(f"{row.day} is being played{clock}, and one day at a time: {fix}")
    return row.play_id


def _database() -> Any:
    return clients.postgres("source", row_factory=namedtuple_row)


def _is_down() -> FlowError:
    return ServiceError("market-day does not answer: start it with `flow360 up market-day`")
