"""The REST service, in process: pages, entity tags, rate limit, idempotency, and faults that a seed decides."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from flow360.primeur.api import server
from flow360.primeur.api.chaos import Chaos, ChaosSettings, Fault
from flow360.primeur.api.paging import BadCursor, decode, encode, matches
from flow360.primeur.api.store import FIRST_ORDER, KeyReused, OrderStore
from flow360.primeur.manifest import manifest
from flow360.primeur.plan import DAY

CALM = ChaosSettings(errors=0, slow=0, trickle=0, rate=100_000, burst=100_000)
LOCAL = "http://127.0.0.1"
KEY = {"X-Chaos-Key": "key"}
ORDER = {"customer_id": 1001, "lines": [{"product_id": 101, "quantity": 2}], "reference": "test"}


class Clock:
    """A clock that stands still until it is told otherwise."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Iterator[TestClient]:
    """A service that behaves."""
    with TestClient(server.create_app(tmp_path_factory.mktemp("api"), Chaos(CALM)), LOCAL) as client:
        yield client


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> Iterator[TestClient]:
    """A service as it starts, whose key is known."""
    with TestClient(server.create_app(tmp_path_factory.mktemp("usual"), key="key"), LOCAL) as client:
        yield client


def walk(client: TestClient, path: str, **params) -> list[dict]:
    items, cursor = [], None
    while True:
        answer = client.get(path, params={**params, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return items


@pytest.mark.parametrize("limit", [7, 20, 100])
def test_pages_are_complete(calm: TestClient, limit: int) -> None:
    items = walk(calm, "/orders", day=DAY.isoformat(), limit=limit)
    m = manifest()
    assert len({i["order_id"] for i in items}) == m.orders_on(m.day) == 403
    assert len(items) == 403 + m.count(channel="api", dataset="orders", kind="duplicate", day=m.day)


@pytest.mark.parametrize("name", ["customers", "products", "stores", "van_routes", "deliveries", "reviews"])
def test_other_lists(calm: TestClient, name: str) -> None:
    extra = manifest().count(channel="api", dataset=name, kind="duplicate")
    assert len(walk(calm, f"/{name}", limit=100)) == manifest().rows(name) + extra


def test_bad_questions(calm: TestClient) -> None:
    other = calm.get("/customers").json()["next_cursor"]
    for params in ({"cursor": "x"}, {"cursor": "é"}, {"cursor": other}):
        assert calm.get("/orders", params=params).status_code == 400
    for params in ({"limit": 0}, {"limit": 101}, {"day": "soon"}):
        assert calm.get("/orders", params=params).status_code == 422
    assert calm.get("/orders", params={"day": "1999-01-01"}).json() == {"items": [], "next_cursor": None}
    assert calm.get("/orders/1").status_code == 404
    with pytest.raises(BadCursor):
        decode("a", encode("b", 20))


def test_entity_tags(calm: TestClient) -> None:
    first = calm.get("/orders/100001")
    assert len(first.json()["lines"]) == first.json()["items"]
    again = calm.get("/orders/100001", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert calm.get("/orders/100002", headers={"If-None-Match": first.headers["etag"]}).status_code == 200
    assert matches('W/"a", "b"', '"b"')
    assert not matches(None, '"b"')


def test_rate_limit(tmp_path: Path) -> None:
    clock = Clock()
    chaos = Chaos(CALM.model_copy(update={"rate": 2, "burst": 3}), clock)
    with TestClient(server.create_app(tmp_path, chaos), LOCAL) as client:
        answers = [client.get("/stores") for _ in range(4)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429]
        assert [a.headers["x-ratelimit-remaining"] for a in answers] == ["2", "1", "0", "0"]
        assert answers[3].headers["retry-after"] == "1"
        assert client.get("/stores", headers={"X-Client-Id": "other"}).status_code == 200
        assert client.get("/health").json() == {"status": "ok", "orders": 2000}
        clock.now += 1
        assert client.get("/stores").status_code == 200


def test_faults_are_decided_by_the_seed() -> None:
    settings = ChaosSettings(errors=0.3, slow=0.1, trickle=0.1)
    requests = [f"GET /orders?cursor={n}" for n in range(2_000)]
    first, second = ([Chaos(settings).fault(r, 1) for r in requests] for _ in range(2))
    assert first == second
    assert first != [Chaos(settings.model_copy(update={"seed": 1})).fault(r, 1) for r in requests]
    assert 0.25 < first.count(Fault.ERROR) / 2_000 < 0.35
    assert {Fault.SLOW, Fault.TRICKLE} < set(first)
    assert {Chaos(settings).fault(r, 3) for r in requests} == {Fault.NONE}


def test_attempts_end_with_a_good_answer_or_after_a_while() -> None:
    clock = Clock()
    chaos = Chaos(ChaosSettings(errors=1), clock)
    walk = [chaos.next_fault("me", "GET /orders?") for _ in range(6)]
    assert walk == [Fault.ERROR, Fault.ERROR, Fault.NONE] * 2
    assert chaos.next_fault("me", "GET /x?") is Fault.ERROR
    clock.now += 100
    assert [chaos.next_fault("me", "GET /x?") for _ in range(3)][-1] is Fault.NONE


def test_the_default_stops_a_naive_client_and_lets_a_careful_one_through(tmp_path: Path) -> None:
    clock = Clock()
    chaos = Chaos(ChaosSettings(delay=0.01), clock)
    with TestClient(server.create_app(tmp_path, chaos), LOCAL) as client:
        for limit in (20, 50, 100):
            codes, cursor, items = [], None, set()
            while True:
                params = {"day": DAY.isoformat(), "limit": limit, **({"cursor": cursor} if cursor else {})}
                answer = client.get("/orders", params=params)
                codes.append(answer.status_code)
                if answer.status_code == 429:
                    clock.now += float(answer.headers["retry-after"])
                if answer.status_code == 200:
                    items |= {i["order_id"] for i in answer.json()["items"]}
                    cursor = answer.json()["next_cursor"]
                    if cursor is None:
                        break
            assert len(items) == 403
            assert len(codes) < 60
        assert set(codes) <= {200, 429, 500}
        assert client.get("/orders", params={"day": DAY.isoformat()}).status_code == 500


def test_idempotency(calm: TestClient) -> None:
    headers = {"Idempotency-Key": "k-1"}
    first, second = (calm.post("/orders", json=ORDER, headers=headers) for _ in range(2))
    assert (first.status_code, first.json()) == (201, second.json())
    assert second.headers["idempotency-replayed"] == "true"
    assert first.json()["total_eur"] == 5.58
    assert calm.post("/orders", json={**ORDER, "reference": "x"}, headers=headers).status_code == 422
    other = calm.post("/orders", json=ORDER, headers={**headers, "X-Client-Id": "other"})
    assert other.json()["order_id"] != first.json()["order_id"]
    assert calm.get(first.headers["location"]).json() == first.json()
    assert len(calm.get("/orders/placed", params={"reference": "test"}).json()["items"]) == 2
    assert len({calm.post("/orders", json=ORDER).json()["order_id"] for _ in range(2)}) == 2


def test_bad_orders(calm: TestClient) -> None:
    for change in ({"customer_id": 1}, {"lines": []}, {"lines": [{"product_id": 1, "quantity": 1}]}, {"total": 1}):
        assert calm.post("/orders", json={**ORDER, **change}).status_code == 422


def test_a_lost_answer_is_found_again_with_its_key(tmp_path: Path) -> None:
    with TestClient(
        server.create_app(tmp_path, Chaos(CALM.model_copy(update={"errors": 1.0})), "key"), LOCAL
    ) as client:
        for n in range(8):
            codes = []
            while not codes or codes[-1] != 201:
                codes.append(client.post("/orders", json=ORDER, headers={"Idempotency-Key": f"k{n}"}).status_code)
            assert codes == [500, 500, 201]
        client.post("/chaos", json=CALM.model_dump(), headers=KEY)
        assert len(client.get("/orders/placed").json()["items"]) == 8


def test_chaos_can_be_switched(tmp_path: Path) -> None:
    with TestClient(server.create_app(tmp_path, key="key"), LOCAL, headers=KEY) as client:
        assert client.post("/chaos", json={"errors": 0.5, "rate": 5}).json()["errors"] == 0.5
        assert client.get("/chaos").json()["rate"] == 5
        wrong = client.post("/chaos", json={"errors": 3})
        assert (wrong.status_code, wrong.json()["detail"].split(":")[0]) == (422, "errors")
        assert client.post("/chaos", json={"error": 0.1}).status_code == 422
        assert client.post("/chaos", json={}).json() == ChaosSettings().model_dump()


@pytest.mark.parametrize("sent", [{}, {"X-Chaos-Key": ""}, {"X-Chaos-Key": "Key"}, {"X-Chaos-Key": b"\xe9"}])
@pytest.mark.parametrize("service", ["usual", "calm"])
def test_who_does_not_know_the_key_changes_nothing(request, service: str, sent: dict) -> None:
    client = request.getfixturevalue(service)  # the calm one has no key: nobody can know it
    before = client.get("/chaos").json()
    refused = client.post("/chaos", json={"errors": 1}, headers=sent)
    assert (refused.status_code, refused.json()["detail"].count("\n")) == (401, 0)
    assert client.get("/chaos").json() == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Host": "evil.example"},
        {"Host": "evil.example:18000", "Origin": "http://evil.example:18000"},
        {"Host": "[::1"},
    ],
)
def test_a_page_of_another_site_is_not_answered(calm: TestClient, headers: dict) -> None:
    for path in ("/orders", "/chaos", "/metrics", "/docs"):
        assert calm.get(path, headers=headers).status_code == 403
    before = calm.get("/orders/placed").json()
    assert calm.post("/orders", json=ORDER, headers=headers).status_code == 403
    assert calm.get("/orders/placed").json() == before


@pytest.mark.parametrize(
    "headers",
    [{}, {"Host": "localhost:18000"}, {"Host": "[::1]:18000"}, {"Host": "market-api:8000"}, {"Origin": LOCAL}],
)
def test_this_machine_and_the_other_containers_are_answered(calm: TestClient, headers: dict) -> None:
    assert calm.get("/health", headers=headers).status_code == 200


HUGE = "9" * 20
STRANGE = ["1e400", "-1e400", "NaN", "Infinity", HUGE, "1e-310", "1.5", "null", "[]", '"\\ud800"', '"\\u0000"', "true"]


def _one_line(answer) -> None:
    assert 400 <= answer.status_code < 500, answer.text
    detail = answer.json()["detail"]
    assert isinstance(detail, str)
    assert "\n" not in detail


@pytest.mark.parametrize("value", STRANGE)
def test_what_no_order_can_be_is_refused_in_one_line(calm: TestClient, value: str) -> None:
    def order(customer: str = "1001", product: str = "101", quantity: str = "2") -> str:
        return f'{{"customer_id": {customer}, "lines": [{{"product_id": {product}, "quantity": {quantity}}}]}}'

    for text in (order(customer=value), order(product=value), order(quantity=value if value != "true" else "0")):
        _one_line(calm.post("/orders", content=text, headers={"Content-Type": "application/json"}))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"\\ud800": 1}', b'{"reference": "\\ud800"}', b"[]"]
)
def test_what_is_no_order_at_all_is_refused_in_one_line(calm: TestClient, body: bytes) -> None:
    _one_line(calm.post("/orders", content=body, headers={"Content-Type": "application/json"}))


