"""Answers of 10_change_data_capture."""

from __future__ import annotations

import json
import math
from collections import defaultdict

import psycopg
from psycopg import sql

from flow360.ingestion import connect
from flow360.ingestion.capture import Change
from tests.answers import last_hint, near_miss, right

# --- own_capture ------------------------------------------------------------------------------------------------------

MINE = {
    "table.include.list": "lab10.refunds,lab10.reasons",
    "column.exclude.list": "lab10.refunds.iban",
    "poll.interval.ms": "20",
}


def configured(**more):
    """The solved configuration, with settings exchanged (None: left out); underscores stand for points."""
    names = dict.fromkeys(["slot.name", "publication.name"], "lab10") | {"topic.prefix": "cdc.lab10"}
    made = connect.connectors()["primeur-shop"] | names | MINE
    made |= {key.replace("_", "."): value for key, value in more.items()}
    return {key: value for key, value in made.items() if value is not None}


@right("own_capture", solved=True)
def a_copy_of_the_shops():
    return configured()


@right("own_capture")
def by_the_last_hint():
    return eval(last_hint("10", "own_capture")[0], {"connect": connect, "mine": MINE})


@right("own_capture")
def what_is_not_wanted_left_out():
    """Tables and columns by what is wanted, a number as a number, and the IBAN by a pattern."""
    return configured(
        table_include_list="lab10\\.(refunds|reasons)",
        column_exclude_list="lab10\\.refunds\\.ib.*",
        poll_interval_ms=50,
    )


@right("own_capture")
def what_is_wanted_by_name():
    columns = "lab10\\.refunds\\.(refund_id|amount_eur|reason|refunded_at),lab10\\.reasons\\..*"
    return configured(column_exclude_list=None, column_include_list=columns)


@near_miss("own_capture", says="a password stands in it")
def the_password_itself():
    from flow360.settings import settings

    return configured(database_password=settings().shop_capture_password)


@near_miss("own_capture", says="every 500 ms")
def as_often_as_it_comes():
    return configured(poll_interval_ms=None)


@near_miss("own_capture", says="every 51 ms")
def a_little_too_slow():
    return configured(poll_interval_ms="51")


@near_miss("own_capture", says="slot.name: expected 'lab10'")
def the_shops_own_slot():
    return configured(slot_name="primeur_shop")


@near_miss("own_capture", says="topic.prefix")
def the_shops_own_topics():
    return configured(topic_prefix="cdc.shop")


@near_miss("own_capture", says="autocreate.mode")
def a_publication_of_its_own():
    return configured(publication_autocreate_mode="filtered")


@near_miss("own_capture", says="the worker refuses it")
def a_secret_that_is_not_meant_for_it():
    return configured(database_password="${env:KAFKA_CONNECT_PASSWORD}")


@near_miss("own_capture", says="the IBAN stands in a message")
def the_column_without_its_table():
    return configured(column_exclude_list="iban")


@near_miss("own_capture", says="topic that was not asked for")
def whatever_begins_like_it():
    return configured(table_include_list="lab10\\.r.*")


@near_miss("own_capture", says="refunds that were there before it began")
def from_now_on():
    return configured(snapshot_mode="no_data")


@near_miss("own_capture", says="the column iban")
def masked_and_still_there():
    return configured(column_exclude_list=None, **{"column.mask.with.7.chars": "lab10.refunds.iban"})


@near_miss("own_capture", says="reason")
def all_texts_left_out():
    return configured(column_exclude_list="lab10.refunds.(iban|reason)")


@near_miss("own_capture", says="reasons")
def the_other_tables_text_left_out():
    return configured(column_exclude_list="lab10.refunds.iban,lab10.reasons.text")


@near_miss("own_capture", says="envelope")
def without_what_was_before():
    less = {"transforms.less.type": "org.apache.kafka.connect.transforms.ReplaceField$Value"}
    return configured(transforms="less", **less, **{"transforms.less.exclude": "before,transaction"})


# --- carry_changes ----------------------------------------------------------------------------------------------------

