"""CONTRIBUTING's recipe for a service, followed with an invented one in a copy of the project."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from flow360.settings import ROOT

SERVICE = """
  weather-vane:
    extends: {file: templates.yaml, service: service}
    x-flow360: {layer: 6, title: "A weather vane", link: "http://127.0.0.1:{port}/turn"}
    profiles: [monitoring, complete]
    image: example/vane:1.2.3
    environment:
      VANE_PASSWORD: ${WEATHER_VANE_PASSWORD:?run ./scripts/env first, it writes .env}
    ports: ["127.0.0.1:${WEATHER_VANE_PORT:-17654}:7654"]
    volumes:
      - ../weather-vane/vane.conf:/etc/vane.conf:ro
      - weather-vane:/data
    mem_limit: 64m
    healthcheck:
      test: ["CMD", "vane", "--check"]

volumes:
  weather-vane:
"""
NATIVE = """
[weather-vane]
runs = "real"
memory_mb = 10
what = "Vane 1.2.3"
container_environment = true
config = {file = "weather-vane/vane.conf", set = {listen = "127.0.0.1:{port[weather-vane]}"}}
command = ["{bin}/vane", "--config", "{conf}/vane.conf"]
ready = {probe = "http", path = "/turn"}
"""
CLIENT = """

def vane() -> str:
    return f"http://127.0.0.1:{settings().weather_vane_port}"
"""
ASK = """
import json
from pathlib import Path
from flow360 import clients
from flow360.course.readme import service_table
from flow360.settings import ROOT, ensure_env, settings
from flow360.stack.model import model
from flow360.stack.native.engine import NativeEngine
from flow360.stack.native.programs import Programs

env = ensure_env().read_text()
service, programs = model()["weather-vane"], Programs(model(), ROOT / "state")
programs.write_config(service)
print(json.dumps({
    "env": [line.partition("=")[0] for line in env.splitlines()],
    "port": settings().weather_vane_port,
    "client": clients.vane(),
    "link": service.link,
    "row": [row for row in service_table().splitlines() if "weather-vane" in row],
    "status": [row.state for row in NativeEngine(model(), ROOT / "state").status() if row.name == "weather-vane"],
    "told": programs.environment(service) == {"VANE_PASSWORD": settings().weather_vane_password},
    "config": (programs.conf(service) / "vane.conf").read_text(),
    "command": programs.command(service)[0],
}))
"""


def append(path: Path, text: str, instead: str = "") -> str:
    """Edit a file of the copy; its name as CONTRIBUTING calls it."""
    path.parent.mkdir(exist_ok=True)
    before = path.read_text("utf-8") if path.exists() else ""
    path.write_text(before.replace(instead, text, 1) if instead else before + text, "utf-8")
    return re.sub(r"\d_\w+", "N_layer", path.name) if "layers" in path.parts else path.name


def test_an_invented_service_is_added_as_contributing_says(tmp_path):
    for name in ("flow360", "stack", "scripts", "solutions"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    for name in ("compose.yaml", "course.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    layers, clients = tmp_path / "stack" / "layers", tmp_path / "flow360" / "clients"
    edited = [
        append(layers / "6_monitoring.yaml", SERVICE, instead="\nvolumes:\n"),
        append(layers / "6_monitoring.toml", NATIVE),
        append(tmp_path / "stack" / "weather-vane" / "vane.conf", "listen=0.0.0.0:7654\n"),
        append(
            clients / "web.py",
            '\n\ndef vane() -> str:\n    return f"http://127.0.0.1:{settings().weather_vane_port}"\n',
        ),
        append(
            clients / "__init__.py",
            "from flow360.clients.web import vane, airflow",
            "from flow360.clients.web import airflow",
        ),
    ]
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    recipe = text[text.index("## Change or add a service") : text.index("## Change the warehouse")]
    assert len(edited) + 1 <= 6  # and a stand-in, which the compose tests ask for
    for name in {*edited, "standins"} - {"vane.conf", "web.py"}:
        assert name in recipe
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "FLOW360_STATE": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {"WEATHER_VANE_PORT", "WEATHER_VANE_PASSWORD"} <= set(said.pop("env"))
    assert said == {
        "port": 17654,
        "client": "http://127.0.0.1:17654",
        "link": "http://127.0.0.1:17654/turn",
        "row": ["| 6 | `weather-vane` | real: Vane 1.2.3 | `example/vane:1.2.3` |"],
        "status": ["stopped"],
        "told": True,
        "config": "listen=127.0.0.1:17654\n",
        "command": str(Path(sys.executable).parent / "vane"),
    }