@pytest.mark.parametrize("path", [f"/orders/{HUGE}", f"/orders/-{HUGE}", "/orders/0", "/orders/1e400", "/orders/NaN"])
def test_a_number_that_no_order_can_have_is_refused_in_one_line(calm: TestClient, path: str) -> None:
    _one_line(calm.get(path))


@pytest.mark.parametrize("name", ["errors", "slow", "trickle", "delay", "rate", "burst"])
@pytest.mark.parametrize("value", ["1e400", "NaN", "-1", HUGE + "e9", '"\\ud800"'])
def test_chaos_takes_nothing_that_would_break_the_service(usual: TestClient, name: str, value: str) -> None:
    for body in (f'{{"{name}": {value}}}', '{"rate": 1e-310}', '{"\\ud800": 1}'):
        _one_line(usual.post("/chaos", content=body, headers={**KEY, "Content-Type": "application/json"}))
    assert usual.get("/chaos").json() == ChaosSettings().model_dump()


def test_the_description_says_which_requests_are_refused_and_how(calm: TestClient) -> None:
    paths = calm.get("/openapi.json").json()["paths"]
    said = {(path, method): set(one["responses"]) for path, methods in paths.items() for method, one in methods.items()}
    assert said["/stores", "get"] == {"200", "400", "422"}
    assert said["/orders", "get"] == {"200", "400", "422", "503"}
    assert said["/orders/{order_id}", "get"] == {"200", "404", "422"}
    assert said["/orders", "post"] == {"201", "400", "422"}
    assert said["/chaos", "post"] == {"200", "400", "401", "422"}
    for path, methods in paths.items():
        for one in methods.values():
            for status, answer in one["responses"].items():
                if status >= "400":
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Problem"}, (path, status)


