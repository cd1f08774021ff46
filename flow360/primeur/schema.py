"""The one home of Primeur's tables: columns, types, units, keys, and what a row is.

The generator casts to these Arrow types, the loader writes its SQL from them, and `data/README.md` is printed
from them, so that the three cannot tell different stories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

MONEY = pa.decimal128(10, 2)
UTC = pa.timestamp("s", "UTC")

_SQL = {
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.string(): "text",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.float64(): "double precision",
    UTC: "timestamptz",
    MONEY: "numeric(10,2)",
}
_MYSQL = {
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.string(): "varchar(200)",
    pa.date32(): "date",
    pa.float64(): "double",
    UTC: "timestamp",
    MONEY: "decimal(10,2)",
}


ORDER_STATUSES = ("placed", "packed", "shipped", "delivered", "refused", "refunded", "cancelled")


@dataclass(frozen=True)
class Column:
    """One column: `unit` is "" where a value has none; `references` is "table.column"; `check` is a SQL condition."""

    name: str
    type: pa.DataType
    text: str
    unit: str = ""
    nullable: bool = False
    references: str = ""
    check: str = ""
    unique: bool = False

    @property
    def sql_type(self) -> str:
        """The column's type in PostgreSQL."""
        return _SQL[self.type]

    @property
    def mysql_type(self) -> str:
        """The column's type in MySQL, for the fleet's tables."""
        return _MYSQL[self.type]


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        grain: what one row is.
        key: the primary key's columns.
        moment: the column whose day in Paris a row belongs to; "" for a table of what is, not of what happened.
    """

    name: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    moment: str = ""

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema, with the nullability of each column."""
        return pa.schema([pa.field(c.name, c.type, c.nullable) for c in self.columns])

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.columns]

    def build(self, columns: Sequence) -> pa.Table:
        """Build a table of this schema from its columns in order: Arrow arrays as they are, anything else converted."""
        return pa.Table.from_arrays(
            [c if isinstance(c, pa.Array) else pa.array(c, f.type) for c, f in zip(columns, self.arrow, strict=True)],
            schema=self.arrow,
        )

    @property
    def parents(self) -> set[str]:
        """The tables that this one refers to."""
        return {c.references.split(".")[0] for c in self.columns if c.references}


