"""Answers of 11_more_sources."""

from __future__ import annotations

import threading
from collections import Counter

import pymysql

from flow360.ingestion import binlog
from tests.answers import last_hint, near_miss, right

# --- load_van ---------------------------------------------------------------------------------------------------------

MORE = "update vans set loaded_kg = loaded_kg + %s where van_id = %s and loaded_kg + %s <= payload_kg"
ROW = "insert into loads (order_id, van_id, kg) values (%s, %s, %s)"


def by_one_statement(*, more=MORE, taken=False, end=lambda db, fits: db.commit() if fits else db.rollback()):
    """`load` by an update that carries its condition, with a part of it exchanged."""

    def load(db, van_id, order_id, kg):
        with db.cursor() as cursor:
            fits = cursor.execute(more, [kg, van_id, kg]) == 1
            try:
                if fits:
                    cursor.execute(ROW, [order_id, van_id, kg])
            except pymysql.IntegrityError:
                fits = taken
        end(db, fits)
        return fits

    return load


@right("load_van", solved=True)
def the_condition_in_the_update():
    return by_one_statement()


@right("load_van")
def with_the_statement_of_the_last_hint():
    return by_one_statement(more=last_hint("11", "load_van")[0])


def by_reading(
    lock="for update", first=lambda db: db.rollback(), room=lambda payload, loaded, kg: loaded + kg <= payload
):
    """`load` that reads the van, decides in Python, and writes."""

    def load(db, van_id, order_id, kg):
        first(db)
        with db.cursor() as cursor:
            cursor.execute(f"select payload_kg, loaded_kg from vans where van_id = %s {lock}", [van_id])
            van = cursor.fetchone()
            cursor.execute("select 1 from loads where order_id = %s", [order_id])
            if cursor.fetchone() or not van or not room(*van, kg):
                db.rollback()
                return False
            cursor.execute("update vans set loaded_kg = %s where van_id = %s", [van[1] + kg, van_id])
            cursor.execute(ROW, [order_id, van_id, kg])
        db.commit()
        return True

    return load


@right("load_van")
def the_van_locked_first():
    """A new transaction, the van's row locked, then all the rest."""
    return by_reading()


@right("load_van")
def the_order_first_and_again_after_a_deadlock():
    def load(db, van_id, order_id, kg):
        while True:
            try:
                with db.cursor() as cursor:
                    cursor.execute(ROW, [order_id, van_id, kg])
                    if cursor.execute(MORE, [kg, van_id, kg]):
                        db.commit()
                        return True
                    db.rollback()
                    return False
            except pymysql.IntegrityError:
                db.rollback()
                return False
            except pymysql.OperationalError as error:
                db.rollback()
                if error.args[0] != 1213:
                    raise

    return load


@near_miss("load_van", says="a van that another session has filled in the meantime")
def read_then_written():
    return by_reading(lock="", first=lambda db: None)


@near_miss("load_van", says="VAN-")
def read_from_a_new_snapshot():
    """Sees what is there at its own beginning; two that begin together see the same."""
    meeting = threading.Barrier(2)

    def together(db):
        db.rollback()

    def room(payload, loaded, kg):
        try:
            meeting.wait(0.05)
        except threading.BrokenBarrierError:
            meeting.reset()
        return loaded + kg <= payload

    return by_reading(lock="", first=together, room=room)


@near_miss("load_van", says="another program")
def one_after_the_other_in_python():
    """Nobody of this program comes in between; others do not know the lock."""
    mine, alone = threading.Lock(), by_reading(lock="")

    def load(db, van_id, order_id, kg):
        with mine:
            return alone(db, van_id, order_id, kg)

    return load


@near_miss("load_van", says="open transaction")
def a_look_left_open():
    whole = by_one_statement()

    def load(db, van_id, order_id, kg):
        with db.cursor() as cursor:
            if not cursor.execute("select 1 from vans where van_id = %s", [van_id]):
                return False
        return whole(db, van_id, order_id, kg)

    return load


@near_miss("load_van", says="an order that fills the van to the kilogram")
def less_than_it_may():
    return by_one_statement(more=MORE.replace("<=", "<"))