def test_the_service_tells_a_client_what_it_was_answered(tmp_path: Path) -> None:
    rough = ChaosSettings(errors=1, slow=0, trickle=0, rate=0.001, burst=3)
    with TestClient(server.create_app(tmp_path, Chaos(rough)), LOCAL) as client:
        for _ in range(5):
            client.get("/stores")
        client.get("/health")
        # errors=1 hits the first two attempts, the third is answered well, and then the bucket is empty
        answers = {"200": 1, "429": 2, "500": 2}  # and who was refused came at once again
        assert client.get("/usage").json() == {"client": "testclient", "answers": answers, "early": 1}
        other = client.get("/usage", headers={"X-Client-Id": "other"}).json()
        assert other == {"client": "other", "answers": {}, "early": 0}


def test_the_service_knows_who_came_back_sooner_than_retry_after_said(tmp_path: Path) -> None:
    clock = Clock()
    chaos = Chaos(CALM.model_copy(update={"rate": 2, "burst": 1, "patience": 3}), clock)
    with TestClient(server.create_app(tmp_path, chaos), LOCAL) as client:
        assert [client.get("/stores").status_code for _ in range(2)] == [200, 429]
        for seconds, early in ((2.9, 1), (0.1, 1)):  # there is a token, but it was told to wait three seconds
            clock.now += seconds
            assert client.get("/stores").status_code in (200, 429)
            assert client.get("/usage").json()["early"] == early


