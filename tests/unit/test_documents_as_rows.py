"""Documents as rows: nothing is lost, whatever a document holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flow360.primeur.catalogue_load import COLLECTIONS
from flow360.primeur.snapshot import seed_documents
from flow360.processing import documents

NAMES = st.sampled_from(["", "a", "b", "a.b", ".", "..", "*", "\\*", "\\", "a\\.b", "é $"])
LEAVES = st.sampled_from([None, True, 1, 2**70, 0.1, "", "x", {"$numberDecimal": "1.10"}, {}, []])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))


def pairs(value):
    """A value with the order of its fields, which a dict's `==` overlooks."""
    if isinstance(value, dict):
        return [(name, pairs(inner)) for name, inner in value.items()]
    return [pairs(one) for one in value] if isinstance(value, list) else (type(value), value)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_what_was_made_rows_is_the_same_document_again(document):
    rows = documents.flatten(document)
    assert documents.build(rows) == document
    kept = [value for fields in rows.values() for value in fields.values()]
    lists = [value for value in kept if isinstance(value, dict) and set(value) == {documents.ITEMS}]
    assert len(kept) - len(lists) == documents.values(document) - (not document), "each value once"


def test_the_catalogues_own_documents_are_the_same_again_field_by_field():
    for name in COLLECTIONS:
        for document in seed_documents(name):
            plain = {**document, "_id": str(document["_id"])}
            assert pairs(documents.build(documents.flatten(plain))) == pairs(plain)


def test_each_list_is_a_table_and_says_in_its_place_how_many():
    sheet = {"_id": 1, "name": {"fr": "x"}, "suppliers": [{"certificates": [{"kind": "AB"}, {"kind": "EU"}]}, {}]}
    assert documents.flatten(sheet) == {
        ("", ()): {"_id": 1, "name.fr": "x", "suppliers": {"$items": 2}},
        ("suppliers", (0,)): {"certificates": {"$items": 2}},
        ("suppliers.certificates", (0, 0)): {"kind": "AB"},
        ("suppliers.certificates", (0, 1)): {"kind": "EU"},
        ("suppliers", (1,)): {"*": {}},
    }
    assert documents.flatten({"tags": ["a", ["b"]]}) == {
        ("", ()): {"tags": {"$items": 2}},
        ("tags", (0,)): {"*": "a"},
        ("tags", (1,)): {"*": {"$items": 1}},
        ("tags.*", (1, 0)): {"*": "b"},
    }
