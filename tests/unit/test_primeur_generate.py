"""The generator: always the same bytes, always consistent, whatever the seed and the scale."""

from __future__ import annotations

import hashlib
import io
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow360.primeur import ddl, dictionary, tours
from flow360.primeur.generate import chunks, customers_csv, table, write_csv, write_parquet
from flow360.primeur.places import holiday
from flow360.primeur.plan import CHUNK, SEED_PLAN, Plan
from flow360.primeur.schema import TABLES, load_order


def digest(name: str, plan: Plan, threads: int | None = None) -> str:
    out = io.BytesIO()
    write_csv(name, out, plan, threads)
    return hashlib.sha256(out.getvalue()).hexdigest()


def test_the_bytes_are_known() -> None:
    # the same on every Python and every machine: a changed digest is a changed data set, and wants a new seed
    out = io.BytesIO()
    assert customers_csv(out, rows=5_000) == (5_000, len(out.getvalue()))
    assert hashlib.sha256(out.getvalue()).hexdigest()[:16] == "01a79c8d6c50e3f4"


@pytest.mark.parametrize("name", ["customers", "orders"])
def test_threads_do_not_change_bytes(name: str) -> None:
    plan = Plan(scale=0.1, days=2)  # more than one chunk of customers
    assert len({digest(name, plan, threads) for threads in (1, 2, 5)}) == 1


def test_a_customer_row_is_what_the_bench_measures() -> None:
    rows, size = customers_csv(None, rows=CHUNK + 5)
    assert rows == CHUNK + 5
    assert len(TABLES["customers"].columns) == 12
    assert 150 < size / rows < 190


def test_seeds_differ() -> None:
    assert digest("orders", Plan(seed=1)) != digest("orders", Plan(seed=2))


def test_parquet_holds_the_same_rows(tmp_path) -> None:
    assert write_parquet("deliveries", tmp_path / "d.parquet") == table("deliveries").num_rows
    found = pq.read_table(tmp_path / "d.parquet")  # Parquet has no whole seconds: they come back as milliseconds
    assert found.cast(TABLES["deliveries"].arrow).equals(table("deliveries"))


def test_unknown_table_and_bad_plan() -> None:
    with pytest.raises(ValueError, match="no table 'lorries'"):
        table("lorries")
    with pytest.raises(ValueError, match="must be positive"):
        Plan(scale=0)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**31), scale=st.floats(0.0002, 0.01), days=st.integers(1, 9))
def test_keys_are_consistent(seed: int, scale: float, days: int) -> None:
    plan = Plan(seed=seed, scale=scale, days=days)
    tables = {name: table(name, plan) for name in TABLES}
    for name, t in TABLES.items():
        data = tables[name]
        assert data.schema.equals(t.arrow)
        assert data.group_by(list(t.key)).aggregate([]).num_rows == data.num_rows, f"{name}: a key twice"
        for c in t.columns:
            column = data[c.name]
            assert c.nullable or column.null_count == 0, f"{name}.{c.name} has gaps"
            if c.unique:
                assert pc.count_distinct(column).as_py() == len(column)
            if c.references:
                parent, key = c.references.split(".")
                assert pc.all(pc.is_in(column, tables[parent][key].combine_chunks())).as_py() in (True, None)
    # an order's total is the sum of its lines, and its first payment charges that
    lines = tables["order_lines"].group_by("order_id").aggregate([("line_total_eur", "sum"), ("line_no", "count")])
    both = tables["orders"].join(lines, "order_id").to_pylist()
    assert all(r["total_eur"] == r["line_total_eur_sum"] and r["items"] == r["line_no_count"] for r in both)
    charged = tables["payments"].filter(pc.equal(tables["payments"]["kind"], "charge"))
    assert pc.sum(charged["amount_eur"]) == pc.sum(tables["orders"]["total_eur"])
    assert sum(plan.orders_by_day) == tables["orders"].num_rows
    # time goes forward
    assert pc.all(pc.less_equal(tables["orders"]["ordered_at"][:-1], tables["orders"]["ordered_at"][1:])).as_py()
    trip = tables["deliveries"].join(tables["orders"].select(["order_id", "ordered_at"]), "order_id")
    assert pc.all(pc.less(trip["ordered_at"], trip["delivered_at"])).as_py()
    route = tables["deliveries"].join(tables["van_routes"].drop_columns(["store_id"]), "route_id")
    assert pc.all(pc.less_equal(route["departed_at"], route["delivered_at"])).as_py()
    assert pc.all(pc.greater_equal(route["returned_at"], route["delivered_at"])).as_py()


def test_demand_follows_the_holiday() -> None:
    assert holiday(date(2026, 5, 8)) == "Victory Day"
    monday, *_, thursday, friday, saturday, _ = SEED_PLAN.orders_by_day
    assert friday < monday < thursday > saturday


def test_a_day_has_the_same_orders_in_a_longer_plan() -> None:
    short, long = SEED_PLAN, Plan(days=16)
    assert long.orders_by_day[:7] == short.orders_by_day
    assert sum(long.orders_by_day[7:14]) == sum(short.orders_by_day)
    for name in ("orders", "payments", "deliveries", "reviews", "van_routes", "temperatures"):
        assert table(name, long)[: table(name, short).num_rows].equals(table(name, short)), name


def test_only_one_van_loses_its_cold_chain() -> None:
    warm = [r for r in table("temperatures").to_pylist() if r["celsius"] > tours.LIMIT]
    assert {r["van_id"] for r in warm} == {"VAN-03", "VAN-09"}
    assert sum(r["van_id"] == "VAN-09" for r in warm) == 3
    refused = table("deliveries").filter(pc.equal(table("deliveries")["status"], "refused"))
    assert {r["van_id"] for r in warm if r["route_id"] == refused["route_id"][0].as_py()} == {"VAN-03"}


def test_a_great_company_comes_in_chunks_of_bounded_size() -> None:
    plan = Plan(scale=0.8, days=1)
    sizes = [len(c) for c in chunks("order_lines", plan, threads=2)]
    assert len(sizes) > 1
    assert max(sizes) < 12 * CHUNK
    assert all(len(c) <= tours.VANS_IN_CHUNK * tours.MINUTES for c in chunks("temperatures", plan))


def test_parents_are_loaded_first() -> None:
    order = load_order()
    assert sorted(order) == sorted(TABLES)
    assert all(order.index(p) < order.index(n) for n in order for p in TABLES[n].parents)


def test_sql_from_the_schema() -> None:
    text = ddl.create("public", TABLES["stock"], checks=True)
    assert "quantity integer not null check (quantity >= 0)" in text
    assert any("foreign key (store_id)" in command for command in ddl.keys("public", TABLES["stock"], True))
    assert len(ddl.keys("primeur", TABLES["orders"], False)) == 1
    assert any("Primeur''s" in c or "store''s" in c or "customer''s" in c for c in ddl.comments("x", TABLES["orders"]))
    assert ddl.shape(["orders"]) != ddl.shape(["stock"])


def test_the_dictionary_is_current() -> None:
    assert dictionary.PATH.read_text("utf-8") == dictionary.render(), "python -m flow360.primeur.dictionary"


def test_types_have_a_name_in_sql() -> None:
    assert {c.sql_type for t in TABLES.values() for c in t.columns} >= {"numeric(10,2)", "timestamptz", "date"}
    assert all(isinstance(t.arrow, pa.Schema) for t in TABLES.values())
