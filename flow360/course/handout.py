"""The folder that a teacher hands out: the course without its solved labs, without tests, and its labs unanswered.

It is renewed file by file, by the teacher from the whole course or by a learner from a newer folder. Its record says
what each file was when it was handed out; a file that is not that any more is somebody's work, and stays.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from flow360.errors import Exit, FlowError
from flow360.files import locked, write
from flow360.settings import ROOT

RECORD = ".handed-out.json"
"""In the folder: of each file the SHA-256 of what was handed out; of two versions while it is being renewed."""
LEFT_OUT = (
    "solutions/*.ipynb",  # their .toml hold the titles of the exercises and the hints
    "solutions/*.md",
    "tests/*",
    ".ci/*",
    "scripts/test",
    "scripts/lock",
    "CONTRIBUTING.md",
    "flow360/course/scores.json",
)
"""Paths, with wildcards, of what answers an exercise or is a teacher's and a maintainer's alone."""
WHOLE = re.compile(r"<!-- whole:start -->\n.*?<!-- whole:end -->\n", re.DOTALL)
"""What README says of the whole course alone."""


@dataclass(frozen=True)
class File:
    """A file to be handed out: what is in it, and whether it is a program."""

    content: bytes
    program: bool = False

    @property
    def sha(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass
class Laid:
    """What became of a folder.

    Attributes:
        written: the files that were written or removed.
        left: a line for each that the course has renewed and that was left alone.
    """

    written: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def only_whole(command: str) -> None:
    """Let a command go on in the whole course alone.

    Raises:
        FlowError: this is a folder that was handed out.
    """
    if (ROOT / RECORD).exists():
        said = f"{command} needs the solved labs or the tests, and this folder was handed out without them"
        raise FlowError(f"{said}: ask who gave you the course", Exit.USAGE)


def contents(root: Path) -> dict[str, File]:
    """Collect what is handed out of the whole course: what git tracks, as it stands in the folder.

    Labs are made from the solutions and lessons cleared of outputs, whatever somebody did in the originals.

    Raises:
        FlowError: the folder is not a clone, or a notebook cannot be read.
    """
    from flow360.course.labs import render_all
    from flow360.course.notebooks import clean, dumps, read

    labs = {path.relative_to(root).as_posix(): content for path, content in render_all(root).items()}
    found: dict[str, File] = {}
    for name in _tracked(root):
        path = root / name
        if not path.is_file() or any(fnmatchcase(name, pattern) for pattern in LEFT_OUT):
            continue
        if name.startswith("notebooks/") and name.endswith(".ipynb"):
            content = dumps(clean(read(path)))
        elif name == "README.md":
            content = WHOLE.sub("", path.read_text("utf-8")).encode()
        else:
            content = labs.get(name) or path.read_bytes()
        found[name] = File(content, bool(path.stat().st_mode & 0o100))
    return found


def handed_out(folder: Path) -> dict[str, File]:
    """Read a folder as it was handed out.

    Raises:
        FlowError: it was not handed out, or a file in it is not what it was then.
    """
    found: dict[str, File] = {}
    for name, shas in _record(folder).items():
        path = folder / name
        file = File(path.read_bytes(), bool(path.stat().st_mode & 0o100)) if path.is_file() else None
        if file is None or file.sha not in shas:
            state = "is missing" if file is None else "was changed"
            raise FlowError(f"{path} {state}: renew from a folder as it was handed out, in which nobody has worked")
        found[name] = file
    return found


def lay(files: Mapping[str, File], folder: Path) -> Laid:
    """Bring a folder to the state of these files, without touching what somebody has written there.

    Args:
        files: by their paths below the folder.
        folder: made if it is missing.

    Raises:
        FlowError: the folder holds something that was not handed out, or its record cannot be read.
    """
    if folder.exists() and not (folder / RECORD).exists() and (not folder.is_dir() or any(folder.iterdir())):
        said = "is not empty, and no folder that was handed out: name another place"
        raise FlowError(f"{folder} {said}", Exit.USAGE)
    with locked(folder / RECORD):
        known = _record(folder) if (folder / RECORD).exists() else {}
        laid, after, renewed = Laid(), dict(known), {}
        for name, file in files.items():
            there = _sha(folder / name)
            if there in (None, file.sha, *known.get(name, ())):
                renewed[name] = file
                after[name] = sorted({*known.get(name, ()), file.sha})
            elif file.sha not in known.get(name, ()):
                laid.left.append(f"{name} was changed here and stays; to get the course's newer one, rename yours")
        # Before anything is touched, so that a renewal that was cut off takes none of its own files for somebody's.
        _write_record(folder, after)
        for name, file in renewed.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if write(path, file.content, 0o755 if file.program else 0o644):
                laid.written.append(name)
            after[name] = [file.sha]
        for name in [name for name in known if name not in files]:
            _remove(folder, name, known[name], laid)
            del after[name]
        _write_record(folder, after)
    return laid


def _remove(folder: Path, name: str, shas: list[str], laid: Laid) -> None:
    """Remove what the course does not have any more, with the folders that it leaves empty."""
    path = folder / name
    there = _sha(path)
    if there is None:
        return
    if there not in shas:
        laid.left.append(f"{name} is not of the course any more, was changed here and stays")
        return
    path.unlink()
    laid.written.append(name)
    for parent in path.parents:
        if parent == folder or any(parent.iterdir()):
            break
        parent.rmdir()


def _tracked(root: Path) -> list[str]:
    command = ["git", "-C", str(root), "ls-files", "-z"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except FileNotFoundError:
        raise FlowError("git is not installed, and what belongs to the course is what git tracks") from None
    names = [name for name in done.stdout.decode("utf-8").split("\0") if name]
    if done.returncode or "course.toml" not in names:
        why = "".join(done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:])
        said = "what belongs to the course is what git tracks, and here it tracks nothing: take a clone"
        raise FlowError(f"{root}: {said}{why and f' ({why})'}")
    return names


def _sha(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _record(folder: Path) -> dict[str, list[str]]:
    try:
        found = json.loads((folder / RECORD).read_text("utf-8"))
        record = {str(name): [str(sha) for sha in shas] for name, shas in found.items()}
    except FileNotFoundError:
        said = f"{folder} was not handed out: it has no {RECORD}"
        raise FlowError(f"{said} (`flow360 class new FOLDER` makes such a folder)", Exit.USAGE) from None
    except (ValueError, AttributeError, TypeError):
        raise FlowError(f"{folder / RECORD} cannot be read: take a new folder, and put your work into it") from None
    for name in map(PurePosixPath, record):
        if name.is_absolute() or ".." in name.parts:
            raise FlowError(f"{folder / RECORD} names {name}, which is not below the folder")
    return record


def _write_record(folder: Path, record: Mapping[str, list[str]]) -> None:
    write(folder / RECORD, json.dumps(record, indent=0, sort_keys=True) + "\n")
