"""The learner's own copies of the lessons and labs, in work/, which git ignores.

Whoever runs a notebook changes it, and an answered lab has changed more. A copy is in the way of no `git pull`, and a
pull overwrites no answer: a copy in which nobody has written is replaced, any other is left and named.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from flow360.errors import FlowError
from flow360.files import locked, write

FOLDER = "work"
FOLDERS = ("notebooks", "labs")
LAID = ".laid.json"
"""In work/: of each copy the SHA-256 of its original, and the digest of the cells, outputs left aside."""


def at_the_hub() -> bool:
    """Say whether JupyterHub has opened the desk: there is a JupyterLab already, and its address is the Hub's."""
    return "JUPYTERHUB_SERVICE_PREFIX" in os.environ


def services() -> list[str]:
    """List what is to be started for a desk."""
    return [] if at_the_hub() else ["jupyterlab"]


def own(notebook: str) -> str:
    """Return the learner's copy of a notebook, as a path below the checkout."""
    return f"{FOLDER}/{notebook}"


def lay_out(root: Path) -> list[str]:
    """Bring work/ to the state of the checkout, without touching what somebody has written.

    Args:
        root: the checkout.

    Returns:
        A line for each copy that is older than its original and was left alone, or whose original is not a notebook.

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
            copy = work / name
            if copy.exists() and laid.get(name, [""])[0] == sha:
                continue
            try:
                cells = _cells(original)
            except FlowError as error:
                left.append(f"{error}: git checkout {name}")
                continue
            there = _cells_there(copy) if copy.exists() else None
            if there not in (None, cells, laid.get(name, ["", ""])[1]):
                left.append(f"{own(name)} holds your work and stays; to get the course's newer one, rename yours")
                continue
            if there != cells:  # else there is no record of it: a first time was cut off
                copy.parent.mkdir(exist_ok=True)
                write(copy, content)
            laid[name] = [sha, cells]
        write(work / LAID, json.dumps(laid, indent=1, sort_keys=True) + "\n")
    return left


def _cells(original: Path) -> str:
    """Digest its cells; of a lab, which somebody may have answered in labs/ itself, as it was generated."""
    from flow360.course.labs import digest  # with nbformat: most times there is nothing new
    from flow360.course.notebooks import read

    notebook = read(original)
    return notebook.metadata.get("flow360", {}).get("digest") or digest(notebook)


def _cells_there(copy: Path) -> str:
    """Digest a copy's cells: whoever runs it changes its outputs alone."""
    from flow360.course.labs import digest
    from flow360.course.notebooks import read

    try:
        return digest(read(copy))
    except FlowError:
        return "not a notebook any more: whatever it is, it is the learner's"


def _laid(path: Path) -> dict[str, list[str]]:
    """Read what was laid out before; nothing when that cannot be read, and then no copy is replaced."""
    try:
        found = json.loads(path.read_text("utf-8"))
        return {name: [sha, cells] for name, (sha, cells) in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
