"""The secrets: Vault by hvac, with one line for whatever it refuses. No password is taken from elsewhere instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from flow360.clients import reach
from flow360.errors import FlowError, ServiceError
from flow360.settings import settings

if TYPE_CHECKING:
    import hvac

SECONDS = 10


class Sealed(ServiceError):
    """Vault runs and holds its keys back."""


class Expired(ServiceError):
    """The token is over, or was revoked."""


class Denied(ServiceError):
    """The token is good, and its policies do not allow this."""


class Missing(FlowError):
    """There is nothing under this path."""


def vault() -> hvac.Client:
    """Open Vault as the learner's own role `notebook`: `vault().secrets.kv.v2.read_secret("airflow/connections/shop")`.

    An hvac client for 8 hours. KV version 2 is mounted at `secret`, PostgreSQL's engine at `database`.

    Raises:
        ServiceError: Vault is down; as `Sealed`, `Expired` or `Denied`, here and from each call of the client.
        Missing: from a call: there is nothing under the path.
    """
    return vault_at(settings().vault_url, "notebook", settings().vault_notebook_secret)


def vault_at(url: str, role_id: str, secret_id: str) -> hvac.Client:
    """Make a client that has signed in as an AppRole.

    Raises:
        ServiceError: as `vault`; or it does not know the role with this secret.
    """
    client = vault_as(url, "")
    try:
        client.auth.approle.login(role_id=role_id, secret_id=secret_id)
    except FlowError as error:
        if "invalid role or secret" not in str(error) and "invalid secret id" not in str(error):
            raise
        raise Denied(f"vault does not know {role_id} with this secret: is .env the one it was started with?") from None
    return client


def vault_as(url: str, token: str) -> hvac.Client:
    """Make a client with this token (none: to sign in with), whatever lies in the environment or the home folder."""
    import hvac

    from flow360.clients import direct

    client = hvac.Client(url=url, token=token, timeout=SECONDS, session=direct.Session(), adapter=_adapter())
    # hvac 3 will answer with what is left of a deleted version, and hvac 2 warns of it at each call: it is `Missing`.
    kv = client.secrets.kv.v2
    kv.read_secret = partial(kv.read_secret, raise_on_deleted_version=True)
    kv.read_secret_version = partial(kv.read_secret_version, raise_on_deleted_version=True)
    return client


def _adapter() -> type:
    import hvac.adapters
    import requests

    class Adapter(hvac.adapters.JSONAdapter):
        """hvac's own, which says in one line what went wrong."""

        def request(self, method: str, url: str, *args: Any, **kw: Any) -> Any:
            try:
                return super().request(method, url, *args, **kw)
            except requests.RequestException as error:
                raise reach.is_down("vault", error) from None
            except hvac.exceptions.VaultError as error:
                raise said_of(error, method, url, self._expired) from None

        def _expired(self) -> bool:
            """Ask whether the token itself is why: it may then not even look at itself."""
            try:
                super().request("get", "/v1/auth/token/lookup-self")
            except hvac.exceptions.VaultError:
                return True
            return False

    return Adapter


def said_of(error: Any, method: str, url: str, expired: Callable[[], bool]) -> FlowError:
    """Say what Vault's refusal means, in one line without the secret.

    Args:
        error: hvac's exception.
        url: the path that was asked for, with or without `/v1/` in front.
        expired: asked after a 403: is it the token?
    """
    import hvac.exceptions as theirs

    path = re.sub(r"^(https?://[^/]+)?/?(v1/)?", "", url)
    said = error.errors if error.errors is not None else [error.text or error]  # of an empty path it says []
    words = " ".join(" ".join(map(str, said)).split())[:200]
    if isinstance(error, theirs.VaultDown) or "sealed" in words:
        return Sealed("vault is sealed: it keeps everything and gives nothing: unseal it with `flow360 up vault`")
    if isinstance(error, theirs.Forbidden):
        if expired():
            return Expired(f"vault: {method} {path}: the token has expired or was revoked: sign in again")
        return Denied(f"vault: {method} {path}: the policies of this token do not allow it")
    if isinstance(error, theirs.InvalidPath):
        return Missing(f"vault: {path}: there is nothing here{f' ({words})' if words and words != 'None' else ''}")
    if "password authentication failed" in words:  # a warehouse made before there was a Vault, or for another .env
        words = "the warehouse does not let vault in: flow360 reset postgres-databases, then flow360 up secrets"
    return ServiceError(f"vault: {method} {path}: {words or type(error).__name__}")
