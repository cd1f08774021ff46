"""market-api: Primeur's REST service. `python -m flow360.primeur.api.server --host 127.0.0.1 --port 18000 --data DIR`.

It is a service as they are in life: pages with cursors, entity tags, a rate limit, answers that fail or are slow, items
that come twice. What it does to a client is decided by a seed (`api_chaos`) and listed in the manifest (`feed`).
The page at /docs works with no network.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
import uvicorn
from fastapi import FastAPI, Header, HTTPException, Query, Request
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flow360.errors import FlowError
from flow360.monitoring.logs import writing
from flow360.neighbours import is_foreign
from flow360.primeur.api.chaos import Allowance, Chaos, ChaosSettings, Fault
from flow360.primeur.api.market import Market
from flow360.primeur.api.metrics import Measure, metrics
from flow360.primeur.api.paging import BadCursor, body, etag, matches, page
from flow360.primeur.api.store import KeyReused, OrderStore
from flow360.primeur.api.usage import Usage
from flow360.primeur.load import connect
from flow360.primeur.records import local
from flow360.settings import settings

CALM = ("/health", "/metrics", "/chaos", "/usage", "/docs", "/redoc", "/openapi.json", "/static-offline-docs")
"""Paths that are never limited and never fail."""
LOG = logging.getLogger("market-api")
DRIPS = 8
LARGEST = 2**63 - 1
"""The largest number that its database can hold."""


class Page(BaseModel):
    """One page of a list."""

    items: list[dict[str, Any]]
    next_cursor: str | None = Field(description="ask for the next page with it; null on the last page")


class LineIn(BaseModel):
    """One line of a new order."""

    model_config = ConfigDict(extra="forbid")

    product_id: int
    quantity: int = Field(ge=1, le=99)


class OrderIn(BaseModel):
    """A new order. `reference` is a word of your own to find your orders again."""

    model_config = ConfigDict(extra="forbid")

    customer_id: int
    lines: list[LineIn] = Field(min_length=1, max_length=50)
    reference: str | None = Field(None, max_length=100)


class OrderOut(BaseModel):
    """A placed order."""

    order_id: int
    customer_id: int
    store_id: int
    placed_at: str
    total_eur: float
    reference: str | None
    lines: list[LineIn]


class Problem(BaseModel):
    """Why a request was refused, in one line."""

    detail: str


def _refuses(**reasons: str) -> dict[int | str, dict[str, Any]]:
    """Describe what a path answers instead: `_refuses(_404="there is no such order")`."""
    return {int(status[1:]): {"model": Problem, "description": reason} for status, reason in reasons.items()}


WRONG = "a value is of the wrong kind or out of range"
Limit = Annotated[int, Query(ge=1, le=100, description="items on a page")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
Day = Annotated[date | None, Query(description="only the items of this day in Paris, as 2026-05-07")]


def _answer(request: Request, payload: dict[str, Any]) -> Response:
    """Answer JSON with an entity tag, or 304 without a body when the client has these bytes."""
    data = body(payload)
    headers = {"ETag": etag(data), "Cache-Control": "no-cache"}
    if matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="application/json", headers=headers)


def _client(request: Request) -> str:
    return request.headers.get("x-client-id") or (request.client.host if request.client else "unknown")


def _line(error: Mapping[str, Any]) -> str:
    """Write a finding of pydantic as a line, without what was found: JSON can say neither NaN nor half a character."""
    line = f"{'.'.join(map(str, error['loc']))}: {error['msg']}"
    return line.encode("utf-8", "backslashreplace").decode()


async def _drip(response: Response, seconds: float) -> Response:
    """Send the same answer with its body in eight parts over some seconds."""
    data = b"".join([part async for part in response.body_iterator])
    size = max(1, -(-len(data) // DRIPS))

    async def parts() -> AsyncIterator[bytes]:
        for first in range(0, len(data), size):
            await asyncio.sleep(seconds / DRIPS)
            yield data[first : first + size]

    return StreamingResponse(parts(), response.status_code, dict(response.headers))


def _guard(app: FastAPI, chaos: Chaos, usage: Usage) -> None:
    """Put the rate limit and the faults before every path that is not calm, and count what came of it."""
    posts = itertools.count(1)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if is_foreign(request.headers.get("host"), request.headers.get("origin"), "market-api"):
            return JSONResponse({"detail": "this service answers no page of another site"}, 403)
        if request.url.path.startswith(CALM):
            return await call_next(request)
        allowance = chaos.admit(_client(request))
        response = await misbehave(request, allowance, call_next)
        usage.count(_client(request), response.status_code, allowance.early)
        return response

    async def misbehave(
        request: Request, allowance: Allowance, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        client = _client(request)
        if allowance.wait:
            problem = {"detail": "too many requests: wait as long as Retry-After says"}
            return JSONResponse(problem, 429, headers=allowance.headers)
        name = f"{request.method} {request.url.path}?{request.url.query}"
        if request.method == "POST":
            name += request.headers.get("idempotency-key") or f"#{next(posts)}"
        fault = chaos.next_fault(client, name)
        if fault is Fault.ERROR:
            return JSONResponse({"detail": "something broke here: try again"}, 500, headers=allowance.headers)
        if fault is Fault.SLOW:
            await asyncio.sleep(chaos.settings.delay)
        response = await call_next(request)
        if fault is Fault.LOST_ANSWER:
            response = JSONResponse({"detail": "the answer got lost: try again"}, 500)
        elif fault is Fault.TRICKLE and response.status_code == 200:
            response = await _drip(response, chaos.settings.delay)
        response.headers.update(allowance.headers)
        return response


def _lists(app: FastAPI, market: Market) -> None:
    """Add the lists: a day filter where the items have a day."""

    refuses = _refuses(_400="the cursor is not one of this list", _422=WRONG)
    of_a_day = refuses | _refuses(_503="the shop, out of which later days come, does not answer")

    def serve(request: Request, name: str, day: date | None, cursor: str | None, limit: int) -> Response:
        wanted = day.isoformat() if day else None
        try:
            found = page(f"{name} {wanted or 'all'}", market.items(name, wanted), cursor, limit)
        except BadCursor as error:
            raise HTTPException(400, str(error)) from None
        except (FlowError, psycopg.Error) as error:
            LOG.exception("the shop does not answer")
            raise HTTPException(503, f"the shop does not answer: {str(error).splitlines()[0]}") from None
        return _answer(request, found)

    def dated(name: str, about: str) -> None:
        @app.get(f"/{name}", response_model=Page, summary=about, tags=["lists"], responses=of_a_day)
        def items(request: Request, day: Day = None, cursor: Cursor = None, limit: Limit = 20) -> Response:
            return serve(request, name, day, cursor, limit)

    def plain(name: str, about: str) -> None:
        @app.get(f"/{name}", response_model=Page, summary=about, tags=["lists"], responses=refuses)
        def items(request: Request, cursor: Cursor = None, limit: Limit = 20) -> Response:
            return serve(request, name, None, cursor, limit)

    dated("orders", "Orders, by the day on which they were placed")
    dated("deliveries", "Deliveries, by the day on which the door was reached")
    dated("reviews", "Reviews, by the day on which they were written")
    plain("customers", "Customers")
    plain("products", "The catalogue")
    plain("stores", "Stores")
    plain("van_routes", "Tours of the vans")


def _orders(app: FastAPI, market: Market, store: OrderStore) -> None:
    """Add single orders, and placing one."""

    @app.post(
        "/orders",
        status_code=201,
        response_model=OrderOut,
        summary="Place an order",
        tags=["orders"],
        responses=_refuses(_400="the body is not JSON", _422=f"{WRONG}, or the key stands for another order"),
    )
    def place(
        request: Request,
        order: OrderIn,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
    ) -> Response:
        customer = market.customers.get(order.customer_id)
        if customer is None:
            raise HTTPException(422, f"there is no customer {order.customer_id}")
        unknown = [line.product_id for line in order.lines if line.product_id not in market.products]
        if unknown:
            raise HTTPException(422, f"there is no product {unknown[0]}")
        prices = (Decimal(str(market.products[line.product_id]["price_eur"])) * line.quantity for line in order.lines)
        total = float(sum(prices))

        def answer(number: int) -> dict[str, Any]:
            return {
                "order_id": number,
                "customer_id": order.customer_id,
                "store_id": market.store_in[customer["city"]],
                "placed_at": local(datetime.now(UTC).replace(microsecond=0)),
                "total_eur": total,
                "reference": order.reference,
                "lines": [line.model_dump() for line in order.lines],
            }

        try:
            placed = store.place(_client(request), idempotency_key, order.model_dump_json(), order.reference, answer)
        except KeyReused as error:
            raise HTTPException(422, str(error)) from None
        said = "an order that is known came again" if placed.again else "order placed"
        LOG.info(said, extra={"order_id": placed.answer["order_id"]})
        headers = {"Location": f"/orders/{placed.answer['order_id']}"}
        if placed.again:
            headers["Idempotency-Replayed"] = "true"
        return Response(body(placed.answer), 201, headers, "application/json")

    @app.get(
        "/orders/placed", summary="Orders placed over this service", tags=["orders"], responses=_refuses(_422=WRONG)
    )
    def placed(request: Request, reference: str | None = None) -> Response:
        return _answer(request, {"items": store.all(reference)})

    @app.get(
        "/orders/{order_id}",
        summary="One order with its lines",
        tags=["orders"],
        responses=_refuses(_404="there is no such order", _422=WRONG),
    )
    def one(request: Request, order_id: Annotated[int, InPath(ge=1, le=LARGEST)]) -> Response:
        found = market.orders.get(order_id) or store.get(order_id)
        if found is None:
            raise HTTPException(404, f"there is no order {order_id}")
        return _answer(request, found)


def _service(app: FastAPI, chaos: Chaos, market: Market, usage: Usage, key: str) -> None:
    """Add health, the switch for the misbehaviour, and what a client has asked for."""

    @app.get("/health", tags=["service"])
    def health() -> dict[str, Any]:
        return {"status": "ok", "orders": len(market.orders)}

    @app.get("/usage", tags=["service"], summary="Your own answers so far, by status, and what came too early")
    def used(request: Request) -> dict[str, Any]:
        client = _client(request)
        return {"client": client, "answers": usage.of(client), "early": usage.early(client)}

    @app.get("/metrics", tags=["service"], summary="What Prometheus asks for")
    def show_metrics() -> Response:
        return metrics()

    @app.get("/chaos", tags=["service"], summary="How the service misbehaves")
    async def show() -> ChaosSettings:
        return chaos.settings

    @app.post(
        "/chaos",
        tags=["service"],
        summary="Set some of it; an empty object brings the defaults back",
        responses=_refuses(_400="the body is not JSON", _401="the key is missing or wrong", _422=WRONG),
    )
    async def change(
        new: dict[str, Any],
        x_chaos_key: Annotated[str, Header(description="MARKET_API_KEY of .env; `api()` sends it")] = "",
    ) -> ChaosSettings:
        if not key or not secrets.compare_digest(x_chaos_key.encode(), key.encode()):
            raise HTTPException(401, "the header X-Chaos-Key must be MARKET_API_KEY of .env: `api()` sends it")
        base = chaos.settings.model_dump() if new else {}
        try:
            chaos.set(ChaosSettings.model_validate(base | new))
        except ValidationError as error:
            raise HTTPException(422, _line(error.errors()[0])) from None
        return chaos.settings


def create_app(
    data: Path,
    chaos: Chaos | None = None,
    key: str = "",
    shop: Callable[[], psycopg.Connection] | None = None,
) -> FastAPI:
    """Build the service.

    Args:
        data: folder for placed orders; made if missing.
        chaos: the misbehaviour; None takes the defaults.
        key: who knows it may set the misbehaviour; without one nobody may.
        shop: opens a connection to the shop, out of which later days are served; None serves the committed week.
    """
    chaos, market, store, usage = chaos or Chaos(), Market(shop), OrderStore(data), Usage()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        store.close()

    app = FastAPIOffline(title="Primeur market API", version="1", lifespan=lifespan)

    @app.exception_handler(RequestValidationError)
    def refuse(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": _line(error.errors()[0])}, 422)

    _guard(app, chaos, usage)
    _orders(app, market, store)
    _lists(app, market)
    _service(app, chaos, market, usage, key)
    app.add_middleware(Measure, routes=app.routes)  # the last one added is the first to see a request
    return app


def main(host: str = "127.0.0.1", port: int | None = None, data: Path | None = None) -> None:
    """Run the service until SIGTERM."""
    s = settings()
    app = create_app(data or s.state_dir / "market-api", key=s.market_api_key, shop=partial(connect, "source"))
    writing.to_stdout()
    # `Measure` logs each request, but for Prometheus', who comes by every two seconds, for ever.
    options = {"log_config": None, "access_log": False, "timeout_graceful_shutdown": 5}
    uvicorn.run(app, host=host, port=port or s.market_api_port, **options)


if __name__ == "__main__":
    typer.run(main)
