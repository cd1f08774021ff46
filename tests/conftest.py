"""Every test uses the tests' own stack (tests/environment.py)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.environment import use_test_environment

use_test_environment()


@pytest.fixture(scope="session")
def stack() -> Iterator:
    """Open the native stack of the tests. What a test session starts stays up for the next one; the suite ends it."""
    from flow360.stack import open_stack

    yield open_stack("native")


@pytest.fixture
def started(stack, request) -> Callable[..., None]:
    """Return `started("kafka", …)`: these services (or a profile's) are up and answer. SERVICES must name them."""
    from flow360.course.services import resolve

    declared = set(stack.model.closure(resolve(request.module.SERVICES)))

    def start(*names: str) -> None:
        wanted = resolve(names)
        missing = set(stack.model.closure(wanted)) - declared
        assert not missing, f"{request.module.__name__}: SERVICES does not name {', '.join(sorted(missing))}"
        stack.up(wanted)

    return start


@pytest.fixture
def spark(started) -> Any:
    """Open a session on the tests' own Connect server."""
    from flow360 import clients

    started("spark-connect", "spark-worker")
    return clients.spark()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder that Spark sees under the same path, removed afterwards."""
    from flow360.settings import GENERATED

    path = GENERATED / f"test-{time.time_ns()}"
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)
