"""A Java that fits, and the command line of a small JVM.

Order: JAVA_HOME, `java` on PATH, else `cjdk`, which downloads a JDK into the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flow360.errors import Exit, FlowError
from flow360.files import write
from flow360.settings import settings
from flow360.stack.model import Java

OLDEST = 17
NEWEST = 21  # Kafka 3.9 is released for Java 17 and 21
# What the servers ask for: Hadoop's sign-in, JMX, JDBC, Spark's vectors.
MODULES = (
    "java.management",
    "java.naming",
    "java.security.jgss",
    "java.sql",
    "jdk.incubator.vector",
    "jdk.unsupported",
)
# Small servers: one collector thread, the quick compiler only, thin stacks. Measured in `flow360 bench`.
SMALL = (
    "-Xms32m",
    "-Xss512k",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.net.preferIPv4Stack=true",
)


@dataclass(frozen=True)
class Jdk:
    """A Java installation: the program and what it says of itself."""

    java: Path
    version: int
    text: str


def inspect(java: Path) -> Jdk:
    """Ask a `java` program for its version.

    Raises:
        FlowError: it does not run, or the version is outside OLDEST..NEWEST.
    """
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        why = getattr(error, "strerror", None) or error
        raise FlowError(f"{java} does not run ({why}): set JAVA_HOME to a JDK {OLDEST}", Exit.JAVA) from None
    match = re.search(r'version "(\d+)', done.stderr)
    if done.returncode or not match:
        raise FlowError(f"{java} -version answers nothing useful: set JAVA_HOME to a JDK {OLDEST}", Exit.JAVA)
    version = int(match.group(1))
    if not OLDEST <= version <= NEWEST:
        raise FlowError(
            f"{java} is Java {version}; the stack needs {OLDEST} to {NEWEST}: "
            f"set JAVA_HOME to one, or install it (Debian: sudo apt install openjdk-17-jdk-headless)",
            Exit.JAVA,
        )
    return Jdk(java, version, done.stderr)


def locate() -> Path | None:
    """Find the `java` program that would be used, or None."""
    home = os.environ.get("JAVA_HOME")
    if home:
        return Path(home) / "bin" / "java"
    found = shutil.which("java")
    return Path(found).resolve() if found else None


@cache
def jdk() -> Jdk:
    """Return the Java in use; download one by `cjdk` when the machine has none."""
    java = locate()
    if java is None:
        import cjdk

        try:
            home = cjdk.java_home(vendor="temurin", version=str(OLDEST), cache_dir=settings().cache_dir / "cjdk")
        except Exception as error:  # noqa: BLE001 (cjdk raises whatever its download raises)
            raise FlowError(
                f"no Java, and none could be downloaded ({str(error).splitlines()[0][:100]}): "
                f"install a JDK {OLDEST} (Debian: sudo apt install openjdk-17-jdk-headless)",
                Exit.JAVA,
            ) from None
        java = Path(home) / "bin" / "java"
    return inspect(java)


def require_modules(names: Iterable[str]) -> None:
    """Check that this Java has the modules that the servers need; a trimmed one may leave some out.

    Raises:
        FlowError: a module is missing; the line names it.
    """
    found = subprocess.run([jdk().java, "--list-modules"], capture_output=True, text=True, timeout=30).stdout
    have = {line.split("@")[0] for line in found.splitlines()}
    if missing := sorted(set(names) - have):
        raise FlowError(
            f"{jdk().java} is a trimmed Java without {', '.join(missing)}: set JAVA_HOME to a full JDK {OLDEST}",
            Exit.JAVA,
        )


def command(
    name: str, spec: Java, jars: Sequence[Path], args: Sequence[str], folder: Path, cds: bool = True
) -> list[str]:
    """Write the command line of a JVM service.

    The class path stands in an argument file, so that `ps` stays readable. With `cds`, the JVM maps an archive of the
    classes that it loaded last time (AppCDS); where there is none yet, it writes one as it stops, which takes a core
    for up to 20 seconds (not with FLOW360_ARCHIVES=false), and `keep_archive` puts it in place. The JVM itself refuses
    an archive of another Java or class path, and starts without it.

    Args:
        folder: where the argument file goes, and the JVM's report should it crash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["-cp", _quote(os.pathsep.join(str(jar) for jar in jars))]
    if not name_resolves():
        hosts = folder / "hosts"
        write(hosts, f"127.0.0.1 localhost {socket.gethostname()}\n")
        lines.append(_quote(f"-Djdk.net.hosts.file={hosts}"))
    if cds:
        # In the file and not in the command: an archive that appears while the service runs must not change the
        # command, or the next `up` would take the service for another one and start it again.
        archive = find_archive(name, jars)
        if archive:
            lines.append(_quote(f"-XX:SharedArchiveFile={archive}"))
        elif settings().flow360_archives:
            part = _part(name, jars, folder)
            part.parent.mkdir(parents=True, exist_ok=True)
            lines += [_quote(f"-XX:ArchiveClassesAtExit={part}"), "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
    argfile = folder / "java.args"
    write(argfile, "\n".join(lines) + "\n")
    options = [*SMALL, f"-Xmx{spec.heap}", f"-XX:ErrorFile={folder / 'crash.log'}", *spec.options]
    return [str(jdk().java), *options, f"@{argfile}", spec.main, *args]


@cache
def name_resolves() -> bool:
    """Say whether this machine's name has an address. Hadoop and others ask for it at start, and die without one."""
    try:
        return bool(socket.getaddrinfo(socket.gethostname(), None))
    except OSError:
        return False


UNUSED_DAYS = 30
"""Days after which an archive that no service was started with goes: each environment makes some 500 MB of them."""


def find_archive(name: str, jars: Sequence[Path]) -> Path | None:
    """Find the class archive of a service: NAME-MARK-SIZE.jsa, where MARK stands for Java and class path.

    One that is not as long as its name says is removed: the JVM maps archives unread, and a cut one crashes it.
    """
    found = None
    for archive in _archives().glob(f"{name}-{_mark(jars)}-*.jsa"):
        with contextlib.suppress(FileNotFoundError):  # another checkout has just removed it
            if archive.stem.endswith(f"-{archive.stat().st_size}"):
                os.utime(archive)
                found = archive
            else:
                archive.unlink()
    return found


def keep_archive(name: str, jars: Sequence[Path], folder: Path, whole: bool = True) -> None:
    """Put in place the archive that a JVM wrote as it stopped, and remove those that nothing uses any more.

    Args:
        folder: the same as for `command`.
        whole: the JVM ended by itself; one that was killed has left half an archive, which is removed.
    """
    part = _part(name, jars, folder)
    if not part.exists():
        return
    if not whole or find_archive(name, jars):  # or another checkout was faster
        part.unlink()
        return
    for archive in _archives().glob("*.jsa"):
        with contextlib.suppress(FileNotFoundError):  # another checkout has just removed it
            if time.time() - archive.stat().st_mtime > UNUSED_DAYS * 86_400:
                archive.unlink()
    with part.open("rb") as file:
        os.fsync(file.fileno())  # a name that is on the disk before its bytes would be worse than none
    part.replace(_archives() / f"{name}-{_mark(jars)}-{part.stat().st_size}.jsa")


def _archives() -> Path:
    return settings().cache_dir / "cds"


def _mark(jars: Sequence[Path]) -> str:
    """Mark what an archive fits: this Java, and these very files. A JVM refuses one of a jar with another size or time.

    An environment that was made again has jars of the same names with other times: by names alone, an archive that
    is refused at every start would never be replaced.
    """
    digest = hashlib.sha256(jdk().text.encode())
    for jar in jars:
        found = jar.stat() if jar.exists() else None
        digest.update(f"{jar} {found and (found.st_size, int(found.st_mtime))}\n".encode())
    return digest.hexdigest()[:16]


def _part(name: str, jars: Sequence[Path], folder: Path) -> Path:
    """Name the file that a JVM writes: the cache is shared, so two checkouts that stop at once need two files."""
    return _archives() / f"{name}-{_mark(jars)}.{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}.part"


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
