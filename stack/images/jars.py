"""Fetch one group of stack/jars.lock while an image is built: `python jars.py LOCK GROUP FOLDER`.

Each file lands as ARTIFACT.jar, and only if its SHA-256 is the locked one.
"""

import hashlib
import shutil
import sys
import tomllib
from pathlib import Path

from jgo.maven import MavenContext

lock, group, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
folder.mkdir(parents=True, exist_ok=True)
context = MavenContext(repo_cache=Path("/tmp/maven"), timeout=60)
for coordinates, expected in tomllib.loads(lock.read_text("utf-8"))[group].items():
    project, name, version = coordinates.split(":")
    file = context.project(project, name).at_version(version).artifact("", "jar").resolve()
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != expected:
        sys.exit(f"{coordinates}: SHA-256 is {found}, not the locked {expected}")
    shutil.copyfile(file, folder / f"{name}.jar")
