"""Unit tests wait for nothing: what they say of deadlines holds on a slow machine, too."""

from __future__ import annotations

import pytest

from flow360.waiting import PATIENCE


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PATIENCE, raising=False)
