"""Answers of 04a_stream_processing."""

from __future__ import annotations

import json
from types import SimpleNamespace

from flow360.ingestion.topics import iso
from flow360.processing import streams
from flow360.settings import settings
from tests.answers import last_hint, near_miss, right


def ks() -> SimpleNamespace:
    """Kafka Streams' names, with how records are read and written; imported late, since that starts a JVM."""
    from flow360.processing.streams import api

    read, write = api.Consumed.with_(api.TEXT, api.JSON), api.Produced.with_(api.TEXT, api.JSON)
    return SimpleNamespace(**{name: getattr(api, name) for name in api.__all__}, IN=read, OUT=write)


def stored(name):
    return ks().Materialized.as_(name).withKeySerde(ks().TEXT).withValueSerde(ks().JSON)


def by_van():
    return ks().Grouped.with_(ks().TEXT, ks().JSON)


def minutes(number):
    return ks().Duration.ofSeconds(int(number * 60))


def said(expression, **names):
    """What a piece of a hint comes to, with Kafka Streams' names and these."""
    return eval(expression, {**vars(ks()), **names})


def reset(exercise: str) -> None:
    if exercise == "door_alarm":
        streams.reset("lab-04a", "lab-04a.readings", "lab-04a.alarms")
        streams.reset("lab-04a-mine")


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


@right("clean_celsius")
def nine_fifths_and_a_key():
    def topology(builder):
        def celsius(van, reading):
            value = reading["value"]
            return {"celsius": float(f"{(value - 32) * 5 / 9:.2f}") if reading["unit"] != "C" else float(value)}

        stream = builder.stream("readings", ks().IN).filterNot(lambda van, r: r["value"] is None)
        stream.mapValues(celsius).to("celsius", ks().OUT)

    return topology


@right("clean_celsius")
def clean_by_the_last_hint():
    def topology(builder):
        said(last_hint("04a", "clean_celsius")[0], builder=builder, celsius=lambda r: {"celsius": to_celsius(r)})

    return topology


@near_miss("clean_celsius", says="filter() does not take")
def a_filter_of_the_value_alone():
    def topology(builder):
        builder.stream("readings", ks().IN).filter(lambda r: has_value(r)).to("celsius", ks().OUT)

    return topology


@near_miss("clean_celsius", says="a filter takes True or False")
def what_is_there_is_true():
    return clean(lambda reading: reading["value"], to_celsius)


@near_miss("clean_celsius", says="is missing: it is a temperature")
def truth_of_a_number():
    return clean(lambda r: bool(r["value"]), to_celsius)


@near_miss("clean_celsius", says="°C = (°F - 32) / 1.8")
def does_not_convert():
    return clean(has_value, lambda r: r["value"])


@near_miss("clean_celsius", says="to two decimals")
def not_rounded():
    return clean(has_value, lambda r: (r["value"] - 32) / 1.8 if r["unit"] == "F" else r["value"])


@near_miss("clean_celsius", says="to two decimals")
def to_one_decimal():
    return clean(has_value, lambda r: round((r["value"] - 32) / 1.8, 1) if r["unit"] == "F" else r["value"])


