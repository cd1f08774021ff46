"""Exercise 5: who had a value in hand, by the audit log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.c09_secrets.setting import ANY, DENIED, Role, forgotten, names, refusals
from flow360.checks.draw import a_word, draw
from flow360.checks.verdict import NotYet, exercise, expect, limited
from flow360.clients.secrets import Denied
from flow360.delivery import vaults
from flow360.primeur.clock import PARIS


@exercise
def who_had_it(suspects: Any) -> None:
    """Check, on fresh traffic by ten roles, that it names those who had the value by that moment, and nobody else."""
    ask = limited(liberal.function("suspects", suspects), 10, "suspects")
    vault, chance = clients.vault(), draw()
    began = datetime.now(UTC)
    under, value, other = f"lab/leak-{a_word(chance, 8)}/", a_word(chance), a_word(chance)
    plain, deep, rest = f"{under}plain", f"{under}deep/{a_word(chance, 5)}", f"{under}rest"
    tag = a_word(chance, 6).lower()
    doing: dict[str, Callable[[Any], Any]] = {
        "writes": lambda kv: kv.create_or_update_secret(plain, {"pin": value, "note": "none"}),
        "reads": lambda kv: kv.read_secret(plain),
        "nested": lambda kv: kv.read_secret(deep),
        "beside": lambda kv: kv.read_secret(rest),
        "lists": lambda kv: kv.read_secret_metadata(plain),
        "denied": lambda kv: kv.read_secret(plain),
        "brings": lambda kv: kv.create_or_update_secret(rest, {"pin": value}),
    }
    after: dict[str, Callable[[Any], Any]] = {
        "older": lambda kv: kv.read_secret_version(plain, version=1),
        "newer": lambda kv: kv.read_secret(plain),
    }
    policy = ANY.format(under=under)
    with forgotten(vault, plain, deep, rest), ExitStack() as end:
        roles = {what: f"lab-{tag}-{what}" for what in (*doing, *after, "late")}
        kvs = {
            what: end.enter_context(Role(vault, name, DENIED if what in ("denied", "brings") else policy))
            .client()
            .secrets.kv.v2
            for what, name in roles.items()
        }
        kvs["beside"].create_or_update_secret(rest, {"pin": other})
        kvs["nested"].create_or_update_secret(deep, {"accounts": [{"name": "shop", "word": other}]})
        # Written by the learner's own role, which is thereby one of them.
        vault.secrets.kv.v2.create_or_update_secret(deep, {"accounts": [{"name": "shop"}, {"word": value}]})
        for what, call in doing.items():
            with suppress(Denied):
                call(kvs[what])
        kvs["beside"].create_or_update_secret(plain, {"pin": other})
        for what, call in after.items():
            call(kvs[what])
        kvs["late"].read_secret_version(plain, version=1)
        records = vaults.records(began)
        # The very moment at which the last one is handed the value: that is not before it.
        moment = max(datetime.fromisoformat(one["time"]) for one in records if vaults.who(one) == roles["late"])
        with refusals("suspects", "Vault refuses"):
            found = names("suspects", ask(vault, records, value, moment.astimezone(PARIS)), (str, bytes, Mapping))
        expected = {roles[one] for one in ("writes", "reads", "nested", "older", "brings")} | {"notebook"}
        called = {name: what for what, name in roles.items()} | {"notebook": "notebook"}
        reasons = {
            "writes": "the role that wrote the value",
            "reads": "a role that read the value",
            "nested": "a role that read it under another path and name, deeper inside",
            "older": "a role that read an older version, in which the value still was",
            "notebook": "notebook, which wrote it, too",
            "brings": "a role that wanted to write the value and was refused (it had it, then)",
            "beside": "a role that read and wrote another value",
            "lists": "a role that only asked for the metadata",
            "denied": "a role that wanted to read it and was refused",
            "newer": "a role that read the path when it held another value",
            "late": "a role that was handed it at the moment, not before it",
        }
        if lost := sorted(called[name] for name in expected - found):
            raise NotYet(f"suspects: {reasons[lost[0]]} is missing; {len(lost)} of {len(expected)} are")
        if more := sorted(called.get(name, name) for name in found - expected):
            raise NotYet(f"suspects: {reasons.get(more[0], f'{more[0]!r}, who never had it,')} is among them")
        nobody = names("suspects", ask(vault, records, a_word(chance), moment), (str, bytes, Mapping))
        expect(not nobody, f"suspects: for a value that nobody was given, expected nobody, found {sorted(nobody)[:3]}")