def test_slow_and_trickling_answers_are_whole(tmp_path: Path) -> None:
    for kind in ("slow", "trickle"):
        settings = CALM.model_copy(update={kind: 1.0, "delay": 0.05})
        with TestClient(server.create_app(tmp_path / kind, Chaos(settings)), LOCAL) as client:
            assert len(client.get("/stores").json()["items"]) == 12


def test_the_page_needs_no_network(calm: TestClient) -> None:
    for path in ("/docs", "/redoc"):
        page = calm.get(path).text
        assert "https://" not in page.replace("https://fastapi", "")
        for asset in (part.split('"')[0] for part in page.split('="')[1:] if part.startswith("/static")):
            assert calm.get(asset).status_code == 200
    paths = calm.get("/openapi.json").json()["paths"]
    assert {"/orders", "/orders/{order_id}", "/chaos", "/health", "/reviews", "/deliveries"} <= set(paths)


def test_placed_orders_survive(tmp_path: Path) -> None:
    store = OrderStore(tmp_path)

    def place(store: OrderStore, key: str | None, request: str = "r"):
        return store.place("me", key, request, None, lambda number: {"order_id": number})

    with ThreadPoolExecutor(8) as pool:
        placed = list(pool.map(lambda n: place(store, f"k{n % 20}"), range(200)))
    assert len({p.answer["order_id"] for p in placed}) == 20
    assert sum(not p.again for p in placed) == 20
    # a second process on the same folder, without the first one having closed it
    other = OrderStore(tmp_path)
    assert len(other.all()) == 20
    assert place(other, "k3").again
    with pytest.raises(KeyReused):
        place(other, "k3", "another")
    assert other.get(FIRST_ORDER) == {"order_id": FIRST_ORDER}
    with pytest.raises(ZeroDivisionError):
        other.place("me", "bad", "r", None, lambda number: 1 / 0)
    assert not place(other, "bad").again
    store.close()
    other.close()
