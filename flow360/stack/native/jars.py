"""Maven's jars by `stack/jars.lock`.

Jars are fetched in parallel through jgo, checked against their SHA-256, and kept in the cache outside the checkout.
A fetch that was broken off goes on where it stopped; a second one fetches nothing and needs no network.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from flow360.errors import Exit, FlowError
from flow360.files import hold
from flow360.settings import settings
from flow360.stack.model import STACK, JarGroup, Model

if TYPE_CHECKING:
    from jgo.maven import MavenContext

LOCK = STACK / "jars.lock"
THREADS = 8
MAVEN_LIST = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:list"
Progress = Callable[[int, int, str], None]  # done, all, name of the newest


@dataclass(frozen=True)
class Jar:
    """One locked artifact: `group:artifact:version[:classifier][@packaging]` and its SHA-256."""

    coordinates: str
    sha256: str

    @property
    def parts(self) -> tuple[str, str, str, str, str]:
        gav, _, packaging = self.coordinates.partition("@")
        group, artifact, version, *classifier = gav.split(":")
        return group, artifact, version, classifier[0] if classifier else "", packaging or "jar"

    @property
    def path(self) -> Path:
        """Where it lies in the cache: the usual Maven layout."""
        group, artifact, version, classifier, packaging = self.parts
        tail = f"-{classifier}" if classifier else ""
        return repository() / group.replace(".", "/") / artifact / version / f"{artifact}-{version}{tail}.{packaging}"

    @property
    def _checked(self) -> Path:
        return self.path.with_name(self.path.name + ".sha256")

    def present(self) -> bool:
        """Say whether it is here and whole. It is hashed once in each boot of the machine, and after each touch."""
        try:
            return self._checked.read_text("utf-8") == self._note() or self.verify()
        except (FileNotFoundError, NotADirectoryError):
            return False

    def verify(self) -> bool:
        """Hash the file; note the result beside it when it is right."""
        try:
            note = self._note()  # before the hash: what is changed meanwhile has another note
            if sha256(self.path) != self.sha256:
                return False
        except (FileNotFoundError, NotADirectoryError):
            return False
        with contextlib.suppress(OSError):  # a cache that may only be read: it is hashed each time
            self._checked.write_text(note, "utf-8")
        return True

    def _note(self) -> str:
        """Note what no change of the file leaves as it is: the time of the last change cannot be set, as mtime can."""
        stat = self.path.stat()
        return f"{self.sha256} {stat.st_size} {stat.st_ino} {stat.st_mtime_ns} {stat.st_ctime_ns} {_boot()}\n"


@cache
def _boot() -> str:
    """Name the present run of the machine: it may have been another system that wrote to the disk before."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "unknown"


def repository() -> Path:
    """Return the folder of the jars, in Maven's layout."""
    return settings().cache_dir / "maven"


def sha256(path: Path) -> str:
    """Compute the file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lock(path: Path = LOCK) -> dict[str, list[Jar]]:
    """Read the locked jars by group."""
    groups = tomllib.loads(path.read_text("utf-8"))
    return {group: [Jar(name, digest) for name, digest in jars.items()] for group, jars in groups.items()}


def paths(group: str) -> list[Path]:
    """Return the class path of a group, in the lock's order."""
    return [jar.path for jar in read_lock()[group]]


def missing(groups: Iterable[str]) -> list[Jar]:
    """Find what still has to be fetched."""
    lock = read_lock()
    wanted = list(dict.fromkeys(jar for group in groups for jar in lock[group]))
    with ThreadPoolExecutor(THREADS) as pool:  # after a boot, all are hashed
        return [jar for jar, here in zip(wanted, pool.map(Jar.present, wanted), strict=True) if not here]


def fetch(wanted: Sequence[Jar], progress: Progress | None = None) -> None:
    """Fetch and verify; of two processes that want the same, one fetches.

    Raises:
        FlowError: no network, no room, or a file that is not the locked one; what has come so far is kept.
    """
    with alone("jars"):
        _fetch(wanted, progress)


def _fetch(wanted: Sequence[Jar], progress: Progress | None) -> None:
    todo = [jar for jar in wanted if not jar.verify()]
    done = len(wanted) - len(todo)
    with ThreadPoolExecutor(THREADS) as pool:
        futures = {pool.submit(_fetch_one, jar): jar for jar in todo}
        try:
            for future in as_completed(futures):
                future.result()
                done += 1
                if progress:
                    progress(done, len(wanted), futures[future].parts[1])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Hold the cache, which is all checkouts': `up` may fetch for later chapters while a lesson wants its own."""
    place = settings().cache_dir / f".{what}.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("w") as file:
        hold(file, 1800, f"another flow360 has been fetching {what} for half an hour")
        yield


def _maven() -> MavenContext:
    from jgo.maven import MavenContext

    # The system's certificates, as every other program here uses them: they know a company's proxy.
    system = Path("/etc/ssl/certs/ca-certificates.crt")
    if system.exists():
        os.environ.setdefault("REQUESTS_CA_BUNDLE", str(system))
    return MavenContext(repo_cache=repository(), timeout=60)


