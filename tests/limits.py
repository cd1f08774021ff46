"""A plugin of pytest: time limits follow the machine's measured speed, and a lesson's cell has a limit of its own.

A limit ends a test by an exception, after which a pool may wait for its threads, and so for ever: at twice the limit
the whole run ends, and all its threads are shown where they stand.

The attempt of a test that failed and is run again says so in the report (`UNSTEADY`), where it would pass for a test.

The suite loads it (`-p tests.limits`), because a run of lessons alone reads no conftest.py.
"""

from __future__ import annotations

import faulthandler
import os

import pytest

from flow360.course.run import cell_seconds
from flow360.waiting import patient

UNSTEADY = "unsteady"
"""The property of a case in pytest's report that is not a test but an attempt to be repeated: what it said."""
_said: dict[str, str] = {}
_stderr = os.dup(2)  # as it is before pytest captures it


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        marker = item.get_closest_marker("timeout")
        seconds = float(marker.args[0] if marker else config.getini("timeout"))
        if cell := getattr(item, "cell", None):
            seconds = cell_seconds(cell) + 60  # nbval stops the cell before, and says which
            item.output_timeout = patient(item.output_timeout)
            # To run a cell again would be to run it in a new kernel, without the cells before.
            item.add_marker(pytest.mark.flaky(reruns=0))
        item.add_marker(pytest.mark.timeout(patient(seconds)), append=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    limit = item.get_closest_marker("timeout").args[0]
    # Never taken back: a thread that does not end would keep the last test's process, too.
    faulthandler.dump_traceback_later(2 * limit + 60, exit=True, file=_stderr)
    if cell := getattr(item, "cell", None):
        item.config.option.nbval_cell_timeout = patient(cell_seconds(cell))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.outcome == "rerun":
        crash = getattr(report.longrepr, "reprcrash", None)
        _said.setdefault(report.nodeid, crash.message if crash else report.longreprtext)
    if report.when == "teardown" and report.nodeid in _said:
        report.user_properties.append((UNSTEADY, _said.pop(report.nodeid)))
