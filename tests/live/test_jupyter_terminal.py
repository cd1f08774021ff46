"""A terminal of JupyterLab, opened as a browser opens it, in which somebody types `flow360 down`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dotenv import dotenv_values
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from flow360.stack.native.supervise import Supervisor
from flow360.waiting import wait_for
from tests.environment import ROOT, port_lines

SERVICES = ()  # of the lane; it has a stack of its own
OWN = ("jupyterlab", "zookeeper", "mosquitto")


@pytest.fixture
def flow360(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """The command line on a stack of its own, which is down afterwards."""
    env = tmp_path / "terminal.env"
    env.write_text(port_lines("terminal"), "utf-8")
    variables = {**os.environ, "FLOW360_STATE": str(tmp_path / "state"), "FLOW360_ENV_FILE": str(env)}

    def run(*words: str) -> str:
        command = [Path(sys.executable).parent / "flow360", *words]
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    run("down")


async def typed(port: str, token: str, command: str) -> str:
    """What a terminal shows until it closes, when somebody types a command in it."""
    headers = {"Authorization": f"token {token}"}
    new = urllib.request.Request(f"http://127.0.0.1:{port}/api/terminals", b"{}", headers)
    name = json.load(urllib.request.urlopen(new))["name"]
    url = f"ws://127.0.0.1:{port}/terminals/websocket/{name}"
    terminal = await websocket_connect(HTTPRequest(url, headers=headers))
    await terminal.write_message(json.dumps(["stdin", f"{command}\r"]))
    said = ""
    while (message := await terminal.read_message()) is not None:
        kind, *parts = json.loads(message)
        said += parts[0] if kind == "stdout" else ""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)


@pytest.mark.timeout(300)
def test_down_typed_in_a_terminal_of_jupyterlab_leaves_nothing_running(flow360, tmp_path: Path) -> None:
    flow360("up", *OWN)
    env = dotenv_values(tmp_path / "terminal.env")
    said = asyncio.run(asyncio.wait_for(typed(env["JUPYTER_PORT"], env["JUPYTER_TOKEN"], "flow360 down"), 120))
    supervisor = Supervisor(tmp_path / "state")
    wait_for(lambda: not supervisor.daemon() and not supervisor.orphans(), 60, "the end of all, the command included")
    shown = said.splitlines()
    lasts = [max(n for n, line in enumerate(shown) if name in line and "stopped" in line) for name in OWN]
    assert max(lasts) == lasts[0], "JupyterLab is the last one"
    assert "last, with this terminal" in shown[lasts[0]]
    states = {row["name"]: row["state"] for row in json.loads(flow360("status", "--json"))}
    assert {states[name] for name in OWN} == {"stopped"}