@near_miss("load_van", says="an order that is in another van already")
def whatever_is_there_already():
    return by_one_statement(taken=True)


@near_miss("load_van", says="open transaction: an order that fits into an empty van")
def left_open():
    return by_one_statement(end=lambda db, fits: None if fits else db.rollback())


@near_miss("load_van", says="says loaded_kg")
def committed_when_it_is_in_another_van():
    """The kilograms stay, although the order was refused."""
    return by_one_statement(end=lambda db, fits: db.commit())


@near_miss("load_van", says="IntegrityError")
def an_error_instead_of_a_no():
    def load(db, van_id, order_id, kg):
        with db.cursor() as cursor:
            fits = cursor.execute(MORE, [kg, van_id, kg]) == 1
            if fits:
                cursor.execute(ROW, [order_id, van_id, kg])
        db.commit()
        return fits

    return load


@near_miss("load_van", says="several at once")
def the_order_first():
    """Each holds a shared lock on the van when it wants to change it: two of them wait for each other."""

    def load(db, van_id, order_id, kg):
        with db.cursor() as cursor:
            try:
                cursor.execute(ROW, [order_id, van_id, kg])
                cursor.execute("select sleep(0.01)")
                fits = cursor.execute(MORE, [kg, van_id, kg]) == 1
            except pymysql.IntegrityError:
                fits = False
        db.commit() if fits else db.rollback()
        return fits

    return load


# --- net_changes ------------------------------------------------------------------------------------------------------


def netting(*, table="jobs", schemas=("lab11",), was_there=True, moves=True, brief=False, place=lambda e, p: e.place):
    """`net`, with a part of it exchanged."""

    def net(since):
        there, now, at = {}, {}, since
        for event in binlog.events(since, *schemas):
            at = place(event, at)
            if table and event.table != table:
                continue
            for before, after in event.rows:
                if before and (moves or not after):
                    there.setdefault(before["job_id"], True)
                    now[before["job_id"]] = None
                if after:
                    there.setdefault(after["job_id"], not was_there)
                    now[after["job_id"]] = after
        return {job: row for job, row in now.items() if row or there[job] or brief}, at

    return net


@right("net_changes", solved=True)
def last_states_and_first_ones():
    return netting()


@right("net_changes")
def all_pairs_first():
    """Collects the pairs, then takes the first before and the last after of each job."""

    def net(since):
        events = list(binlog.events(since, "lab11"))
        first, last = {}, {}
        for event in events:
            for before, after in event.rows if event.table == "jobs" else ():
                for row, mine in ((before, None), (after, after)):
                    if row is not None:
                        first.setdefault(row["job_id"], before if row is before else None)
                        last[row["job_id"]] = mine
        changes = {job: row for job, row in last.items() if row is not None or first[job] is not None}
        return changes, events[-1].place if events else since

    return net


@right("net_changes")
def only_behind_a_commit():
    """A place is taken from the end of a transaction alone; what is as it was is left out."""

    def net(since):
        before_all, now, at = {}, {}, since
        for event in binlog.events(since, "lab11"):
            if event.kind in ("commit", "statement"):
                at = event.place
            if event.table == "jobs":
                for before, after in event.rows:
                    if before:
                        before_all.setdefault(before["job_id"], before)
                        now[before["job_id"]] = None
                    if after:
                        before_all.setdefault(after["job_id"], None)
                        now[after["job_id"]] = after
        return {job: row for job, row in now.items() if row != before_all[job]}, list(at)

    return net


@right("net_changes")
def with_the_pieces_of_the_last_hint():
    text = last_hint("11", "net_changes")
    first, second = (piece.replace("was_there", "there") for piece in text if "setdefault" in piece)

    def net(since):
        there, now, at = {}, {}, since
        for event in binlog.events(since, "lab11"):
            at = event.place
            for before, after in event.rows if event.table == "jobs" else ():
                names = {"there": there, "before": before, "after": after}
                if before:
                    eval(first, names)
                    now[before["job_id"]] = None
                if after:
                    eval(second, names)
                    now[after["job_id"]] = after
        return {job: row for job, row in now.items() if row or there[job]}, at

    return net


