"""Answers of 08_logs."""

from __future__ import annotations

import copy
import json
from datetime import UTC, timedelta

import pandas as pd

from tests.answers import last_hint, near_miss, right

# --- every_format -----------------------------------------------------------------------------------------------------

LEVEL, VAN = "(?<log.level>DEBUG|INFO|WARN|ERROR)", r"(?<van_id>VAN-\d\d)"
PATTERNS = [
    rf"^(?<when>\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ) {LEVEL} +van={VAN} (?<message>.+)$",
    rf"^\[(?<when>\d\d/\w{{3}}/\d{{4}}:\d\d:\d\d:\d\d [+-]\d{{4}})\] {VAN} {LEVEL}: (?<message>.+)$",
    rf"^(?<when>\d{{10}}) {VAN} <{LEVEL}> (?<message>.+)$",
]


def patterns_with(old: str, new: str):
    return [one.replace(old, new) for one in PATTERNS]


@right("every_format", solved=True)
def an_expression_for_each_kind():
    return [last_hint("08", "every_format")[0].partition(" for the first")[0], *PATTERNS[1:]]


@right("every_format")
def groks_own_words_where_they_are_narrow_enough():
    when = "(?<when>%{YEAR}-%{MONTHNUM}-%{MONTHDAY}T%{TIME}Z)"
    return [
        rf"^{when} {LEVEL}\s+van={VAN} %{{GREEDYDATA:message}}(?<=\S)$",
        rf"^\[%{{HTTPDATE:when}}\] {VAN} {LEVEL}: (?<message>.+)\z",
        rf"^(?<when>[0-9]{{10}}) {VAN} <{LEVEL}> (?<message>.+)$",
    ]


@right("every_format")
def one_pattern_of_three_branches():
    return "|".join(f"(?:{one})" for one in PATTERNS)


@near_miss("every_format", says="retry: ")
def not_anchored():
    return patterns_with("^", "")


@near_miss("every_format", says="log.level of")
def the_blanks_belong_to_the_level():
    return patterns_with(LEVEL + " +", r"(?<log.level>[A-Z]+ *) *")


@near_miss("every_format", says="NOTICE")
def any_word_is_a_level():
    return patterns_with(LEVEL, "(?<log.level>[A-Z]+)")


@near_miss("every_format", says="one fits")
def any_van():
    return patterns_with(VAN, "%{NOTSPACE:van_id}")


@near_miss("every_format", says="when of")
def with_its_brackets():
    return patterns_with(r"\[(?<when>", r"(?<when>\[").copy()[:1] + [
        rf"^(?<when>\[[^\]]+\]) {VAN} {LEVEL}: (?<message>.+)$",
        PATTERNS[2],
    ]


@near_miss("every_format", says="none fits")
def the_third_forgotten():
    return PATTERNS[:2]


@near_miss("every_format", says="none fits")
def a_message_of_plain_words():
    return patterns_with("(?<message>.+)", r"(?<message>[\w ]+)")


@near_miss("every_format", says="one fits")
def an_empty_message():
    return [one.replace(" (?<message>.+)", " ?(?<message>.*)") for one in PATTERNS]


@near_miss("every_format", says="van_id")
def another_name_for_the_van():
    return patterns_with("van_id", "van")


@near_miss("every_format", says="does not take it")
def a_bracket_too_few():
    return [*PATTERNS[:2], PATTERNS[2].replace("(?<message>.+)", "(?<message>.+")]


# --- kept_and_tagged --------------------------------------------------------------------------------------------------


def tag(name: str, *more):
    return [{"append": {"field": "tags", "value": name}}, *more]


IS_JSON = "ctx.row != null"
BELT = [
    {"json": {"field": "message", "target_field": "row", "on_failure": tag("notjson")}},
    {"rename": {"field": "row.van_id", "target_field": "van_id", "ignore_missing": True}},
    {
        "convert": {
            "if": IS_JSON,
            "field": "row.celsius",
            "type": "double",
            "target_field": "celsius",
            "on_failure": tag("nonumber"),
        }
    },
    {"date": {"if": IS_JSON, "field": "row.at", "formats": ["ISO8601"], "on_failure": tag("nodate")}},
    {"remove": {"field": "row", "ignore_missing": True}},
]


