"""A plugin of pytest: time limits follow the machine's measured speed, and a lesson's cell has a limit of its own.

The suite loads it (`-p tests.limits`), because a run of lessons alone reads no conftest.py.
"""

from __future__ import annotations

import pytest

from flow360.course.run import cell_seconds
from flow360.waiting import patient


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        marker = item.get_closest_marker("timeout")
        seconds = float(marker.args[0] if marker else config.getini("timeout"))
        if cell := getattr(item, "cell", None):
            seconds = cell_seconds(cell) + 60  # nbval stops the cell before, and says which
            item.output_timeout = patient(item.output_timeout)
        item.add_marker(pytest.mark.timeout(patient(seconds)), append=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if cell := getattr(item, "cell", None):
        item.config.option.nbval_cell_timeout = patient(cell_seconds(cell))