@near_miss("net_changes", says="was not there before, and is not there now")
def whatever_was_touched():
    return netting(brief=True)


@near_miss("net_changes", says="is told, and was not there before")
def the_old_number_forgotten():
    return netting(moves=False)


@near_miss("net_changes", says="is told")
def any_table():
    return netting(table="")


@near_miss("net_changes", says="is told")
def any_database():
    return netting(schemas=("lab11", "lab11_beside"))


@near_miss("net_changes", says="job")
def the_same_place_again():
    return netting(place=lambda event, place: place)


@near_miss("net_changes", says="job")
def the_end_of_the_log_at_the_beginning():
    """Goes on from where the log ended when it was asked for the first time."""
    known = []

    def net(since):
        known.append(since)
        return netting()(since)[0], known[0]

    return net


@near_miss("net_changes", says="job")
def asked_of_the_table():
    def net(since):
        with binlog.root(database="lab11", cursorclass=pymysql.cursors.DictCursor) as db, db.cursor() as cursor:
            cursor.execute("select * from jobs")
            return {row["job_id"]: row for row in cursor.fetchall()}, binlog.place()

    return net


@near_miss("net_changes", says="its row as it is at the end")
def which_by_the_log_and_what_by_the_table():
    def net(since):
        changes, place = netting()(since)
        with binlog.root(database="lab11", cursorclass=pymysql.cursors.DictCursor) as db, db.cursor() as cursor:
            cursor.execute("select * from jobs")
            rows = {row["job_id"]: row for row in cursor.fetchall()}
        return {job: rows.get(job) for job in changes}, place

    return net


@near_miss("net_changes", says="net")
def always_in_the_same_file():
    return netting(place=lambda event, place: (place[0], event.place[1]))


@near_miss("net_changes", says="expected two things")
def without_a_place():
    return lambda since: netting()(since)[0]


# --- land_sheet -------------------------------------------------------------------------------------------------------

CODES = {
    "lait": "milk",
    "gluten": "gluten",
    "œufs": "eggs",
    "poisson": "fish",
    "soja": "soy",
    "crustacés": "crustaceans",
    "mollusques": "molluscs",
}
CHILDREN = ("certificates", "suppliers", "sheets")


def codes_of(sheet, traces=False):
    said = sheet.get("allergens") or []
    if sheet.get("schema_version", 1) == 3:
        return [one["code"] for one in said if traces or not one["traces"]]
    return [CODES[word] for word in (said.split(", ") if isinstance(said, str) else said)]


def name_of(sheet):
    return sheet["name"]["fr"] if isinstance(sheet["name"], dict) else sheet["name"]


def landing(
    *, clear=CHILDREN, codes=codes_of, start=0, where="product_id = %s", end=lambda db: None, certificates=True
):
    """`land`, with a part of it exchanged."""

    def land(db, sheet):
        product = sheet["_id"]
        for table in clear:
            db.execute(f"delete from {table} where {where}", [product])
        db.execute(
            """insert into sheets values (%s, %s, %s, %s) on conflict (product_id) do update
               set name = excluded.name, weight_g = excluded.weight_g, allergens = excluded.allergens""",
            [product, name_of(sheet), sheet["weight_g"], codes(sheet)],
        )
        for n, supplier in enumerate(sheet.get("suppliers", []), start):
            db.execute(
                """insert into suppliers values (%s, %s, %s, %s) on conflict (product_id, supplier_no) do update
                   set name = excluded.name, pack_size = excluded.pack_size""",
                [product, n, supplier["name"], supplier["pack_size"]],
            )
            for m, one in enumerate(supplier.get("certificates", []) if certificates else []):
                db.execute(
                    """insert into certificates values (%s, %s, %s, %s, %s, %s)
                       on conflict (product_id, supplier_no, certificate_no) do update
                       set kind = excluded.kind, number = excluded.number, valid_until = excluded.valid_until""",
                    [product, n, m, one["kind"], one["number"], one["valid_until"]],
                )
        end(db)

    return land


