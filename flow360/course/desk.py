"""The learner's own copies of the lessons and labs, in work/, which git ignores.

Who runs a notebook changes it, and who answers a lab changes it more. In a copy that hinders no `git pull`, and what
comes with it overwrites no answer: a copy in which nobody has written is replaced, another is left and named.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from flow360.errors import FlowError
from flow360.files import locked, write

FOLDER = "work"
FOLDERS = ("notebooks", "labs")
LAID = ".laid.json"
"""In work/: of each copy the SHA-256 of its original, and the digest of the cells, outputs left aside."""


def own(notebook: str) -> str:
    """The learner's copy of a notebook, as a path below the checkout."""
    return f"{FOLDER}/{notebook}"


def lay_out(root: Path) -> list[str]:
    """Bring work/ to the state of the checkout, without touching what somebody has written.

    Args:
        root: the checkout.

    Returns:
        A line for each copy that is older than its original and was left alone, or whose original is no notebook.

    Raises:
        OSError: work/ cannot be written.
    """
    work = root / FOLDER
    with locked(work / LAID):
        laid, left = _laid(work / LAID), []
        for original in (path for folder in FOLDERS for path in sorted((root / folder).glob("*.ipynb"))):
            name = original.relative_to(root).as_posix()
            content = original.read_bytes()
            sha = hashlib.sha256(content).hexdigest()
            if (work / name).exists() and laid.get(name, [""])[0] == sha:
                continue
            try:
                cells = _cells(original)
            except FlowError as error:
                left.append(f"{error}: git checkout {name}")
                continue
            if (work / name).exists() and not _untouched(work / name, laid.get(name)):
                left.append(
                    f"{own(name)} holds your work and stays; the course has a newer one: rename yours to get it"
                )
                continue
            (work / name).parent.mkdir(exist_ok=True)
            write(work / name, content)
            laid[name] = [sha, cells]
        write(work / LAID, json.dumps(laid, indent=1, sort_keys=True) + "\n")
    return left


def _cells(original: Path) -> str:
    """The digest of its cells; of a lab, which somebody may have answered in labs/ itself, as it was generated."""
    from flow360.course.labs import digest  # with nbformat: most times there is nothing new
    from flow360.course.notebooks import read

    notebook = read(original)
    return notebook.metadata.get("flow360", {}).get("digest") or digest(notebook)


def _untouched(copy: Path, laid: list[str] | None) -> bool:
    """Whether nobody has written in a copy since it was laid out; running it changes its outputs alone."""
    from flow360.course.labs import digest
    from flow360.course.notebooks import read

    try:
        return laid is not None and digest(read(copy)) == laid[1]
    except FlowError:
        return False  # no notebook any more: whatever it is, it is the learner's


def _laid(path: Path) -> dict[str, list[str]]:
    """What was laid out before; nothing when that cannot be read, and then no copy is replaced."""
    try:
        found = json.loads(path.read_text("utf-8"))
        return {name: [sha, cells] for name, (sha, cells) in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
