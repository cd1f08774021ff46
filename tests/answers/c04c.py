"""Answers of 04c_sql_transformations: each writes files into the tests' own lab folder and builds them."""

from __future__ import annotations

from flow360.checks import c04c_sql_transformations as check
from flow360.processing import dbt
from tests.answers import delivered, near_miss, right

ready: list[bool] = []


def reset(exercise: str) -> None:
    """The lab as it begins; the staging views are built once."""
    delivered()
    check.prepare()
    dbt.forget("lab_refunds.yml", "tests/lab_orders_are_fit.sql")
    if not ready:
        dbt.run("staging")
        ready.append(True)


def model(name: str, sql: str):
    dbt.write(f"{name}.sql", sql)
    return dbt.build(name, lab=True)


# --- staging_model ----------------------------------------------------------------------------------------------------

PAYMENTS = """
select
    payment_id,
    order_id,
    kind as payment_kind,
    method as payment_method,
    {amount} as signed_eur,
    paid_at,
    {day} as paid_on
from {source}
"""
GOOD = {
    "amount": "case kind when 'refund' then -amount_eur else amount_eur end",
    "day": "{{ paris_day('paid_at') }}",
    "source": "{{ source('lake', 'payments') }}",
}


def payments(head: str = "", **changes: str):
    return model("lab_stg_payments", head + PAYMENTS.format(**{**GOOD, **changes}))


@right("staging_model")
def renamed_and_signed():
    return payments()


@right("staging_model")
def signed_by_multiplication():
    return payments(
        amount="amount_eur * (1 - 2 * (kind = 'refund')::int)", day="(paid_at at time zone 'Europe/Paris')::date"
    )


@near_miss("staging_model", says="signed_eur")
def refunds_left_positive():
    return payments(amount="amount_eur")


@near_miss("staging_model", says="paid_on")
def the_day_in_utc():
    return payments(day="paid_at::date")


@near_miss("staging_model", says="only parent")
def without_a_source():
    return payments(source="lake.payments")


@near_miss("staging_model", says="materialized")
def as_a_table():
    return payments(head="{{ config(materialized='table') }}\n")


@near_miss("staging_model", says="error")
def a_column_that_does_not_exist():
    return payments(amount="amount")


# --- fact_at_grain ----------------------------------------------------------------------------------------------------

PRODUCT_DAYS = """
{{{{ config(materialized='{kind}') }}}}
select
    lines.product_id,
    orders.ordered_on,
    {orders} as orders,
    sum(lines.quantity) as quantity,
    sum(lines.line_total_eur) as sales_eur
from {{{{ {lines} }}}} as lines
inner join {{{{ ref('stg_orders') }}}} as orders using (order_id)
where {condition}
group by lines.product_id, {day}
"""


def product_days(
    orders="count(distinct orders.order_id)",
    condition="orders.order_status <> 'cancelled'",
    day="orders.ordered_on",
    lines="ref('stg_order_lines')",
    kind="table",
):
    sql = PRODUCT_DAYS.format(orders=orders, condition=condition, day=day, lines=lines, kind=kind)
    return model("lab_fct_product_days", sql)


@right("fact_at_grain")
def grouped_at_the_grain():
    return product_days()


@near_miss("fact_at_grain", says="rows of lab.lab_fct_product_days")
def with_the_cancelled():
    return product_days(condition="true")


@near_miss("fact_at_grain", says="orders is not what was asked for")
def only_the_delivered():
    return product_days(condition="orders.order_status = 'delivered'")


@near_miss("fact_at_grain", says="staging models of the project")
def past_the_staging_models():
    return product_days(lines="source('lake', 'order_lines')")


@near_miss("fact_at_grain", says="the grain is broken")
def a_finer_grain():
    return product_days(day="orders.ordered_on, orders.store_id")


@near_miss("fact_at_grain", says="materialized")
def left_as_a_view():
    return product_days(kind="view")


# --- incremental_model ------------------------------------------------------------------------------------------------

VAN_HOURS = """
{{{{ config({config}) }}}}
with readings as (
    select *, date_trunc('hour', measured_at) as hour from {{{{ source('lab', 'readings') }}}}
)
select van_id, hour, count(*) as readings, max(celsius) as warmest_celsius, max(arrived_at) as last_arrived_at
from readings
{{% if is_incremental() %}}
where {condition}
{{% endif %}}
group by van_id, hour
"""
KEYED = "materialized='incremental', unique_key=['van_id', 'hour']"
TOUCHED = """(van_id, hour) in (
    select van_id, hour from readings where arrived_at > (select max(last_arrived_at) from {{ this }})
)"""


def van_hours(config: str = KEYED, condition: str = TOUCHED):
    return model("lab_fct_van_hours", VAN_HOURS.format(config=config, condition=condition))


@right("incremental_model")
def touched_hours():
    return van_hours()


@right("incremental_model")
def touched_hours_by_merge():
    return van_hours(config=KEYED + ", incremental_strategy='merge'")


@near_miss("incremental_model", says="materialized")
def a_plain_table():
    return van_hours(config="materialized='table'")


