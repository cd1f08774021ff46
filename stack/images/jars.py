"""Fetch jars while an image is built: `jars.py GROUP…` puts each group of stack/jars.lock into /groups/GROUP.

An archive is a plugin of Kafka Connect, and is unpacked into /plugins. The jars stay in the cache as well, where
flow360 looks for them at run time.
"""

import shutil
import sys
from pathlib import Path

from flow360.stack.native import jars

groups = sys.argv[1:]
jars.fetch(jars.missing(groups))
for group in groups:
    if all(path.suffix == ".gz" for path in jars.paths(group)):
        shutil.copytree(jars.unpacked(group), "/plugins", dirs_exist_ok=True)
        continue
    folder = Path("/groups", group)
    folder.mkdir(parents=True)
    for jar in jars.paths(group):
        jar.chmod(0o644)
        (folder / jar.name).hardlink_to(jar)
