"""The jars of one group of stack/jars.lock into a folder, for an image: `python jars.py LOCK GROUP FOLDER`."""

import hashlib
import shutil
import sys
import tomllib
from pathlib import Path

from jgo.maven import MavenContext

lock, group, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
context = MavenContext(repo_cache=Path("/tmp/maven"), timeout=60)
for coordinates, digest in tomllib.loads(lock.read_text("utf-8"))[group].items():
    group_id, artifact_id, version = coordinates.split(":")
    path = context.project(group_id, artifact_id).at_version(version).artifact("", "jar").resolve()
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        sys.exit(f"{coordinates} is not the locked file (SHA-256 differs)")
    shutil.copy(path, folder)
