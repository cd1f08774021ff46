"""`.env`: generated once with mode 0600, never overwritten, and a bad value is one line."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flow360 import settings as module
from flow360.errors import Exit, FlowError
from flow360.settings import (
    PORTS,
    ROOT,
    SECRETS,
    Settings,
    ensure_env,
    env_values,
    settings,
)
from flow360.stack.model import read_model


@pytest.fixture
def env(tmp_path, monkeypatch):
    """The path of a `.env` that is not there yet, and no variable of ours in the environment."""
    for name in (*PORTS, *SECRETS, "FLOW360_ENGINE", "FLOW360_STATE", "FLOW360_CACHE", "FLOW360_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "folder with a space" / ".env"
    monkeypatch.setenv("FLOW360_ENV_FILE", str(path))
    settings.cache_clear()
    yield path
    settings.cache_clear()


def values(path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert all(line.count("=") == 1 for line in lines)
    return dict(line.split("=") for line in lines)


def test_it_is_made_with_ports_and_passwords_for_its_owner_only(env):
    old = os.umask(0)
    try:
        assert ensure_env() == env
    finally:
        os.umask(old)
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    found = values(env)
    assert {name: int(found[name]) for name in PORTS} == PORTS
    assert len({found[name] for name in SECRETS}) == len(SECRETS)
    for name in SECRETS:
        length = {"AIRFLOW_JWT_SECRET": 64, "AIRFLOW_FERNET_KEY": 43, "KIBANA_ENCRYPTION_SECRET": 32}.get(name, 24)
        assert re.fullmatch(rf"[A-Za-z0-9]{{{length}}}", found[name])
    assert settings().postgres_dwh_password == found["POSTGRES_DWH_PASSWORD"]
    assert settings().kafka_bootstrap == "127.0.0.1:19092"
    assert list(env.parent.iterdir()) == [env], "no temporary file is left"


def test_a_second_time_nothing_changes(env):
    ensure_env()
    before = env.read_bytes(), env.stat().st_mtime_ns
    ensure_env()
    assert (env.read_bytes(), env.stat().st_mtime_ns) == before


def test_what_stands_there_is_kept_and_what_is_new_is_added(env):
    env.parent.mkdir()
    env.write_text("# mine\nKAFKA_PORT=9999\nPOSTGRES_DWH_PASSWORD=mine\nOWN=1")  # and no newline at the end
    ensure_env()
    found = values(env)
    assert env.read_text().startswith("# mine\nKAFKA_PORT=9999\nPOSTGRES_DWH_PASSWORD=mine\nOWN=1\n")
    assert found["KAFKA_PORT"] == "9999"
    assert found["OWN"] == "1"
    assert set(PORTS) | set(SECRETS) <= set(found)
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert settings().kafka_port == 9999


def test_a_variable_of_the_environment_wins(env, monkeypatch):
    ensure_env()
    monkeypatch.setenv("KAFKA_PORT", "7777")
    settings.cache_clear()
    assert settings().kafka_port == 7777


def test_an_empty_value_is_none(env, monkeypatch):
    env.parent.mkdir()
    env.write_text("KAFKA_PORT=\nPOSTGRES_DWH_PASSWORD=\nexport MQTT_PORT=21883\n")
    monkeypatch.setenv("FLOW360_STATE", "")
    ensure_env()
    assert settings().kafka_port == PORTS["KAFKA_PORT"]
    assert settings().mqtt_port == 21883
    assert len(settings().postgres_dwh_password) == 24
    assert settings().state_dir.is_absolute()


@pytest.mark.parametrize(("given", "meant"), [("~/mine", Path.home() / "mine"), ("build/mine", ROOT / "build/mine")])
def test_a_folder_is_the_same_from_wherever_it_is_asked(env, monkeypatch, tmp_path, given, meant):
    monkeypatch.setenv("FLOW360_STATE", given)
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    assert settings().state_dir == meant


def test_a_value_that_is_none_is_one_line_with_file_and_name(env):
    env.parent.mkdir()
    env.write_text("KAFKA_PORT=ninety\n")
    with pytest.raises(FlowError, match=r"\.env: KAFKA_PORT: .*\(found 'ninety'\)") as caught:
        settings()
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("given", ["tcp://10.0.0.1:9092", "70000", "0", "-1", "19_092", "19092.0"])
def test_a_bad_port_of_the_environment_is_said_to_stand_there(env, monkeypatch, given):
    ensure_env()
    monkeypatch.setenv("KAFKA_PORT", given)
    settings.cache_clear()
    with pytest.raises(
        FlowError, match=r"KAFKA_PORT in the environment, not in \.env: .*: unset KAFKA_PORT$"
    ) as caught:
        settings()
    assert given in caught.value.message
    with pytest.raises(FlowError, match="KAFKA_PORT in the environment"):
        read_model()


def test_a_variable_set_to_nothing_hides_nothing_from_either_reader(env, monkeypatch):
    env.parent.mkdir()
    env.write_text("KAFKA_PORT=31501\n")
    ensure_env()
    monkeypatch.setenv("KAFKA_PORT", "")
    assert (settings().kafka_port, read_model()["kafka"].port) == (31501, 31501)


READ = {
    "a byte order mark": (b"\xef\xbb\xbfKAFKA_PORT=31501\n", "31501"),
    "Windows' line ends": (b"# a\r\nKAFKA_PORT=31501\r\n", "31501"),
    "blanks, export and a comment": (b"  export KAFKA_PORT = 31501 # mine\n", "31501"),
    "quotes": (b"KAFKA_PORT='31501'\n", "31501"),
    "a dollar in single quotes": (b"KAFKA_PORT='a$b' # mine\n", "a$b"),
    "an accent": ("# réglages\nKAFKA_PORT=é\n".encode(), "é"),
    "a hash inside": (b"KAFKA_PORT=a#b\n", "a#b"),
    "an empty one and then another": (b"KAFKA_PORT=\nKAFKA_PORT=31501\n", "31501"),
}


@pytest.mark.parametrize("case", READ)
def test_what_compose_reads_is_read_alike(env, case):
    """The second values are what compose-go 2.12 was seen to read."""
    text, value = READ[case]
    env.parent.mkdir()
    env.write_bytes(text)
    assert env_values(env)["KAFKA_PORT"] == value
    ensure_env()
    assert env_values(env)["KAFKA_PORT"] == value, "what is appended changes nothing that stands there"
    assert env.read_text().count("KAFKA_PORT=3") == text.count(b"KAFKA_PORT=3")


REFUSED = {
    "Latin-1": ("# a\n# r\xe9glages\n".encode("latin-1"), "line 2: this is not UTF-8"),
    "UTF-16": ("KAFKA_PORT=31501\n".encode("utf-16"), "line 1: this is not UTF-8"),
    "an open quote": (b'A=1\nKAFKA_PORT="31501\nB=2\nC="x"\n', "line 2: this is not NAME=value"),
    "a colon": (b"KAFKA_PORT: 31501\n", "line 1: this is not NAME=value"),
    "a name alone": (b"KAFKA_PORT\n", "line 1: this is not NAME=value"),
    "something behind a quote": (b"KAFKA_PORT='31501'0\n", "line 1: this is not NAME=value"),
    "a variable": (b"A=1\nKAFKA_PORT=3150$A\n", "line 2: this is not NAME=value, or .* in '…'"),
    "a backslash in double quotes": (b'KAFKA_PORT="a\\nb"\n', "line 1: "),
    "a comment in the place of a value": (b"KAFKA_PORT= # mine\n", "line 1: "),
    "a comment behind a tab": (b"KAFKA_PORT=31501\t# mine\n", "line 1: "),
    "a lonely carriage return": (b"# a\rKAFKA_PORT=31501\n", "line 1: "),
    "two values": (b"KAFKA_PORT=1\nA=2\nKAFKA_PORT=31501\n", "line 3: KAFKA_PORT has another value than in line 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_compose_would_read_otherwise_is_one_line(env, case):
    text, said = REFUSED[case]
    env.parent.mkdir()
    env.write_bytes(text)
    for reader in (settings, ensure_env, read_model):
        with pytest.raises(FlowError, match=f"^{re.escape(str(env))}, {said}") as caught:
            reader()
        assert "\n" not in caught.value.message
        assert "31501" not in caught.value.message, "a password could stand there"
    assert env.read_bytes() == text


def test_a_file_that_cannot_be_written_is_one_line(env, monkeypatch):
    (env.parent).write_text("a file where the folder should be")
    with pytest.raises(FlowError, match="cannot be written") as caught:
        ensure_env()
    assert caught.value.code is Exit.PERMISSION
    assert "\n" not in caught.value.message


def test_a_file_that_cannot_be_read_is_one_line(env, monkeypatch):
    ensure_env()

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.Path, "read_bytes", refuse)
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    with pytest.raises(FlowError, match=r"cannot be read by this user: sudo chown \$USER"):
        ensure_env()


def test_passwords_are_not_shown(env):
    ensure_env()
    shown = repr(settings()) + str(settings())
    for name in SECRETS:
        assert values(env)[name] not in shown


def test_every_port_has_a_field():
    for name in PORTS:
        assert name.lower() in Settings.model_fields
    assert len(set(PORTS.values())) == len(PORTS)
    assert not any(32768 <= port <= 60999 for port in PORTS.values()), "the system gives these to anybody"


def test_state_lies_outside_the_checkout_and_differs_from_checkout_to_checkout(env, monkeypatch, tmp_path):
    one = settings().state_dir
    assert ROOT not in one.parents
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert settings().state_dir != one
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert settings().state_dir.parent == tmp_path / "xdg" / "flow360"


def test_folders_can_be_redirected(env, monkeypatch, tmp_path):
    for name in ("STATE", "CACHE", "PROGRESS"):
        monkeypatch.setenv(f"FLOW360_{name}", str(tmp_path / name))
    settings.cache_clear()
    found = settings()
    assert (found.state_dir, found.cache_dir, found.progress_file) == tuple(
        tmp_path / name for name in ("STATE", "CACHE", "PROGRESS")
    )


def test_two_processes_that_make_it_at_once_agree(env):
    """`up` in two terminals: both must end with the passwords that stand in the file."""
    code = (
        "from flow360.settings import ensure_env, settings; ensure_env(); settings.cache_clear(); "
        "print(settings().postgres_dwh_password)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(3)
    ]
    said = {process.communicate(timeout=60)[0].strip() for process in running}
    assert said == {values(env)["POSTGRES_DWH_PASSWORD"]}