def _fetch_one(jar: Jar) -> None:
    group, artifact, version, classifier, packaging = jar.parts
    context = _maven()
    # A proxy that hiccups once should not end a download of a hundred files.
    for attempt in range(3):
        jar.path.unlink(missing_ok=True)  # a half or altered file of before; jgo would take it as it is
        try:
            context.project(group, artifact).at_version(version).artifact(classifier, packaging).resolve()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise FlowError(f"no room in {repository()}: free some, or set FLOW360_CACHE", Exit.DISK) from None
            if isinstance(error, PermissionError):
                raise FlowError(f"{repository()} cannot be written: set FLOW360_CACHE", Exit.PERMISSION) from None
            if attempt == 2:
                raise FlowError(
                    f"{jar.coordinates} could not be fetched ({type(error).__name__}): is there a network? "
                    "Run the same command again, it goes on where it stopped.",
                    Exit.NETWORK,
                ) from None
            continue
        except RuntimeError as error:
            raise FlowError(f"{jar.coordinates}: {str(error)[:200]}", Exit.NETWORK) from None
        if jar.verify():
            return
        jar.path.unlink(missing_ok=True)
    raise FlowError(
        f"{jar.coordinates} came, but is not the locked file (SHA-256 differs): it was removed", Exit.FAILED
    )


def reachable(timeout: float = 8) -> bool:
    """Ask whether the repository of the jars answers at all."""
    import requests

    for address in _maven().remote_repos.values():
        try:
            requests.head(address, timeout=timeout)
        except requests.RequestException:
            return False
    return True


def write_lock(model: Model, path: Path = LOCK, progress: Progress | None = None) -> int:
    """Resolve the groups of stack/layers again, fetch, hash, and write the lock.

    Maven decides which versions go together; only who maintains the course needs it.

    Returns:
        The number of artifacts.

    Raises:
        FlowError: there is no Maven here, or it could not resolve a group.
    """
    lines = ["# Written by `flow360 jars lock` from the groups in stack/layers, not by hand. Coordinates, SHA-256."]
    count = 0
    for name, group in sorted(model.jar_groups.items()):
        wanted = [Jar(coordinates, "") for coordinates in dict.fromkeys([*resolve(name, group), *group.also])]
        lines += ["", f"[{name}]"]
        with ThreadPoolExecutor(THREADS) as pool:
            for number, (jar, digest) in enumerate(zip(wanted, pool.map(_locked_hash, wanted), strict=True), 1):
                lines.append(f'"{jar.coordinates}" = "{digest}"')
                if progress:
                    progress(number, len(wanted), jar.parts[1])
        count += len(wanted)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return count


def resolve(name: str, group: JarGroup) -> list[str]:
    """Resolve the roots of a group and all they need at run time to coordinates: roots first, the rest by name."""
    if not group.roots:
        return []
    maven = shutil.which("mvn")
    if not maven:
        raise FlowError("`flow360 jars lock` needs Maven (mvn) on the PATH: Debian: sudo apt install maven", Exit.USAGE)
    with tempfile.TemporaryDirectory(prefix="flow360-") as folder:
        pom, answer = Path(folder) / "pom.xml", Path(folder) / "list.txt"
        pom.write_text(_pom(group), "utf-8")
        command = [maven, "--batch-mode", "--quiet", "--file", str(pom), MAVEN_LIST]
        command += ["-DincludeScope=runtime", f"-DoutputFile={answer}", f"-Dmaven.repo.local={repository()}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, stdin=subprocess.DEVNULL)
        if done.returncode:
            said = [line for line in done.stdout.splitlines() if line.startswith("[ERROR]")] or ["no reason given"]
            raise FlowError(f"Maven could not resolve the group {name}: {said[0][:300]}", Exit.NETWORK)
        found = {coordinates for line in answer.read_text("utf-8").splitlines() if (coordinates := _coordinates(line))}
        others = sorted(found - set(group.roots), key=lambda coordinates: Jar(coordinates, "").parts)
        # The roots come first on the class path: some carry classes of their own that must win (hive-exec).
        return [*group.roots, *others]


def _pom(group: JarGroup) -> str:
    """Write a project that depends on the roots, each without the excluded ones."""
    exclusions = "".join(
        f"<exclusion><groupId>{one}</groupId><artifactId>{other}</artifactId></exclusion>"
        for one, other in (text.split(":") for text in group.exclude)
    )
    dependencies = "".join(
        f"<dependency><groupId>{of}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
        f"<exclusions>{exclusions}</exclusions></dependency>"
        for of, artifact, version in (root.split(":") for root in group.roots)
    )
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>flow360</groupId><artifactId>jars</artifactId>"
        f"<version>1</version><dependencies>{dependencies}</dependencies></project>\n"
    )


def _coordinates(line: str) -> str | None:
    """Read a line of Maven's list, `group:artifact:jar[:classifier]:version:scope -- module …`, as coordinates."""
    parts = line.strip().split(" ", 1)[0].split(":")
    if len(parts) not in (5, 6):
        return None
    group, artifact, packaging, *classifier, version, scope = parts
    if scope not in ("compile", "runtime"):
        return None
    tail = f":{classifier[0]}" if classifier else ""
    return f"{group}:{artifact}:{version}{tail}" + ("" if packaging == "jar" else f"@{packaging}")


def _locked_hash(jar: Jar) -> str:
    """Compute the SHA-256 of an artifact, which is brought now if it was not here."""
    group, artifact, version, classifier, packaging = jar.parts
    if not jar.path.exists():
        _maven().project(group, artifact).at_version(version).artifact(classifier, packaging).resolve()
    return sha256(jar.path)


# --- Unpacking -------------------------------------------------------------------------------------------------------


def unpacked(group: str) -> Path:
    """Unpack the archives of a group, once for each content, and return their folder."""
    archives = read_lock()[group]
    mark = hashlib.sha256("".join(jar.sha256 for jar in archives).encode()).hexdigest()[:12]
    folder = settings().cache_dir / "unpacked" / f"{group}-{mark}"
    if folder.exists():
        return folder
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for jar in archives:
        shutil.unpack_archive(jar.path, part, "zip" if jar.path.suffix in (".jar", ".zip") else None)
    try:
        part.replace(folder)
    except OSError:  # another one was quicker
        shutil.rmtree(part, ignore_errors=True)
        if not folder.exists():
            raise
    return folder