@near_miss("clean_celsius", says="to two decimals")
def cut_and_not_rounded():
    return clean(has_value, lambda r: (r["value"] - 32) / 1.8 * 100 // 1 / 100 if r["unit"] == "F" else r["value"])


@near_miss("clean_celsius", says="to two decimals")
def nearly_five_ninths():
    return clean(has_value, lambda r: round((r["value"] - 32) * 0.5556, 2) if r["unit"] == "F" else r["value"])


@near_miss("clean_celsius", says="what is °C stays as it is")
def rounds_what_was_not_converted():
    return clean(has_value, lambda r: round(to_celsius(r), 2))


@near_miss("clean_celsius", says="°")
def unit_by_the_vans_name():
    def topology(builder):
        def celsius(van, reading):
            return {"celsius": to_celsius({**reading, "unit": "F" if van == "VAN-08" else "C"})}

        stream = builder.stream("readings", ks().IN).filter(lambda van, r: has_value(r))
        stream.mapValues(celsius).to("celsius", ks().OUT)

    return topology


@near_miss("clean_celsius", says="°")
def unit_by_the_height_of_the_value():
    return clean(has_value, lambda r: to_celsius({**r, "unit": "F" if r["value"] > 25 else "C"}))


@near_miss("clean_celsius", says="without a value came out")
def a_gap_becomes_none():
    return clean(lambda r: True, lambda r: to_celsius(r) if has_value(r) else None)


@near_miss("clean_celsius", says="is missing")
def each_only_once():
    seen = set()

    def new(van, reading):
        before = len(seen)
        seen.add((van, json.dumps(reading)))
        return len(seen) > before

    def topology(builder):
        stream = builder.stream("readings", ks().IN).filter(lambda van, r: has_value(r)).filter(new)
        stream.mapValues(lambda r: {"celsius": to_celsius(r)}).to("celsius", ks().OUT)

    return topology


@near_miss("clean_celsius", says="the key")
def under_another_key():
    def topology(builder):
        stream = builder.stream("readings", ks().IN).filter(lambda van, r: has_value(r))
        stream.map(lambda van, r: ks().KeyValue.pair(van.lower(), {"celsius": to_celsius(r)})).to("celsius", ks().OUT)

    return topology


@near_miss("clean_celsius", says="with the fields")
def keeps_the_unit():
    def topology(builder):
        stream = builder.stream("readings", ks().IN).filter(lambda van, r: has_value(r))
        stream.mapValues(lambda r: {"celsius": to_celsius(r), "unit": "C"}).to("celsius", ks().OUT)

    return topology


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


def mean(total):
    return round(total["sum"] / total["n"], 2)


def add_up(van, reading, total):
    return {"n": total["n"] + 1, "sum": total["sum"] + reading["celsius"]}


def average(windows, value=mean, begin=lambda window: iso(window.start()), add=add_up, last_only=False):
    def topology(builder):
        def out(window, total):
            answer = {"from": begin(window.window()), "n": total["n"], "average": value(total)}
            return ks().KeyValue.pair(window.key(), answer)

        grouped = builder.stream("celsius", ks().IN).groupByKey(by_van()).windowedBy(windows)
        table = grouped.aggregate(lambda: {"n": 0, "sum": 0.0}, add, stored("sums"))
        if last_only:
            table = table.suppress(ks().Suppressed.untilWindowCloses(ks().Suppressed.BufferConfig.unbounded()))
        table.toStream().map(out).to("averages", ks().OUT)

    return topology


def of(size, grace):
    return ks().TimeWindows.ofSizeAndGrace(minutes(size), minutes(grace))


@right("average_per_van", solved=True)
def five_minutes_and_grace():
    return average(of(5, 15))


@right("average_per_van")
def only_when_the_window_is_over():
    return average(of(5, 15), last_only=True)


@right("average_per_van")
def keeps_each_value():
    def topology(builder):
        def out(window, values):
            answer = {
                "from": iso(window.window().start()),
                "n": len(values),
                "average": round(sum(values) / len(values), 2),
            }
            return ks().KeyValue.pair(window.key(), answer)

        grouped = builder.stream("celsius", ks().IN).groupByKey(by_van()).windowedBy(of(5, 15))
        table = grouped.aggregate(list, lambda van, reading, values: [*values, reading["celsius"]], stored("values"))
        table.toStream().map(out).to("averages", ks().OUT)

    return topology


@right("average_per_van")
def average_by_the_last_hint():
    windows, end = last_hint("04a", "average_per_van")

    def answer(window, total):
        return {"from": iso(window.window().start()), "n": total["n"], "average": mean(total)}

    def topology(builder):
        grouped = builder.stream("celsius", ks().IN).groupByKey(by_van()).windowedBy(said(windows))
        table = grouped.aggregate(lambda: {"n": 0, "sum": 0.0}, add_up, stored("sums"))
        said(f"table{end}", table=table, answer=answer).to("averages", ks().OUT)

    return topology


@near_miss("average_per_van", says="up to 15 minutes after the end")
def no_grace():
    return average(ks().TimeWindows.ofSizeWithNoGrace(minutes(5)))


@near_miss("average_per_van", says="comes up to 15 minutes")
def too_little_grace():
    return average(of(5, 10))


@near_miss("average_per_van", says="comes up to 15 minutes")
def half_a_minute_too_little():
    return average(of(5, 14.5))


@near_miss("average_per_van", says="later than 15 minutes")
def half_a_minute_too_much():
    return average(of(5, 15.5))


@near_miss("average_per_van", says="later than 15 minutes")
def too_much_grace():
    return average(of(5, 60))


@near_miss("average_per_van", says="to two decimals")
def average_not_rounded():
    return average(of(5, 15), value=lambda t: t["sum"] / t["n"])


@near_miss("average_per_van", says="the windows")
def ten_minutes():
    return average(of(10, 15))


@near_miss("average_per_van", says="the windows")
def each_minute_another_window():
    return average(of(5, 15).advanceBy(minutes(1)))


@near_miss("average_per_van", says="averages: VAN-")
def from_its_end():
    return average(of(5, 15), begin=lambda window: iso(window.end()))


@near_miss("average_per_van", says="the windows")
def from_in_paris():
    return average(of(5, 15), begin=lambda window: iso(window.start() + 3_600_000))


@near_miss("average_per_van", says="average of")
def the_sum():
    return average(of(5, 15), value=lambda t: t["sum"])


@near_miss("average_per_van", says="average of")
def half_of_old_and_new():
    def add(van, reading, total):
        before = total["sum"] / total["n"] if total["n"] else reading["celsius"]
        return {"n": total["n"] + 1, "sum": (total["n"] + 1) * (before + reading["celsius"]) / 2}

    return average(of(5, 15), add=add)


@near_miss("average_per_van", says="found 0")
def zero_is_no_reading():
    def add(van, reading, total):
        return add_up(van, reading, total) if reading["celsius"] else total

    return average(of(5, 15), value=lambda total: mean(total) if total["n"] else 0.0, add=add)


@near_miss("average_per_van", says="a van as the key")
def all_vans_together():
    def topology(builder):
        def out(window, total):
            answer = {"from": iso(window.window().start()), "n": total["n"], "average": mean(total)}
            return ks().KeyValue.pair(window.key(), answer)

        grouped = builder.stream("celsius", ks().IN).groupBy(lambda van, r: "all", by_van()).windowedBy(of(5, 15))
        table = grouped.aggregate(lambda: {"n": 0, "sum": 0.0}, add_up, stored("sums"))
        table.toStream().map(out).to("averages", ks().OUT)

    return topology


# --- on_tour


def joined():
    return ks().Joined.with_(ks().TEXT, ks().JSON, ks().JSON)


def with_tour(kind, tour_of, tours_of=lambda builder: builder.table("tours", ks().IN)):
    def topology(builder):
        join = getattr(builder.stream("celsius", ks().IN), kind)
        join(tours_of(builder), lambda r, t: {**r, **tour_of(t)}, joined()).to("on-tour", ks().OUT)

    return topology


def fields(tour):
    return {"route_id": (tour or {}).get("route_id"), "city": (tour or {}).get("city")}


@right("on_tour", solved=True)
def left_join():
    return with_tour("leftJoin", fields)


@right("on_tour")
def a_global_table():
    def topology(builder):
        tours = builder.globalTable("tours", ks().IN)
        stream = builder.stream("celsius", ks().IN)
        stream.leftJoin(tours, lambda van, reading: van, lambda r, t: {**r, **fields(t)}).to("on-tour", ks().OUT)

    return topology


@right("on_tour")
def a_table_of_what_is_wanted():
    def topology(builder):
        tours = builder.table("tours", ks().IN).mapValues(fields, stored("wanted"))
        none = {"route_id": None, "city": None}
        stream = builder.stream("celsius", ks().IN).leftJoin(tours, lambda r, t: {**r, **(t or none)}, joined())
        stream.to("on-tour", ks().OUT)

    return topology


@right("on_tour")
def tour_by_the_last_hint():
    join, value = last_hint("04a", "on_tour")

    def topology(builder):
        tours, stream = builder.table("tours", ks().IN), builder.stream("celsius", ks().IN)
        by_hand = lambda reading, tour: said(value, reading=reading, tour=tour)  # noqa: E731 - its two names count
        said(f"stream{join}", stream=stream, tours=tours, with_tour=by_hand).to("on-tour", ks().OUT)

    return topology


@near_miss("on_tour", says="it had no tour, but it is a reading")
def inner_join():
    return with_tour("join", fields)


@near_miss("on_tour", says="TypeError")
def forgets_the_missing_row():
    return with_tour("leftJoin", lambda tour: {"route_id": tour["route_id"], "city": tour["city"]})


@near_miss("on_tour", says="expected values with the fields")
def everything_of_the_tour():
    return with_tour("leftJoin", lambda tour: tour or {"route_id": None, "half": None, "city": None})


@near_miss("on_tour", says="the tour of that van")
def nobody_comes_home():
    def table(builder):
        tours = builder.stream("tours", ks().IN).filter(lambda van, tour: tour is not None)
        return tours.toTable(stored("tours"))

    return with_tour("leftJoin", fields, table)


@near_miss("on_tour", says="the tour of that van")
def the_first_tour_stays():
    def table(builder):
        grouped = builder.stream("tours", ks().IN).groupByKey(by_van())
        return grouped.reduce(lambda old, new: old, stored("tours"))

    return with_tour("leftJoin", fields, table)


@near_miss("on_tour", says="city expected")
def one_city_for_all():
    return with_tour("leftJoin", lambda tour: {**fields(tour), "city": "Lyon" if tour else None})


@near_miss("on_tour", says="one for each reading")
def two_tables():
    def topology(builder):
        tours, last = builder.table("tours", ks().IN), builder.table("celsius", ks().IN)
        last.leftJoin(tours, lambda r, t: {**r, **fields(t)}, stored("both")).toStream().to("on-tour", ks().OUT)

    return topology


@near_miss("on_tour", says="Kafka Streams refuses it")
def a_table_of_bytes():
    return with_tour("leftJoin", fields, lambda builder: builder.table("tours"))


@near_miss("on_tour", says="is missing")
def zero_is_left_out():
    def topology(builder):
        tours = builder.table("tours", ks().IN)
        stream = builder.stream("celsius", ks().IN).filter(lambda van, r: bool(r["celsius"]))
        stream.leftJoin(tours, lambda r, t: {**r, **fields(t)}, joined()).to("on-tour", ks().OUT)

    return topology


# --- final_count


def count(windows, hold="untilWindowCloses", begin=lambda window: iso(window.start())):
    def topology(builder):
        def out(window, n):
            return ks().KeyValue.pair(window.key(), {"from": begin(window.window()), "n": int(n)})

        kept = ks().Materialized.as_("counts").withKeySerde(ks().TEXT).withValueSerde(ks().Serdes.Long())
        table = builder.stream("celsius", ks().IN).groupByKey(by_van()).windowedBy(windows).count(kept)
        buffer = ks().Suppressed.BufferConfig.unbounded()
        if hold == "untilWindowCloses":
            table = table.suppress(ks().Suppressed.untilWindowCloses(buffer))
        elif hold:
            table = table.suppress(ks().Suppressed.untilTimeLimit(hold, buffer))
        table.toStream().map(out).to("counts", ks().OUT)

    return topology


@right("final_count", solved=True)
def suppressed():
    return count(of(10, 5))


@right("final_count")
def adds_up_itself():
    def topology(builder):
        def out(window, total):
            return ks().KeyValue.pair(window.key(), {"from": iso(window.window().start()), **total})

        grouped = builder.stream("celsius", ks().IN).groupByKey(by_van()).windowedBy(of(10, 5))
        table = grouped.aggregate(lambda: {"n": 0}, lambda van, r, total: {"n": total["n"] + 1}, stored("counts"))
        held = table.suppress(ks().Suppressed.untilWindowCloses(ks().Suppressed.BufferConfig.unbounded()))
        held.toStream().map(out).to("counts", ks().OUT)

    return topology


@right("final_count")
def told_on_closing():
    def topology(builder):
        from org.apache.kafka.streams.kstream import EmitStrategy

        def out(window, n):
            return ks().KeyValue.pair(window.key(), {"from": iso(window.window().start()), "n": int(n)})

        kept = ks().Materialized.as_("counts").withKeySerde(ks().TEXT).withValueSerde(ks().Serdes.Long())
        windows = builder.stream("celsius", ks().IN).groupByKey(by_van()).windowedBy(of(10, 5))
        windows.emitStrategy(EmitStrategy.onWindowClose()).count(kept).toStream().map(out).to("counts", ks().OUT)

    return topology


@right("final_count")
def count_by_the_last_hint():
    kept, held = last_hint("04a", "final_count")

    def topology(builder):
        def out(window, n):
            return ks().KeyValue.pair(window.key(), {"from": iso(window.window().start()), "n": int(n)})

        windows = builder.stream("celsius", ks().IN).groupByKey(by_van()).windowedBy(of(10, 5))
        said(f"windows{kept}{held}", windows=windows).toStream().map(out).to("counts", ks().OUT)

    return topology


@near_miss("final_count", says="before its grace was over")
def speaks_after_each():
    return count(of(10, 5), hold=None)


@near_miss("final_count", says="before its grace was over")
def closes_at_once():
    return count(ks().TimeWindows.ofSizeWithNoGrace(minutes(10)))


@near_miss("final_count", says="before its grace was over")
def half_a_minute_too_soon():
    return count(of(10, 4.5))


@near_miss("final_count", says="does the grace last longer")
def waits_too_long():
    return count(of(10, 30))


@near_miss("final_count", says="does the grace last longer")
def half_a_minute_too_late():
    return count(of(10, 5.5))


@near_miss("final_count", says="counts: ")
def a_limit_of_time():
    return count(of(10, 5), hold=minutes(15))


@near_miss("final_count", says="counts: ")
def five_minutes_only():
    return count(of(5, 10))


@near_miss("final_count", says="before its grace was over")
def counts_from_its_end():
    return count(of(10, 5), begin=lambda window: iso(window.end()))


@near_miss("final_count", says="n for")
def each_temperature_once():
    def topology(builder):
        def out(window, values):
            return ks().KeyValue.pair(window.key(), {"from": iso(window.window().start()), "n": len(values)})

        grouped = builder.stream("celsius", ks().IN).groupByKey(by_van()).windowedBy(of(10, 5))
        table = grouped.aggregate(list, lambda van, r, seen: sorted({*seen, r["celsius"]}), stored("seen"))
        held = table.suppress(ks().Suppressed.untilWindowCloses(ks().Suppressed.BufferConfig.unbounded()))
        held.toStream().map(out).to("counts", ks().OUT)

    return topology


# --- door_alarm


def door(step, tell, begin=lambda: {"warm": 0}):
    def topology(builder):
        stream = builder.stream("lab-04a.readings", ks().IN).groupByKey(by_van())
        table = stream.aggregate(begin, step, stored("doors"))
        table.toStream().filter(lambda van, state: tell(state)).to("lab-04a.alarms", ks().OUT)

    return topology


def in_a_row(van, reading, state):
    return {"warm": state["warm"] + 1 if reading["celsius"] > 8.0 else 0}


def third(state):
    return state["warm"] == 3


@right("door_alarm", solved=True)
def counted_in_the_store():
    return streams.run(door(in_a_row, third), "lab-04a")


@right("door_alarm")
def no_further_than_four():
    """Another state, and a value of the alarm's own."""

    def topology(builder):
        stream = builder.stream("lab-04a.readings", ks().IN).groupByKey(by_van())
        table = stream.aggregate(list, lambda van, r, last: [*last, r["celsius"] > 8.0][-4:], stored("last"))
        alarms = table.toStream().filter(lambda van, last: last[-3:] == [True] * 3 and last[:-3] != [True])
        alarms.mapValues(lambda last: {"text": "close the door"}).to("lab-04a.alarms", ks().OUT)

    return streams.run(topology, "lab-04a")


@right("door_alarm")
def door_by_the_last_hint():
    value, end = last_hint("04a", "door_alarm")

    def step(van, reading, state):
        return eval(value, {"reading": reading, "state": state})

    def topology(builder):
        stream = builder.stream("lab-04a.readings", ks().IN).groupByKey(by_van())
        table = stream.aggregate(lambda: {"warm": 0}, step, stored("doors"))
        said(f"table{end}", table=table).to("lab-04a.alarms", ks().OUT)

    return streams.run(topology, "lab-04a")


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


@near_miss("door_alarm", says="outside of Kafka's transaction")
def counted_in_a_file():
    """It survives the kill, and counts what passes a second time."""
    folder = settings().state_dir / "streams" / "lab-04a" / "doors"
    folder.mkdir(parents=True)

    def step(reading, van):
        file = folder / van
        before = int(file.read_text()) if file.exists() else 0
        warm = before + 1 if reading["celsius"] > 8.0 else 0
        file.write_text(str(warm))
        return warm == 3

    def topology(builder):
        stream = builder.stream("lab-04a.readings", ks().IN)
        stream.filter(lambda van, r: step(r, van)).to("lab-04a.alarms", ks().OUT)

    return streams.run(topology, "lab-04a")


@near_miss("door_alarm", says="it runs with at_least_once")
def at_least_once():
    return streams.run(door(in_a_row, third), "lab-04a", "at_least_once")


@near_miss("door_alarm", says="the program's name")
def under_another_name():
    return streams.run(door(in_a_row, third), "lab-04a-mine")


@near_miss("door_alarm", says="once is enough")
def told_again_and_again():
    return streams.run(door(in_a_row, lambda s: s["warm"] >= 3), "lab-04a")


@near_miss("door_alarm", says="alarms of a van")
def three_but_not_in_a_row():
    def step(van, reading, state):
        return {"warm": state["warm"] + 1 if reading["celsius"] > 8.0 else state["warm"]}

    return streams.run(door(step, third), "lab-04a")


@near_miss("door_alarm", says="a new incident")
def one_incident_for_ever():
    def step(van, reading, state):
        told = state["told"] or state["warm"] == 3
        return {"warm": state["warm"] + 1 if reading["celsius"] > 8.0 else 0, "told": told}

    tell = door(step, lambda s: s["warm"] == 3 and not s["told"], begin=lambda: {"warm": 0, "told": False})
    return streams.run(tell, "lab-04a")


@near_miss("door_alarm", says="the program has ended: ")
def a_field_that_is_not_there():
    def step(van, reading, state):
        return {"warm": state["warm"] + 1 if reading["value"] > 8.0 else 0}

    return streams.run(door(step, third), "lab-04a")


@near_miss("door_alarm", says="alarms of a van")
def at_the_limit():
    def step(van, reading, state):
        return {"warm": state["warm"] + 1 if reading["celsius"] >= 8.0 else 0}

    return streams.run(door(step, third), "lab-04a")


@near_miss("door_alarm", says="alarms of a van")
def three_within_five_minutes():
    """A row that goes on beyond the end of a window is counted from nothing."""

    def topology(builder):
        windows = ks().TimeWindows.ofSizeWithNoGrace(minutes(5))
        stream = builder.stream("lab-04a.readings", ks().IN).groupByKey(by_van()).windowedBy(windows)
        alarms = stream.aggregate(lambda: {"warm": 0}, in_a_row, stored("doors")).toStream()
        alarms = alarms.filter(lambda window, state: third(state))
        alarms.map(lambda window, state: ks().KeyValue.pair(window.key(), state)).to("lab-04a.alarms", ks().OUT)

    return streams.run(topology, "lab-04a")


@near_miss("door_alarm", says="not running")
def stopped_too_early():
    live = streams.run(door(in_a_row, third), "lab-04a")
    live.stop()
    return live