UNCHANGED = "__debezium_unavailable_value"
INSERT = """insert into lab10.refunds as mine values (%(refund_id)s, %(amount)s, %(letter)s, %(lsn)s, %(gone)s)
            on conflict (refund_id) do update set amount_eur = excluded.amount_eur, lsn = excluded.lsn,
              gone = excluded.gone, letter = {letter}"""
LETTER, NEWER = "case when %(kept)s then mine.letter else excluded.letter end", " where mine.lsn < excluded.lsn"


def values_of(one):
    after = one.after or {"amount_eur": None, "letter": None}
    kept = after["letter"] == UNCHANGED
    letter = None if kept else after["letter"]
    return {**one.key, "amount": after["amount_eur"], "letter": letter, "kept": kept, "lsn": one.lsn}


def carrying(statement=None, *, values=values_of, which=lambda changes: changes, end=lambda db: db.commit()):
    """`carry` of one statement, with a part of it exchanged."""
    statement = statement or INSERT.format(letter=LETTER) + NEWER

    def carry(db, changes):
        for one in which(changes):
            if one.value is not None:
                db.execute(statement, {**values(one), "gone": one.after is None})
        end(db)

    return carry


@right("carry_changes", solved=True)
def one_statement():
    return carrying()


@right("carry_changes")
def carried_with_the_pieces_of_the_last_hint():
    letter, newer = last_hint("10", "carry_changes")
    return carrying(f"{INSERT.format(letter=letter)} {newer}")


@right("carry_changes")
def worked_out_in_memory():
    """The rows that are there, the changes in the order of their LSN, and one write for each refund."""

    def carry(db, changes):
        changes = sorted((one for one in changes if one.value), key=lambda one: one.lsn)
        keys = [one.key["refund_id"] for one in changes]
        there = db.execute("select * from lab10.refunds where refund_id = any(%s) for update", [keys]).fetchall()
        rows = {key: (amount, letter, lsn, gone) for key, amount, letter, lsn, gone in there}
        for one in changes:
            _, letter, lsn, _ = rows.get(one.key["refund_id"], (None, None, 0, True))
            if one.lsn <= lsn:
                continue
            after = one.after or {"amount_eur": None, "letter": UNCHANGED}
            letter = letter if after["letter"] == UNCHANGED else after["letter"]
            rows[one.key["refund_id"]] = (after["amount_eur"], letter, one.lsn, one.after is None)
        with db.cursor() as cursor:
            cursor.execute("delete from lab10.refunds where refund_id = any(%s)", [list(rows)])
            cursor.executemany(
                "insert into lab10.refunds values (%s, %s, %s, %s, %s)", [(key, *row) for key, row in rows.items()]
            )
        db.commit()

    return carry


@right("carry_changes")
def by_a_table_aside_and_merge():
    def carry(db, changes):
        with db.transaction():
            db.execute(
                "create temporary table brought (refund_id bigint, amount numeric(10, 2), letter text, kept boolean,"
                " lsn bigint, gone boolean) on commit drop"
            )
            for one in changes:
                if one.value:
                    db.execute(
                        "insert into brought values"
                        " (%(refund_id)s, %(amount)s, %(letter)s, %(kept)s, %(lsn)s, %(gone)s)",
                        {**values_of(one), "gone": one.after is None},
                    )
            # One change of each refund at a time, the oldest first: a letter may be kept through several of them.
            for (lsn,) in db.execute("select distinct lsn from brought order by lsn").fetchall():
                db.execute(
                    """merge into lab10.refunds as mine
                       using (select distinct * from brought where lsn = %s) as new on mine.refund_id = new.refund_id
                       when matched and mine.lsn < new.lsn then update set amount_eur = new.amount, lsn = new.lsn,
                         gone = new.gone, letter = case when new.kept then mine.letter else new.letter end
                       when not matched then insert
                         values (new.refund_id, new.amount, new.letter, new.lsn, new.gone)""",
                    [lsn],
                )

    return carry


@near_miss("carry_changes", says="which change is the newer one?")
def the_last_to_come_wins():
    return carrying(INSERT.format(letter=LETTER))