@right("land_sheet", solved=True)
def all_gone_and_all_new():
    return landing()


@right("land_sheet")
def children_gone_and_the_sheet_changed():
    """The sheet itself is changed in its place, by `on conflict`."""
    return landing(clear=CHILDREN[:2])


@right("land_sheet")
def only_what_is_too_much():
    """Writes by key first, then deletes the positions beyond the end."""

    def land(db, sheet):
        landing(clear=())(db, sheet)
        suppliers = sheet.get("suppliers", [])
        for n, supplier in enumerate(suppliers):
            length = len(supplier.get("certificates", []))
            db.execute(
                "delete from certificates where product_id = %s and supplier_no = %s and certificate_no >= %s",
                [sheet["_id"], n, length],
            )
        for table in CHILDREN[:2]:
            db.execute(
                f"delete from {table} where product_id = %s and supplier_no >= %s", [sheet["_id"], len(suppliers)]
            )

    return land


@right("land_sheet")
def with_the_loop_of_the_last_hint():
    (loop,) = (piece for piece in last_hint("11", "land_sheet") if "table in" in piece)

    def land(db, sheet):
        exec(f"{loop}:\n    delete(table)", {"delete": lambda table: _clear(db, table, sheet)})
        landing(clear=())(db, sheet)

    return land


def _clear(db, table, sheet):
    db.execute(f"delete from {table} where product_id = %s", [sheet["_id"]])


@near_miss("land_sheet", says="not expected")
def what_was_there_stays():
    return landing(clear=())


@near_miss("land_sheet", says="missing")
def every_table_emptied():
    return landing(where="product_id is not null or product_id = %s")


@near_miss("land_sheet", says="allergens")
def traces_among_them():
    return landing(codes=lambda sheet: codes_of(sheet, traces=True))


@near_miss("land_sheet", says="allergens")
def the_words_as_they_stand():
    def codes(sheet):
        said = sheet.get("allergens") or []
        return said.split(", ") if isinstance(said, str) else codes_of(sheet)

    return landing(codes=codes)


@near_miss("land_sheet", says="allergens expected ()")
def nothing_is_null():
    return landing(codes=lambda sheet: codes_of(sheet) or None)


@near_miss("land_sheet", says="missing")
def counted_from_one():
    return landing(start=1)


@near_miss("land_sheet", says="rows of certificates")
def without_the_inner_list():
    return landing(certificates=False)


@near_miss("land_sheet", says="land has ended it")
def committed():
    return landing(end=lambda db: db.commit())


@near_miss("land_sheet", says="changed the document")
def the_document_taken_apart():
    def land(db, sheet):
        landing()(db, sheet)
        sheet.pop("suppliers", None)

    return land


# --- van_scores -------------------------------------------------------------------------------------------------------

COUNTS = {"$match": {"delivery.van_id": {"$exists": True}, "stars": {"$type": ["int", "long"], "$gte": 1, "$lte": 5}}}
ONCE = [{"$group": {"_id": "$order.id", "review": {"$first": "$$ROOT"}}}, {"$replaceRoot": {"newRoot": "$review"}}]
NAMED = {"$ifNull": [{"$map": {"input": "$articles", "in": "$$this.product_id"}}, []]}
UNION = {"$reduce": {"input": "$lists", "initialValue": [], "in": {"$setUnion": ["$$value", "$$this"]}}}
LATE = {"$sum": {"$cond": [{"$gt": [{"$ifNull": ["$delivery.late_minutes", 0]}, 0]}, 1, 0]}}
ANSWERED = {"$sum": {"$cond": [{"$gt": [{"$size": {"$ifNull": ["$answers", []]}}, 0]}, 1, 0]}}
SORTED = [{"$sort": {"van": 1}}]