@near_miss("incremental_model", says="came late")
def newest_hour_onwards():
    return van_hours(condition="hour >= (select max(hour) from {{ this }})")


@near_miss("incremental_model", says="came late")
def only_the_new_readings():
    return van_hours(condition="arrived_at > (select max(last_arrived_at) from {{ this }})")


@near_miss("incremental_model", says="twice")
def without_a_key():
    return van_hours(config="materialized='incremental'")


@near_miss("incremental_model", says="the second run wrote")
def everything_again():
    return van_hours(condition="true")


# --- unit_test --------------------------------------------------------------------------------------------------------

UNIT = """
unit_tests:
  - name: warm_goods
    model: lab_refunds
    given:
      - input: ref('stg_deliveries')
        rows:
{given}
    expect:
      rows:
{expect}
"""
ROWS = [
    ("delivered", "8.0", "false"),
    ("delivered", "8.1", "true"),
    ("refused", "12.0", "false"),
    ("delivered", "null", "false"),
    ("delivered", "4.0", "false"),
]


def unit(rows):
    given = "\n".join(
        f"          - {{delivery_id: {n}, delivery_status: {status}, celsius_at_door: {celsius}}}"
        for n, (status, celsius, _) in enumerate(rows)
    )
    expect = "\n".join(f"        - {{delivery_id: {n}, is_refundable: {value}}}" for n, (*_, value) in enumerate(rows))
    dbt.write("lab_refunds.yml", UNIT.format(given=given, expect=expect))
    return dbt.build("lab_refunds", lab=True)


@right("unit_test")
def all_edges():
    return unit(ROWS)


@near_miss("unit_test", says="exactly 8 °C")
def without_the_edge():
    return unit(ROWS[1:])


@near_miss("unit_test", says="refused")
def without_the_refused():
    return unit([ROWS[0], ROWS[1], ROWS[3], ROWS[4]])


@near_miss("unit_test", says="without a temperature")
def without_the_missing():
    return unit([ROWS[0], ROWS[1], ROWS[2], ROWS[4]])


@near_miss("unit_test", says="fails for the rule as it should be")
def a_wrong_expectation():
    return unit([("delivered", "8.0", "true"), *ROWS[1:]])


@near_miss("unit_test", says="found none")
def a_data_test_instead():
    dbt.write(
        "lab_refunds.yml",
        "models:\n  - name: lab_refunds\n    columns:\n      - name: is_refundable\n        data_tests: [not_null]",
    )
    return dbt.build("lab_refunds", lab=True)


# --- defects_test -----------------------------------------------------------------------------------------------------

RULES = {
    "numbers": """select order_id from orders where not coalesce(
        pg_input_is_valid(total_eur, 'numeric') and total_eur <> 'NaN', false)""",
    "fits": "select order_id from orders where _rescued is not null",
    "once": "select order_id from orders group by order_id having count(*) > 1",
    "customer": "select order_id from orders where customer_id is null",
    "exists": """select order_id from orders where customer_id is not null
        and customer_id not in (select customer_id::text from lake.customers)""",
    "cents": """select order_id from orders join lines using (order_id)
        where pg_input_is_valid(total_eur, 'numeric') and total_eur <> 'NaN' and total_eur::numeric <> eur""",
}


def fit(*left_out: str, **more: str):
    rules = {**{name: rule for name, rule in RULES.items() if name not in left_out}, **more}
    dbt.write(
        "tests/lab_orders_are_fit.sql",
        "with orders as (select * from {{ source('dropzone', 'orders') }}), lines as (\n"
        "select order_id::text, sum(line_total_eur) as eur from lake.order_lines group by order_id)\n"
        + "\nunion\n".join(rules.values()),
    )
    return dbt.test("lab_orders_are_fit", lab=True)


@right("defects_test")
def six_rules():
    return fit()


@near_miss("defects_test", says="wrong_unit")
def blind_to_cents():
    return fit("cents")


@near_miss("defects_test", says="wrong_unit")
def cents_as_a_large_number():
    return fit("cents", large="select order_id from orders where length(total_eur) > 6 and total_eur not like '%.%'")


@near_miss("defects_test", says="duplicate")
def blind_to_doubles():
    return fit("once")


@near_miss("defects_test", says="orphan")
def a_customer_is_a_customer():
    return fit("exists")


@near_miss("defects_test", says="sound orders are accused")
def strange_characters_too():
    return fit(strange="select order_id from orders where delivery_note ~ '\\uFFFD'")


@near_miss("defects_test", says="sound orders are accused")
def whatever_does_not_keep_its_contract():
    return fit(contract="select order_id from orders where _defect is not null")


@near_miss("defects_test", says="not_a_number")
def nan_is_a_numeric_too():
    return fit("numbers", null="select order_id from orders where not pg_input_is_valid(total_eur, 'numeric')")


@near_miss("defects_test", says="could not run")
def a_column_of_the_other_table():
    return fit("cents", cents="select order_id from orders where line_total_eur <> total_eur")