def belt(**changed):
    """The belt, with processors replaced by their kind; None takes one away."""
    steps = [copy.deepcopy(changed.get(next(iter(one)), one)) for one in BELT]
    return {"processors": [one for one in steps if one]}


def part(kind: str, **more):
    step = next(one[kind] for one in BELT if kind in one)
    return {kind: {key: value for key, value in {**step, **more}.items() if value is not None}}


@right("kept_and_tagged", solved=True)
def each_step_with_its_own_tag():
    return belt()


@right("kept_and_tagged")
def everything_at_the_top_and_mended_after():
    convert = {
        "field": "celsius",
        "type": "double",
        "on_failure": [{"remove": {"field": "celsius", "ignore_missing": True}}, *tag("nonumber")],
    }
    inner = [
        {"convert": {**convert, "if": "ctx.parsed != null"}},
        {"date": {"field": "at", "formats": ["ISO8601"], "if": "ctx.parsed != null", "on_failure": tag("nodate")}},
        {"remove": {"field": ["at", "parsed"], "ignore_missing": True}},
    ]
    parsed = {"json": {"field": "message", "add_to_root": True, "if": "true", "on_failure": tag("notjson")}}
    mark = {"set": {"field": "parsed", "value": True, "if": "ctx.tags == null || !ctx.tags.contains('notjson')"}}
    return {"description": "the cold room's lines", "processors": [parsed, mark, *inner]}


@right("kept_and_tagged")
def in_a_script():
    source = """
        def t = ctx.tags == null ? new ArrayList() : ctx.tags;
        if (ctx.row != null) {
            ctx.van_id = ctx.row.van_id;
            try { ctx.celsius = Double.parseDouble(String.valueOf(ctx.row.celsius)); }
            catch (NumberFormatException e) { t.add('nonumber'); }
            try { ctx['@timestamp'] = OffsetDateTime.parse(ctx.row.at).toString(); }
            catch (Exception e) { t.add('nodate'); }
        }
        ctx.tags = t; ctx.remove('row');
    """
    return {"processors": [BELT[0], {"script": {"source": source}}]}


@near_miss("kept_and_tagged", says="was refused")
def no_on_failure():
    return belt(json=part("json", on_failure=None))


@near_miss("kept_and_tagged", says="was dropped")
def what_is_bad_is_dropped():
    return belt(json=part("json", on_failure=[{"drop": {}}]))


@near_miss("kept_and_tagged", says="tags of")
def failures_ignored():
    return belt(convert=part("convert", on_failure=None, ignore_failure=True))


@near_miss("kept_and_tagged", says="tags of")
def three_tags_for_one_mistake():
    return belt(convert=part("convert", **{"if": None}), date=part("date", **{"if": None}))


@near_miss("kept_and_tagged", says="tags of")
def tags_are_set_and_not_appended():
    return belt(date=part("date", on_failure=[{"set": {"field": "tags", "value": ["nodate"]}}]))


@near_miss("kept_and_tagged", says="tags of")
def the_first_failure_ends_it():
    steps = [copy.deepcopy(one) for one in BELT]
    for one in steps:
        next(iter(one.values())).pop("on_failure", None)
    return {"processors": steps, "on_failure": tag("notjson")}


@near_miss("kept_and_tagged", says="celsius of")
def a_number_stays_a_text():
    return belt(convert=part("convert", type="string"))


@near_miss("kept_and_tagged", says="celsius of")
def rounded_on_the_way():
    return belt(convert=part("convert", type="float"))


@near_miss("kept_and_tagged", says="@timestamp of")
def now_where_there_is_no_moment():
    now = [{"set": {"field": "@timestamp", "value": "{{{_ingest.timestamp}}}"}}]
    return belt(date=part("date", on_failure=[*tag("nodate"), *now]))


@near_miss("kept_and_tagged", says="@timestamp of")
def the_offset_is_not_read():
    short = {"gsub": {"field": "row.at", "pattern": "[+]0[12]:00$", "replacement": "Z", "ignore_missing": True}}
    steps = belt()["processors"]
    return {"processors": [steps[0], {**short}, *steps[1:]]}


