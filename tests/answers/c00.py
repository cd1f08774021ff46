"""Answers of 00_welcome."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from flow360 import lesson
from flow360.clients import postgres, reach
from flow360.errors import FlowError
from tests.answers import last_hint, near_miss, right

COUNT = "select store_id, count(*) from primeur.orders group by store_id order by count(*) {} limit 1"

OTHERS = "select van_id from primeur.temperatures where van_id <> 'VAN-03' group by van_id order by {} desc limit 1"


def number(query: str) -> float:
    return lesson.sql(query).iat[0, 0]


@right("busiest_store")
def most_orders():
    return int(number(COUNT.format("desc")))


@right("busiest_store")
def numpy_number():
    return number(COUNT.format("desc"))


@right("busiest_store")
def counted_by_pandas():
    return lesson.sql("select store_id from primeur.orders")["store_id"].value_counts().idxmax()


@near_miss("busiest_store", says="which one")
def the_whole_row():
    return lesson.sql(COUNT.format("desc"))


@near_miss("busiest_store", says="a whole number, found str")
def a_text():
    return str(most_orders())


@near_miss("busiest_store", says="another one has")
def most_money():
    query = "select store_id from primeur.orders group by store_id order by avg(total_eur) desc"
    return next(store for store in lesson.sql(query)["store_id"] if store != most_orders())


@near_miss("busiest_store", says="another one has")
def fewest_orders():
    return int(number(COUNT.format("asc")))


@near_miss("busiest_store", says="store_id")
def the_count_itself():
    return int(lesson.sql(COUNT.format("desc")).iat[0, 1])


@right("late_share")
def share():
    return float(number(f"select {last_hint('00', 'late_share')[0]} from primeur.deliveries"))


@right("late_share")
def exact_decimal():
    return Decimal(repr(share()))


@near_miss("late_share", says="another share")
def two_decimals():
    return round(share(), 2) + (0.001 if abs(round(share(), 2) - share()) < 0.0005 else 0)


@near_miss("late_share", says="another share")
def in_time():
    return 1 - share()


@near_miss("late_share", says="a number, found NoneType")
def nothing():
    return None


@right("late_share")
def three_decimals():
    return round(share(), 3)


@near_miss("late_share", says="percentage")
def percentage():
    return float(number("select 100 * avg((delivered_at > promised_to)::int) from primeur.deliveries"))


@near_miss("late_share", says="number of late deliveries")
def late_count():
    return int(number("select count(*) from primeur.deliveries where delivered_at > promised_to"))


@near_miss("late_share", says="start of the promised hour")
def after_the_start():
    return float(number("select avg((delivered_at > promised_from)::int) from primeur.deliveries"))


@right("warmest_van")
def highest_reading():
    return number(OTHERS.format("max(celsius)"))


@right("warmest_van")
def by_pandas():
    readings = lesson.sql("select van_id, celsius from primeur.temperatures where van_id <> 'VAN-03'")
    return readings.loc[readings["celsius"].idxmax(), "van_id"]


@right("warmest_van")
def numpy_text():
    return np.str_(highest_reading())


@near_miss("warmest_van", says="such as VAN-01")
def in_lower_case():
    return highest_reading().lower()


@near_miss("warmest_van", says="expected")
def the_coldest():
    return number(OTHERS.format("-min(celsius)"))


@near_miss("warmest_van", says="hide in one")
def highest_average():
    return number(OTHERS.format("avg(celsius)"))


@near_miss("warmest_van", says="in the workshop already")
def the_van_of_the_lesson():
    return "VAN-03"


@near_miss("warmest_van", says="a text such as")
def the_temperature():
    return float(number("select max(celsius) from primeur.temperatures"))


EVENING = """
    select measured_at at time zone '{}' as moment, celsius from primeur.temperatures
    where van_id = 'VAN-03' and (measured_at at time zone 'Europe/Paris')::date = '2026-05-07' order by measured_at
