"""Make hive/flow360.jar, which stands before Hive's own jars on the class path of HiveServer2 (a maintainer's command).

`python stack/hive/make_jar.py` needs a JDK and the jars of stack/jars.lock in the cache. In the jar are:

- flow360.Password (java/), the password of HiveServer2;
- Hive's HiveContextAwareRecordReader with one byte changed. A reader that fails sets a mark in a map that belongs to
  the whole process, and every later map task that finds the mark throws its rows away and reports success. In a cluster
  the process has ended by then; in Tez's local mode it is HiveServer2, and each later query would answer 0 or NULL. The
  task that failed ends by its exception, mark or no mark; so the mark is set to false.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from flow360.stack.native import jars, own_jars

HERE = Path(__file__).parent
JAR = HERE / "flow360.jar"
READER = "org/apache/hadoop/hive/ql/io/HiveContextAwareRecordReader.class"
# aload_0, getfield ioCxtRef, iconst_1 | iconst_0, invokevirtual IOContext.setIOExceptions
MARKS, MARKS_NOT = bytes.fromhex("2ab4000d 04 b60021"), bytes.fromhex("2ab4000d 03 b60021")


def _hive(artifact: str) -> Path:
    return next(jar for jar in jars.paths("hive") if jar.name.startswith(artifact))


def reader() -> bytes:
    """Return the class as Hive ships it, with the one byte changed."""
    shipped = zipfile.ZipFile(_hive("hive-exec-")).read(READER)
    assert shipped.count(MARKS) == 1, "another version of Hive: look at the class again"
    return shipped.replace(MARKS, MARKS_NOT)


if __name__ == "__main__":
    # For the Java of every image and machine: 8.
    ours = own_jars.compiled(HERE / "java", [_hive("hive-service-")], release=8)
    own_jars.write(JAR, {**ours, READER: reader()})