@near_miss("kept_and_tagged", says="message of")
def the_message_is_taken_apart():
    return {"processors": [*belt()["processors"], {"trim": {"field": "message"}}, {"lowercase": {"field": "message"}}]}


# --- exact_line -------------------------------------------------------------------------------------------------------


def search_body(begin, end, kind=None, service=None, moments=None, **more):
    wanted = [
        service or {"term": {"service.name": "market-api"}},
        kind or {"regexp": {"error.type": "(.*\\.)?ConnectionTimeout"}},
        {"range": {"@timestamp": moments or {"gte": begin.isoformat(), "lt": end.isoformat()}}},
    ]
    body = {"query": {"bool": {"filter": wanted}}, "sort": [{"@timestamp": "desc"}], "size": 100, **more}
    return {key: value for key, value in body.items() if value is not None}


@right("exact_line", solved=True)
def filters_and_a_regexp():
    kind, more = last_hint("08", "exact_line")[0].rstrip(".").split(", ", 1)
    return lambda begin, end: search_body(begin, end, json.loads(kind), **json.loads(f"{{{more}}}"))


@right("exact_line")
def two_ways_to_be_called_so():
    either = [{"term": {"error.type": "ConnectionTimeout"}}, {"wildcard": {"error.type": "*.ConnectionTimeout"}}]

    def body(begin, end):
        kind = {"bool": {"should": either, "minimum_should_match": 1}}
        moments = {"gte": int(begin.timestamp() * 1000), "lt": int(end.timestamp() * 1000), "format": "epoch_millis"}
        return search_body(begin, end, kind, moments=moments, size=1000, sort={"@timestamp": {"order": "desc"}})

    return body


@right("exact_line")
def in_the_language_of_the_search_bar():
    def body(begin, end):
        last = (end - timedelta(milliseconds=1)).astimezone(UTC)
        text = (
            'service.name:"market-api" AND error.type:(ConnectionTimeout OR /.*\\.ConnectionTimeout/) '
            f'AND @timestamp:["{begin.isoformat()}" TO "{last.isoformat(timespec="milliseconds")}"]'
        )
        return {"query": {"query_string": {"query": text}}, "sort": [{"@timestamp": "desc"}], "size": 200}

    return body


@near_miss("exact_line", says="found 10 of")
def ten_are_enough():
    return lambda begin, end: search_body(begin, end, size=None)


@near_miss("exact_line", says="newest first")
def oldest_first():
    return lambda begin, end: search_body(begin, end, sort=[{"@timestamp": "asc"}])


@near_miss("exact_line", says="it finds")
def every_service():
    return lambda begin, end: search_body(begin, end, service={"match_all": {}})


@near_miss("exact_line", says="at the end itself")
def the_end_belongs_to_it():
    return lambda begin, end: search_body(begin, end, moments={"gte": begin.isoformat(), "lte": end.isoformat()})


@near_miss("exact_line", says="first moment")
def the_beginning_does_not():
    return lambda begin, end: search_body(begin, end, moments={"gt": begin.isoformat(), "lt": end.isoformat()})


@near_miss("exact_line", says="NoConnectionTimeout")
def anything_that_ends_so():
    return lambda begin, end: search_body(begin, end, {"wildcard": {"error.type": "*ConnectionTimeout"}})


@near_miss("exact_line", says="it does not find")
def psycopgs_only():
    return lambda begin, end: search_body(begin, end, {"term": {"error.type": "psycopg.errors.ConnectionTimeout"}})


@near_miss("exact_line", says="only speaks of it")
def looked_for_in_the_message():
    return lambda begin, end: search_body(begin, end, {"match": {"message": "ConnectionTimeout"}})


@near_miss("exact_line", says="it does not find")
def as_a_word_of_the_type():
    return lambda begin, end: search_body(begin, end, {"match": {"error.type": "ConnectionTimeout"}})


@near_miss("exact_line", says="written as a text")
def moments_as_they_are():
    return lambda begin, end: search_body(begin, end, moments={"gte": begin, "lt": end})


# --- per_minute -------------------------------------------------------------------------------------------------------

BAD = ["ERROR", "FATAL", "CRITICAL"]


def of_the_time(begin, end, levels=BAD, **moments):
    moments = moments or {"gte": begin.isoformat(), "lt": end.isoformat()}
    return {"bool": {"filter": [{"terms": {"log.level": levels}}, {"range": {"@timestamp": moments}}]}}


