"""Make kafka/flow360.jar, who may do what at the broker and at ZooKeeper (a maintainer's command).

`python stack/kafka/make_jar.py` needs a JDK and the jars of stack/jars.lock in the cache.
"""

from __future__ import annotations

from pathlib import Path

from flow360.stack.native import jars, own_jars

HERE = Path(__file__).parent

if __name__ == "__main__":
    own_jars.write(HERE / "flow360.jar", own_jars.compiled(HERE / "java", jars.paths("kafka"), release=17))
