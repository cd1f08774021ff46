"""Answers of 04a_stream_processing."""

from __future__ import annotations

from types import SimpleNamespace

from flow360.processing import streams
from flow360.processing.streams.topics import iso
from tests.answers import near_miss, right


def ks() -> SimpleNamespace:
    """Kafka Streams' names, with how records are read and written; imported late, since that starts a JVM."""
    from flow360.processing.streams import api

    read, write = api.Consumed.with_(api.TEXT, api.JSON), api.Produced.with_(api.TEXT, api.JSON)
    return SimpleNamespace(**{name: getattr(api, name) for name in api.__all__}, IN=read, OUT=write)


def stored(name):
    return ks().Materialized.as_(name).withKeySerde(ks().TEXT).withValueSerde(ks().JSON)


def by_van():
    return ks().Grouped.with_(ks().TEXT, ks().JSON)


def reset(exercise: str) -> None:
    if exercise == "door_alarm":
        streams.reset("lab-04a", "lab-04a.readings", "lab-04a.alarms")


# --- clean_celsius


def clean(keep, convert):
    def topology(builder):
        stream = builder.stream("readings", ks().IN).filter(lambda van, r: keep(r))
        stream.mapValues(lambda r: {"celsius": convert(r)}).to("celsius", ks().OUT)

    return topology


def has_value(reading):
    return reading["value"] is not None


def to_celsius(reading):
    return round((reading["value"] - 32) / 1.8, 2) if reading["unit"] == "F" else reading["value"]


@right("clean_celsius", solved=True)
def filter_then_convert():
    return clean(has_value, to_celsius)


@right("clean_celsius")
def one_step_for_both():
    def topology(builder):
        stream = builder.stream("readings", ks().IN)
        stream = stream.flatMapValues(lambda r: [{"celsius": to_celsius(r)}] if has_value(r) else [])
        stream.to("celsius", ks().OUT)

    return topology


@near_miss("clean_celsius", says="0.0 °C is missing")
def truth_of_a_number():
    return clean(lambda r: bool(r["value"]), to_celsius)


@near_miss("clean_celsius", says="expected 5.0 °C, found 41.0")
def does_not_convert():
    return clean(has_value, lambda r: r["value"])


@near_miss("clean_celsius", says="to two decimals")
def not_rounded():
    return clean(has_value, lambda r: (r["value"] - 32) / 1.8 if r["unit"] == "F" else r["value"])


@near_miss("clean_celsius", says="clean: it raised AttributeError")
def a_slip_of_the_pen():
    def topology(builder):
        builder.streem("readings", ks().IN).to("celsius", ks().OUT)

    return topology


@near_miss("clean_celsius", says="TypeError")
def converts_first():
    return clean(lambda r: True, to_celsius)


@near_miss("clean_celsius", says="does not write the topic 'celsius'")
def writes_elsewhere():
    def topology(builder):
        builder.stream("readings", ks().IN).to("clean", ks().OUT)

    return topology


# --- average_per_van


def average(windows, value=lambda t: round(t["sum"] / t["n"], 2)):
    def topology(builder):
        def add(van, reading, total):
            return {"n": total["n"] + 1, "sum": total["sum"] + reading["celsius"]}

        def out(window, total):
            start = iso(window.window().start())
            return ks().KeyValue.pair(window.key(), {"from": start, "n": total["n"], "average": value(total)})

        grouped = builder.stream("celsius", ks().IN).groupByKey(by_van()).windowedBy(windows)
        table = grouped.aggregate(lambda: {"n": 0, "sum": 0.0}, add, stored("sums"))
        table.toStream().map(out).to("averages", ks().OUT)

    return topology


def minutes(number):
    return ks().Duration.ofMinutes(number)


@right("average_per_van", solved=True)
def five_minutes_and_grace():
    return average(ks().TimeWindows.ofSizeAndGrace(minutes(5), minutes(15)))


@near_miss("average_per_van", says="within the grace")
def no_grace():
    return average(ks().TimeWindows.ofSizeWithNoGrace(minutes(5)))


@near_miss("average_per_van", says="within the grace")
def too_little_grace():
    return average(ks().TimeWindows.ofSizeAndGrace(minutes(5), minutes(10)))


@near_miss("average_per_van", says="to two decimals")
def average_not_rounded():
    return average(ks().TimeWindows.ofSizeAndGrace(minutes(5), minutes(15)), value=lambda t: t["sum"] / t["n"])


@near_miss("average_per_van", says="still counted")
def too_much_grace():
    return average(ks().TimeWindows.ofSizeAndGrace(minutes(5), minutes(60)))


@near_miss("average_per_van", says="the windows")
def ten_minutes():
    return average(ks().TimeWindows.ofSizeAndGrace(minutes(10), minutes(15)))


@near_miss("average_per_van", says="average of VAN-01 from 10:00")
def the_sum():
    return average(ks().TimeWindows.ofSizeAndGrace(minutes(5), minutes(15)), value=lambda t: t["sum"])


