"""Home in a browser, as a learner meets it: JupyterLab opens on it, and one click leads on.

Needs a browser (tests/browser.py). Screenshots are kept under build/test/home.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from flow360.stack.native.supervise import Supervisor
from flow360.waiting import patient, wait_for
from tests import browser
from tests.environment import BUILD, ROOT, port_lines

expect = browser.playwright().expect
SERVICES = ()  # of the lane; it has a stack of its own
SHOTS = BUILD / "home"
SIZES = ((1280, 800), (1600, 1000))
TABS = "#jp-main-dock-panel .lm-TabBar-tabLabel"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """The command line on a stack of its own, in which JupyterLab alone is up."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "home.env").write_text(port_lines("home"), "utf-8")
    variables = os.environ | {
        "FLOW360_STATE": str(folder / "state"),
        "FLOW360_ENV_FILE": str(folder / "home.env"),
        "FLOW360_PROGRESS": str(folder / "progress.json"),
        "FLOW360_LINEAGE": str(folder / "lineage"),
    }

    def run(*words: str) -> str:
        command = [Path(sys.executable).parent / "flow360", *words]
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=patient(180))
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.env = lambda: dotenv_values(folder / "home.env")
    run.state = folder / "state"
    run("up", "jupyterlab")
    yield run
    run("down")


@pytest.fixture
def lab(stack: Any) -> Iterator[Any]:
    """JupyterLab as the address of `up` opens it, in a browser that has not seen it before."""
    env = stack.env()
    with browser.page(*SIZES[0], permissions=["clipboard-read", "clipboard-write"]) as page:
        # A workspace of this test's own: each begins as for a new learner.
        page.goto(f"http://127.0.0.1:{env['JUPYTER_PORT']}/lab?reset&token={env['JUPYTER_TOKEN']}")
        page.home = page.frame_locator("#flow360-home iframe")
        page.home.locator("#services table").first.wait_for()
        # Home may answer before JupyterLab has its menus and shortcuts.
        page.locator("#jupyterlab-splash").wait_for(state="detached")
        yield page


def tabs(page: Any) -> list[str]:
    return page.locator(TABS).all_inner_texts()


def state(stack: Any, name: str) -> str:
    return next(row["state"] for row in json.loads(stack("status", "--json")) if row["name"] == name)


@pytest.mark.timeout(300)
def test_one_click_leads_from_home_to_lesson_and_lab(lab: Any) -> None:
    assert tabs(lab) == ["Home"]
    assert lab.home.locator("h1").inner_text() == "Welcome to Primeur"
    for width, height in SIZES:
        lab.set_viewport_size({"width": width, "height": height})
        for theme in ("light", "dark"):
            lab.evaluate("theme => { document.body.dataset.jpThemeLight = theme === 'light' }", theme)
            expect(lab.home.locator("html")).to_have_attribute("data-theme", theme)
            lab.home.locator("html").evaluate(
                "one => { if (one.scrollWidth > one.clientWidth) throw Error('clipped') }"
            )
            lab.screenshot(path=SHOTS / f"home-{theme}-{width}.png")
            lab.home.locator("#flow svg .place").first.scroll_into_view_if_needed()
            lab.screenshot(path=SHOTS / f"way-{theme}-{width}.png")
            lab.home.locator("#next").scroll_into_view_if_needed()
    lab.home.locator("#open-main-00").click()
    expect(lab.locator(TABS)).to_have_text(["Home", "00_welcome.ipynb", "00_welcome.ipynb"])
    boxes = [lab.locator(".jp-NotebookPanel").nth(n).bounding_box() for n in (0, 1)]
    assert all(boxes), "both are to be seen"
    assert len({box["x"] for box in boxes}) == 2, "side by side"
    lab.screenshot(path=SHOTS / "side-by-side.png")
    assert not lab.errors
    assert all((ROOT / "work" / folder / "00_welcome.ipynb").exists() for folder in ("notebooks", "labs"))


@pytest.mark.timeout(300)
def test_a_service_starts_and_stops_by_its_button_and_a_token_is_copied(lab: Any, stack: Any) -> None:
    lab.home.locator("#copy-jupyterlab").click()
    expect(lab.home.locator("#said")).to_have_text("Copied.")
    token = stack.env()["JUPYTER_TOKEN"]
    assert lab.evaluate("navigator.clipboard.readText()") == token
    assert token not in lab.home.locator("html").evaluate("one => one.outerHTML")
    lab.home.locator("#choose-01").click()
    lab.home.locator("#up-mosquitto").focus()
    lab.keyboard.press("Enter")
    lab.home.locator("#down-mosquitto").wait_for()
    assert state(stack, "mosquitto") == "running"
    expect(lab.home.locator("#work-title")).to_contain_text("done")
    lab.home.locator("#down-mosquitto").click()
    lab.home.locator("#up-mosquitto").wait_for()
    assert state(stack, "mosquitto") == "stopped"
    assert not lab.errors


@pytest.mark.timeout(300)
def test_down_in_a_terminal_ends_all_and_home_says_so(lab: Any, stack: Any) -> None:
    """The last test here: JupyterLab is down after it."""
    lab.locator(TABS, has_text="Home").click()  # a page in it that has the focus would take the keys
    lab.keyboard.press("Control+Shift+C")
    lab.locator(".lm-CommandPalette-input").fill("New Terminal")
    expect(lab.locator(".lm-CommandPalette-item.lm-mod-active")).to_contain_text("New Terminal")
    lab.keyboard.press("Enter")
    lab.locator(".jp-Terminal .xterm-helper-textarea").wait_for(state="attached")
    lab.locator(".jp-Terminal").click()
    lab.keyboard.type("flow360 down\n")
    supervisor = Supervisor(stack.state)
    wait_for(lambda: not supervisor.daemon() and not supervisor.orphans(), 60, "the end of all")
    lab.locator(TABS, has_text="Home").click()
    expect(lab.home.locator("#said")).to_have_text("JupyterLab does not answer: this page is as it was before.")