@near_miss("carry_changes", says="missing")
def deletes_leave_nothing():
    upsert = carrying(end=lambda db: None)

    def carry(db, changes):
        for one in changes:
            if one.op == "d":
                db.execute(
                    "delete from lab10.refunds where refund_id = %s and lsn < %s", [one.key["refund_id"], one.lsn]
                )
            else:
                upsert(db, [one])
        db.commit()

    return carry


def folded(by):
    """What a batch says of each refund in the end, in an order that is not the log's; the log's counts in the table."""

    def which(changes):
        last = {}
        for one in sorted((one for one in changes if one.value), key=by):
            key, known = one.key["refund_id"], last.get(one.key["refund_id"])
            if known and one.after and one.after["letter"] == UNCHANGED and known.after:
                after = {**one.after, "letter": known.after["letter"]}
                one = Change(one.key, {**one.value, "after": after}, one.record)
            last[key] = one
        return last.values()

    return which


@near_miss("carry_changes", says="a batch in which older changes stand behind newer ones")
def the_last_of_a_batch():
    return carrying(which=folded(lambda one: 0))


@near_miss("carry_changes", says="a batch in which older changes stand behind newer ones")
def the_newest_by_the_offset():
    return carrying(which=folded(lambda one: one.record.offset))


@near_miss("carry_changes", says="with another value")
def the_newest_by_the_clock():
    return carrying(which=folded(lambda one: one.value["source"]["ts_ms"]))


@near_miss("carry_changes", says="and the table changed")
def committed_each_hundred():
    def carry(db, changes):
        for begin in range(0, max(len(changes), 1), 100):
            carrying()(db, changes[begin : begin + 100])

    return carry


@near_miss("carry_changes", says="letter")
def the_placeholder_taken_for_a_letter():
    return carrying(INSERT.format(letter="excluded.letter") + NEWER, values=lambda one: {
        **values_of(one), "letter": one.after and one.after["letter"]
    })  # fmt: skip


@near_miss("carry_changes", says="letter")
def the_letter_forgotten_with_the_placeholder():
    return carrying(INSERT.format(letter="excluded.letter") + NEWER)


@near_miss("carry_changes", says="letter")
def a_null_keeps_the_letter_too():
    return carrying(INSERT.format(letter="coalesce(excluded.letter, mine.letter)") + NEWER)


@near_miss("carry_changes", says="letter")
def the_placeholder_in_a_new_row():
    return carrying(values=lambda one: {**values_of(one), "letter": one.after and one.after["letter"]})


@near_miss("carry_changes", says="and the table changed")
def each_change_by_itself():
    one_by_one = carrying()

    def carry(db, changes):
        for one in changes:
            one_by_one(db, [one])

    return carry


@near_miss("carry_changes", says="as if all were well")
def what_is_refused_is_left_out():
    bring = carrying()

    def carry(db, changes):
        try:
            bring(db, changes)
        except psycopg.Error:
            db.rollback()

    return carry


@near_miss("carry_changes", says="missing")
def never_committed():
    return carrying(end=lambda db: None)


@near_miss("carry_changes", says="carry")
def only_the_last_message_of_each():
    def newest(changes):
        return list({one.key["refund_id"]: one for one in changes if one.value}.values())

    return carrying(which=newest)


@near_miss("carry_changes", says="refund")
def once_gone_always_gone():
    return carrying(INSERT.format(letter=LETTER) + NEWER + " and not mine.gone")


# --- new_columns ------------------------------------------------------------------------------------------------------

ZONED = "io.debezium.time.ZonedTimestamp"
KINDS = {
    ("int32", None): "integer",
    ("int64", None): "bigint",
    ("boolean", None): "boolean",
    ("double", None): "double precision",
    ("string", None): "text",
    ("string", ZONED): "timestamptz",
}


def kind_of(one):
    return KINDS[one["type"], one.get("name")]