C = Column
_TABLES = (
    Table(
        "customers",
        "one person who has an account",
        ("customer_id",),
        (
            C("customer_id", pa.int64(), "number of the account"),
            C("first_name", pa.string(), "given name"),
            C("last_name", pa.string(), "family name"),
            C("email", pa.string(), "address of the account", unique=True),
            C("phone", pa.string(), "mobile phone, with the country's prefix"),
            C("street", pa.string(), "house number and street"),
            C("postcode", pa.string(), "five digits; text, because Nice begins with a zero"),
            C("city", pa.string(), "city of the address, and of the store that serves it"),
            C("birth_date", pa.date32(), "date of birth"),
            C("registered_on", pa.date32(), "day of the registration; before every order of the customer"),
            C("loyalty", pa.string(), "none, basil, mint or saffron", check="in ('none','basil','mint','saffron')"),
            C("newsletter", pa.bool_(), "true when the customer wants the newsletter"),
        ),
    ),
    Table(
        "stores",
        "one store: a warehouse in a city, from which the vans leave",
        ("store_id",),
        (
            C("store_id", pa.int32(), "number of the store"),
            C("name", pa.string(), "name of the store"),
            C("city", pa.string(), "city (a real one)"),
            C("region", pa.string(), "code of the region (ISO 3166-2 without the country)"),
            C("latitude", pa.float64(), "position of the city, WGS 84", "degree"),
            C("longitude", pa.float64(), "position of the city, WGS 84", "degree"),
            C("opened_on", pa.date32(), "first day of business"),
        ),
    ),
    Table(
        "products",
        "one article that can be ordered",
        ("product_id",),
        (
            C("product_id", pa.int32(), "number of the article"),
            C("name", pa.string(), "name on the label, in French"),
            C("category", pa.string(), "shelf: fruit, vegetables, dairy, fish, meat, bakery, grocery, frozen"),
            C("storage", pa.string(), "ambient, chilled or frozen", check="in ('ambient','chilled','frozen')"),
            C("unit", pa.string(), "what one quantity is: piece, kg, l, pack"),
            C("price_eur", MONEY, "price to the customer, VAT included", "EUR", check="> 0"),
            C("vat_percent", pa.float64(), "VAT rate", "%", check=">= 0"),
            C("weight_g", pa.int32(), "weight of one unit", "g", check="> 0"),
        ),
    ),
    Table(
        "orders",
        "one order of one customer",
        ("order_id",),
        (
            C("order_id", pa.int64(), "number of the order, in order of time"),
            C("customer_id", pa.int64(), "who ordered", references="customers.customer_id"),
            C("store_id", pa.int32(), "store of the customer's city", references="stores.store_id"),
            C("ordered_at", UTC, "when the order was placed", "UTC"),
            C("channel", pa.string(), "web, app or phone", check="in ('web','app','phone')"),
            C(
                "status",
                pa.string(),
                "in the end delivered, cancelled (never left the store) or refunded (refused at the door); on the way "
                "there placed, packed, shipped (the van has left) and refused",
                check=f"in ({','.join(repr(status) for status in ORDER_STATUSES)})",
            ),
            C("items", pa.int32(), "number of order lines", check="> 0"),
            C("total_eur", MONEY, "sum of the lines, VAT included", "EUR", check=">= 0"),
            C("delivery_note", pa.string(), "what the customer asks of the driver, in French", nullable=True),
        ),
        moment="ordered_at",
    ),
    Table(
        "order_lines",
        "one article within one order",
        ("order_id", "line_no"),
        (
            C("order_id", pa.int64(), "the order", references="orders.order_id"),
            C("line_no", pa.int32(), "position in the order, from 1", check="> 0"),
            C("product_id", pa.int32(), "the article", references="products.product_id"),
            C("quantity", pa.int32(), "how many units", "unit of the product", check="> 0"),
            C("unit_price_eur", MONEY, "price of one unit on that day", "EUR", check=">= 0"),
            C("discount_eur", MONEY, "discount on the line", "EUR", check=">= 0"),
            C("line_total_eur", MONEY, "quantity * unit_price_eur - discount_eur", "EUR", check=">= 0"),
        ),
    ),
    Table(
        "payments",
        "one movement of money for one order: a charge, or its refund",
        ("payment_id",),
        (
            C("payment_id", pa.int64(), "order_id * 10 + 1 for a charge, + 2 for a refund"),
            C("order_id", pa.int64(), "the order", references="orders.order_id"),
            C("kind", pa.string(), "charge or refund", check="in ('charge','refund')"),
            C("method", pa.string(), "card, wallet, transfer or voucher"),
            C("amount_eur", MONEY, "amount, positive for both kinds", "EUR", check=">= 0"),
            C("paid_at", UTC, "when the money moved", "UTC"),
        ),
        moment="paid_at",
    ),
    Table(
        "van_routes",
        "one tour of one van: a morning or an evening",
        ("route_id",),
        (
            C("route_id", pa.int64(), "number of the tour"),
            C("van_id", pa.string(), "the van, VAN-01 and up"),
            C("store_id", pa.int32(), "store where the tour begins and ends", references="stores.store_id"),
            C("day", pa.date32(), "day of the tour"),
            C("half", pa.string(), "am (10:30 to 14:30 in Paris) or pm (16:30 to 20:30)", check="in ('am','pm')"),
            C("departed_at", UTC, "start of the tour", "UTC"),
            C("returned_at", UTC, "end of the tour", "UTC"),
            C("distance_km", pa.float64(), "length of the tour", "km", check="> 0"),
        ),
    ),
    Table(
        "deliveries",
        "one order brought (or refused) at one door; a cancelled order has none",
        ("delivery_id",),
        (
            C("delivery_id", pa.int64(), "order_id * 10 + 4"),
            C("order_id", pa.int64(), "the order", references="orders.order_id", unique=True),
            C("route_id", pa.int64(), "the tour that carried it", references="van_routes.route_id"),
            C("promised_from", UTC, "start of the promised hour", "UTC"),
            C("promised_to", UTC, "end of the promised hour; later than this is late", "UTC"),
            C("delivered_at", UTC, "when the door was reached", "UTC"),
            C("status", pa.string(), "delivered or refused", check="in ('delivered','refused')"),
            C("celsius_at_door", pa.float64(), "temperature of the goods when handed over", "°C"),
        ),
        moment="delivered_at",
    ),
    Table(
        "temperatures",
        "one reading of one van's thermometer: one a minute during a tour",
        ("reading_id",),
        (
            C("reading_id", pa.int64(), "number of the reading"),
            C("van_id", pa.string(), "the van"),
            C("route_id", pa.int64(), "the tour", references="van_routes.route_id"),
            C("sequence", pa.int32(), "position within the van's day, from 1", check="> 0"),
            C("measured_at", UTC, "when it was read", "UTC"),
            C("celsius", pa.float64(), "temperature of the cold room", "°C"),
        ),
        moment="measured_at",
    ),
    Table(
        "reviews",
        "one customer's opinion of one order",
        ("review_id",),
        (
            C("review_id", pa.int64(), "order_id * 10 + 3"),
            C("order_id", pa.int64(), "the order", references="orders.order_id", unique=True),
            C("customer_id", pa.int64(), "who wrote it", references="customers.customer_id"),
            C("product_id", pa.int32(), "the article that the review names first", references="products.product_id"),
            C("rating", pa.int32(), "1 (bad) to 5 (good)", "star", check="between 1 and 5"),
            C("body", pa.string(), "the text, in French"),
            C("written_at", UTC, "when it was written", "UTC"),
        ),
        moment="written_at",
    ),
    Table(
        "price_lists",
        "one supplier's price of one article, from one day on",
        ("product_id", "valid_from"),
        (
            C("product_id", pa.int32(), "the article", references="products.product_id"),
            C("valid_from", pa.date32(), "first day of the price; it holds until the next one"),
            C("supplier", pa.string(), "name of the supplier"),
            C("pack_size", pa.int32(), "units in one pack", check="> 0"),
            C("purchase_price_eur", MONEY, "price of one unit to Primeur, without VAT", "EUR", check="> 0"),
        ),
    ),
    Table(
        "weather",
        "one hour of weather at one store",
        ("store_id", "observed_at"),
        (
            C("store_id", pa.int32(), "the store", references="stores.store_id"),
            C("observed_at", UTC, "start of the hour", "UTC"),
            C("celsius", pa.float64(), "air temperature", "°C"),
            C("rain_mm", pa.float64(), "rain in the hour", "mm", check=">= 0"),
            C("wind_kmh", pa.float64(), "mean wind", "km/h", check=">= 0"),
        ),
        moment="observed_at",
    ),
    Table(
        "stock",
        "what one store holds of one article (only in postgres-source)",
        ("store_id", "product_id"),
        (
            C("store_id", pa.int32(), "the store", references="stores.store_id"),
            C("product_id", pa.int32(), "the article", references="products.product_id"),
            C("quantity", pa.int32(), "units on the shelf, never negative", "unit of the product", check=">= 0"),
        ),
    ),
)
TABLES: dict[str, Table] = {t.name: t for t in _TABLES}
"""The shop's tables by name. `load_order` puts parents before children."""

