"""Which layers of an image does a change build again? The rule of Docker's cache, applied to a Dockerfile's text.

A layer is taken from the cache when its instruction, what it copies, and the layer below are what they were. So the
first instruction that sees the change is built again, and everything after it in its stage, and every stage that
copies from there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch

_MAKES_A_LAYER = ("RUN", "COPY", "ADD")


@dataclass(frozen=True)
class Step:
    """One instruction: the line it begins on, its stage (name or number), its text on one line."""

    line: int
    stage: str
    text: str

    @property
    def word(self) -> str:
        return self.text.split(None, 1)[0].upper()


def steps(dockerfile: str) -> list[Step]:
    """The instructions of a Dockerfile, continued lines joined, comments left out."""
    found: list[Step] = []
    stage, number, begin, text = "", -1, 0, ""
    for line, raw in enumerate(dockerfile.splitlines(), 1):
        if raw.lstrip().startswith("#") or not (raw.strip() or text):
            continue
        begin = begin or line
        text += raw.strip().removesuffix("\\").strip() + " "
        if raw.rstrip().endswith("\\"):
            continue
        if text.split(None, 1)[0].upper() == "FROM":
            number += 1
            named = re.search(r"\sAS\s+(\S+)", text, re.IGNORECASE)
            stage = named.group(1) if named else str(number)
        found.append(Step(begin, stage, " ".join(text.split())))
        begin, text = 0, ""
    return found


def rebuilt(dockerfile: str, changed: Iterable[str]) -> list[tuple[Step, bool]]:
    """The instructions that make layers, each with: is it built again when these files change?

    Args:
        dockerfile: its text.
        changed: paths below the build context, such as "flow360/cli.py".
    """
    changed = list(changed)
    stale: set[str] = set()  # stages in which something was built again
    rows: list[tuple[Step, bool]] = []
    for step in steps(dockerfile):
        if step.word == "FROM":
            if step.text.split()[1] in stale:
                stale.add(step.stage)
            continue
        if step.word not in _MAKES_A_LAYER:
            continue
        if step.stage not in stale and _sees(step, changed, stale):
            stale.add(step.stage)
        rows.append((step, step.stage in stale))
    return rows


def _sees(step: Step, changed: list[str], stale: set[str]) -> bool:
    if step.word == "RUN":
        return False  # the cache compares the command, not what it would do today
    words = shlex.split(step.text)[1:]
    options = [word for word in words if word.startswith("--")]
    sources = [word.removeprefix("./").rstrip("/") for word in words if not word.startswith("--")][:-1]
    for option in options:
        if option.startswith("--from="):
            return option.partition("=")[2] in stale
    return any(
        source in ("", ".") or path == source or path.startswith(source + "/") or fnmatch(path, source)
        for source in sources
        for path in changed
    )
