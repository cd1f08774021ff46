"""What market-api publishes at /metrics: requests by route and status, how long they took, how many are waiting."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

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

        route, start = self._route(scope), time.perf_counter()
        BUSY.inc()
        try:
            await self.app(scope, receive, watch)
        finally:
            BUSY.dec()
            SECONDS.labels(route).observe(time.perf_counter() - start)
            REQUESTS.labels(scope["method"], route, status).inc()

    def _route(self, scope: Any) -> str:
        """The route's pattern, /orders/{order_id}: a label with the id itself would be a new series for each order."""
        for route in self.routes:
            if route.matches(scope)[0] is not Match.NONE:
                return getattr(route, "path", "other")
        return "other"


def metrics() -> Response:
    """All metrics of this process in Prometheus' text format."""
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
