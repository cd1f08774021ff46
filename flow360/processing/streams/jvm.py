"""The JVM inside this process. A process can have one, can start it once, and cannot fork with it."""

from __future__ import annotations

import os
import sys

from flow360.errors import Exit, FlowError
from flow360.stack.native import jars, java

GROUP = "streams"  # of stack/jars.lock
# -Xrs: signals stay Python's, so that "interrupt the kernel" and SIGTERM mean what they always mean.
OPTIONS = ("-Xrs", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true")
_forked = False


def start(heap: str = "256m", log: str = "off") -> None:
    """Start the JVM with Kafka Streams on its class path; the first time its jars are fetched (80 MB).

    Args:
        heap: -Xmx. RocksDB takes its memory beside it.
        log: what the JVM itself logs on standard error: off, error, warn, info.

    Raises:
        FlowError: no Java, no network for the jars, or a process that was forked after the start.
    """
    import jpype
    import jpype.imports  # noqa: F401 (Java's packages become importable)

    if _forked:
        raise FlowError(
            "this process was forked from one with a running JVM, which does not survive that: start a new program "
            "(subprocess, or multiprocessing with 'spawn') instead",
            Exit.FAILED,
        )
    if jpype.isJVMStarted():
        return
    _fetch()
    library = java.jdk().java.resolve().parent.parent / "lib" / "server" / "libjvm.so"
    jpype.startJVM(
        str(library) if library.exists() else jpype.getDefaultJVMPath(),
        *OPTIONS,
        f"-Xmx{heap}",
        f"-Dorg.slf4j.simpleLogger.defaultLogLevel={log}",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss",
        "-Dorg.slf4j.simpleLogger.showShortLogName=true",
        classpath=[str(jar) for jar in jars.paths(GROUP)],
        convertStrings=True,  # a key reaches a lambda as a Python str
    )
    os.register_at_fork(after_in_child=_mark)


def _mark() -> None:
    global _forked
    _forked = True


def _fetch() -> None:
    wanted = jars.missing([GROUP])
    if wanted:
        print(f"fetching Kafka Streams: {len(wanted)} jars", file=sys.stderr, flush=True)
        jars.fetch(wanted, lambda done, of, name: print(f"  {done} of {of}: {name}", file=sys.stderr, flush=True))


def python_error(error: BaseException) -> BaseException:
    """Find the Python exception behind a Java one: what a lambda of ours raised, or the Java exception's last cause."""
    import jpype

    if not isinstance(error, jpype.JException):
        return error
    root = error
    while root.getCause() is not None:
        root = root.getCause()
    try:
        # Java throws it once more, this time straight at us: then JPype gives back what was raised in Python.
        jpype.JClass("java.util.Optional").empty().orElseThrow(lambda: root)
    except Exception as found:  # noqa: BLE001 (whatever it was: it is handed over, not handled)
        return found
    return root
