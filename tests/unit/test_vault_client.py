"""What Vault's refusals mean, in one line each; and which files are put on top of the layers."""

from __future__ import annotations

import hvac.exceptions as theirs
import pytest

from flow360.clients.secrets import Denied, Expired, Missing, Sealed, said_of
from flow360.errors import ServiceError
from flow360.settings import SPLIT, VAULTED, is_split, overlays


@pytest.mark.parametrize(
    ("error", "expired", "kind", "line"),
    [
        (theirs.VaultDown(errors=["Vault is sealed"]), False, Sealed, "vault is sealed: .* `flow360 up vault`"),
        (theirs.InternalServerError(errors=["OpenBao is sealed"]), False, Sealed, "vault is sealed"),
        (
            theirs.Forbidden(errors=["permission denied"]),
            False,
            Denied,
            "get secret/data/a: the policies of this token",
        ),
        (theirs.Forbidden(errors=["permission denied"]), True, Expired, "get secret/data/a: the token has expired"),
        (theirs.InvalidPath(errors=[]), False, Missing, "secret/data/a: there is nothing here"),
        (
            theirs.InternalServerError(errors=["password authentication failed"]),
            False,
            ServiceError,
            "postgres-databases",
        ),
        (theirs.InternalServerError(errors=["cipher: message authentication failed"]), False, ServiceError, "cipher"),
        (theirs.InvalidRequest(errors=["two", "words"]), False, ServiceError, "get secret/data/a: two words"),
    ],
)
def test_each_refusal_has_its_own_line(error, expired, kind, line):
    said = said_of(error, "get", "http://127.0.0.1:8200/v1/secret/data/a", lambda: expired)
    assert type(said) is kind
    assert len(said.message.splitlines()) == 1
    with pytest.raises(kind, match=line):
        raise said


@pytest.mark.parametrize(
    ("compose_file", "on_top"),
    [
        (None, ()),
        ("compose.yaml", ()),
        (f"compose.yaml:{SPLIT}", (SPLIT,)),
        (f"/home/me/compose.yaml:/home/me/{VAULTED}", (VAULTED,)),
        (f"compose.yaml:{VAULTED}:{SPLIT}", (VAULTED, SPLIT)),
        ("compose.yaml:stack/layers/other.yaml", ()),
    ],
)
def test_what_compose_file_puts_on_top_is_taken_in_its_order(compose_file, on_top):
    assert overlays(compose_file) == on_top
    assert is_split(compose_file) == (SPLIT in on_top)
