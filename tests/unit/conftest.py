"""Unit tests wait for nothing: what they say of deadlines holds on a slow machine, too."""

from __future__ import annotations

import os

import pytest

from flow360.settings import settings
from flow360.waiting import PATIENCE


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PATIENCE, raising=False)


@pytest.fixture(scope="session", autouse=True)
def lineage_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a program under test carries is not news of the stack's: a carrier may still say it after its test."""
    folder = tmp_path_factory.mktemp("lineage")
    os.environ["FLOW360_LINEAGE"] = str(folder)
    settings().flow360_lineage = folder