def counter(services=1000, interval="1m", query=of_the_time, row=tuple, **more):
    def count_errors(search, index, begin, end):
        minutes = {"date_histogram": {"field": "@timestamp", "fixed_interval": interval, "min_doc_count": 1, **more}}
        named = {"terms": {"field": "service.name", "size": services}, "aggs": {"minutes": minutes}}
        asked = {"size": 0, "query": query(begin, end), "aggs": {"services": named}}
        found = search.post(f"/{index}/_search", json=asked).json()["aggregations"]["services"]["buckets"]
        return [row((one["key"], two["key"], two["doc_count"])) for one in found for two in one["minutes"]["buckets"]]

    return count_errors


@right("per_minute", solved=True)
def buckets_in_buckets():
    return counter()


@right("per_minute")
def composite_into_a_frame():
    def count_errors(search, index, begin, end):
        keys = [
            {"service": {"terms": {"field": "service.name"}}},
            {"minute": {"date_histogram": {"field": "@timestamp", "fixed_interval": "1m"}}},
        ]
        asked = {
            "size": 0,
            "query": of_the_time(begin, end),
            "aggs": {"all": {"composite": {"size": 5000, "sources": keys}}},
        }
        found = search.get(f"/{index}/_search", json=asked).json()["aggregations"]["all"]["buckets"]
        frame = pd.DataFrame([{**one["key"], "errors": one["doc_count"]} for one in found])
        frame["minute"] = pd.to_datetime(frame["minute"], unit="ms", utc=True)
        return frame

    return count_errors


@right("per_minute")
def minutes_first_and_as_text():
    def count_errors(search, index, begin, end):
        named = {"by": {"terms": {"field": "service.name", "size": 500}}}
        minutes = {"date_histogram": {"field": "@timestamp", "calendar_interval": "minute"}, "aggs": named}
        asked = {"size": 0, "query": of_the_time(begin, end), "aggs": {"minutes": minutes}}
        found = search.post(f"/{index}/_search", json=asked).json()["aggregations"]["minutes"]["buckets"]
        return [
            {"minute": one["key_as_string"], "service": two["key"], "errors": two["doc_count"]}
            for one in found
            for two in one["by"]["buckets"]
        ]

    return count_errors


@near_miss("per_minute", says="missing")
def ten_services():
    return counter(services=10)


@near_miss("per_minute", says="not expected")
def minutes_without_errors_too():
    return counter(min_doc_count=0)


@near_miss("per_minute", says="count_errors:")
def all_levels():
    return counter(query=lambda begin, end: of_the_time(begin, end, [*BAD, "INFO", "WARN", "DEBUG"]))


@near_miss("per_minute", says="missing")
def errors_only_by_their_name():
    return counter(query=lambda begin, end: of_the_time(begin, end, ["ERROR"]))


@near_miss("per_minute", says="not expected")
def the_end_too():
    return counter(query=lambda begin, end: of_the_time(begin, end, gte=begin.isoformat(), lte=end.isoformat()))


@near_miss("per_minute", says="missing")
def by_five_minutes():
    return counter(interval="5m")


@near_miss("per_minute", says="result window is too large")
def counted_here():
    def count_errors(search, index, begin, end):
        asked = {"size": 10_000, "query": of_the_time(begin, end)}
        hits = search.post(f"/{index}/_search", json=asked).json()["hits"]["hits"]
        frame = pd.DataFrame([hit["_source"] for hit in hits])
        return frame.groupby("@timestamp").size().reset_index()

    return count_errors


@near_miss("per_minute", says="who should count")
def a_question_for_each_minute():
    def count_errors(search, index, begin, end):
        ask, out = counter(), []
        while begin < end:
            out += ask(search, index, begin, begin + timedelta(minutes=1))
            begin += timedelta(minutes=1)
        return out

    return count_errors


@near_miss("per_minute", says="its zone")
def the_minute_without_its_zone():
    def naive(row):
        moment = pd.Timestamp(row[1], unit="ms")
        return row[0], moment.to_pydatetime(), row[2]

    return counter(row=naive)


# --- two_types --------------------------------------------------------------------------------------------------------

