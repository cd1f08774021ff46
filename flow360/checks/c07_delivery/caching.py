"""Exercise 3: the key of a cache."""

from __future__ import annotations

import random
import re
from typing import Any

from flow360.checks import github
from flow360.checks.draw import draw
from flow360.checks.verdict import exercise, expect, expect_type

LOCKS = ("requirements.lock", "stack/jars.lock")
OTHERS = (
    "README.md", "flow360/settings.py", "compose.yaml", "pyproject.toml", "stack/native.toml", "stack/jars.toml",
    "stack/kafka/server.properties", "requirements.in", "labs/07_delivery.ipynb", "scripts/lock", ".github/ci.yml",
)  # fmt: skip


@exercise
def cache_key(key: Any) -> None:
    """Check that it is another key when a lock or the system changes, the same one when anything else does."""
    expect_type("key", key, str)
    plain = re.sub(r"\$\{\{.+?\}\}", "", key)
    expect(
        "," not in plain and "\n" not in plain.strip(), "key: GitHub takes neither a comma nor a line's end in a key"
    )
    expect("${{" not in plain and "}}" not in plain, "key: an expression is not closed: `${{ … }}`")
    files = _files(draw())
    before = github.computed("key", key, github.SYSTEMS[0], files)
    expect("," not in before, "key: GitHub takes no comma in a key, and there is one in what it comes to")
    keys = {github.computed("key", key, system, files) for system in github.SYSTEMS}
    expect(len(keys) == len(github.SYSTEMS), "key: the same one on Linux and macOS: their packages differ")
    for path in files:
        after = github.computed("key", key, github.SYSTEMS[0], {**files, path: "changed"})
        if path in LOCKS:
            expect(after != before, f"key: {path} has changed, the key has not: old packages would be served")
        else:
            expect(after == before, f"key: {path} has changed, and the key with it: 2 GB are fetched for nothing")


def _files(chance: random.Random) -> dict[str, str]:
    """Draw a repository of these files, and of some whose names nobody knows before."""
    number = chance.randint(1, 99)
    drawn = (f"notes-{number}.txt", f"stack/part{number}/config.yaml", f"data/day-{number}/orders.csv")
    return {path: f"{path} {chance.random()}" for path in (*LOCKS, *OTHERS, *drawn)}
