"""A Java that fits, and the command line of a small JVM.

Order: JAVA_HOME, `java` on PATH, else `cjdk`, which downloads a JDK into the cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flow360.errors import Exit, FlowError
from flow360.settings import settings
from flow360.stack.model import Java

OLDEST = 17
NEWEST = 21  # Kafka 3.9 is released for Java 17 and 21
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
        raise FlowError(f"{java} does not run ({error}): set JAVA_HOME to a JDK {OLDEST}", Exit.JAVA) from None
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
    """The `java` program that would be used, or None."""
    home = os.environ.get("JAVA_HOME")
    if home:
        return Path(home) / "bin" / "java"
    found = shutil.which("java")
    return Path(found).resolve() if found else None


@cache
def jdk() -> Jdk:
    """The Java in use; downloads one by `cjdk` when the machine has none."""
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
    """Some programs need modules that a trimmed Java leaves out.

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
    """The command line of a JVM service.

    The class path stands in an argument file, so that `ps` stays readable. With `cds`, the JVM maps an archive of the
    classes that it loaded last time (AppCDS); where there is none yet, it writes one as it stops, and `keep_archive`
    puts it in place. The JVM itself refuses an archive of another Java or class path, and starts without it.

    Args:
        folder: where the argument file goes.
    """
    lines = ["-cp", _quote(os.pathsep.join(str(jar) for jar in jars))]
    folder.mkdir(parents=True, exist_ok=True)
    argfile = folder / "java.args"
    argfile.write_text("\n".join(lines) + "\n", "utf-8")
    options = [*SMALL, f"-Xmx{spec.heap}"]
    if cds:
        archive = archive_path(name, jars)
        if archive.exists():
            options.append(f"-XX:SharedArchiveFile={archive}")
        else:
            archive.parent.mkdir(parents=True, exist_ok=True)
            options.append(f"-XX:ArchiveClassesAtExit={archive}.part")
            options.append("-Xlog:cds=off")
            options.append("-Xlog:cds+dynamic=off")
    return [str(jdk().java), *options, *spec.options, f"@{argfile}", spec.main, *args]


def archive_path(name: str, jars: Sequence[Path]) -> Path:
    """Where the class archive of a service lies: it depends on the Java and on the class path."""
    mark = hashlib.sha256((jdk().text + "\n".join(map(str, jars))).encode()).hexdigest()[:16]
    return settings().cache_dir / "cds" / f"{name}-{mark}.jsa"


def keep_archive(name: str, jars: Sequence[Path]) -> None:
    """Put in place the archive that a JVM wrote as it stopped."""
    archive = archive_path(name, jars)
    part = Path(f"{archive}.part")
    if part.exists():
        part.replace(archive)


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
