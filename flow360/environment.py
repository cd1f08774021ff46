"""What of the caller's environment is not for us: settings of the very programs that we run.

A machine where people work with PostgreSQL, Spark or dbt has variables for them: PGTZ would shift our days, PYTHONPATH
bring an older Spark, DBT_EMPTY make marts without rows. Here stands, once, which names are dropped: all of them for the
services, their jobs and the programs that a lesson runs; those that clients read, out of this process itself, when
flow360.settings is imported. `flow360 doctor` names what it found.
"""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Collection, Mapping, MutableMapping
from importlib.machinery import PathFinder
from pathlib import Path

MARK = "FLOW360_SERVICE"
"""In the environment of every service, and so of kernels and tasks, whose variables are what we gave them."""

_CLIENTS = r"PG\w+|DBT_\w+|(VAULT|BAO)_\w+|(PY)?SPARK_\w+|(JAVA_TOOL|JDK_JAVA|_JAVA)_OPTIONS|CLASSPATH"
# With the ban on compiled files, which many container images set, Airflow would compile 1,500 modules at each start.
_SERVICES = (
    r"PYTHON(PATH|HOME|STARTUP|USERBASE|OPTIMIZE|DONTWRITEBYTECODE)|(HADOOP|HDFS|YARN|HIVE|TEZ|LOG4J|AIRFLOW)_\w+"
    r"|(JUPYTER|UVICORN_|GUNICORN_)\w*"
)
dropped: list[str] = []
"""What `drop` has taken out of this process."""


def foreign(environ: Collection[str], ours: Collection[str], pattern: str = f"{_CLIENTS}|{_SERVICES}") -> list[str]:
    """Find the names that are somebody else's; `ours` are the course's own, such as SPARK_MASTER_PORT."""
    return sorted(name for name in environ if name not in ours and re.fullmatch(pattern, name))


def clean(environ: Mapping[str, str], ours: Collection[str]) -> dict[str, str]:
    """Make the environment for what we start."""
    return {name: environ[name] for name in environ.keys() - foreign(environ, ours)}


def drop(environ: MutableMapping[str, str], ours: Collection[str]) -> None:
    """Take what clients read (libpq, dbt, Spark, the JVM) out of this process's own environment.

    Within a service nothing is taken. What somebody sets later, in a notebook, counts: it was meant.
    """
    if MARK not in environ:
        for name in foreign(environ, ours, _CLIENTS):
            del environ[name]
            dropped.append(name)


def package(name: str) -> Path | None:
    """Find the folder of a package of this Python environment, whatever PYTHONPATH puts before it; import nothing."""
    spec = PathFinder.find_spec(name, [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    return Path(spec.origin).parent if spec and spec.origin else None