def scores(*, counts=COUNTS, once=ONCE, named=NAMED, union=UNION, late=LATE, answered=ANSWERED, least=3, order=SORTED):
    """The pipeline, with a stage of it exchanged."""
    group = {"_id": "$delivery.van_id", "reviews": {"$sum": 1}, "stars": {"$avg": "$stars"}}
    return [
        counts,
        *once,
        {"$group": {**group, "late": late, "answered": answered, "lists": {"$push": named}}},
        {"$match": {"reviews": {"$gte": least}}},
        {"$set": {"van": "$_id", "stars": {"$round": ["$stars", 2]}, "articles": {"$size": union}}},
        {"$unset": ["_id", "lists"]},
        *order,
    ]


@right("van_scores", solved=True)
def group_by_order_then_by_van():
    return scores()


@right("van_scores")
def with_the_expressions_of_the_last_hint():
    named, union = (eval(piece) for piece in last_hint("11", "van_scores") if piece.startswith("{"))
    return scores(named=named, union=union)


@right("van_scores")
def unwound_and_grouped_twice():
    """Articles by $unwind, one order at a time, and only then the vans."""
    return [
        {"$match": {"delivery.van_id": {"$gt": ""}, "stars": {"$in": [1, 2, 3, 4, 5]}}},
        {"$unwind": {"path": "$articles", "preserveNullAndEmptyArrays": True}},
        {"$unwind": {"path": "$answers", "preserveNullAndEmptyArrays": True}},
        {
            "$group": {
                "_id": {"van": "$delivery.van_id", "order": "$order.id"},
                "stars": {"$first": "$stars"},
                "late": {"$max": {"$cond": [{"$gt": ["$delivery.late_minutes", 0]}, 1, 0]}},
                "answered": {"$max": {"$cond": [{"$ifNull": ["$answers", False]}, 1, 0]}},
                "named": {"$addToSet": "$articles.product_id"},
            }
        },
        {
            "$group": {
                "_id": "$_id.van",
                "reviews": {"$sum": 1},
                "stars": {"$avg": "$stars"},
                "late": {"$sum": "$late"},
                "answered": {"$sum": "$answered"},
                "lists": {"$push": "$named"},
            }
        },
        {"$match": {"reviews": {"$gt": 2}}},
        {"$sort": {"_id": 1}},
        {"$addFields": {"van": "$_id", "stars": {"$round": ["$stars", 2]}, "articles": {"$size": UNION}}},
    ]


@near_miss("van_scores", says="van")
def unwound_before_it_counts():
    return scores(once=[*ONCE, {"$unwind": "$articles"}], named=["$articles.product_id"])


@near_miss("van_scores", says="van")
def whole_numbers_of_one_kind():
    return scores(counts={"$match": {**COUNTS["$match"], "stars": {"$type": "int", "$gte": 1, "$lte": 5}}})


@near_miss("van_scores", says="van")
def up_to_six():
    return scores(counts={"$match": {**COUNTS["$match"], "stars": {"$type": ["int", "long"], "$gt": 0, "$lte": 6}}})


@near_miss("van_scores", says="vans")
def those_imported_twice_count_twice():
    return scores(once=[])


@near_miss("van_scores", says="van")
def any_number_of_stars():
    return scores(counts={"$match": {"delivery.van_id": {"$exists": True}, "stars": {"$type": "number"}}})


@near_miss("van_scores", says="late expected")
def late_where_minutes_are_noted():
    return scores(late={"$sum": {"$cond": [{"$ne": [{"$type": "$delivery.late_minutes"}, "missing"]}, 1, 0]}})


@near_miss("van_scores", says="answered expected")
def each_answer_counts():
    return scores(answered={"$sum": {"$size": {"$ifNull": ["$answers", []]}}})


@near_miss("van_scores", says="answered expected")
def an_empty_list_is_an_answer():
    return scores(answered={"$sum": {"$cond": [{"$isArray": "$answers"}, 1, 0]}})


@near_miss("van_scores", says="articles expected")
def articles_as_often_as_named():
    return scores(
        union={"$reduce": {"input": "$lists", "initialValue": [], "in": {"$concatArrays": ["$$value", "$$this"]}}}
    )


@near_miss("van_scores", says="vans")
def more_than_three():
    return scores(least=4)


@near_miss("van_scores", says="order of their names")
def the_last_first():
    return scores(order=[{"$sort": {"van": -1}}])


