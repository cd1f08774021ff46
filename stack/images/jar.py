"""Fetch one jar while an image is built: `jar.py LOCK GROUP:ARTIFACT FOLDER` writes FOLDER/ARTIFACT.jar.

The version and the SHA-256 come from the lock; anything else than the locked file ends the build.
"""

import hashlib
import sys
import tomllib
from pathlib import Path

from jgo.maven import MavenContext

lock, wanted, folder = sys.argv[1:]
found = {
    (name, digest)
    for group in tomllib.loads(Path(lock).read_text("utf-8")).values()
    for name, digest in group.items()
    if name.startswith(wanted + ":")
}
if len(found) != 1:
    sys.exit(f"{lock} names {len(found)} files of {wanted}: it must be one")
((coordinates, digest),) = found
group, artifact, version = coordinates.split(":")
context = MavenContext(repo_cache=Path("/tmp/maven"), timeout=60)
path = context.project(group, artifact).at_version(version).artifact("", "jar").resolve()
content = Path(path).read_bytes()
if hashlib.sha256(content).hexdigest() != digest:
    sys.exit(f"{coordinates} came, but is not the locked file (SHA-256 differs)")
(Path(folder) / f"{artifact}.jar").write_bytes(content)
