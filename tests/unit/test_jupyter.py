"""JupyterLab asks for its token on 127.0.0.1, whatever the configuration of the user or of another course says."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from flow360.settings import ROOT, settings
from flow360.stack.model import model
from flow360.stack.native.program import inherited
from flow360.stack.native.programs import Programs

THEIRS = """
c.ServerApp.token = c.IdentityProvider.token = c.ServerApp.password = c.PasswordIdentityProvider.hashed_password = ""
c.ServerApp.ip = "0.0.0.0"
c.ServerApp.allow_origin = "*"
c.ServerApp.disable_check_xsrf = c.ServerApp.allow_unauthenticated_access = c.ServerApp.allow_remote_access = True
"""
THEIRS_TOO = '{"ServerApp": {"token": "", "ip": "0.0.0.0", "allow_origin": "*"}, "IdentityProvider": {"token": ""}}'


def test_a_users_own_configuration_opens_no_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter itself says what it has read: with the keeper's command and variables, and a home that opens all."""
    theirs = tmp_path / ".jupyter"
    theirs.mkdir()
    for name in ("jupyter_config", "jupyter_server_config", "jupyter_lab_config"):
        (theirs / f"{name}.py").write_text(THEIRS)
        (theirs / f"{name}.json").write_text(THEIRS_TOO)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(theirs))
    kept = Programs(model(), tmp_path / "state").kept(model()["jupyterlab"])
    said = subprocess.run(
        [*kept.command, "--show-config-json"],
        cwd=kept.directory,
        env={**inherited(), **kept.environment},
        capture_output=True,
        text=True,
        timeout=100,
    ).stdout
    found = json.loads(said[said.index("{\n") :])
    assert found["IdentityProvider"]["token"] == settings().jupyter_token
    server = found["ServerApp"]
    assert not {"token", "password"} & server.keys()
    assert (server["ip"], server["allow_origin"]) == ("127.0.0.1", "")
    for door in ("disable_check_xsrf", "allow_unauthenticated_access", "allow_remote_access"):
        assert server[door] is False
    assert settings().jupyter_token not in " ".join(kept.command)


def test_at_the_hub_who_comes_in_and_where_it_listens_is_the_hubs_to_say(tmp_path: Path) -> None:
    """Of what JupyterHub decides the course's configuration says nothing; all else is there, and the copies."""
    kept = Programs(model(), tmp_path / "state").kept(model()["jupyterlab"])
    hub = {**inherited(), **kept.environment, "JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"}
    del hub["JUPYTER_TOKEN"]  # it gives none
    work = ROOT / "work" / "notebooks"
    there = work.is_dir()
    command = [*kept.command[: kept.command.index("--ip")], "--show-config-json"]
    done = subprocess.run(command, cwd=kept.directory, env=hub, capture_output=True, text=True, timeout=100)
    found = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert "IdentityProvider" not in found
    assert not {"ip", "allow_remote_access"} & found["ServerApp"].keys()
    assert found["ServerApp"]["jpserver_extensions"]["flow360.home"] is True
    assert found["ServerApp"]["disable_check_xsrf"] is False
    assert work.is_dir()
    if not there:
        shutil.rmtree(ROOT / "work")


def test_each_question_of_home_carries_the_cookies_mark() -> None:
    """JupyterHub's JupyterLab answers no script without it, as Jupyter's own does only where something is changed."""
    script = (ROOT / "flow360" / "home" / "static" / "home.js").read_text("utf-8")
    assert script.count("fetch(") == 1
    assert '"X-XSRFToken": decodeURIComponent(xsrf)' in script[script.index("fetch(") :].splitlines()[0]
