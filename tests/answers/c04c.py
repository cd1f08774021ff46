"""Answers of 04c_sql_transformations: each writes files into the tests' own lab folder and builds them."""

from __future__ import annotations

import pandas as pd
import yaml

from flow360.checks import c04c_sql_transformations as check
from flow360.processing import dbt
from tests.answers import delivered, last_hint, near_miss, right

ready: list[bool] = []
BEGINS = {
    "incremental_model": check.prepare_readings,
    "unit_test": check.prepare_rule,
    "defects_test": check.prepare_files,
}


def reset(exercise: str) -> None:
    """What the exercise begins with, and none of the files of the answer before; the staging views are built once."""
    delivered()
    check.prepare_sources()
    models = ("lab_stg_payments.sql", "lab_fct_product_days.sql", "lab_fct_van_hours.sql")
    dbt.forget(*models, "lab_refunds.yml", "tests/lab_orders_are_fit.sql")
    if prepare := BEGINS.get(exercise):
        prepare()
    if not ready:
        dbt.run("staging")
        ready.append(True)


def written(name: str) -> pd.DataFrame:
    """What a build of it returns, as far as a check looks at it: each check builds by itself."""
    return pd.DataFrame({"node": [name], "status": ["success"]})


def model(name: str, sql: str):
    dbt.write(f"{name}.sql", sql)
    return written(name)


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
    amount, day = (piece.rpartition(" as ")[0] for piece in last_hint("04c", "staging_model"))
    return payments(amount=amount, day=day)


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


@right("staging_model")
def beside_a_broken_file():
    """A slip in another exercise's file is in nobody's way."""
    dbt.write("lab_refunds.sql", "select {{ ref('stg_deliverys') }")
    dbt.write("lab_refunds.yml", "unit_tests: [")
    return payments(amount="case when kind = 'charge' then amount_eur else -1 * amount_eur end")


@right("staging_model")
def charges_and_refunds_apart():
    halves = [
        PAYMENTS.format(**{**GOOD, "amount": amount}) + f" where kind {sign} 'refund'"
        for amount, sign in (("0 - amount_eur", "="), ("amount_eur", "<>"))
    ]
    return model("lab_stg_payments", "{{ config(materialized='view') }}" + " union all ".join(halves))


@near_miss("staging_model", says="error")
def a_column_that_does_not_exist():
    return payments(amount="amount")


@near_miss("staging_model", says="floating-point")
def money_as_a_float():
    return payments(amount=f"({GOOD['amount']})::float8")


@near_miss("staging_model", says="expected date")
def a_moment_for_a_day():
    return payments(day="date_trunc('day', paid_at at time zone 'Europe/Paris')")


@near_miss("staging_model", says="paid_on")
def always_two_hours_from_utc():
    """Right in May."""
    return payments(day="(paid_at at time zone 'UTC' + interval '2 hours')::date")


@near_miss("staging_model", says="missing")
def the_methods_that_there_are():
    return payments(source="{{ source('lake', 'payments') }} where method in ('card', 'wallet', 'transfer', 'voucher')")


@near_miss("staging_model", says="missing")
def what_costs_nothing_is_left_out():
    return payments(source="{{ source('lake', 'payments') }} where amount_eur > 0")


@near_miss("staging_model", says="not asked for")
def a_column_more():
    return payments(day="amount_eur, " + GOOD["day"])


@near_miss("staging_model", says="what dbt.build")
def the_frame_of_another_model():
    payments()
    return written("stg_payments")


# --- fact_at_grain ----------------------------------------------------------------------------------------------------