@near_miss("van_scores", says="$out writes")
def kept_in_a_collection():
    return [*scores(), {"$out": "lab11_scores"}]


# --- follow_feed ------------------------------------------------------------------------------------------------------


def remember(bookmark, token):
    bookmark.replace_one({"_id": "feed"}, {"token": token}, upsert=True)


def bring(copy, event):
    name, document = event["documentKey"], event.get("fullDocument")
    if document is None:
        copy.delete_one(name)
    else:
        copy.replace_one(name, document, upsert=True)


def whole(feed, copy):
    copy.delete_many({})
    for document in list(feed.find()):
        copy.replace_one({"_id": document["_id"]}, document, upsert=True)


def following(*, start=None, before=False, apply=bring, lookup="updateLookup", note=remember):
    """`follow`, with a part of it exchanged: `start(feed, copy, bookmark, stream)` makes the first copy."""

    def first(feed, copy, bookmark, stream):
        stream.try_next()
        token = stream.resume_token
        whole(feed, copy)
        remember(bookmark, token)

    def follow(feed, copy, bookmark):
        known = bookmark.find_one({"_id": "feed"})
        options = {"resume_after": known["token"]} if known else {}
        with feed.watch(full_document=lookup, max_await_time_ms=300, **options) as stream:
            if not known:
                (start or first)(feed, copy, bookmark, stream)
                return
            while (event := stream.try_next()) is not None:
                if before:
                    note(bookmark, stream.resume_token)
                apply(copy, event)
                if not before:
                    note(bookmark, stream.resume_token)

    return follow


@right("follow_feed", solved=True)
def place_then_copy_and_change_then_place():
    return following()


@right("follow_feed")
def all_of_a_call_then_the_place():
    """The place is written once, at the end; whatever comes again is harmless."""

    def follow(feed, copy, bookmark):
        known = bookmark.find_one({"_id": "feed"})
        options = {"resume_after": known["token"]} if known else {}
        with feed.watch(full_document="updateLookup", max_await_time_ms=200, **options) as stream:
            if not known:
                stream.try_next()
                known = {"token": stream.resume_token}
                whole(feed, copy)
                copy.delete_many({"_id": {"$nin": [one["_id"] for one in feed.find({}, {"_id": 1})]}})
            while (event := stream.try_next()) is not None:
                bring(copy, event)
            bookmark.update_one({"_id": "feed"}, {"$set": {"token": stream.resume_token}}, upsert=True)

    return follow


@right("follow_feed")
def the_document_read_by_itself():
    """Asks the feed for the document of each change, in the place of the stream's own look."""

    def follow(feed, copy, bookmark):
        def apply(copy, event):
            key = event["documentKey"]
            document = feed.find_one(key)
            copy.delete_one(key) if document is None else copy.replace_one(key, document, upsert=True)

        following(apply=apply, lookup=None)(feed, copy, bookmark)

    return follow


@right("follow_feed")
def in_order_and_by_batches():
    def start(feed, copy, bookmark, stream):
        stream.try_next()
        token = stream.resume_token
        copy.delete_many({})
        with feed.find({}, batch_size=3).sort("_id", 1).limit(0) as cursor:
            for document in cursor:
                copy.replace_one({"_id": document["_id"]}, document, upsert=True)
        remember(bookmark, token)

    return following(start=start)


@near_miss("follow_feed", says="killed while it copied for the first time")
def what_has_gone_since_it_died_stays():
    """Begins once more, from a place behind the delete."""

    def start(feed, copy, bookmark, stream):
        stream.try_next()
        token = stream.resume_token
        for document in list(feed.find()):
            copy.replace_one({"_id": document["_id"]}, document, upsert=True)
        remember(bookmark, token)

    return following(start=start)


