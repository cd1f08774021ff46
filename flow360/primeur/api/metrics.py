"""What market-api says of each request: numbers at /metrics, by route and status, and a line with ids in its log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from flow360.monitoring.logs import writing

LOG = logging.getLogger("market-api")
TRACE = b"traceparent"

# [START metrics]
REQUESTS = Counter("market_api_requests", "Answers given", ["method", "route", "status"])
SECONDS = Histogram(
    "market_api_request_seconds",
    "Time from the request to the last byte of its answer",
    ["route"],
    # Fine where a good answer lies, coarse beyond: a quantile is never more exact than the bucket it falls into.
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
BUSY = Gauge("market_api_requests_in_progress", "Requests that are being answered now")
# [END metrics]


class Measure:
    """The outermost layer of the service (ASGI): it sees each answer to its end, also those that the limit refuses."""

    def __init__(self, app: Any, routes: Iterable[BaseRoute]) -> None:
        self.app = app
        self.routes = routes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] == "/metrics":
            await self.app(scope, receive, send)
            return
        status = "500"

        async def watch(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        (route, order), start = self._route(scope), time.perf_counter()
        about = {"method": scope["method"], "path": scope["path"], **({"order_id": order} if order else {})}
        BUSY.inc()
        with writing.traced(writing.trace_of(dict(scope["headers"]).get(TRACE, b"").decode("ascii", "replace"))):
            try:
                await self.app(scope, receive, watch)
            except Exception:
                LOG.exception("the request failed", extra=about)
                raise
            finally:
                seconds = time.perf_counter() - start
                BUSY.dec()
                SECONDS.labels(route).observe(seconds)
                REQUESTS.labels(scope["method"], route, status).inc()
                level = logging.ERROR if status >= "500" else logging.INFO
                more = {"status": int(status), "milliseconds": round(seconds * 1000, 1)}
                LOG.log(level, "%s %s %s", scope["method"], scope["path"], status, extra=about | more)

    def _route(self, scope: Any) -> tuple[str, int | None]:
        """Find the route's pattern, /orders/{order_id}, and the order that the path names.

        The pattern, because a label with the id itself would be a new series for each order; the order also where the
        answer is a fault that never reaches the route: that is the one that somebody will look for.
        """
        for route in self.routes:
            match, found = route.matches(scope)
            if match is not Match.NONE:
                order = str(found.get("path_params", {}).get("order_id", ""))
                return getattr(route, "path", "other"), int(order) if order.isdecimal() else None
        return "other", None


def metrics() -> Response:
    """Write all metrics of this process in Prometheus' text format."""
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