FIELDS = {"order_id": {"type": "keyword"}, "celsius": {"type": "float"}, "at": {"type": "date"}}


def mender(fields=None, copy_old=True, keep_ids=True, move=True, drop=False, order=None):
    def repair(search, old, new, alias, rejected):
        search.put(f"/{new}", json={"mappings": {"properties": {**FIELDS, **(fields or {})}}})
        if copy_old:
            search.post("/_reindex?refresh=true", json={"source": {"index": old}, "dest": {"index": new}})
        for one in rejected:
            document = dict(one["document"])
            if order:
                document["order_id"] = order(document["order_id"])
            if keep_ids:
                search.put(f"/{new}/_doc/{one['id']}", json=document)
            else:
                search.post(f"/{new}/_doc", json=document)
        actions = [{"remove": {"index": old, "alias": alias}}] if move else []
        actions.append({"add": {"index": new, "alias": alias, "is_write_index": bool(move)}})
        search.post("/_aliases", json={"actions": actions})
        if drop:
            search.post(f"/{old}/_delete_by_query?refresh=true", json={"query": {"match_all": {}}})

    return repair


@right("two_types", solved=True)
def a_keyword_a_copy_and_the_rest():
    return mender()


@right("two_types")
def all_of_it_by_bulk():
    def repair(search, old, new, alias, rejected):
        settings = {"number_of_replicas": 0}
        search.put(f"/{new}", json={"settings": settings, "mappings": {"properties": FIELDS}})
        hits = search.post(f"/{old}/_search", json={"size": 10_000}).json()["hits"]["hits"]
        rows = [(hit["_id"], hit["_source"]) for hit in hits] + [(one["id"], one["document"]) for one in rejected]
        lines = [line for key, row in rows for line in ({"create": {"_id": key}}, row)]
        body = "".join(json.dumps(line) + "\n" for line in lines)
        search.post(f"/{new}/_bulk", data=body, headers={"Content-Type": "application/x-ndjson"})
        add = {"add": {"index": new, "alias": alias}}
        search.post("/_aliases", json={"actions": [add, {"remove": {"index": old, "alias": alias}}]})

    return repair


@right("two_types")
def with_the_mapping_of_the_old_one():
    def repair(search, old, new, alias, rejected):
        mappings = search.get(f"/{old}/_mapping").json()[old]["mappings"]
        mappings["properties"]["order_id"] = {"type": "keyword", "fields": {"words": {"type": "text"}}}
        search.put(f"/{new}", json={"mappings": mappings})
        search.post("/_reindex", json={"source": {"index": old}, "dest": {"index": new, "op_type": "create"}})
        for one in rejected:
            search.put(f"/{new}/_create/{one['id']}", json=one["document"])
        search.delete(f"/{old}/_alias/{alias}")
        search.put(f"/{new}/_alias/{alias}")

    return repair


@near_miss("two_types", says="are not in the new index")
def the_rejected_are_forgotten():
    def repair(search, old, new, alias, rejected):
        mender()(search, old, new, alias, [])

    return repair


@near_miss("two_types", says="are not in the new index")
def the_old_ones_are_forgotten():
    return mender(copy_old=False)


@near_miss("two_types", says="are not in the new index")
def with_ids_of_its_own():
    return mender(keep_ids=False)


@near_miss("two_types", says="failed to parse")
def a_long_again():
    return mender({"order_id": {"type": "long"}})


@near_miss("two_types", says="a query of the new index")
def malformed_ones_are_not_indexed():
    return mender({"order_id": {"type": "long", "ignore_malformed": True}})


@near_miss("two_types", says="a term query for order_id")
def as_a_text():
    return mender({"order_id": {"type": "text"}})


@near_miss("two_types", says="a term query for order_id")
def all_in_small_letters():
    def repair(search, old, new, alias, rejected):
        small = {"analysis": {"normalizer": {"small": {"type": "custom", "filter": ["lowercase"]}}}}
        fields = {**FIELDS, "order_id": {"type": "keyword", "normalizer": "small"}}
        search.put(f"/{new}", json={"settings": small, "mappings": {"properties": fields}})

        class Again:
            def __getattr__(self, name):
                return getattr(search, name)

            def put(self, url, **more):
                return search.put(url, **more) if url != f"/{new}" else None

        mender()(Again(), old, new, alias, rejected)

    return repair


