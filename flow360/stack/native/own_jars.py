"""The jars of our own, made of `stack/SERVICE/java` (a maintainer's business: each is in git beside its sources).

A jar carries the sources along that it was made of, so that a test can say when the two no longer belong together.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path


def compiled(sources: Path, classpath: Iterable[Path], release: int) -> dict[str, bytes]:
    """Compile all that is in a folder, and return the classes and their sources by their names in a jar.

    Args:
        sources: the folder; a JDK is needed.
        classpath: the jars that they are compiled against.
        release: the oldest Java that is to run them.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join(map(str, classpath))
        command = ["javac", "--release", str(release), "-nowarn", "-cp", path, "-d", folder]
        subprocess.run([*command, *_files(sources, "java")], check=True)
        classes = {str(file.relative_to(folder)): file.read_bytes() for file in _files(Path(folder), "class")}
    return classes | sources_of(sources)


def sources_of(folder: Path) -> dict[str, bytes]:
    """Read the sources in a folder, by their names in a jar."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in _files(folder, "java")}


def _files(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.rglob(f"*.{kind}"))


def write(jar: Path, entries: Mapping[str, bytes]) -> None:
    """Write a jar: the same bytes each time, because without a date."""
    with zipfile.ZipFile(jar, "w") as file:
        for name, data in entries.items():
            file.writestr(zipfile.ZipInfo(name), data)