def landing(*, kind=kind_of, columns=None, conflict=None, quoted=sql.Identifier, end=lambda db: None):
    """`land` with a part of it exchanged."""

    def land(db, table, message):
        said, where = json.loads(message), sql.Identifier(*table.split("."))
        fields = next(one["fields"] for one in said["schema"]["fields"] if one["field"] == "after")
        row = said["payload"]["after"]
        for one in fields:
            add = sql.SQL("alter table {} add column if not exists {} {}")
            db.execute(add.format(where, quoted(one["field"]), sql.SQL(kind(one))))
        names = columns(db, table, row) if columns else list(row)
        sets = conflict or (lambda name: sql.SQL("{0} = excluded.{0}").format(quoted(name)))
        db.execute(
            sql.SQL("insert into {} as mine ({}) values ({}) on conflict (id) do update set {}").format(
                where,
                sql.SQL(", ").join(map(quoted, names)),
                sql.SQL(", ").join([sql.Placeholder()] * len(names)),
                sql.SQL(", ").join(map(sets, names)),
            ),
            [row.get(name) for name in names],
        )
        end(db)

    return land


@right("new_columns", solved=True)
def a_dict_of_kinds():
    return landing()


@right("new_columns")
def landed_with_the_pieces_of_the_last_hint():
    kind, each = last_hint("10", "new_columns")
    return landing(
        kind=lambda one: eval(kind, {"KINDS": KINDS, "one": one}),
        conflict=lambda name: eval(each, {"sql": sql, "name": sql.Identifier(name)}),
    )


@right("new_columns")
def looked_up_and_updated_first():
    """What the table has is asked of the catalogue; an update, and an insert where there was nothing to update."""

    def land(db, table, message):
        schema, name = table.split(".")
        said = json.loads(message)
        after = [one for one in said["schema"]["fields"] if one["field"] == "after"][0]
        row, where = said["payload"]["after"], sql.Identifier(schema, name)
        query = "select column_name from information_schema.columns where table_schema = %s and table_name = %s"
        there = {column for (column,) in db.execute(query, [schema, name])}
        new = [one for one in after["fields"] if one["field"] not in there]
        for one, kind in [(one, kind_of(one)) for one in new]:
            add = sql.SQL("alter table {} add {} {}").format(where, sql.Identifier(one["field"]), sql.SQL(kind))
            db.execute(add)
        sets = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(column)) for column in row)
        update = sql.SQL("update {} set {} where id = %s").format(where, sets)
        if not db.execute(update, [*row.values(), row["id"]]).rowcount:
            columns, holes = map(sql.SQL(", ").join, (map(sql.Identifier, row), [sql.SQL("%s")] * len(row)))
            db.execute(sql.SQL("insert into {} ({}) values ({})").format(where, columns, holes), [*row.values()])

    return land


@near_miss("new_columns", says="was taken without an error")
def what_is_unknown_is_text():
    return landing(kind=lambda one: KINDS.get((one["type"], one.get("name")), "text"))


@near_miss("new_columns", says="a number that means a day")
def by_the_type_alone():
    return landing(kind=lambda one: "timestamptz" if one.get("name") == ZONED else KINDS[one["type"], None])


@near_miss("new_columns", says="was taken without an error")
def a_text_is_a_text():
    return landing(kind=lambda one: "text" if one["type"] == "string" and one.get("name") != ZONED else kind_of(one))


@near_miss("new_columns", says="was taken without an error")
def any_whole_number():
    small = {"int8": "integer", "int16": "integer"}
    return landing(kind=lambda one: small.get(one["type"]) or kind_of(one))


@near_miss("new_columns", says="was taken without an error")
def a_moment_by_its_name_alone():
    return landing(kind=lambda one: "timestamptz" if one.get("name") == ZONED else kind_of(one))


@near_miss("new_columns", says="missing")
def only_what_was_done_since():
    land = landing()
    return lambda db, table, message: json.loads(message)["payload"]["op"] in "cu" and land(db, table, message)