@near_miss("two_types", says="celsius > 9.5")
def everything_a_keyword():
    return mender({"celsius": {"type": "keyword"}})


@near_miss("two_types", says="document")
def names_are_made_numbers():
    return mender(order=lambda name: int(name.partition("-")[2]))


@near_miss("two_types", says="leads to")
def both_behind_one_name():
    return mender(move=False)


@near_miss("two_types", says="the old index changed")
def the_old_one_is_emptied():
    return mender(drop=True)


# --- no_people --------------------------------------------------------------------------------------------------------

MAIL = r"[A-Za-z0-9._%+'-]+?(?:@|%40)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
TELEPHONE = r"(?<!\d)(?:\+33 ?|0)[1-9](?:[ .]?\d\d){4}(?!\d)"
FIELD_NAMES = ("message", "error.stack_trace")


def masker(mail=MAIL, telephone=TELEPHONE, fields=FIELD_NAMES, before=(), **more):
    return {
        "processors": [
            *before,
            *(
                {"gsub": {"field": field, "pattern": what, "replacement": by, "ignore_missing": True, **more}}
                for field in fields
                for what, by in ((mail, "<e-mail>"), (telephone, "<telephone>"))
            ),
        ]
    }


@right("no_people", solved=True)
def two_expressions_for_two_fields():
    return masker(*last_hint("08", "no_people")[0].partition(", for both")[0].split(" and "))


@right("no_people")
def telephones_first_and_ignoring_case():
    mail = r"(?i)[a-z0-9._+'-]+(?:@|%40)[a-z0-9-]+(?:\.[a-z0-9-]+)+"
    steps = masker(mail, r"(?<![0-9])(?:0|\+33|\+33 )[1-9](?:[ .]?[0-9]{2}){4}(?![0-9])")["processors"]
    return {"processors": steps[::-1]}


@right("no_people")
def with_conditions_in_place_of_ignore_missing():
    steps = []
    for field, there in (("message", "ctx.message != null"), ("error.stack_trace", "ctx.error?.stack_trace != null")):
        for what, by in ((TELEPHONE, "<telephone>"), (MAIL, "<e-mail>")):
            steps.append({"gsub": {"if": there, "field": field, "pattern": what, "replacement": by}})
    return {"processors": steps}


@near_miss("no_people", says="error.stack_trace")
def the_message_only():
    return masker(fields=["message"])


@near_miss("no_people", says="%40")
def the_web_forgotten():
    return masker(mail=MAIL.replace("(?:@|%40)", "@"))


@near_miss("no_people", says="@")
def a_host_without_a_dot():
    return masker(mail=MAIL.replace(r"(?:\.[A-Za-z0-9-]+)+", r"(?:\.[A-Za-z0-9-]+)*"))


@near_miss("no_people", says="wrote to")
def the_full_stop_too():
    return masker(mail=MAIL.replace(r"(?:\.[A-Za-z0-9-]+)+", r"\.[A-Za-z0-9.-]+"))


@near_miss("no_people", says="<e-mail>")
def small_letters_only():
    return masker(mail=MAIL.replace("A-Z", ""))


@near_miss("no_people", says="pipeline: message")
def inside_longer_numbers():
    return masker(telephone=TELEPHONE.replace(r"(?<!\d)", "").replace(r"(?!\d)", ""))


@near_miss("no_people", says="pipeline:")
def without_the_country():
    return masker(telephone=TELEPHONE.replace(r"(?:\+33 ?|0)", "0"))


@near_miss("no_people", says="pipeline:")
def blanks_only():
    return masker(telephone=TELEPHONE.replace("[ .]?", " ?"))


@near_miss("no_people", says="hold a copy")
def a_copy_is_kept():
    return masker(before=[{"set": {"field": "original", "value": "{{{message}}}"}}])


@near_miss("no_people", says="not present")
def where_a_field_is_missing():
    return masker(ignore_missing=False)


@near_miss("no_people", says="pipeline:")
def the_line_is_thrown_away():
    return {"processors": [{"set": {"field": "message", "value": "<e-mail>", "if": "ctx.message.contains('@')"}}]}
