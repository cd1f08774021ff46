"""Exercise 1: a policy that allows what the statement says, and nothing beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.c09_secrets.setting import Role, forgotten, refusals
from flow360.checks.draw import a_word, draw
from flow360.checks.verdict import NotYet, exercise, expect
from flow360.clients.secrets import Denied, Missing

ELSEWHERE = (
    "secret/config", "auth/token/create", "auth/approle/role/pipeline/secret-id", "database/roles/pipeline",
    "sys/policies/acl/notebook", "sys/mounts", "sys/auth", "identity/entity",
)  # fmt: skip


@exercise
def narrow_policy(policy: Any) -> None:
    """Check that a role with this policy can do what the statement says, and nothing beside it: each is tried."""
    text = liberal.text("policy", policy)
    vault, chance = clients.vault(), draw()
    near, far = f"x{a_word(chance, 6)}", f"y{a_word(chance, 6)}/z{a_word(chance, 4)}"
    mine = [near, far, f"banknotes-{near}", f"{near}/bank/{near}", f"inboxes/{near}", f"inbox/{near}", f"inbox/{far}"]
    beside = ["bank/" + near, "bank/" + far]
    market = [f"lab/market/{one}" for one in (*mine, *beside)]
    others = [f"lab/marketing/{near}", f"lab/{near}", f"{near}"]
    new = f"lab/market/inbox/new-{near}"
    kv = vault.secrets.kv.v2
    with forgotten(vault, *market, *others, new, f"{new}-too"):
        for path in (*market, *others):
            kv.create_or_update_secret(path, {"word": "one"})
        with refusals("policy", "Vault does not take it"):
            role = Role(vault, f"lab-check-{near}".lower(), text)
        with role:
            their = role.client().secrets.kv.v2
            may = _May("policy")
            for one in mine:
                may.do(f"reading lab/market/{one}", lambda p=one: their.read_secret(f"lab/market/{p}"))
            for path in (*(f"lab/market/{one}" for one in beside), *others, "airflow/connections/warehouse"):
                may.not_do(f"reading {path}", lambda p=path: their.read_secret(p))
            deep = far.partition("/")[0]
            for folder in ("lab/market", f"lab/market/{deep}", "lab/market/inbox", f"lab/market/inbox/{deep}"):
                may.do(f"listing {folder}/", lambda p=folder: their.list_secrets(p))
            for folder in ("lab", "lab/marketing", "lab/market/bank", f"lab/market/bank/{deep}"):
                may.not_do(f"listing {folder}/", lambda p=folder: their.list_secrets(p))
            for path in (f"lab/market/inbox/{near}", f"lab/market/inbox/{far}", new):
                may.do(f"writing {path}", lambda p=path: their.create_or_update_secret(p, {"word": "two"}))
            for one in (near, far, f"inboxes/{near}", f"bank/{near}", f"new-{near}"):
                path = f"lab/market/{one}"
                may.not_do(f"writing {path}", lambda p=path: their.create_or_update_secret(p, {"word": "two"}))
            for one in (near, f"inbox/{near}"):
                path = f"lab/market/{one}"
                may.not_do(
                    f"reading what is known about {path} (its metadata)", lambda p=path: their.read_secret_metadata(p)
                )
                may.not_do(
                    f"changing what is known about {path} (its metadata)",
                    lambda p=path: their.update_metadata(p, max_versions=3),
                )
                may.not_do(f"deleting {path}", lambda p=path: their.delete_latest_version_of_secret(p))
                may.not_do(f"destroying version 1 of {path}", lambda p=path: their.destroy_secret_versions(p, [1]))
                may.not_do(
                    f"removing {path} with all versions", lambda p=path: their.delete_metadata_and_all_versions(p)
                )
            may.not_do(
                "making metadata for a secret that is not there",
                lambda: their.update_metadata(f"{new}-too", max_versions=3),
            )
            _nothing_else(role.client(), [near, f"inbox/{near}", f"bank/{near}"])
            may.not_do(
                "borrowing a user of the warehouse",
                lambda: role.client().secrets.database.generate_credentials("pipeline"),
            )


def _nothing_else(client: Any, market: list[str]) -> None:
    """Ask Vault what the role may do where it has nothing to do."""
    ways = ("subkeys", "delete", "undelete", "destroy")
    paths = [*(f"secret/{way}/lab/market/{one}" for way in ways for one in market), *ELSEWHERE]
    said = client.sys.get_capabilities(paths)["data"]
    for path in paths:
        expect(said[path] == ["deny"], f"policy: {path}: it may {', '.join(said[path])} there, and should be refused")


class _May:
    """Tries what may be done and what not; the first surprise is the verdict."""

    def __init__(self, name: str) -> None:
        self.name = name

    def do(self, what: str, call: Callable[[], Any]) -> None:
        try:
            call()
        except (Denied, Missing):
            raise NotYet(f"{self.name}: {what} is refused, and should be allowed") from None

    def not_do(self, what: str, call: Callable[[], Any]) -> None:
        try:
            call()
        except Denied:
            return
        except Missing:
            pass
        raise NotYet(f"{self.name}: {what} is allowed, and should be refused")
