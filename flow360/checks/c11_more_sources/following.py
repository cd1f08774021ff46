"""Exercise 5: a copy that follows its collection, whenever the program that brings it over dies."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

from flow360.checks import liberal
from flow360.checks.c11_more_sources.setting import collections
from flow360.checks.compare import expect_rows
from flow360.checks.draw import a_word, draw
from flow360.checks.verdict import exercise, expect, limited

WRITES = {
    "insert_one", "insert_many", "replace_one", "update_one", "update_many", "delete_one", "delete_many", "bulk_write",
    "find_one_and_replace", "find_one_and_update", "find_one_and_delete",
}  # fmt: skip
READS = {"find", "find_one", "aggregate", "find_raw_batches"}


class _Died(BaseException):
    """The program's end, in the place of SIGKILL: no `except Exception` of the learner's holds it up."""


class _Life:
    """How many writes a program is granted (None: all); it dies before the next one."""

    def __init__(self, writes: int | None = None) -> None:
        self.left = writes

    def write(self, call: Callable[[], Any]) -> Any:
        if self.left == 0:
            raise _Died
        if self.left is not None:
            self.left -= 1
        return call()


class _Watched:
    """A collection as the learner's function gets it: its writes are counted, and reading it may have company."""

    def __init__(self, inner: Any, life: _Life, on_read: Callable[[], None] | None = None) -> None:
        self._inner, self._life, self._on_read = inner, life, on_read

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in WRITES:
            return lambda *args, **kw: self._life.write(lambda: found(*args, **kw))
        if name in READS and self._on_read is not None:
            return lambda *args, **kw: self._with_company(found, args, kw)
        return found

    def _with_company(self, found: Callable[..., Any], args: Any, kw: Any) -> Any:
        """Read, and let somebody write before the answer is used."""
        result = found(*args, **kw)
        if hasattr(result, "batch_size"):
            return _Cursor(result, self._company)
        self._company()
        return result

    def _company(self) -> None:
        write, self._on_read = self._on_read, None
        if write:
            write()


class _Cursor:
    """A cursor that has read all when it gives its first document; then somebody writes."""

    def __init__(self, inner: Any, company: Callable[[], None]) -> None:
        self._inner, self._company, self._rows = inner, company, None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return (lambda *args, **kw: self._itself(found(*args, **kw))) if callable(found) else found

    def _itself(self, answer: Any) -> Any:
        """Go on as this one where a method gives its cursor back, as `sort` does."""
        return self if answer is self._inner else answer

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._rows is None:
            self._rows = iter(list(self._inner))
            self._company()
        return next(self._rows)

    next = __next__

    def to_list(self, length: int | None = None) -> list[Any]:
        return list(itertools.islice(self, length))

    def __enter__(self) -> _Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self._inner.close()


@exercise
def follow_feed(follow: Any) -> None:
    """Let it follow drawn changes, with company while it copies for the first time, and with deaths at each write."""
    function = liberal.function("follow", follow)
    chance = draw()
    with collections("feed", "copy", "bookmark") as (feed, copy, bookmark):

        def call(writes: int | None = None, on_read: Callable[[], None] | None = None) -> bool:
            """Let it run until it returns or, after so many writes, dies; say whether it has returned."""
            life = _Life(writes)
            watched = (_Watched(feed, life, on_read), _Watched(copy, life), _Watched(bookmark, life))
            try:
                limited(function, 20, "follow")(*watched)
            except _Died:
                return False
            return True

        feed.insert_many([_document(chance, number) for number in range(8)])
        call(writes=chance.randrange(4, 7))
        _gone_meanwhile(feed, copy)
        call()
        _expect(feed, copy, "it was killed while it copied for the first time, and ran again")
        copy.delete_many({})
        bookmark.delete_many({})
        call(on_read=lambda: _company(feed, chance))
        call()
        _expect(feed, copy, "changes that somebody made while it was reading the collection for the first time")
        _changes(feed, chance)
        call()
        _expect(feed, copy, "changes while it was not running")
        _only_what_changed(call, feed, copy, chance)
        _restored(call, feed, copy, bookmark, chance)
        _deaths(call, feed, copy, chance)