PRODUCT_DAYS = """
{{{{ config(materialized='{kind}') }}}}
select
    lines.product_id,
    {named} as ordered_on,
    {orders} as orders,
    sum(lines.quantity) as quantity,
    {sales} as sales_eur
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
    named="orders.ordered_on",
    sales="sum(lines.line_total_eur)",
):
    sql = PRODUCT_DAYS.format(
        orders=orders, condition=condition, day=day, lines=lines, kind=kind, named=named, sales=sales
    )
    return model("lab_fct_product_days", sql)


@right("fact_at_grain")
def grouped_at_the_grain():
    condition, orders = last_hint("04c", "fact_at_grain")
    return product_days(condition=condition.removeprefix("where "), orders=orders)


@right("fact_at_grain")
def an_order_and_article_first():
    return model(
        "lab_fct_product_days",
        """{{ config(materialized='table') }}
        with kept as (select order_id, ordered_at from {{ ref('stg_orders') }} where order_status not in ('cancelled')),
        named as (
            select product_id, order_id, sum(quantity) as quantity, sum(line_total_eur) as eur
            from {{ ref('stg_order_lines') }} group by 1, 2
        )
        select product_id, {{ paris_day('ordered_at') }} as ordered_on, count(*) as orders,
            sum(quantity)::bigint as quantity, sum(eur) as sales_eur
        from named join kept using (order_id) group by 1, 2""",
    )


@right("fact_at_grain")
def filtered_by_having_none_cancelled():
    return product_days(
        condition="orders.order_id not in (select order_id from {{ ref('stg_orders') }} where "
        "order_status = 'cancelled')"
    )


@near_miss("fact_at_grain", says="not expected")
def with_the_cancelled():
    return product_days(condition="true")


@near_miss("fact_at_grain", says="orders expected")
def only_the_delivered():
    return product_days(condition="orders.order_status = 'delivered'")


@near_miss("fact_at_grain", says="missing")
def in_the_states_that_there_are():
    return product_days(condition="orders.order_status in ('delivered', 'refunded')")


@near_miss("fact_at_grain", says="orders expected")
def lines_for_orders():
    return product_days(orders="count(*)")


@near_miss("fact_at_grain", says="floating-point")
def sales_as_a_float():
    return product_days(sales="sum(lines.line_total_eur)::float8")


@near_miss("fact_at_grain", says="sales_eur expected")
def before_the_discount():
    return product_days(sales="sum(lines.quantity * lines.unit_price_eur)")


@near_miss("fact_at_grain", says="sales_eur expected")
def equal_lines_once():
    return product_days(sales="sum(distinct lines.line_total_eur)")


@near_miss("fact_at_grain", says="product_days: ")
def the_day_two_hours_from_utc():
    """Right in May."""
    fixed = "(orders.ordered_at at time zone 'UTC' + interval '2 hours')::date"
    return product_days(day=fixed, named=fixed)


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
    select *, {hour} as hour from {{{{ source('lab', 'readings') }}}}
)
select van_id, hour, {count} as readings, max(celsius) as warmest_celsius, max(arrived_at) as last_arrived_at
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


def van_hours(
    config: str = KEYED,
    condition: str = TOUCHED,
    count: str = "count(*)",
    hour: str = "date_trunc('hour', measured_at)",
):
    return model("lab_fct_van_hours", VAN_HOURS.format(config=config, condition=condition, count=count, hour=hour))


@right("incremental_model")
def touched_hours():
    return van_hours()


@right("incremental_model")
def touched_hours_by_merge():
    return van_hours(config=KEYED + ", incremental_strategy='merge'")


@right("incremental_model")
def from_the_last_arrival_on():
    return van_hours(condition=TOUCHED.replace("arrived_at >", "arrived_at >="))


@right("incremental_model")
def as_the_last_hint_says():
    return van_hours(
        condition="""(van_id, hour) in (
            select van_id, date_trunc('hour', measured_at) from {{ source('lab', 'readings') }}
            where arrived_at > (select max(last_arrived_at) from {{ this }}))"""
    )


@right("incremental_model")
def taken_out_and_appended():
    """The touched hours go before the run; what the table has not got is added."""
    touched = (
        "select r.van_id, date_trunc('hour', r.measured_at) from lab.readings as r "
        "where r.arrived_at > (select max(last_arrived_at) from {{ this }})"
    )
    gone = "{% if is_incremental() %}delete from {{ this }} where (van_id, hour) in (" + touched + "){% endif %}"
    return van_hours(
        config=f"materialized='incremental', incremental_strategy='append', pre_hook=\"{gone}\"",
        condition="(van_id, hour) not in (select van_id, hour from {{ this }})",
    )


@near_miss("incremental_model", says="materialized")
def a_plain_table():
    return van_hours(config="materialized='table'")


@near_miss("incremental_model", says="came late")
def newest_hour_onwards():
    return van_hours(condition="hour >= (select max(hour) from {{ this }})")


@near_miss("incremental_model", says="came late")
def only_the_new_readings():
    return van_hours(condition="arrived_at > (select max(last_arrived_at) from {{ this }})")


@near_miss("incremental_model", says="came late")
def the_late_van_by_name():
    return van_hours(condition="hour >= (select max(hour) from {{ this }}) or van_id = 'VAN-04'")


@near_miss("incremental_model", says="came late")
def one_hour_back():
    return van_hours(condition="hour >= (select max(hour) - interval '1 hour' from {{ this }})")


@near_miss("incremental_model", says="readings expected")
def only_those_with_a_temperature():
    return van_hours(condition=TOUCHED, count="count(celsius)")


@near_miss("incremental_model", says="timestamp without a zone")
def hours_without_a_zone():
    return van_hours(hour="date_trunc('hour', measured_at at time zone 'UTC')")


@near_miss("incremental_model", says="the second run wrote")
def the_whole_day_of_a_touched_van():
    return van_hours(
        condition="van_id in (select van_id from readings "
        "where arrived_at > (select max(last_arrived_at) from {{ this }}))"
    )


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
    return written("lab_refunds")


def given(rows):
    return {"input": "ref('stg_deliveries')", "rows": rows, "format": "csv" if isinstance(rows, str) else "dict"}


def units(*tests):
    text = yaml.safe_dump({"unit_tests": [{"model": "lab_refunds", **test} for test in tests]})
    dbt.write("lab_refunds.yml", text)
    return written("lab_refunds")


@right("unit_test")
def all_edges():
    return unit(ROWS)


@right("unit_test")
def a_hundredth_above_and_in_csv():
    csv = "\n".join(
        ["delivery_id,delivery_status,celsius_at_door", "1,delivered,8", "2,delivered,8.01", "3,refused,9.5"]
    )
    answers = "\n".join(["delivery_id,is_refundable", "1,false", "2,true", "3,false"])
    return units(
        {"name": "warm", "given": [given(csv)], "expect": {"format": "csv", "rows": answers}},
        {
            "name": "cold_or_unknown",
            "given": [given([{"delivery_id": 4, "delivery_status": "delivered", "celsius_at_door": None}])],
            "expect": {"rows": [{"delivery_id": 4, "is_refundable": False}]},
        },
        {
            "name": "frozen",
            "given": [given([{"delivery_id": 5, "delivery_status": "delivered", "celsius_at_door": -18.0}])],
            "expect": {"rows": [{"delivery_id": 5, "is_refundable": False}]},
        },
    )


@right("unit_test")
def more_than_is_needed_and_a_data_test():
    unit([*ROWS, ("delivered", "8.4", "true"), ("refused", "null", "false"), ("refused", "2.5", "false")])
    text = dbt.lab_dir().joinpath("lab_refunds.yml").read_text("utf-8")
    dbt.write(
        "lab_refunds.yml",
        text
        + "models:\n  - name: lab_refunds\n    columns:\n      - name: is_refundable\n        data_tests: [not_null]",
    )
    return written("lab_refunds")


@near_miss("unit_test", says="exactly 8 °C")
def without_the_edge():
    return unit(ROWS[1:])


@near_miss("unit_test", says="refused")
def without_the_refused():
    return unit([ROWS[0], ROWS[1], ROWS[3], ROWS[4]])


@near_miss("unit_test", says="without a temperature")
def without_the_missing():
    return unit([ROWS[0], ROWS[1], ROWS[2], ROWS[4]])


@near_miss("unit_test", says="cold goods")
def without_the_cold():
    return unit(ROWS[:4])


@near_miss("unit_test", says="half a degree")
def far_above_the_limit():
    return unit([ROWS[0], ("delivered", "12.0", "true"), *ROWS[2:]])


@near_miss("unit_test", says="half a degree")
def nothing_is_ever_paid_back():
    return unit([ROWS[0], *ROWS[2:]])


@near_miss("unit_test", says="cannot be read")
def broken_after_the_build():
    done = unit(ROWS)
    dbt.write("lab_refunds.yml", "unit_tests: [")
    return done


@near_miss("unit_test", says="found none")
def of_another_model():
    done = unit(ROWS)
    text = dbt.lab_dir().joinpath("lab_refunds.yml").read_text("utf-8")
    dbt.write("lab_refunds.yml", text.replace("model: lab_refunds", "model: stg_deliveries"))
    return done


@near_miss("unit_test", says="fails for the rule as it should be")
def a_wrong_expectation():
    return unit([("delivered", "8.0", "true"), *ROWS[1:]])


@near_miss("unit_test", says="found none")
def a_data_test_instead():
    dbt.write(
        "lab_refunds.yml",
        "models:\n  - name: lab_refunds\n    columns:\n      - name: is_refundable\n        data_tests: [not_null]",
    )
    return written("lab_refunds")


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
    return written("lab_orders_are_fit")


@right("defects_test")
def six_rules():
    return fit()


@right("defects_test")
def one_pass_with_a_reason():
    dbt.write(
        "tests/lab_orders_are_fit.sql",
        """
        with lines as (select order_id::text as order_id, sum(line_total_eur) as eur from lake.order_lines group by 1),
        judged as (
            select o.order_id,
                case
                    when o._rescued is not null then 'line'
                    when count(*) over (partition by o.order_id) > 1 then 'twice'
                    when c.customer_id is null then 'customer'
                    when o.total_eur !~ '^-?[0-9]+([.][0-9]+)?$' or o.total_eur is null then 'number'
                    when o.total_eur::numeric is distinct from l.eur then 'sum'
                end as reason
            from {{ source('dropzone', 'orders') }} as o
            left join lake.customers as c on c.customer_id::text = o.customer_id
            left join lines as l on l.order_id = o.order_id
        )
        select order_id::bigint as order_id, reason from judged where reason is not null
        """,
    )
    return written("lab_orders_are_fit")


@right("defects_test")
def all_but_the_fit():
    dbt.write(
        "tests/lab_orders_are_fit.sql",
        """
        select order_id from {{ source('dropzone', 'orders') }}
        where order_id not in (
            select o.order_id from {{ source('dropzone', 'orders') }} as o
            join lake.customers as c on o.customer_id = c.customer_id::text
            join (select order_id, sum(line_total_eur) as eur from lake.order_lines group by order_id) as l
                on o.order_id = l.order_id::text
            group by o.order_id
            having count(*) = 1 and count(_rescued) = 0 and bool_and(pg_input_is_valid(total_eur, 'numeric'))
                and bool_and(case when pg_input_is_valid(total_eur, 'numeric') then total_eur::numeric = eur end)
        )
        or order_id in (select order_id from landing.orders group by order_id having count(*) > 1)
        """,
    )
    return written("lab_orders_are_fit")


@near_miss("defects_test", says="wrong_unit")
def a_euro_more_or_less():
    euro = """select order_id from orders join lines using (order_id) where pg_input_is_valid(total_eur, 'numeric')
        and total_eur <> 'NaN' and abs(total_eur::numeric - eur) > 1"""
    return fit("cents", euro=euro)


@near_miss("defects_test", says="wrong_unit")
def too_much_only():
    return fit("cents", more=RULES["cents"].replace("<> eur", "> eur"))


@near_miss("defects_test", says="not_a_number")
def an_empty_total_forgotten():
    return fit("numbers", text=RULES["numbers"].replace(", false)", ", true)"))


@near_miss("defects_test", says="duplicate")
def twice_and_no_more():
    return fit("once", twice=RULES["once"].replace("> 1", "= 2"))


@near_miss("defects_test", says="sound orders are accused")
def numbers_compared_as_texts():
    return fit(texts="select order_id from orders join lines using (order_id) where total_eur <> eur::text")


@near_miss("defects_test", says="missing_key")
def no_customer_is_not_an_orphan():
    return fit("customer")


@near_miss("defects_test", says="bad_row")
def lines_that_do_not_fit():
    return fit("fits")


@near_miss("defects_test", says="column order_id")
def another_column():
    fit()
    path = dbt.lab_dir() / "tests" / "lab_orders_are_fit.sql"
    dbt.write("tests/lab_orders_are_fit.sql", f"select order_id as number from ({path.read_text('utf-8')}) as unfit")
    return written("lab_orders_are_fit")


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