@near_miss("new_columns", says="does not exist")
def the_columns_remembered():
    """Whoever rolls back takes the column away, and the memory of it stays."""
    known, whole = set(), landing()

    def land(db, table, message):
        said = json.loads(message)
        fields = next(one["fields"] for one in said["schema"]["fields"] if one["field"] == "after")
        names = {one["field"] for one in fields}
        if not names <= known:
            whole(db, table, message)
            known.update(names)
            return
        row = said["payload"]["after"]
        columns = [sql.Identifier(name) for name in row]
        db.execute(
            sql.SQL("insert into {} ({}) values ({}) on conflict (id) do update set {}").format(
                sql.Identifier(*table.split(".")),
                sql.SQL(", ").join(columns),
                sql.SQL(", ").join([sql.Placeholder()] * len(row)),
                sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(name) for name in columns),
            ),
            list(row.values()),
        )

    return land


@near_miss("new_columns", says="is text, expected timestamp with time zone")
def moments_as_text():
    return landing(kind=lambda one: KINDS[one["type"], None])


@near_miss("new_columns", says="expected integer")
def all_whole_numbers_alike():
    return landing(kind=lambda one: kind_of(one).replace("integer", "bigint"))


@near_miss("new_columns", says="double precision")
def money_for_a_double():
    return landing(kind=lambda one: kind_of(one).replace("double precision", "numeric(10, 2)"))


@near_miss("new_columns", says="stays as it is")
def all_columns_of_the_table_are_written():
    def columns(db, table, row):
        query = "select column_name from information_schema.columns where table_schema || '.' || table_name = %s"
        return [column for (column,) in db.execute(query, [table])]

    return landing(columns=columns)


@near_miss("new_columns", says="whose transaction is it?")
def committed_at_once():
    return landing(end=lambda db: db.commit())


@near_miss("new_columns", says="whose transaction is it?")
def what_was_before_committed():
    land = landing()

    def first(db, table, message):
        db.commit()
        land(db, table, message)

    return first


@near_miss("new_columns", says="PostgreSQL refuses it")
def names_as_they_come():
    return landing(quoted=sql.SQL)


@near_miss("new_columns", says="a text for a column of whole numbers")
def the_column_becomes_what_comes():
    def land(db, table, message):
        said = json.loads(message)
        fields = next(one["fields"] for one in said["schema"]["fields"] if one["field"] == "after")
        for one in fields:
            if one["field"] == "id":
                continue
            name, kind = sql.Identifier(one["field"]), sql.SQL(kind_of(one))
            where = sql.Identifier(*table.split("."))
            db.execute(sql.SQL("alter table {} add column if not exists {} {}").format(where, name, kind))
            change = sql.SQL("alter table {0} alter column {1} type {2} using {1}::{2}").format(where, name, kind)
            db.execute(change)
        landing()(db, table, message)

    return land


@near_miss("new_columns", says="with another value")
def a_row_that_is_there_stays():
    return landing(conflict=lambda name: sql.SQL("{0} = mine.{0}").format(sql.Identifier(name)))


@near_miss("new_columns", says="with another value")
def null_is_no_value():
    return landing(conflict=lambda name: sql.SQL("{0} = coalesce(excluded.{0}, mine.{0})").format(sql.Identifier(name)))


# --- after_snapshot ---------------------------------------------------------------------------------------------------

GONE = """update lab10.refunds set gone = true, lsn = %(place)s
          where not gone and lsn < %(place)s and refund_id <> all(%(there)s)"""
LAST = ("last", "last_in_data_collection")


def complete(read):
    return any(one.value["source"]["snapshot"] in LAST for one in read)


def settling(*, gone=GONE, whole=complete, there=None, first=True):
    """`settle` with a part of it exchanged."""

    def settle(db, changes):
        carry = carrying(end=lambda db: None)
        if first:
            carry(db, changes)
        read = [one for one in changes if one.op == "r"]
        if read and whole(read):
            keys = [one.key["refund_id"] for one in (there(changes) if there else read)]
            db.execute(gone, {"place": read[0].lsn, "there": keys, "last": changes[-1].lsn})
        if not first:
            carry(db, changes)
        db.commit()

    return settle


@right("after_snapshot", solved=True)
def whatever_is_older_once_all_is_carried():
    return settling(gone=GONE.replace(" and refund_id <> all(%(there)s)", ""))


