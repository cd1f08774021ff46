"""market-day: plays days of the business into the shop's database. `python -m flow360.primeur.player`.

Requests are rows of `play.plays` in postgres-source (flow360/primeur/plays.py writes them). Each event, or the few that
are due together, is one transaction with the number of events applied so far. So a program that is killed at any
moment, or a server that is, leaves a day that can be gone on with, and nothing is applied twice or left out.

On the same clock market-sensors is asked for the vans of that day; their run is `play-DAY-NUMBER`. At its end the
branches' file of the day comes into the drop zone (flow360/primeur/played.py).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event as Flag
from typing import Annotated, Any

import psycopg
import typer
from psycopg import sql
from psycopg.rows import namedtuple_row

from flow360.errors import FlowError
from flow360.monitoring import lineage
from flow360.monitoring.logs import writing
from flow360.primeur import day as days
from flow360.primeur import played
from flow360.primeur.load import connect, loaded_plan
from flow360.primeur.plays import SCHEMA, SESSION, run_of
from flow360.primeur.vans.control import Vans
from flow360.process import at_the_end
from flow360.settings import settings
from flow360.waiting import patient

LOG = logging.getLogger(SESSION)
NO_ORDERS = ("moved", "observed", "returned")
"""Events whose subject is a customer, the weather or a tour."""
BATCH = 50
"""Events that are due together and go into one transaction, at most."""
LOOK = 0.5
"""Seconds between two looks at the requests, and at a speed that somebody has changed."""
OVERLAP = 3.0
"""Seconds of readings that are asked for again when market-sensors had gone: it may have died before they were sent."""
VANS = 60.0
"""Seconds, on an idle machine, that the vans may need to send what is left once the day is over."""
_LOCK = 360_002  # one player at a time
_AGAIN = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled, psycopg.errors.DeadlockDetected)


class Astray(FlowError):
    """The shop is not as the day needs it: somebody else has changed its rows."""


def apply(conn: psycopg.Connection, change: days.Change, must: bool = True) -> None:
    """Apply one change in the connection's transaction.

    Args:
        must: a row that is to be changed must be there.

    Raises:
        Astray: it is not there.
    """
    if isinstance(change, days.Insert):
        names = list(change.rows[0])
        command = sql.SQL("insert into public.{} ({}) values ({}){}").format(
            sql.Identifier(change.table),
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.SQL(", ").join(sql.Placeholder() * len(names)),
            sql.SQL(" on conflict do nothing" if change.unless_there else ""),
        )
        with conn.cursor() as cursor:
            cursor.executemany(command, [list(row.values()) for row in change.rows])
    elif isinstance(change, days.Update):
        command = sql.SQL("update public.{} set {} where {}").format(
            sql.Identifier(change.table),
            sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in change.values),
            sql.SQL(" and ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in change.key),
        )
        found = conn.execute(command, [*change.values.values(), *change.key.values()]).rowcount
        if must and found != 1:
            key = ", ".join(f"{name} {value}" for name, value in change.key.items())
            raise Astray(f"somebody else has changed {change.table}: {key} is not there: play the day again")
    else:
        command = sql.SQL("delete from public.{} where {} = any(%s)").format(
            sql.Identifier(change.table), sql.Identifier(change.column)
        )
        conn.execute(command, [list(change.values)])


def strangers(conn: psycopg.Connection, day: days.Day) -> list[int]:
    """Find orders in the shop that have a number of the day's, and are not the day's."""
    ours = {
        row["order_id"]: (row["customer_id"], row["ordered_at"])
        for event in day.events
        if event.what in ("placed", "tried")
        for row in event.changes[0].rows
    }
    rows = conn.execute(
        "select order_id, customer_id, ordered_at from public.orders where order_id = any(%s) order by 1", [list(ours)]
    )
    return [row.order_id for row in rows if ours[row.order_id] != (row.customer_id, row.ordered_at)]


@dataclass
class _Clock:
    """What time it is on the played day: `moment` (seconds since 1970) at `since` of the machine's clock."""

    moment: float
    speed: float
    closes: int
    since: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        """Return the moment; the end of the day where it is to be played at once."""
        if not self.speed:
            return self.closes
        return min(self.closes, self.moment + (time.monotonic() - self.since) * self.speed)

    def until(self, moment: float) -> float:
        """Count the real seconds until a moment."""
        return max(0.0, (moment - self.now()) / self.speed) if self.speed else 0.0

    def set(self, speed: float) -> None:
        if speed != self.speed:
            self.moment, self.since, self.speed = self.now(), time.monotonic(), speed


