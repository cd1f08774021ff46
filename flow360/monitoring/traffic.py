"""Customers for market-api: requests at a steady pace, each timed at the client's end."""

from __future__ import annotations

import random
import threading
import time
from types import TracebackType

import pandas as pd
import requests

from flow360 import clients
from flow360.clients import reach
from flow360.errors import FlowError

WORKERS = 12


class Traffic:
    """Requests in the background while the block runs: `with Traffic(per_second=20) as traffic: ...`.

    Args:
        per_second: requests a second, as long as the service answers quickly enough for WORKERS clients.
        seed: decides which paths are asked for.

    Raises:
        FlowError: at the start, when the service is down. A service that goes down later is a failed request.
    """

    def __init__(self, per_second: float = 20, workers: int = WORKERS, seed: int = 360) -> None:
        self.pause = workers / per_second
        self._draws = random.Random(seed)
        self._rows: list[tuple[float, str, int, float]] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"traffic-{number}", daemon=True)
            for number in range(workers)
        ]

    def __enter__(self) -> Traffic:
        reach.require("market-api")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(15)

    @property
    def seen(self) -> pd.DataFrame:
        """One row a request, as the client saw it: at (UTC), path, status (0: none came), seconds."""
        table = pd.DataFrame(list(self._rows), columns=["at", "path", "status", "seconds"])
        table["at"] = pd.to_datetime(table["at"], unit="s", utc=True)
        return table

    def _work(self, number: int) -> None:
        session = clients.api()
        session.headers["X-Client-Id"] = f"traffic-{number}"
        self._stop.wait(self.pause * number / len(self._threads))  # not all in the same instant
        while not self._stop.is_set():
            path = self._path()
            start = time.perf_counter()
            try:
                status = session.get(path).status_code
            except (FlowError, requests.RequestException):
                status = 0
            took = time.perf_counter() - start
            self._rows.append((time.time(), path.partition("?")[0], status, took))
            self._stop.wait(max(0.0, self.pause - took))

    def _path(self) -> str:
        draw = self._draws.random()
        if draw < 0.5:
            return f"/orders/{self._draws.randrange(100_001, 102_001)}"
        name = self._draws.choice(["products", "deliveries", "stores"])
        return f"/{name}?limit={self._draws.randrange(5, 100)}"