@right("after_snapshot")
def carried_and_then_marked():
    return settling()


@right("after_snapshot")
def marked_and_then_carried():
    return settling(first=False)


@right("after_snapshot")
def by_the_statement_of_the_last_hint():
    def settle(db, changes):
        carrying(end=lambda db: None)(db, changes)
        read = [one for one in changes if one.op == "r"]
        if complete(read):
            db.execute(last_hint("10", "after_snapshot")[0], [read[0].lsn, read[0].lsn])
        db.commit()

    return settle


@right("after_snapshot")
def deletes_made_up():
    """The deletes that nobody has sent, as a set of keys, row by row."""

    def settle(db, changes):
        with db.transaction():
            carrying(end=lambda db: None)(db, changes)
            read = {one.key["refund_id"]: one for one in changes if one.op == "r"}
            if not complete(read.values()):
                return
            (place,) = {one.lsn for one in read.values()}
            held = db.execute("select refund_id, lsn from lab10.refunds where not gone").fetchall()
            for key in {key for key, lsn in held if lsn < place} - set(read):
                db.execute("update lab10.refunds set gone = true, lsn = %s where refund_id = %s", [place, key])

    return settle


@near_miss("after_snapshot", says="after the snapshot")
def only_carried():
    return settling(whole=lambda read: False)


@near_miss("after_snapshot", says="while the snapshot is not complete")
def at_the_first_row_already():
    return settling(whole=lambda read: True)


@near_miss("after_snapshot", says="after the snapshot")
def the_last_of_all_tables_only():
    return settling(whole=lambda read: any(one.value["source"]["snapshot"] == "last" for one in read))


@near_miss("after_snapshot", says="after the snapshot")
def whatever_it_does_not_name():
    return settling(gone=GONE.replace("and lsn < %(place)s", ""))


@near_miss("after_snapshot", says="after the snapshot")
def what_was_gone_is_gone_once_more():
    return settling(gone=GONE.replace("not gone and ", ""))


@near_miss("after_snapshot", says="missing")
def removed_for_good():
    return settling(
        gone=GONE.replace("update lab10.refunds set gone = true, lsn = %(place)s", "delete from lab10.refunds")
    )


@near_miss("after_snapshot", says="lsn")
def at_the_place_where_it_was():
    return settling(gone=GONE.replace(", lsn = %(place)s", ""))


@near_miss("after_snapshot", says="after the snapshot")
def what_the_stream_names_is_there_too():
    """Wrong only where the stream speaks of what the snapshot does not: with a place at the end of all."""
    return settling(gone=GONE.replace("%(place)s", "%(last)s"))


@near_miss("after_snapshot", says="while the snapshot is not complete")
def complete_once_the_stream_has_begun():
    def settle(db, changes):
        streamed = any(one.op in ("c", "u", "d") for one in changes)
        settling(whole=lambda read: streamed)(db, changes)

    return settle


@near_miss("after_snapshot", says="after the snapshot")
def up_to_the_marker_only():
    """Partition by partition, the last row of the snapshot is not the last in the list."""

    def until_the_marker(changes):
        last = next(n for n, one in enumerate(changes) if one.value and one.value["source"]["snapshot"] in LAST)
        return [one for one in changes[: last + 1] if one.op == "r"]

    return settling(there=until_the_marker, first=False)


# --- how_late ---------------------------------------------------------------------------------------------------------


def nearest(values, p):
    return values[math.ceil(p * len(values) / 100) - 1] if values else None


def measured(
    *, ops="cud", place=lambda one: (one.value["source"]["table"], one.lsn), choose=min, rank=nearest, **parts
):
    """`lateness` with a part of it exchanged."""
    late_of = parts.get("late_of", lambda one: one.record.timestamp - one.value["source"]["ts_ms"])
    good = parts.get("good", lambda late: late >= 0)

    def lateness(changes):
        known = {}
        for one in changes:
            if one.value is not None and one.op in ops:
                late = late_of(one)
                known[place(one)] = choose(late, known.get(place(one), late))
        tables = defaultdict(list)
        for (table, *_), late in known.items():
            tables[table].append(late)
        return {
            table: {"changes": sum(map(good, every)), "early": sum(late < 0 for late in every)}
            | {f"p{p}": rank(sorted(filter(good, every)), p) for p in (50, 95, 99)}
            for table, every in tables.items()
        }

    return lateness


