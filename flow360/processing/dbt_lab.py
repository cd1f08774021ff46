"""The learner's own models: a folder that is not in git, and what dbt is given to read of it.

dbt reads a project whole, and gives up at the first file that it does not understand. So it reads the learner's files
from a copy that holds those that a run is about: a broken file of one exercise does not stand in the way of another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from flow360 import files
from flow360.errors import Exit, FlowError
from flow360.settings import ROOT, settings

FOLDER = "FLOW360_DBT_LAB"
"""The variable by which dbt_project.yml finds the copy, relative to the project."""
SECONDS = 60
"""How long a statement of a learner's model may take, on an idle machine; and a third of it, wait for a lock."""


def lab_dir() -> Path:
    """Return the learner's own folder: models, their .yml, and tests/ for tests in SQL. Not in git."""
    return settings().dbt_dir / "lab"


def write(name: str, text: str) -> Path:
    """Write a file of the learner's, `dbt.write("lab_payments.sql", "select …")`; one that is there is replaced.

    Args:
        name: a path below `lab_dir()`: `x.sql` and `x.yml` for a model, `tests/x.sql` for a test.
        text: its content.

    Raises:
        FlowError: the name leads out of the folder, or is neither SQL nor YAML.
    """
    path = (lab_dir() / name).resolve()
    if not path.is_relative_to(lab_dir().resolve()) or path.suffix not in (".sql", ".yml"):
        raise FlowError(f"{name!r}: expected NAME.sql, NAME.yml or tests/NAME.sql", Exit.USAGE)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, text.strip("\n") + "\n")
    return path


def forget(*names: str) -> None:
    """Remove files of the learner's (see `write`); those that are not there are passed over."""
    for name in names:
        (lab_dir() / name).unlink(missing_ok=True)


def laid_out(copy: Path, lab: Path, select: str | Sequence[str] | None) -> dict[str, str]:
    """Copy what a run is about, take away what the run before has left there, and return dbt's environment for it.

    Args:
        copy: the folder that dbt reads. lab: the learner's.
        select: what is to be built, as dbt takes it.
    """
    mine = {path.relative_to(lab): path.read_text("utf-8") for path in sorted(lab.rglob("*.*")) if path.is_file()}
    wanted = {name: mine[name] for name in _wanted(mine, select)}
    for path in copy.rglob("*.*"):
        if path.is_file() and path.relative_to(copy) not in wanted:
            path.unlink()
    for name, text in wanted.items():
        path = copy / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    return {
        # Relative: dbt puts what it compiles below its target folder, under the same path.
        FOLDER: os.path.relpath(copy, ROOT / "dbt"),
        # A session that somebody has left open would be waited for without end.
        "PGOPTIONS": f"-c statement_timeout={SECONDS}s -c lock_timeout={SECONDS // 3}s",
    }


def _wanted(mine: dict[Path, str], select: str | Sequence[str] | None) -> Iterator[Path]:
    """Yield the files of the names asked for, and of those that they refer to; all, where no file has such a name.

    A .yml that belongs to no model of its name, such as one of sources, belongs to all.
    """
    stems = {name.stem for name in mine if name.suffix == ".sql"}
    asked = [select] if isinstance(select, str) else list(select or ())
    names = {word for one in asked for word in re.findall(r"\w+", one)} & stems
    shared = [name for name in mine if name.suffix == ".yml" and name.stem not in stems]
    if not names:
        yield from mine
        return
    seen: set[Path] = set(shared)
    left = [*shared, *(name for name in mine if name.stem in names)]
    while left:
        name = left.pop()
        seen.add(name)
        met = set(re.findall(r"ref\(\s*['\"](\w+)|\bmodel:\s*(\w+)", mine[name]))
        others = {word for pair in met for word in pair if word} & stems
        left += [name for name in mine if name.stem in others and name not in seen]
    yield from sorted(seen)
