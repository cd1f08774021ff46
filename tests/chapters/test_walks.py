"""Each lab as a learner walks through it in JupyterLab: wrong, a hint, wrong again, right, in one kernel to the end.

Needs a browser (tests/browser.py). A picture of each card is kept under build/test/walks.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flow360 import lesson
from flow360.course.notebooks import read
from flow360.course.registry import Chapter
from flow360.course.report import MIME
from flow360.waiting import patient, wait_for
from tests import browser
from tests.bundles import under_test
from tests.environment import BUILD, ROOT, left_to_full, ports
from tests.mutants.lab import exercises

SHOTS = BUILD / "walks"
CHAPTERS = under_test()
READY = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.connectionStatus === 'connected'"
# Cells out of sight are drawn, too, or a picture of one may show another.
ALL = "window.jupyterapp.shell.currentWidget.content.notebookConfig = {windowingMode: 'none'}"
RUN = """async ([id, source]) => {
  const app = window.jupyterapp, notebook = app.shell.currentWidget.content;
  const index = notebook.widgets.findIndex(one => one.model.id === id), cell = notebook.widgets[index];
  if (source !== null) cell.model.sharedModel.setSource(source);
  notebook.deselectAll();
  notebook.activeCellIndex = index;
  await app.commands.execute('notebook:run-cell');
  await notebook.scrollToItem(index, 'start');
  return cell.model.outputs.toJSON();
}"""
# What a learner's cell would have done, from tests/answers.
WRONG = """\
import sys
sys.path.insert(0, {root!r})
from tests.answers import answers_of, reset
reset({number!r}, {name!r})
misses = [one for one in answers_of({number!r}) if (one.exercise, one.kind) == ({name!r}, "near-miss")]
[{variables}] = misses[{which}].arguments()
"""


@contextmanager
def jupyterlab(root: Path, record: Path) -> Iterator[str]:
    """Start a JupyterLab that lets scripts of its page use it; yields the address of its page."""
    (port,), token = ports(f"walks {root}", 1), secrets.token_hex(16)
    face = "--LabApp.expose_app_in_browser=True"
    words = ("--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0", "--allow-root")
    about = {"JUPYTER_TOKEN": token, "FLOW360_PROGRESS": str(record), "JUPYTER_CONFIG_DIR": str(root)}
    with subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", face, *words, f"--ServerApp.root_dir={root}"],
        env=os.environ | about, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        try:
            yield f"http://127.0.0.1:{port}/lab/tree/lab.ipynb?token={token}"
        finally:
            server.terminate()


@contextmanager
def opened(folder: Path, chapter: Chapter) -> Iterator[Any]:
    """Open a copy of the lab in a browser, its kernel ready; yields what runs a cell and returns its verdict."""
    shutil.copy(ROOT / chapter.lab, folder / "lab.ipynb")
    shots = SHOTS / chapter.number
    shots.mkdir(parents=True, exist_ok=True)
    with jupyterlab(folder, folder / "progress.json") as address, browser.page(1200, 900) as page:
        page.set_default_timeout(patient(600) * 1000)  # a check may wait for a service's own clock
        wait_for(lambda: reached(page, address), 60, "JupyterLab's page", every=1)
        page.wait_for_function(READY)
        page.evaluate(ALL)

        def run(cell: str, source: str | None = None, shot: str = "", may_fail: bool = False) -> str:
            outputs = page.evaluate(RUN, [cell, source])
            if shot:
                page.screenshot(path=shots / f"{shot}.png")
            said = [one["data"][MIME] for one in outputs if MIME in one.get("data", {})]
            errors = [f"{one['ename']}: {one['evalue']}" for one in outputs if one["output_type"] == "error"]
            assert not errors or said or may_fail, (cell, errors)
            return said[-1]["verdict"] if said else ""

        yield run
        assert not page.errors


def reached(page: Any, address: str) -> bool:
    """Whether the page is there: the server may not listen yet."""
    try:
        page.goto(address)
    except browser.playwright().Error:
        return False
    return True


@left_to_full("each lab wrong, hint, wrong, right in a browser; the answers and the solved labs prove the checks")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("chapter", CHAPTERS, ids=[chapter.stem for chapter in CHAPTERS])
def test_wrong_hint_wrong_again_right(chapter: Chapter, tmp_path: Path) -> None:
    browser.playwright()  # or it is skipped at once
    lesson.start(chapter.stem)
    found = exercises(chapter)
    with opened(tmp_path, chapter) as run:
        for cell in read(ROOT / chapter.lab).cells:
            if cell.cell_type == "code":
                tags = cell.metadata.get("tags", [])
                said = run(cell.id, may_fail="uses-answer" in tags)  # it has a hole to use
                assert said == ("not attempted" if "check" in tags else ""), cell.id
        for number, (name, solved) in enumerate(found.items(), 1):
            about = {
                "root": str(ROOT),
                "number": chapter.number,
                "name": name,
                "variables": ", ".join(solved.variables()),
            }
            for which, then, expected in ((0, "", ""), (1, f"check.{name}.hint()", "hint")):
                text = f"{WRONG.format(**about, which=which)}{then}"
                assert run(solved.cells[-1].id, text, f"{number}-{which}-{expected}" if expected else "") == expected
                assert run(solved.check.id, shot=f"{number}-{which}-wrong") == "not yet"
            run(solved.cells[-1].id, f"reset({chapter.number!r}, {name!r})")
            for cell in solved.cells:
                run(cell.id, cell.source)
            assert run(solved.check.id, shot=f"{number}-right") == "correct"