@right("how_late", solved=True)
def by_dicts():
    return measured()


@right("how_late")
def by_the_rank_of_the_last_hint():
    def rank(values, p):
        names = {"math": math, "values": values, "p": p, "n": len(values)}
        return eval(last_hint("10", "how_late")[0], names) if values else None

    return measured(rank=rank)


@right("how_late")
def by_a_frame():
    import pandas as pd

    def lateness(changes):
        rows = [
            (one.value["source"]["table"], one.lsn, one.record.timestamp, one.value["source"]["ts_ms"])
            for one in changes
            if one.op and one.op != "r"
        ]
        frame = pd.DataFrame(rows, columns=["table", "lsn", "came", "made"])
        frame = frame.sort_values("came").drop_duplicates(["table", "lsn"])
        frame["late"] = frame["came"] - frame["made"]
        found = {}
        for table, group in frame.groupby("table"):
            good = group.loc[group["late"] >= 0, "late"]
            line = {"changes": len(good), "early": int((group["late"] < 0).sum())}
            for p in (50, 95, 99):
                line[f"p{p}"] = nearest(sorted(good), p)
            found[table] = line
        return found

    return lateness


@near_miss("how_late", says="quiet")
def what_was_read_is_late_too():
    return measured(ops="cudr")


@near_miss("how_late", says="changes")
def doubles_counted():
    return measured(place=lambda one: (one.value["source"]["table"], one.lsn, one.record.timestamp))


@near_miss("how_late", says="changes")
def once_for_each_moment():
    return measured(place=lambda one: (one.value["source"]["table"], one.value["source"]["ts_ms"]))


@near_miss("how_late", says="early")
def early_as_often_as_it_comes():
    def lateness(changes):
        found = measured()(changes)
        for table, line in found.items():
            here = [one for one in changes if one.op in ("c", "u", "d") and one.value["source"]["table"] == table]
            line["early"] = sum(one.record.timestamp < one.value["source"]["ts_ms"] for one in here)
        return found

    return lateness


@near_miss("how_late", says="of fast: changes")
def what_came_too_early_left_out_first():
    def lateness(changes):
        def early(one):
            return one.op in ("c", "u", "d") and one.record.timestamp < one.value["source"]["ts_ms"]

        found, whole = measured()([one for one in changes if not early(one)]), measured()(changes)
        nothing = {"changes": 0} | dict.fromkeys(("p50", "p95", "p99"))
        return {table: {**line, **found.get(table, nothing), "early": line["early"]} for table, line in whole.items()}

    return lateness


@near_miss("how_late", says="of refunds: p")
def the_last_time_counts():
    return measured(choose=max)


@near_miss("how_late", says="changes")
def once_for_each_row():
    return measured(place=lambda one: (one.value["source"]["table"], json.dumps(one.key)))


@near_miss("how_late", says="of refunds: p")
def between_two_ranks():
    def between(values, p):
        at = p * (len(values) - 1) / 100
        low = math.floor(at)
        return values[low] + (values[min(low + 1, len(values) - 1)] - values[low]) * (at - low) if values else None

    return measured(rank=between)


