"""Every test uses the tests' own stack (tests/environment.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.environment import use_test_environment

use_test_environment()


@pytest.fixture(scope="session")
def stack() -> Iterator:
    """The native stack of the tests. What a test session starts stays up for the next one; the suite ends it."""
    from flow360.stack import open_stack

    yield open_stack("native")


@pytest.fixture
def started(stack, request) -> Callable[..., None]:
    """`started("kafka", …)`: these services are up and answer. They must be among the file's SERVICES."""
    from flow360.course.services import resolve

    declared = set(stack.model.closure(resolve(request.module.SERVICES)))

    def start(*names: str) -> None:
        missing = set(stack.model.closure(names)) - declared
        assert not missing, f"{request.module.__name__}: SERVICES does not name {', '.join(sorted(missing))}"
        stack.up(names)

    return start
