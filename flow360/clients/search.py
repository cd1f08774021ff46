"""The search engine over plain REST: Elasticsearch in a container, OpenSearch natively; the same calls reach both."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from flow360.clients import reach
from flow360.errors import Exit, FlowError, ServiceError
from flow360.settings import settings

if TYPE_CHECKING:
    import requests

SECONDS = 30
SERVICE = "elasticsearch"


class Denied(ServiceError):
    """The password is wrong, or this user may not do that."""


class Refused(FlowError):
    """The engine understood and said no: its own reason. `status` is HTTP's, `body` the whole answer."""

    def __init__(self, message: str, status: int, body: Any) -> None:
        super().__init__(message, Exit.USAGE)
        self.status = status
        self.body = body


@cache
def _kind() -> type:
    """Make the class of the sessions when the first one is needed: requests takes its time."""
    import requests

    from flow360.clients import direct

    class Search(direct.Session):
        """A requests session whose paths begin at the search engine, signed in as one user.

        An answer of 400 and above is an error of one line, but for HEAD, whose 404 is its answer.
        """

        def __init__(self, base: str, user: str, password: str) -> None:
            super().__init__()
            self.base, self.auth = base, (user, password)

        def request(self, method: str, url: str, **kw: Any) -> requests.Response:  # type: ignore[override]
            kw.setdefault("timeout", SECONDS)
            try:
                answer = super().request(method, self.base + url if url.startswith("/") else url, **kw)
            except requests.Timeout:
                raise ServiceError(f"{SERVICE} did not answer {method} {url} within {kw['timeout']:g} s") from None
            except requests.ConnectionError as error:
                raise reach.is_down(SERVICE, error) from None
            if answer.status_code >= 400 and method.upper() != "HEAD":
                raise _said(answer, method.upper(), url, self.auth[0])
            return answer

    return Search


def search(base: str | None = None) -> requests.Session:
    """Open the search engine, as its user `elastic`: `search().get("/primeur-logs/_search", json={"query": …}).json()`.

    A requests session: paths are joined to the engine's address, each request has a time-out, and what the engine
    refuses (400 and above) is an error of one line; only HEAD answers with its 404.

    Args:
        base: its address, where it is not the published one (inside the containers' network).

    Raises:
        ServiceError: from a request: it is down, or (search.Denied) does not let us in.
        FlowError: from a request: as search.Refused, with the engine's own reason.
    """
    return search_as("elastic", settings().elastic_password, base)


def search_as(user: str, password: str, base: str | None = None) -> requests.Session:
    """Open the search engine as another user, such as `shipper`, who may only write."""
    return _kind()(base or settings().elasticsearch_url, user, password)


def _said(answer: requests.Response, method: str, path: str, user: str) -> FlowError:
    """Say what the engine's refusal means, in one line."""
    path = path.partition("?")[0]
    if answer.status_code == 401:
        return Denied(f"{SERVICE} does not know {user} with this password: is .env the one it was started with?")
    try:
        body = answer.json()
        error = body.get("error", body)
        causes = error.get("root_cause") if isinstance(error, dict) else None
        reason = (error.get("reason") or causes[0]["reason"]) if isinstance(error, dict) else str(error)
        inner = error.get("caused_by", {}).get("reason") if isinstance(error, dict) else None
        if causes and causes[0].get("reason") not in (None, reason):
            reason = f"{reason}: {causes[0]['reason']}"
        reason = f"{reason}: {inner}" if inner and inner not in reason else reason
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        body, reason = answer.text, answer.text or "an empty body"
    reason = " ".join(str(reason).split())[:300]
    if answer.status_code == 403:
        return Denied(f"{SERVICE}: {method} {path}: {user} may not do this: {reason}")
    if answer.status_code >= 500:
        return ServiceError(f"{SERVICE}: {method} {path}: {answer.status_code}: {reason}")
    return Refused(f"{SERVICE}: {method} {path}: {answer.status_code}: {reason}", answer.status_code, body)