# --- on_tour


def with_tour(kind, tour_of):
    def topology(builder):
        tours = builder.table("tours", ks().IN)
        join = getattr(builder.stream("celsius", ks().IN), kind)
        join(tours, lambda r, t: {**r, **tour_of(t)}, ks().Joined.with_(ks().TEXT, ks().JSON, ks().JSON)).to(
            "on-tour", ks().OUT
        )

    return topology


def fields(tour):
    return {"route_id": (tour or {}).get("route_id"), "city": (tour or {}).get("city")}


@right("on_tour", solved=True)
def left_join():
    return with_tour("leftJoin", fields)


@near_miss("on_tour", says="it had no tour, but it is a reading")
def inner_join():
    return with_tour("join", fields)


@near_miss("on_tour", says="TypeError")
def forgets_the_missing_row():
    return with_tour("leftJoin", lambda tour: {"route_id": tour["route_id"], "city": tour["city"]})


@near_miss("on_tour", says="expected values with the fields")
def everything_of_the_tour():
    return with_tour("leftJoin", lambda tour: tour or {"route_id": None, "half": None, "city": None})


# --- final_count


def count(windows, final=True):
    def topology(builder):
        def out(window, n):
            return ks().KeyValue.pair(window.key(), {"from": iso(window.window().start()), "n": int(n)})

        kept = ks().Materialized.as_("counts").withKeySerde(ks().TEXT).withValueSerde(ks().Serdes.Long())
        table = builder.stream("celsius", ks().IN).groupByKey(by_van()).windowedBy(windows).count(kept)
        if final:
            table = table.suppress(ks().Suppressed.untilWindowCloses(ks().Suppressed.BufferConfig.unbounded()))
        table.toStream().map(out).to("counts", ks().OUT)

    return topology


@right("final_count", solved=True)
def suppressed():
    return count(ks().TimeWindows.ofSizeAndGrace(minutes(10), minutes(5)))


@near_miss("final_count", says="answers at 10:14:59")
def speaks_after_each():
    return count(ks().TimeWindows.ofSizeAndGrace(minutes(10), minutes(5)), final=False)


@near_miss("final_count", says="answers at 10:14:59")
def closes_at_once():
    return count(ks().TimeWindows.ofSizeWithNoGrace(minutes(10)))


@near_miss("final_count", says="does the grace last longer")
def waits_too_long():
    return count(ks().TimeWindows.ofSizeAndGrace(minutes(10), minutes(30)))


# --- door_alarm


def door(step, tell):
    def topology(builder):
        stream = builder.stream("lab-04a.readings", ks().IN).groupByKey(by_van())
        table = stream.aggregate(lambda: {"warm": 0}, step, stored("doors"))
        table.toStream().filter(lambda van, state: tell(state)).to("lab-04a.alarms", ks().OUT)

    return topology


def in_a_row(van, reading, state):
    return {"warm": state["warm"] + 1 if reading["celsius"] > 8.0 else 0}


@right("door_alarm", solved=True)
def counted_in_the_store():
    return streams.run(door(in_a_row, lambda s: s["warm"] == 3), "lab-04a")


@near_miss("door_alarm", says="the count was lost")
def counted_in_a_variable():
    warm = {}

    def step(reading, van):
        warm[van] = warm.get(van, 0) + 1 if reading["celsius"] > 8.0 else 0
        return warm[van] == 3

    def topology(builder):
        stream = builder.stream("lab-04a.readings", ks().IN)
        stream.filter(lambda van, r: step(r, van)).to("lab-04a.alarms", ks().OUT)

    return streams.run(topology, "lab-04a")


@near_miss("door_alarm", says="once is enough")
def told_again_and_again():
    return streams.run(door(in_a_row, lambda s: s["warm"] >= 3), "lab-04a")


@near_miss("door_alarm", says="once is enough")
def counts_anew_after_the_alarm():
    def step(van, reading, state):
        return {"warm": state["warm"] % 3 + 1 if reading["celsius"] > 8.0 else 0}

    return streams.run(door(step, lambda s: s["warm"] == 3), "lab-04a")


@near_miss("door_alarm", says="the program has ended: ")
def a_field_that_is_not_there():
    def step(van, reading, state):
        return {"warm": state["warm"] + 1 if reading["value"] > 8.0 else 0}

    return streams.run(door(step, lambda s: s["warm"] == 3), "lab-04a")


@near_miss("door_alarm", says="a new incident")
def at_the_limit():
    def step(van, reading, state):
        return {"warm": state["warm"] + 1 if reading["celsius"] >= 8.0 else 0}

    return streams.run(door(step, lambda s: s["warm"] == 3), "lab-04a")


@near_miss("door_alarm", says="not running")
def stopped_too_early():
    live = streams.run(door(in_a_row, lambda s: s["warm"] == 3), "lab-04a")
    live.stop()
    return live
