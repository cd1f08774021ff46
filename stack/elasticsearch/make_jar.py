"""Make elasticsearch/flow360.jar, the start of OpenSearch natively (a maintainer's command).

`python stack/elasticsearch/make_jar.py` needs a JDK and the jars of stack/jars.lock in the cache.
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
    plugin = jars.unpacked("opensearch-security").glob("*.jar")
    path = os.pathsep.join(map(str, [*jars.paths("opensearch"), *sorted(plugin)]))
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(HERE / "flow360.jar", "w") as jar:
        source = HERE / "java" / "flow360" / "Search.java"
        subprocess.run(["javac", "--release", "17", "-nowarn", "-cp", path, "-d", folder, source], check=True)
        for file in sorted(Path(folder).rglob("*.class")):
            # Without a date: the same bytes each time.
            jar.writestr(zipfile.ZipInfo(str(file.relative_to(folder))), file.read_bytes())
