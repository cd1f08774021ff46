"""What is asked over HTTP: the market, Airflow, Kafka Connect, Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flow360.clients import reach
from flow360.errors import FlowError, ServiceError
from flow360.settings import settings

if TYPE_CHECKING:
    import requests

    from flow360.clients.metrics import Prometheus


def api(seconds: float = 10.0, base: str | None = None) -> requests.Session:
    """Open a requests session for market-api: `api().get("/orders", params={"limit": 100})`.

    Paths are joined to the service's address, and each request has a time-out (`seconds`, or `timeout=` of the call).
    What HTTP says (429, 500) comes back as a response, and a slow answer as requests.Timeout: they are yours to handle.

    Args:
        base: its address, where it is not the published one (inside the containers' network).

    Raises:
        FlowError: from a request, when nothing listens on the service's port.
    """
    session = _session("market-api", base or settings().market_api_url, seconds)
    session.headers["X-Chaos-Key"] = settings().market_api_key  # or the service lets nobody change its manners
    return session


def airflow(seconds: float = 30.0) -> requests.Session:
    """Open a requests session for Airflow's REST API, logged in: `airflow().get("/dags/hourly_ingestion").json()`.

    Paths are joined to the address of the API's version 2. The token is good for a day.

    Raises:
        FlowError: the api-server is down; also from a request that it refuses (400 and above), with its reason.
    """
    s = settings()
    session = _session("airflow-webserver", s.airflow_url, seconds)
    session.hooks["response"].append(_refusal)
    login = {"username": "primeur", "password": s.airflow_password}
    answer = session.post("/auth/token", json=login)
    try:
        session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    except (ValueError, KeyError, TypeError):
        said = " ".join(answer.text.split())[:200] or "an empty body"
        raise ServiceError(f"airflow: POST /auth/token: {answer.status_code} without a token: {said}") from None
    session.base += "/api/v2"
    return session


def _refusal(answer: requests.Response, *_: Any, **__: Any) -> None:
    """Raise what Airflow's API says when it does not do what it was asked for, as one line."""
    if answer.status_code < 400:
        return
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.text[:200]
    if isinstance(detail, list):  # what was wrong with which field
        detail = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in detail)
    elif isinstance(detail, dict):  # the database said no
        detail = detail.get("reason") or detail.get("message") or str(detail)
        detail = f"there is one already ({detail})" if answer.status_code == 409 else detail
    method, path = answer.request.method, answer.request.path_url.removeprefix("/api/v2")
    if answer.status_code == 401:
        detail = f"{detail}: is .env the one that airflow-webserver was started with?"
    raise FlowError(f"airflow: {method} {path}: {answer.status_code}: {detail}")


def connect(seconds: float = 30.0, base: str | None = None) -> requests.Session:
    """Open a requests session for Kafka Connect, logged in: `connect().get("/connectors/primeur-shop/status").json()`.

    Paths are joined to the worker's address, and each request has a time-out.

    Args:
        base: its address, where it is not the published one (inside the containers' network).

    Raises:
        FlowError: from a request: the worker is down, or refuses it (400 and above), with its reason.
    """
    s = settings()
    session = _session("kafka-connect", base or s.kafka_connect_url, seconds)
    session.auth = ("primeur", s.kafka_connect_password)
    session.hooks["response"].append(_connect_refusal)
    return session


def _connect_refusal(answer: requests.Response, *_: Any, **__: Any) -> None:
    """Raise what Kafka Connect says when it does not do what it was asked for, as one line."""
    if answer.status_code < 400:
        return
    try:
        said = answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        said = answer.text
    said = " ".join(str(said).split())[:300] or "an empty body"
    line = f"kafka-connect: {answer.request.method} {answer.request.path_url}: {answer.status_code}: {said}"
    if answer.status_code == 401:
        raise ServiceError(f"{line}: is it the .env that kafka-connect was started with?")
    # 409: the workers are dividing their work; 5xx: it is starting, or a database did not answer.
    raise ServiceError(line) if answer.status_code in (409, 500, 503) else FlowError(line)


def _session(service: str, base: str, seconds: float) -> Any:
    """Open a requests session whose paths begin at `base` and whose requests have a time-out."""
    import requests

    from flow360.clients import direct

    class Session(direct.Session):
        def request(self, method: str, url: str, **kw: Any) -> requests.Response:  # type: ignore[override]
            if url.startswith("/"):
                url = self.base + url
            kw.setdefault("timeout", seconds)
            try:
                return super().request(method, url, **kw)
            except requests.ConnectionError:
                # A connection cut in the middle is the network's weather and the caller's to retry; no listener is not.
                if url.startswith(base) and not reach.answers(service):
                    raise reach.is_down(service) from None
                raise

    session = Session()
    session.base = base
    return session


def prometheus() -> Prometheus:
    """Open Prometheus: `prom = prometheus()`, then `prom.query("up")` gives a DataFrame; also alerts, targets, rules.

    Raises:
        FlowError: it is down.
    """
    from flow360.clients.metrics import Prometheus

    reach.require("prometheus")
    return Prometheus()
