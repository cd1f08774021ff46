"""Exercise 2: a reader whose token ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.c09_secrets.setting import Role, forgotten, refusals
from flow360.checks.draw import a_word, draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type, limited
from flow360.clients.secrets import Denied, Expired, Missing
from flow360.errors import FlowError, ServiceError
from flow360.waiting import patient, wait_for


@exercise
def patient_reader(make_reader: Any) -> None:
    """Check one sign-in for many reads, one more when the token is over, none for what a sign-in cannot mend."""
    make = limited(liberal.function("make_reader", make_reader), 10, "make_reader")
    vault, chance = clients.vault(), draw()
    kv, under = vault.secrets.kv.v2, f"lab/reader-{a_word(chance, 8)}/"
    own, foreign, words = f"{under}own", f"{under}foreign", [a_word(chance) for _ in range(3)]
    policy = f'path "secret/data/{own}" {{ capabilities = ["read"] }}\n' + (
        f'path "secret/data/{under}none" {{ capabilities = ["read"] }}'
    )
    name, ttl = f"lab-reader-{a_word(chance, 8)}".lower(), f"{patient(1):.0f}s"
    with forgotten(vault, own, foreign), Role(vault, name, policy) as role:
        kv.create_or_update_secret(foreign, {"word": words[0]})
        kv.create_or_update_secret(own, {"word": words[0]})
        read = _reader(make, role)
        _expect_word(read, own, words[0])
        kv.create_or_update_secret(own, {"word": words[1]})
        _expect_word(read, own, words[1])
        expect_equal("make_reader", found=role.logins(), expected=1, why="sign-ins for two reads, by Vault's audit log")
        role.revoke_tokens()
        _expect_again(read, own, words[1], role, 1, "the token was revoked long before its time")
        _expect_refused("a path that the policy does not allow", Denied, lambda: read(foreign))
        _expect_refused("a path with nothing in it", Missing, lambda: read(f"{under}none"))
        kv.delete_metadata_and_all_versions(own)
        _expect_refused("a secret that was removed", Missing, lambda: read(own))
        kv.create_or_update_secret(own, {"word": words[1]})
        role.allow(policy.replace("read", "list"))
        _expect_refused("a path that the policy no longer allows", Denied, lambda: read(own))
        role.allow(policy)
        _expect_word(read, own, words[1])
        expect_equal(
            "make_reader", found=role.logins(), expected=2, why="sign-ins, when two reads were denied: does one help?"
        )
    with forgotten(vault, own), Role(vault, f"{name}-short", policy, ttl) as role:
        kv.create_or_update_secret(own, {"word": words[2]})
        read = _reader(make, role)
        _expect_word(read, own, words[2])
        _until_over(role, own)
        _expect_again(read, own, words[2], role, role.logins(), "the token was over")
        _until_over(role, own)
        vault.auth.approle.destroy_secret_id(role_name=f"{name}-short", secret_id=role.secret_id)
        before = role.logins()
        _expect_refused("a role whose secret id was destroyed", ServiceError, lambda: read(own))
        tried = role.logins() - before
        expect(tried, "make_reader: the token was over for the second time, and it did not try to sign in")
        expect(tried <= 2, f"make_reader: its secret id opens nothing any more, and it tried it {tried} times")


def _reader(make: Callable[..., Any], role: Role) -> Callable[[str], Any]:
    with refusals("make_reader", "with a good role and secret"):
        read = make(role.role_id, role.secret_id)
    expect(callable(read), f"make_reader: expected it to return a function, found {type(read).__name__}")
    return limited(read, 10, "the reader")


def _until_over(role: Role, path: str) -> None:
    """Wait until a token is over that was given later than the reader's."""
    mine = role.client().secrets.kv.v2

    def over() -> bool:
        try:
            mine.read_secret(path)
        except Expired:
            return True
        return False

    wait_for(over, 20, "a token of a second to end")


def _expect_word(read: Callable[[str], Any], path: str, word: str) -> None:
    with refusals("make_reader", "reading a path that the policy allows"):
        found = read(path)
    expect_type("make_reader", found, Mapping)
    inner = found.get("data", found)  # Vault's whole answer says it, too
    inner = inner.get("data", inner) if isinstance(inner, Mapping) else inner
    expect(
        inner == {"word": word},
        f"make_reader: expected the newest value, its dict, found {list(found)} with another: an old one?",
    )


def _expect_again(read: Callable[[str], Any], path: str, word: str, role: Role, before: int, what: str) -> None:
    """Raise NotYet unless it reads on after one more sign-in; `before` are those until now."""
    try:
        _expect_word(read, path, word)
    except Expired:
        raise NotYet(f"make_reader: {what}, and the reader gave up: who could give it another?") from None
    expect_equal("make_reader", found=role.logins() - before, expected=1, why=f"sign-ins after {what}")


def _expect_refused(what: str, kind: type[FlowError], call: Callable[[], Any]) -> None:
    try:
        found = call()
    except kind:
        return
    except FlowError as error:
        raise NotYet(
            f"make_reader: {what}: expected {kind.__name__} to come through, found {type(error).__name__}"
        ) from None
    raise NotYet(
        f"make_reader: {what}: expected {kind.__name__} to come through, found an answer, {type(found).__name__}: "
        "where did it come from?"
    )