@near_miss("follow_feed", says="bookmark")
def remembered_by_the_program():
    """The collection holds a mark that there is something to remember, and a variable remembers it."""
    mine = {}

    def note(bookmark, token):
        bookmark.replace_one({"_id": "feed"}, {"known": True}, upsert=True)
        mine["token"] = token

    def start(feed, copy, bookmark, stream):
        stream.try_next()
        token = stream.resume_token
        whole(feed, copy)
        note(bookmark, token)

    def follow(feed, copy, bookmark):
        known = bookmark.find_one({"_id": "feed"})
        options = {"resume_after": mine["token"]} if known and mine else {}
        with feed.watch(full_document="updateLookup", max_await_time_ms=300, **options) as stream:
            if not options:
                start(feed, copy, bookmark, stream)
                return
            while (event := stream.try_next()) is not None:
                bring(copy, event)
                note(bookmark, stream.resume_token)

    return follow


@near_miss("follow_feed", says="was killed after")
def the_place_before_the_change():
    return following(before=True)


@near_miss("follow_feed", says="while it was reading the collection for the first time")
def the_copy_before_the_place():
    def start(feed, copy, bookmark, _stream):
        whole(feed, copy)
        with feed.watch(max_await_time_ms=100) as stream:
            stream.try_next()
            remember(bookmark, stream.resume_token)

    return following(start=start)


@near_miss("follow_feed", says="the copy")
def inserts_only():
    def apply(copy, event):
        if event["operationType"] == "insert":
            copy.replace_one(event["documentKey"], event["fullDocument"], upsert=True)

    return following(apply=apply)


@near_miss("follow_feed", says="the copy")
def deletes_forgotten():
    def apply(copy, event):
        if event.get("fullDocument"):
            bring(copy, event)

    return following(apply=apply)


@near_miss("follow_feed", says="DuplicateKeyError")
def inserted_once_more():
    def apply(copy, event):
        if event["operationType"] == "insert":
            copy.insert_one(event["fullDocument"])
        else:
            bring(copy, event)

    return following(apply=apply)


@near_miss("follow_feed", says="has not changed since its bookmark")
def everything_each_time():
    def follow(feed, copy, bookmark):
        whole(feed, copy)
        copy.delete_many({"_id": {"$nin": [one["_id"] for one in feed.find({}, {"_id": 1})]}})

    return follow


@near_miss("follow_feed", says="has not changed since its bookmark")
def all_changes_since_the_first_copy():
    return following(note=lambda bookmark, token: bookmark.insert_one({"token": token}))


@near_miss("follow_feed", says="the copy")
def updates_without_their_document():
    return following(lookup=None)


@near_miss("follow_feed", says="killed while it copied for the first time")
def remembered_before_it_is_copied():
    """Killed in between, it believes that the copy is there."""

    def start(feed, copy, bookmark, stream):
        stream.try_next()
        remember(bookmark, stream.resume_token)
        whole(feed, copy)

    return following(start=start)


# --- differences ------------------------------------------------------------------------------------------------------


def comparing(**change):
    """`compare`, with a part of it exchanged."""
    same_van = change.get("same_van", lambda said, known: said == known)
    route = change.get("route", lambda one, route_of, rated: route_of.get(one["order"]["id"]))
    is_order = change.get("is_order", lambda order, route_of, rated: order in route_of)
    stars = change.get("stars", lambda said, rating: said == rating)
    twice = change.get("twice", lambda n: n > 1)
    unknown_van = change.get("unknown_van", False)

    def compare(shop, fleet, reviews):
        route_of = dict(shop.execute("select order_id, route_id from deliveries").fetchall())
        rated = {order: (review, rating) for review, order, rating in shop.execute("select * from reviews").fetchall()}
        with fleet.cursor() as cursor:
            cursor.execute("select route_id, van_id from tours")
            van_of = dict(cursor.fetchall())
        documents = list(reviews.find())
        times = Counter(one["order"]["id"] for one in documents)
        found = []
        for one in documents:
            order, said = one["order"]["id"], one.get("delivery", {}).get("van_id")
            known = van_of.get(route(one, route_of, rated))
            if not is_order(order, route_of, rated):
                found.append(("no order", one["_id"]))
            if (said and known or unknown_van) and not same_van(said, known):
                found.append(("another van", one["_id"]))
            if order in rated and not stars(one["stars"], rated[order][1]):
                found.append(("other stars", one["_id"]))
        toured = change.get("toured", set(route_of))
        found += [("no tour", order) for order in route_of if order in toured and route_of[order] not in van_of]
        if "only_reviewed" in change:
            found = [pair for pair in found if pair[0] != "no tour" or pair[1] in times]
        found += [("twice", order) for order, n in times.items() if twice(n)]
        by = {one["_id"] for one in documents} if "by_id" in change else None
        found += [
            ("not in MongoDB", review)
            for order, (review, _) in rated.items()
            if (order not in times if by is None else review not in by)
        ]
        return change.get("end", lambda found, reviews: found)(found, reviews)

    return compare