"""


def alarmed(of_ten: str = "min", zone: str = "Europe/Paris", back: int = 0) -> str:
    readings = lesson.sql(EVENING.format(zone))
    warm = getattr(readings["celsius"].rolling(10), of_ten)() > 8
    return f"{readings['moment'][warm.idxmax() - back]:%H:%M}"


@right("alarm_minute")
def coolest_of_ten():
    readings = lesson.sql(EVENING.format("Europe/Paris"))
    warm, _, clock = last_hint("00", "alarm_minute")
    return readings["moment"][eval(warm, {"readings": readings})].iat[0].strftime(clock)


@right("alarm_minute")
def counted_one_by_one():
    warm = 0
    for row in lesson.sql(EVENING.format("Europe/Paris")).itertuples():
        warm = warm + 1 if row.celsius > 8 else 0
        if warm == 10:
            return f"{row.moment:%H:%M}"
    raise AssertionError("no ten readings in a row")


@right("alarm_minute")
def by_the_server():
    query = """
        select to_char(min(measured_at) at time zone 'Europe/Paris', 'HH24:MI') from (
            select measured_at, min(celsius) over ten as coolest, count(*) over ten as n from primeur.temperatures
            where van_id = 'VAN-03' and (measured_at at time zone 'Europe/Paris')::date = '2026-05-07'
            window ten as (order by measured_at rows 9 preceding)
        ) readings where coolest > 8 and n = 10
    """
    return number(query)


@near_miss("alarm_minute", says="another minute")
def a_minute_too_late():
    return alarmed(back=-1)


@near_miss("alarm_minute", says="average of ten")
def average_of_ten():
    return alarmed("mean")


@near_miss("alarm_minute", says="in UTC")
def on_the_server_s_clock():
    return alarmed(zone="UTC")


@near_miss("alarm_minute", says="first reading above 8")
def the_first_of_the_ten():
    return alarmed(back=9)


@near_miss("alarm_minute", says="such as")
def with_seconds():
    return alarmed() + ":00"


def since():
    return lesson.sql("select pg_postmaster_start_time() as since").iat[0, 0]


def break_it() -> str:
    lesson.stop("postgres-dwh")
    try:
        lesson.sql("select 1")
    except FlowError as error:
        return str(error)
    raise AssertionError("a stopped server answered")


@right("break_and_repair")
def stopped_and_started():
    before = since()
    message = break_it()
    lesson.start("postgres-dwh")
    return before, message


@near_miss("break_and_repair", says="message")
def a_wrong_table_instead():
    before = since()
    try:
        lesson.sql("select * from nowhere")
    except FlowError as error:
        return before, str(error)
    raise AssertionError("a table called nowhere answered")


@near_miss("break_and_repair", says="was it stopped at all")
def looked_after_the_repair():
    message = break_it()
    lesson.start("postgres-dwh")
    return since(), message


@right("break_and_repair")
def asked_by_the_driver_itself():
    before = since().to_pydatetime()
    lesson.stop("postgres-dwh")
    try:
        with postgres():
            raise AssertionError("a stopped server answered")
    except FlowError as error:
        message = f"{type(error).__name__}: {error}"
    lesson.start("postgres-dwh")
    return before, message


@right("break_and_repair")
def broken_twice():
    before = since()
    lines = []
    for _ in range(2):
        lines.append(break_it())
        lesson.start("postgres-dwh")
    return before, "\n".join(lines)


@near_miss("break_and_repair", says="expected a text")
def the_error_and_not_its_line():
    return since(), reach.is_down("postgres-dwh")


@near_miss("break_and_repair", says="message")
def a_line_of_ones_own():
    before = since()
    break_it()
    lesson.start("postgres-dwh")
    return before, "postgres-dwh was down: flow360 up"


@near_miss("break_and_repair", says="message")
def what_another_service_says():
    return since(), str(reach.is_down("postgres-source"))
