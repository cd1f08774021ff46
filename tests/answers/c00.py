"""Answers of 00_welcome."""

from __future__ import annotations

from flow360 import lesson
from flow360.errors import FlowError
from tests.answers import near_miss, right

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


@near_miss("busiest_store", says="another one has")
def fewest_orders():
    return int(number(COUNT.format("asc")))


@near_miss("busiest_store", says="store_id")
def the_count_itself():
    return int(lesson.sql(COUNT.format("desc")).iat[0, 1])


@right("late_share")
def share():
    return float(number("select avg((delivered_at > promised_to)::int) from primeur.deliveries"))


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


@near_miss("warmest_van", says="hide in one")
def highest_average():
    return number(OTHERS.format("avg(celsius)"))


@near_miss("warmest_van", says="in the workshop already")
def the_van_of_the_lesson():
    return "VAN-03"


@near_miss("warmest_van", says="str")
def the_temperature():
    return float(number("select max(celsius) from primeur.temperatures"))


@right("read_status")
def what_and_port():
    row = lesson.status_table().set_index("service").loc["postgres-dwh"]
    return ((row["what"], row["port"]),)


@near_miss("read_status", says="what_runs[0]")
def the_label_instead():
    row = lesson.status_table().set_index("service").loc["postgres-dwh"]
    return ((row["runs"], row["port"]),)


@near_miss("read_status", says="what_runs[1]")
def the_other_server():
    row = lesson.status_table().set_index("service").loc["postgres-source"]
    return ((row["what"], row["port"]),)


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
