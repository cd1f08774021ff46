"""No secret in the tree, in an executed notebook or in a log; and the scan is proved on a planted one."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values

from flow360.delivery import leaks
from flow360.delivery.leaks import DIGESTS, scan
from flow360.settings import SECRETS, settings
from tests.environment import BUILD, ROOT
from tests.faults.support import report

SERVICES = ("postgres-dwh", "jupyterlab")


def tree() -> list[Path]:
    """What git holds or would take."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def evidence() -> list[Path]:
    """Executed notebooks, reports and logs of this run, with those of the running stacks."""
    folders = [BUILD, *(folder / kind for folder in states() for kind in ("logs", "run"))]
    ours = env_files()
    return [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file() and path not in ours]


def states() -> list[Path]:
    """The folders of the lanes' stacks."""
    own = settings().state_dir
    return sorted(own.parent.glob(own.name.rstrip("0123456789") + "*"))


def env_files() -> list[Path]:
    """The `.env` of each lane."""
    return sorted(BUILD.glob("lane*/test.env"))


def own_secrets() -> dict[str, str]:
    """The generated passwords of the tests' stacks and, if there is one, of the learner's."""
    found = {}
    for path in (*env_files(), ROOT / ".env"):
        values = dotenv_values(path) if path.exists() else {}
        found |= {f"{name} of {path}": values[name] for name in SECRETS if values.get(name)}
    return found


def holding(paths: list[Path]) -> list[str]:
    """`file: name` of each generated password that stands in one of the files."""
    ours = own_secrets()
    assert ours
    return leaks.holding(paths, ours)


def text_of(path: Path, folder: Path) -> Path:
    """A notebook as its sources and printed outputs, a log with each kind of line once: the rest is noise here."""
    target = folder / f"{len(list(folder.iterdir()))}-{path.stem}.txt"
    if path.suffix == ".log":
        # Most lines differ in their moments and counts only, and the scan of all of them takes minutes.
        lines = path.read_text("utf-8", "replace").splitlines()
        target.write_text("\n".join({re.sub(r"\d+", "0", line): line for line in lines}.values()), "utf-8")
        return target
    if path.suffix == ".xml":
        # They stand there in base64, which looks like a secret whenever it is long enough.
        figures = re.compile(r'<property name="hypothesis-statistics-[^>]*>')
        target.write_text(figures.sub("", path.read_text("utf-8")), "utf-8")
        return target
    if path.suffix != ".ipynb":
        return path
    lines = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        lines.append("".join(cell["source"]))
        for output in cell.get("outputs", []):
            lines.append("".join(output.get("text", [])) + "\n".join(output.get("traceback", [])))
            data = output.get("data", {})
            lines += ["".join(data[kind]) for kind in ("text/plain", "text/html") if kind in data]
    target.write_text("\n".join(lines), "utf-8")
    return target


@pytest.mark.timeout(200)
def test_no_secret_in_the_tree():
    """Fault 11: what git holds."""
    paths = [path for path in tree() if path.suffix not in DIGESTS]
    found = scan(paths)
    held = holding(tree())
    report("11 leaks in the tree", files=len(paths), found=len(found), own_passwords_found=len(held))
    assert len(paths) > 50
    assert found == []
    assert held == []


@pytest.mark.timeout(200)
def test_no_secret_in_notebooks_and_logs(tmp_path, started):
    """Fault 11: what was executed and written. The keeper's config holds the token, and only its owner may read it."""
    started("postgres-dwh", "jupyterlab")
    paths = [path for path in evidence() if path.suffix not in DIGESTS]
    written = [path for path in paths if path.suffix != ".program"]
    found = scan([text_of(path, tmp_path) for path in written if path.suffix in (".ipynb", ".log", ".xml", ".txt")])
    held = holding(written)
    notebooks = sum(path.suffix == ".ipynb" for path in written)
    report("11 leaks in what was run", files=len(written), notebooks=notebooks, found=len(found), own=len(held))
    assert found == []
    assert held == []
    assert [path for path in paths if path.suffix == ".program" and path.stat().st_mode & 0o077] == []


def test_a_planted_secret_is_found(tmp_path):
    """Fault 11: the scan is only worth something if it finds what is there."""
    # Put together here, so that this file holds none of them.
    planted = {
        "AWS Access Key": "aws = 'AKIA" + "IOSFODNN7EXAMPLQ'",
        "Private Key": "-----BEGIN " + "RSA PRIVATE KEY-----",
        "GitHub Token": "token: ghp" + "_" + "x1Y2z3W4v5" * 3 + "k6M7n8",
        "Basic Auth Credentials": "url = 'postgresql://shop:" + "hunter2hunter2@127.0.0.1/shop'",
        "Secret Keyword": "POSTGRES_PASSWORD = " + "'q8Zr2LmN4vXw'",
        "Slack Token": "slack: xoxb" + "-1234567890-1234567890123-" + "AbCdEfGhIjKlMnOpQrStUvWx",
        "Stripe Access Key": "stripe = 'sk_live" + "_" + "a1B2c3D4e5F6g7H8i9J0k1L2'",
        "Azure Storage Account access key": "AccountKey" + "=" + "q8Zr2LmN4vXw" * 7 + "Qg==",
        "JSON Web Token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
        + "eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    }
    found = {}
    for number, (kind, text) in enumerate(planted.items()):
        path = tmp_path / f"leak{number}.py"
        path.write_text(text + "\n")
        found[kind] = any(kind in line for line in scan([path]))
    notebook = {"cells": [{"source": ["1"], "outputs": [{"text": [next(iter(planted.values()))]}]}]}
    (tmp_path / "run.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "texts").mkdir()
    found["in an output"] = bool(scan([text_of(tmp_path / "run.ipynb", tmp_path / "texts")]))
    report("11 planted leaks", planted=len(found), found=sum(found.values()))
    assert all(found.values()), found
    assert len(found) == 10


def test_the_hook_stops_a_commit_that_holds_a_secret(tmp_path, capsys, monkeypatch):
    """By its look, or by its value; what is said names the place and never the secret."""
    own, word = "plain-words-of-ours", "q8Zr2L" + "mN4vXw"
    monkeypatch.setattr(leaks, "env_values", lambda: {"JUPYTER_TOKEN": own, "FLOW360_ENGINE": "native"})
    files = {"clean.py": "x = 'native'", "looks.py": f"PASSWORD = '{word}'", "value.txt": f"see {own}"}
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    said = {}
    for name in (*files, "gone.py"):
        code = leaks.main([str(tmp_path / name)])
        said[name] = (code, capsys.readouterr().out.strip().removeprefix(f"{tmp_path}/"))
    assert said == {
        "clean.py": (0, ""),
        "looks.py": (1, "looks.py:1: Secret Keyword"),
        "value.txt": (1, "value.txt: JUPYTER_TOKEN"),
        "gone.py": (0, ""),
    }