@near_miss("how_late", says="of refunds: p")
def one_place_too_far():
    return measured(rank=lambda values, p: values[min(p * len(values) // 100, len(values) - 1)] if values else None)


@near_miss("how_late", says="changes")
def clocks_are_always_right():
    return measured(good=lambda late: True)


@near_miss("how_late", says="expected")
def until_the_connector_only():
    return measured(late_of=lambda one: one.value["ts_ms"] - one.value["source"]["ts_ms"])


@near_miss("how_late", says="expected")
def in_seconds():
    return measured(late_of=lambda one: (one.record.timestamp - one.value["source"]["ts_ms"]) / 1000)


@near_miss("how_late", says="nothing is said of the table")
def all_tables_in_one():
    return measured(place=lambda one: ("all", one.value["source"]["table"], one.lsn))


# --- forgotten_slots --------------------------------------------------------------------------------------------------

HELD = "pg_current_wal_lsn() - restart_lsn"
QUERY = f"""
    select slot_name, case when wal_status <> 'lost' then {HELD} end as held,
      case when wal_status = 'lost' then 'lost'
           when not active and inactive_since < now() - make_interval(mins => %(minutes)s) then 'forgotten'
           when {HELD} > %(bytes)s then 'behind'
           else 'fine' end as verdict
    from pg_replication_slots where slot_type = 'logical' and database = current_database()"""


@right("forgotten_slots", solved=True)
def by_one_case():
    return QUERY


@right("forgotten_slots")
def asked_with_the_pieces_of_the_last_hint():
    case, which = last_hint("10", "forgotten_slots")
    return f"""select slot_name, case when wal_status = 'lost' then null else {HELD} end as held,
                 {case} when {HELD} > %(bytes)s then 'behind' else 'fine' end as verdict
               from pg_replication_slots where {which}"""


@right("forgotten_slots")
def by_a_table_of_rules():
    return """
        with mine as (
            select *, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint as bytes
            from pg_replication_slots join pg_database on datname = database
            where slot_type <> 'physical' and datname = current_database())
        select slot_name, case wal_status when 'lost' then null else bytes end as held,
               coalesce((select rule from (values
                   (1, 'lost', wal_status = 'lost'),
                   (2, 'forgotten', active_pid is null and not active
                        and age(now(), inactive_since) > '1 minute'::interval * %(minutes)s),
                   (3, 'behind', bytes > %(bytes)s)) as rules (n, rule, fits)
                 where fits order by n limit 1), 'fine') as verdict
        from mine order by held desc nulls first;"""


@right("forgotten_slots")
def a_number_with_a_point():
    return QUERY.replace(f"then {HELD} end", f"then ({HELD})::double precision end")


@near_miss("forgotten_slots", says="held")
def as_far_as_it_was_confirmed():
    return QUERY.replace(HELD, "pg_current_wal_lsn() - confirmed_flush_lsn")


@near_miss("forgotten_slots", says="not expected")
def those_of_standbys_too():
    return QUERY.replace("slot_type = 'logical' and database = current_database()", "true")


@near_miss("forgotten_slots", says="not expected")
def of_all_databases():
    return QUERY.replace(" and database = current_database()", "")


@near_miss("forgotten_slots", says="missing")
def only_what_nobody_reads():
    return QUERY + " and not active"


@near_miss("forgotten_slots", says="held")
def the_lost_one_holds_something():
    return QUERY.replace(f"case when wal_status <> 'lost' then {HELD} end", HELD)


@near_miss("forgotten_slots", says="verdict")
def lost_is_without_a_place():
    return QUERY.replace("when wal_status = 'lost' then 'lost'", "when restart_lsn is null then 'lost'")


@near_miss("forgotten_slots", says="verdict")
def away_for_a_moment_is_forgotten():
    return QUERY.replace("inactive_since < now() - make_interval(mins => %(minutes)s)", "%(minutes)s > 0")


@near_miss("forgotten_slots", says="verdict")
def behind_comes_first():
    behind = f"when {HELD} > %(bytes)s then 'behind'"
    return QUERY.replace(behind, "").replace(
        "case when wal_status = 'lost' then 'lost'", f"case {behind} when wal_status = 'lost' then 'lost'"
    )


@near_miss("forgotten_slots", says="verdict")
def as_much_as_is_allowed_is_behind():
    return QUERY.replace("> %(bytes)s", ">= %(bytes)s")


@near_miss("forgotten_slots", says="verdict")
def seconds_for_minutes():
    return QUERY.replace("mins =>", "secs =>")


@near_miss("forgotten_slots", says="expected a number of bytes")
def pretty_numbers():
    return QUERY.replace(f"then {HELD} end as held", f"then pg_size_pretty({HELD}) end as held")
