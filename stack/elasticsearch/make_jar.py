"""Make elasticsearch/flow360.jar, the start of OpenSearch natively (a maintainer's command).

`python stack/elasticsearch/make_jar.py` needs a JDK and the jars of stack/jars.lock in the cache.
"""

from __future__ import annotations

from pathlib import Path

from flow360.stack.native import jars, own_jars

HERE = Path(__file__).parent

if __name__ == "__main__":
    classpath = [*jars.paths("opensearch"), *sorted(jars.unpacked("opensearch-security").glob("*.jar"))]
    own_jars.write(HERE / "flow360.jar", own_jars.compiled(HERE / "java", classpath, release=17))