_FLEET = (
    Table(
        "vans",
        "one van",
        ("van_id",),
        (
            C("van_id", pa.string(), "the van, VAN-01 and up, as the shop and the thermometers call it"),
            C("store_id", pa.int32(), "the shop's store where it is at home"),
            C("plate", pa.string(), "registration", unique=True),
            C("model", pa.string(), "maker and model"),
            C("fuel", pa.string(), "electric or diesel", check="in ('electric','diesel')"),
            C("payload_kg", pa.int32(), "what it may carry", "kg", check="> 0"),
            C("bought_on", pa.date32(), "day of the purchase"),
            C("odometer_km", pa.float64(), "what the odometer showed at the last return", "km", check=">= 0"),
        ),
    ),
    Table(
        "drivers",
        "one person who drives",
        ("driver_id",),
        (
            C("driver_id", pa.int32(), "number of the driver"),
            C("first_name", pa.string(), "given name"),
            C("last_name", pa.string(), "family name"),
            C("store_id", pa.int32(), "the shop's store from which the driver leaves"),
            C("licence", pa.string(), "number of the driving licence", unique=True),
            C("hired_on", pa.date32(), "first day of work"),
        ),
    ),
    Table(
        "tours",
        "one tour of one van, as the fleet keeps it",
        ("route_id",),
        (
            C("route_id", pa.int64(), "number of the tour: that of the shop's van_routes"),
            C("van_id", pa.string(), "the van", references="vans.van_id"),
            C("driver_id", pa.int32(), "who drove", references="drivers.driver_id"),
            C("day", pa.date32(), "day of the tour"),
            C("half", pa.string(), "am or pm", check="in ('am','pm')"),
            C("departed_at", UTC, "start of the tour", "UTC"),
            C("returned_at", UTC, "end of the tour", "UTC"),
            C("odometer_from_km", pa.float64(), "odometer at the start", "km", check=">= 0"),
            C("odometer_to_km", pa.float64(), "odometer at the end; the difference is the shop's distance_km", "km"),
            C("energy", pa.float64(), "energy that the tour took", "kWh if electric, l if diesel", check="> 0"),
        ),
        moment="departed_at",
    ),
    Table(
        "maintenance",
        "one thing that was done, or is to be done, to one van",
        ("maintenance_id",),
        (
            C("maintenance_id", pa.int64(), "number of the job"),
            C("van_id", pa.string(), "the van", references="vans.van_id"),
            C(
                "kind",
                pa.string(),
                "service, tyres, brakes or cooling",
                check="in ('service','tyres','brakes','cooling')",
            ),
            C("reported_at", UTC, "when it was asked for", "UTC"),
            C("done_at", UTC, "when the van was back; missing while it is to be done", "UTC", nullable=True),
            C("cost_eur", MONEY, "cost without VAT", "EUR", nullable=True, check=">= 0"),
            C("note", pa.string(), "what the workshop wrote, in French", nullable=True),
        ),
        moment="reported_at",
    ),
)
FLEET: dict[str, Table] = {t.name: t for t in _FLEET}
"""The fleet's tables, which MySQL has, parents before children."""

WAREHOUSE = tuple(t.name for t in _TABLES if t.name != "stock")
"""The twelve tables that the warehouse has of the shop: in schema `lake`, and in the copy `primeur`."""


def load_order(names: tuple[str, ...] | None = None) -> list[str]:
    """Order table names so that each stands behind the tables that it refers to."""
    left, done = list(names or TABLES), []
    while left:
        ready = [n for n in left if not (TABLES[n].parents & set(left) - {n})]
        done += ready
        left = [n for n in left if n not in ready]
    return done
