"""Fetch jars while an image is built: `jars.py GROUP…` puts each group of stack/jars.lock into /groups/GROUP.

They stay in the cache as well, where flow360 looks for them at run time.
"""

import sys
from pathlib import Path

from flow360.stack.native import jars

groups = sys.argv[1:]
jars.fetch(jars.missing(groups))
for group in groups:
    folder = Path("/groups", group)
    folder.mkdir(parents=True)
    for jar in jars.paths(group):
        jar.chmod(0o644)
        (folder / jar.name).hardlink_to(jar)
