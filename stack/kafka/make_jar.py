"""Make kafka/flow360.jar, who may do what at the broker and at ZooKeeper (a maintainer's command).

`python stack/kafka/make_jar.py` needs a JDK and the jars of stack/jars.lock in the cache.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import zipfile
from pathlib import Path

from flow360.stack.native import jars

HERE = Path(__file__).parent

if __name__ == "__main__":
    path = os.pathsep.join(map(str, jars.paths("kafka")))
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(HERE / "flow360.jar", "w") as jar:
        sources = sorted((HERE / "java").rglob("*.java"))
        subprocess.run(["javac", "--release", "17", "-nowarn", "-cp", path, "-d", folder, *sources], check=True)
        for file in sorted(Path(folder).rglob("*.class")):
            # Without a date: the same bytes each time.
            jar.writestr(zipfile.ZipInfo(str(file.relative_to(folder))), file.read_bytes())