def _document(chance: random.Random, number: int) -> dict[str, Any]:
    return {"_id": number, "stars": chance.randrange(1, 6), "text": a_word(chance), "articles": [{"product_id": 101}]}


def _company(feed: Any, chance: random.Random) -> None:
    feed.update_one({"_id": 1}, {"$set": {"stars": 9, "text": a_word(chance)}})
    feed.delete_one({"_id": 2})
    feed.insert_one(_document(chance, 90))


def _gone_meanwhile(feed: Any, copy: Any) -> None:
    """Let one of the documents go that the copy has already, before the program that made it is started again."""
    if there := copy.find_one({}, sort=[("_id", 1)]):
        feed.delete_one({"_id": there["_id"]})


def _restored(call: Callable[..., bool], feed: Any, copy: Any, bookmark: Any, chance: random.Random) -> None:
    """Bring copy and bookmark back as they were before a call: what it knows besides does not count."""
    kept = [(one, list(one.find())) for one in (copy, bookmark)]
    feed.update_one({"_id": {"$type": "number"}}, {"$set": {"text": a_word(chance)}})
    call()
    for one, documents in kept:
        one.delete_many({})
        if documents:
            one.insert_many(documents)
    call()
    _expect(feed, copy, "copy and bookmark were brought back from an hour ago, and it ran again")


def _changes(feed: Any, chance: random.Random) -> None:
    """Draw changes of each kind, one that concerns the same document several times, one of a document that goes."""
    here = sorted((one["_id"] for one in feed.find({}, {"_id": 1})), key=str)
    new = max(number for number in here if isinstance(number, int)) + 1
    feed.insert_one(_document(chance, new))
    feed.insert_one({"_id": f"text {new}", "stars": None})
    changed, replaced, gone, again, brief = chance.sample([one for one in here if isinstance(one, int)], 5)
    feed.update_one({"_id": changed}, {"$set": {"stars": chance.randrange(10, 10**6)}, "$unset": {"text": ""}})
    feed.update_one({"_id": changed}, {"$push": {"articles": {"product_id": new}}})
    feed.replace_one({"_id": replaced}, {"only": a_word(chance)})
    feed.update_one({"_id": gone}, {"$set": {"stars": 0}})  # whoever looks it up later finds nothing
    feed.delete_one({"_id": gone})
    feed.delete_one({"_id": again})
    feed.insert_one(_document(chance, again))
    feed.insert_one(_document(chance, new + 1))
    feed.delete_one({"_id": new + 1})
    feed.update_one({"_id": brief}, {"$inc": {"stars": 100}})


def _expect(feed: Any, copy: Any, when: str) -> None:
    found, truth = ([{"_id": one["_id"], "document": one} for one in side.find()] for side in (copy, feed))
    expect_rows(f"follow: {when}: the copy", found=found, expected=truth, key=("_id",), what="documents")


def _only_what_changed(call: Callable[..., bool], feed: Any, copy: Any, chance: random.Random) -> None:
    """Spoil what the last call has brought, and change another document: whoever brings it once more is found out."""
    spoilt, changed = chance.sample([one["_id"] for one in feed.find({"_id": {"$type": "number"}})], 2)
    feed.update_one({"_id": spoilt}, {"$set": {"stars": -2}})
    call()
    was = copy.find_one({"_id": spoilt})
    copy.update_one({"_id": spoilt}, {"$set": {"stars": "spoilt"}})
    feed.update_one({"_id": changed}, {"$set": {"stars": -1}})
    call()
    expect(
        copy.find_one({"_id": changed})["stars"] == -1, f"follow: document {changed} has changed, and not in the copy"
    )
    found = copy.find_one({"_id": spoilt})
    expect(
        found is not None and found["stars"] == "spoilt",
        "follow: it has brought over a document that has not changed since its bookmark",
    )
    copy.replace_one({"_id": spoilt}, was)


def _deaths(call: Callable[..., bool], feed: Any, copy: Any, chance: random.Random) -> None:
    """Let it die before its second write, its third, and a later one. (After one is before the next.)"""
    for writes in (1, 2, chance.randrange(3, 12)):
        _changes(feed, chance)
        if call(writes):
            break  # it needs no more than that
        call()
        _expect(feed, copy, f"it was killed after {writes} writes and ran once more")
    _expect(feed, copy, "at the end")