class Player:
    """The service. `run` blocks until `stop` is set."""

    def __init__(self, vans: Vans, stop: Flag) -> None:
        self._vans, self._stop = vans, stop
        self._carrier = lineage.Carrier(SESSION)

    def run(self) -> None:
        """Serve requests; while the database is away, try again each second."""
        said = ""
        while not self._stop.is_set():
            try:
                with connect("source") as conn:
                    said = ""
                    self._serve(conn)
            except (FlowError, psycopg.OperationalError) as error:
                reason = str(error).strip().splitlines()[0]
                if reason != said:
                    LOG.warning(reason)
                said = reason
                self._stop.wait(1)
        self._carrier.close()

    def _serve(self, conn: psycopg.Connection) -> None:
        conn.autocommit, conn.row_factory = True, namedtuple_row
        conn.execute(f"set application_name = '{SESSION}'")
        conn.execute("set statement_timeout = '60s'")
        conn.execute("set lock_timeout = '10s'")
        while not conn.execute("select pg_try_advisory_lock(%s) as mine", [_LOCK]).fetchone().mine:
            if self._stop.wait(1):
                return
        conn.execute(SCHEMA)
        LOG.info("at work")
        while not self._stop.is_set():
            asked = conn.execute("select * from play.plays where state in ('asked', 'playing')").fetchone()
            if asked:
                self._try(conn, asked)
            else:
                self._stop.wait(LOOK)

    def _try(self, conn: psycopg.Connection, asked: Any) -> None:
        """Play; what cannot be played is refused or given up with its reason."""
        try:
            self._play(conn, asked)
        except _AGAIN as error:
            LOG.warning("%s: %s: trying again", asked.day, str(error).splitlines()[0])
            self._stop.wait(1)
        except psycopg.OperationalError:
            raise  # the database has gone: the day goes on when it is back
        except (FlowError, ValueError, psycopg.Error) as error:
            reason = str(error).splitlines()[0]
            if isinstance(error, psycopg.Error):
                reason = f"somebody else has changed the shop's tables ({reason}): play the day again"
            conn.execute(
                """update play.plays set state = case state when 'asked' then 'refused' else 'failed' end, said = %s,
                   ended_at = now() where play_id = %s""",
                [reason, asked.play_id],
            )
            LOG.error("%s: %s", asked.day, reason)

    def _play(self, conn: psycopg.Connection, asked: Any) -> None:
        day = days.day(asked.day, loaded_plan(conn))
        if asked.state == "asked" or asked.events != len(day.events):
            asked = self._open(conn, day, asked.play_id)
        play = _Play(conn, day, asked, self._vans, self._carrier)
        while not self._stop.is_set() and not play.over:
            self._stop.wait(min(LOOK, play.step()))
        if play.over and play.end(self._stop):
            LOG.info("done, vans %s", play.vans_state, extra={"run_id": play.run})

    def _open(self, conn: psycopg.Connection, day: days.Day, number: int) -> Any:
        """Open the day: take back what was played of it, in one transaction; its row then."""
        with conn.transaction():
            if found := strangers(conn, day):
                raise FlowError(f"orders {found[0]} … in the shop are not Primeur's: give them other numbers")
            for change in day.morning:
                apply(conn, change, must=False)
            row = conn.execute(
                """update play.plays set state = 'playing', position = 0, events = %s, clock = %s, vans_at = %s,
                   movers = %s, started_at = now() where play_id = %s returning *""",
                [
                    len(day.events),
                    _utc(day.opens),
                    _utc(day.vans_from),
                    [move.customer_id for move in day.movers],
                    number,
                ],
            ).fetchone()
        LOG.info("%s events", len(day.events), extra={"run_id": run_of(number, day.date)})
        return row


