"""Exercise 6: what git still remembers."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any

from flow360.checks import liberal
from flow360.checks.c09_secrets.setting import names
from flow360.checks.draw import a_word, draw
from flow360.checks.verdict import NotYet, exercise, expect, limited
from flow360.process import run

SECONDS = 6
"""How long the learner's function may take; the repository before it takes some two seconds."""


@exercise
def leaked(leaks: Any) -> None:
    """Check, on a fresh repository with values hidden all over its history, that it names those that can be got out."""
    ask = limited(liberal.function("leaks", leaks), SECONDS, "leaks")
    chance = draw()
    kinds = {
        "head": "a value in a file of the newest commit",
        "removed": "a value that a later commit took away",
        "branch": "a value on another branch",
        "message": "a value in a commit's message",
        "tag": "a value that only a tag still holds",
        "words": "a value in the message of a tag",
        "base64": "a value in Base64",
        "binary": "a value in a binary file",
        "merge": "a value that came in with a merge, from neither side",
        "odd": "a value with signs that mean something in a pattern",
    }
    clean = {
        "part": "a value of which only the first half is there",
        "case": "a value that is there in other letters, small for large",
        "untracked": "a value in a file that was never committed",
        "dropped": "a value in a commit to which no branch and no tag leads any more",
        "none": "a value that is nowhere",
    }
    # Two more lines a name, so that no name is worth anything to an answer.
    labels = {kind: f"S{n:02d}" for n, kind in enumerate(chance.sample([*kinds, *clean], len(kinds) + len(clean)))}
    values = {labels[kind]: a_word(chance) + ("+.$x" if kind == "odd" else "") for kind in (*kinds, *clean)}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        _repository(here, {kind: values[label] for kind, label in labels.items()})
        before = _state(here)
        found = ask(here, dict(values))
        expect(before == _state(here), "leaks: the repository, or a file in it, is not as it was before")
    told = names("leaks", found)
    kind_of = {label: kind for kind, label in labels.items()}
    if strange := sorted(told - set(values)):
        raise NotYet(f"leaks: {strange[0][:3]!r}… is none of the names that it was given")
    if lost := sorted(kind_of[label] for label in labels.values() if kind_of[label] in kinds and label not in told):
        raise NotYet(f"leaks: {kinds[lost[0]]} is missing; {len(lost)} of {len(kinds)} are")
    if more := sorted(kind_of[label] for label in told if kind_of[label] in clean):
        raise NotYet(f"leaks: {clean[more[0]]} is among them, and did not leak")


def _state(here: Path) -> tuple[str, ...]:
    return (_git(here, "for-each-ref"), _git(here, "status", "--porcelain"), _git(here, "symbolic-ref", "HEAD"))


def _git(here: Path, *words: str) -> str:
    who = ["-c", "user.name=Primeur", "-c", "user.email=data@primeur.example", "-c", "tag.gpgSign=false"]
    return run(
        ["git", *who, "-c", "commit.gpgSign=false", "-c", "core.hooksPath=/dev/null", *words], cwd=here, seconds=20
    )


def _repository(here: Path, secret: dict[str, str]) -> None:
    def commit(message: str, **files: str | bytes) -> None:
        for name, text in files.items():
            (here / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        _git(here, "add", "--all")
        _git(here, "commit", "--quiet", "--allow-empty", "--message", message)

    _git(here, "init", "--quiet", "--initial-branch=main")
    (here / ".git" / "info" / "exclude").write_text("scratch\n")
    commit("Begin", load=f"password = {secret['removed']}\n", look="ok\n")
    commit("Look closer", load="password = ask()\n", odd=f"x = '{secret['odd']}'\n")
    commit("Tidy", odd="x = 1\n", packed=f"blob: {base64.b64encode(secret['base64'].encode()).decode()}\n")
    commit(f"Try it\n\nworks with {secret['message']} for now", packed="gone\n", half=secret["part"][:10] + "\n")
    commit("Swap", case=secret["case"].swapcase() + "\n", raw=b"\0\1\2" + secret["binary"].encode() + b"\0\xff")
    commit("Swap back", raw=b"\0\1\2")
    _git(here, "switch", "--quiet", "--create", "side")
    commit("Aside", side=f"{secret['branch']}\n")
    _git(here, "switch", "--quiet", "--create", "gone")
    commit("Old", old=f"{secret['tag']}\n")
    _git(here, "tag", "v1")
    _git(here, "switch", "--quiet", "main")
    _git(here, "branch", "--quiet", "-D", "gone")
    _git(here, "tag", "--annotate", "v2", "--message", f"Second, see {secret['words']}")
    _git(here, "switch", "--quiet", "--create", "dropped")
    commit("Dropped", dropped=f"{secret['dropped']}\n")
    _git(here, "switch", "--quiet", "main")
    _git(here, "branch", "--quiet", "-D", "dropped")
    # What a merge brings in, from neither side, and the next one takes out again.
    for topic, text in (("topic", secret["merge"]), ("other", "")):
        _git(here, "switch", "--quiet", "--create", topic, "HEAD~1")
        commit(topic, **{topic: "1\n"})
        _git(here, "switch", "--quiet", "main")
        _git(here, "merge", "--quiet", "--no-ff", "--no-commit", topic)
        commit(f"Merge {topic}", merged=f"{text}\n")
    commit("Go on", newest=f"token: {secret['head']}\n")
    (here / "scratch").write_text(secret["untracked"])
