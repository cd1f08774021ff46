"""A browser for tests: Debian's chromium, driven by Playwright.

Playwright is not in the lock: 130 MB for a few tests. FLOW360_PLAYWRIGHT names the folder in which it was installed:
`pip install --target FOLDER playwright`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

from flow360.waiting import patient


def playwright() -> ModuleType:
    """Return Playwright's module; a test (at the top of a file: the file) without a browser is skipped, and says so."""
    if not shutil.which("chromium"):
        pytest.skip("no chromium on this machine (Debian: sudo apt install chromium)", allow_module_level=True)
    sys.path += filter(None, [os.environ.get("FLOW360_PLAYWRIGHT")])
    return pytest.importorskip("playwright.sync_api", reason="no Playwright: FLOW360_PLAYWRIGHT names its folder")


@contextmanager
def page(width: int, height: int, **context: Any) -> Iterator[Any]:
    """Open a page of a browser that has seen nothing before; its `errors` are those of the page's scripts."""
    api = playwright()
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_context(viewport={"width": width, "height": height}, **context)
        opened.set_default_timeout(patient(60) * 1000)
        api.expect.set_options(timeout=patient(30) * 1000)
        found = opened.new_page()
        found.errors = []
        found.on("pageerror", lambda error: found.errors.append(str(error)))
        yield found
        browser.close()