class _Play:
    """A day that is being played."""

    def __init__(
        self,
        conn: psycopg.Connection,
        day: days.Day,
        row: Any,
        vans: Vans,
        carrier: lineage.Carrier,
    ) -> None:
        self._conn, self._day, self._vans, self._carrier = conn, day, vans, carrier
        self._number, self._position, self.vans_state = row.play_id, row.position, row.vans
        self.run = run_of(self._number, day.date)
        self._clock = _Clock(row.clock.timestamp(), row.speed, day.closes)
        self._vans_at = row.vans_at.timestamp()
        self._asked: tuple[str, float] | None = None

    @property
    def over(self) -> bool:
        return self._position == len(self._day.events) and self._clock.now() >= self._day.closes

    def step(self) -> float:
        """Apply what is due, at most `BATCH` events; the seconds until there is more to do."""
        now, events, first = self._clock.now(), self._day.events, self._position
        last = first
        while last < min(len(events), first + BATCH) and self._day.due(events[last]) <= now:
            last += 1
        late = last < len(events) and self._day.due(events[last]) <= now
        reached = self._day.due(events[last]) if late else now
        self._keep_vans(reached)
        with self._conn.transaction():
            for event in events[first:last]:
                for change in event.changes:
                    apply(self._conn, change)
            speed = self._note("position = %s, clock = %s", [last, _utc(reached)], first)
        for event in events[first:last]:
            if event.what not in NO_ORDERS:
                LOG.info("order %s", event.what, extra={"order_id": event.subject, "run_id": self.run})
        for change in (change for event in events[first:last] for change in event.changes):
            if not isinstance(change, days.Delete):
                self._carrier.wrote(lineage.shop(change.table), len(change.rows) if hasattr(change, "rows") else 1)
        self._position = last
        self._clock.set(speed)
        if late:
            return 0.0
        return self._clock.until(self._day.due(events[last]) if last < len(events) else self._day.closes)

    def _note(self, what: str, values: list[Any], position: int) -> float:
        """Write down how far the day is; the speed that is asked for now."""
        row = self._conn.execute(
            f"update play.plays set {what}, vans = %s, vans_at = %s where play_id = %s and position = %s and "
            "state = 'playing' returning speed",
            [*values, self.vans_state, _utc(self._vans_at), self._number, position],
        ).fetchone()
        if row is None:
            raise Astray("somebody else has changed its row in play.plays: play the day again")
        return row.speed

    def _keep_vans(self, clock: float) -> None:
        """See that the vans are on their way, from the first one's departure on, whatever happens to market-sensors."""
        service, speed = self._vans.service, self._clock.speed
        if clock < self._day.vans_from or self.vans_state == "complete":
            return
        if self._vans.ended(self.run):
            self.vans_state = "complete"
        elif service and self._asked == (service, speed):
            if speed:  # at once, nobody knows how far they are
                self._vans_at = max(self._vans_at, clock - OVERLAP * speed)
        elif service:
            self._vans.ask(self.run, self._day.date.isoformat(), speed, self._vans_at, clock)
            self._asked, self.vans_state = (service, speed), "asked"
        else:
            self._asked = None

    def end(self, stop: Flag) -> bool:
        """Wait for the vans' last readings, leave the day's files, and close it; False where `stop` came before."""
        self._keep_vans(self._day.closes)
        limit = time.monotonic() + patient(VANS)
        while self.vans_state == "asked" and self._vans.service and time.monotonic() < limit:
            self._vans.ended(self.run, LOOK)
            self._keep_vans(self._day.closes)
            if stop.is_set():
                return False
        plan = loaded_plan(self._conn)
        if played.is_later(self._day.date, plan):  # of the committed week, they lie there already
            played.drop(self._conn, plan, self._day.date)
        self._note("state = 'done', ended_at = now(), clock = %s", [_utc(self._day.closes)], self._position)
        return True


def _utc(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def main(
    mqtt_host: str = "127.0.0.1",
    mqtt_port: Annotated[int | None, typer.Option(help="from the settings by default")] = None,
) -> None:
    """Play what is asked for until SIGTERM."""
    writing.to_stdout()
    stop = Flag()
    at_the_end(stop.set)
    vans = Vans(mqtt_host, mqtt_port or settings().mqtt_port)
    Player(vans, stop).run()
    vans.close()


if __name__ == "__main__":
    typer.run(main)