@right("differences", solved=True)
def dicts_of_each_source():
    return comparing()


@right("differences")
def a_set_in_another_order():
    return comparing(end=lambda found, _: {tuple(pair) for pair in reversed(found)})


@right("differences")
def joined_in_the_shop():
    """Carries tours and documents into temporary tables of the shop's, and lets SQL compare."""

    def compare(shop, fleet, reviews):
        with fleet.cursor() as cursor:
            cursor.execute("select route_id, van_id from tours")
            tours = list(cursor.fetchall())
        documents = list(reviews.find())
        shop.execute("create temporary table t (route_id bigint, van_id text) on commit drop")
        shop.execute("create temporary table d (n int, order_id bigint, van_id text, stars int) on commit drop")
        with shop.cursor() as cursor:
            cursor.executemany("insert into t values (%s, %s)", tours)
            rows = [
                (n, one["order"]["id"], one.get("delivery", {}).get("van_id"), _whole(one["stars"]))
                for n, one in enumerate(documents)
            ]
            cursor.executemany("insert into d values (%s, %s, %s, %s)", rows)
        found = shop.execute("""
            select 'no order', n from d where order_id not in (select order_id from deliveries)
            union all select 'another van', n from d join deliveries using (order_id) join t using (route_id)
              where d.van_id <> t.van_id
            union all select 'other stars', n from d join reviews using (order_id)
              where stars is distinct from rating""").fetchall()
        keys = shop.execute("""
            select 'no tour', order_id from deliveries where route_id not in (select route_id from t)
            union all select 'not in MongoDB', review_id from reviews where order_id not in (select order_id from d)
            union all select 'twice', order_id from d group by order_id having count(*) > 1""").fetchall()
        shop.execute("drop table t, d")
        return [(what, documents[n]["_id"]) for what, n in found] + keys

    return compare


def _whole(value):
    return value if type(value) is int else None


@near_miss("differences", says="no order")
def an_order_is_what_has_been_reviewed():
    return comparing(is_order=lambda order, route_of, rated: order in rated)


@near_miss("differences", says="another van")
def only_what_the_shop_has_a_review_of():
    return comparing(
        route=lambda one, route_of, rated: route_of.get(one["order"]["id"] if one["order"]["id"] in rated else None)
    )


@near_miss("differences", says="another van")
def as_mysql_compares():
    return comparing(same_van=lambda said, known: said.lower() == known.lower())


@near_miss("differences", says="another van")
def by_the_reviews_own_tour():
    return comparing(route=lambda one, *_: one.get("delivery", {}).get("route_id"))


@near_miss("differences", says="other stars")
def a_text_is_a_number():
    return comparing(stars=lambda said, rating: int(said) == rating)


@near_miss("differences", says="no tour")
def only_where_somebody_wrote():
    return comparing(only_reviewed=True)


@near_miss("differences", says="another van")
def nothing_is_another_van():
    return comparing(unknown_van=True)


@near_miss("differences", says="twice")
def exactly_twice():
    return comparing(twice=lambda n: n == 2)


@near_miss("differences", says="has changed a source")
def what_is_doubled_taken_away():
    def end(found, reviews):
        for what, key in found:
            if what == "twice":
                reviews.delete_one({"order.id": key})
        return found

    return comparing(end=end)


@near_miss("differences", says="not in MongoDB")
def counted():
    """As many here as there: nothing is missing."""
    return comparing(end=lambda found, _: [pair for pair in found if pair[0] != "not in MongoDB"])
