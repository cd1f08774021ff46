"""Will it work on this machine? Each check looks at one thing and names its fix.

A blocker stops `up` before anything is started; a warning does not.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
import socket
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil

from flow360 import environment
from flow360.errors import Exit, FlowError
from flow360.settings import OURS, ROOT, env_file, in_force, settings
from flow360.stack.native import debian, jars, java

if TYPE_CHECKING:
    from flow360.stack import Stack

NOTEBOOK_MB = 800  # a kernel with pandas and matplotlib, and JupyterLab
FREE_DISK_MB = 1000  # logs, data and a day of topics; artifacts come on top
ARTIFACT_MB = 1.5  # a jar, on the average, rounded up
LISTENS = "0A"  # a socket's state in /proc/net/tcp


MOUNTED = ("stack", "dags", "dbt", "data/seed", "flow360")  # what containers see of the checkout
Together = Mapping[str, Iterable[str]]
"""Services that are started at once, by the name of what starts them."""


@dataclass(frozen=True)
class Finding:
    """The answer of one check. `fix` is what a person should do, empty when all is well.

    `service` is the only one that a blocker concerns; empty when it concerns all that was asked for.
    """

    check: str
    level: Literal["ok", "warning", "blocker"]
    message: str
    fix: str = ""
    code: Exit = Exit.OK
    service: str = ""


def examine(
    stack: Stack, names: Iterable[str] | None, together: Together | None = None, curious: bool = True
) -> list[Finding]:
    """Run all checks.

    Args:
        names: the services to ask about, with what they need; None for the course as a whole, where memory is
            not asked for all services at once, but which profile fits.
        together: what the course starts at once besides: "chapter 02" and its services.
        curious: ask also about what is not in use (a docker daemon beside the native engine); `up` does not.
    """
    order = stack.model.closure(stack.model.services if names is None else names)
    room = partial(profile, together or {}) if names is None else memory
    checks = [python, foreign, user, folders, line_ends, readable, leftovers, java_version, ports, room, disk, network]
    if curious or stack.engine.name == "docker":
        checks.append(docker)
    return [finding for check in checks for finding in check(stack, order)]


def require(stack: Stack, names: Iterable[str]) -> dict[str, FlowError]:
    """Raise the first blocker as an error with its own exit code.

    Returns:
        The services that something holds back which does not concern the others, each with its error.
    """
    blockers = [finding for finding in examine(stack, names, curious=False) if finding.level == "blocker"]
    held: dict[str, FlowError] = {}
    for finding in blockers:
        error = FlowError(f"{finding.message}: {finding.fix}", finding.code)
        if not finding.service:
            raise error
        held.setdefault(finding.service, error)
    return held


def python(_stack: Stack, _names: Sequence[str]) -> list[Finding]:
    version = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return [Finding("python", "ok", version)]
    fix = "install Python 3.11, 3.12 or 3.13, remove .venv and run ./scripts/up again"
    return [Finding("python", "blocker", f"{version} does not fit the course", fix, Exit.PYTHON)]


def foreign(_stack: Stack, _names: Sequence[str]) -> list[Finding]:
    """Find variables for other people's PostgreSQL, Spark and the like."""
    ours = environment.MARK in os.environ  # a terminal of JupyterLab: what is there was given by us
    ignored = [] if ours else sorted({*environment.dropped, *environment.foreign(os.environ, OURS)})
    early = [name for name in ("PYTHONPATH", "PYTHONHOME") if name in ignored]
    if early:
        message = f"{' and '.join(early)} can bring other packages into flow360 itself and into notebooks"
        return [Finding("variables", "warning", message, f"unset {' '.join(early)}")]
    message = f"ignored: {', '.join(ignored)}" if ignored else "none for other people's services"
    return [Finding("variables", "ok", message)]


def user(stack: Stack, names: Sequence[str]) -> list[Finding]:
    """Check that the user has a name: initdb, HDFS and Spark ask for it; in a container there may be none."""
    try:
        return [Finding("user", "ok", pwd.getpwuid(os.geteuid()).pw_name)]
    except KeyError:
        message = f"the user id {os.geteuid()} has no name on this machine"
    wanted = any(stack.model[name].native.java or stack.model[name].native.database for name in names)
    if stack.engine.name != "native" or not wanted:
        return [Finding("user", "ok", message)]
    line = f"flow360:x:{os.geteuid()}:{os.getegid()}::{os.environ.get('HOME', '/')}:/bin/sh"
    return [Finding("user", "blocker", message, f"as root: echo '{line}' >>/etc/passwd", Exit.PERMISSION)]


def folders(stack: Stack, _names: Sequence[str]) -> list[Finding]:
    """Check that state, cache and checkout can be written to."""
    s = settings()
    found = []
    wanted = {"FLOW360_STATE": s.state_dir, "FLOW360_CACHE": s.cache_dir, "": ROOT}
    for variable, folder in wanted.items():
        nearest = _existing(folder)
        if not os.access(nearest, os.W_OK | os.X_OK):
            fix = f"set {variable} to a folder of yours" if variable else f"sudo chown -R $USER '{ROOT}'"
            found.append(Finding("folders", "blocker", f"{nearest} cannot be written", fix, Exit.PERMISSION))
    secret = env_file()
    if secret.exists() and secret.stat().st_mode & 0o077:
        found.append(Finding("folders", "warning", f"{secret} can be read by others", f"chmod 600 '{secret}'"))
    return found or [Finding("folders", "ok", f"data in {s.state_dir}, downloads in {s.cache_dir}")]


def line_ends(_stack: Stack, _names: Sequence[str]) -> list[Finding]:
    """Check the line ends: a checkout made on Windows may have CRLF in files that Linux programs read."""
    for path in [*(ROOT / "scripts").glob("*"), *(ROOT / "stack").rglob("*.*")]:
        # A compiled file is not text: any two bytes may stand in it.
        if path.is_file() and path.suffix not in (".pyc", ".jar") and b"\r\n" in path.read_bytes()[:20_000]:
            fix = "git config core.autocrlf input && git rm -rq --cached . && git reset --hard"
            name = path.relative_to(ROOT)
            return [Finding("line ends", "blocker", f"{name} has Windows line ends", fix, Exit.LINE_ENDS)]
    return [Finding("line ends", "ok", "no Windows line ends")]


def readable(stack: Stack, _names: Sequence[str]) -> list[Finding]:
    """Check that containers can read mounted files, as users of their own: umask 077 closes a clone to them."""
    if stack.engine.name != "docker":
        return [Finding("readable", "ok", "the services are this user's own processes")]
    for folder in MOUNTED:
        for path in [ROOT / folder, *(ROOT / folder).rglob("*")]:
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and not mode & stat.S_IROTH or stat.S_ISDIR(mode) and not mode & stat.S_IXOTH:
                said = f"{path.relative_to(ROOT)} cannot be read by other users, such as those in the containers"
                fix = f"cd '{ROOT}' && chmod -R go+rX {' '.join(MOUNTED)}"
                return [Finding("readable", "blocker", said, fix, Exit.PERMISSION)]
    return [Finding("readable", "ok", "containers can read what is mounted")]


def leftovers(stack: Stack, _names: Sequence[str]) -> list[Finding]:
    """Find processes of a supervisor that was killed."""
    supervisor = stack.host.supervisor
    orphans = supervisor.orphans()
    if orphans:
        names = ", ".join(sorted({process.name() for process in orphans}))
        message = f"{len(orphans)} processes of a killed run are still there ({names})"
        return [Finding("leftovers", "warning", message, "flow360 down (flow360 up does it by itself)", Exit.LEFTOVERS)]
    if os.access(supervisor.pidfile, os.F_OK) and not supervisor.alive():
        return [Finding("leftovers", "warning", "a stale pid file of a killed run", "flow360 up replaces it")]
    return [Finding("leftovers", "ok", "nothing left over")]


def docker(stack: Stack, _names: Sequence[str]) -> list[Finding]:
    from flow360.stack.docker.engine import DockerEngine

    chosen = stack.engine.name == "docker"
    if not chosen and not shutil.which("docker"):
        return [Finding("docker", "ok", "no docker here; the native engine needs none")]
    reason = DockerEngine(stack.model).answers()
    if reason is None:
        return [Finding("docker", "ok", f"a docker daemon answers (engine in use: {stack.engine.name})")]
    if chosen:
        return [Finding("docker", "blocker", reason, "start Docker, or take --engine native", Exit.DOCKER)]
    fix = "start Docker if you want that engine"
    return [Finding("docker", "warning", f"{reason}; the native engine runs the stack without it", fix, Exit.DOCKER)]


def java_version(stack: Stack, names: Sequence[str]) -> list[Finding]:
    users = [name for name in names if stack.model[name].native.java]
    if stack.engine.name == "docker" or not users:
        return [Finding("java", "ok", "nothing asked for needs Java")]
    place = java.locate()
    if place is None:
        return [Finding("java", "ok", "no Java here: one will be downloaded (cjdk), or set JAVA_HOME")]
    try:
        found = java.inspect(place)
        java.require_modules(java.MODULES)
    except FlowError as error:
        what, _, fix = error.message.partition(": ")
        return [Finding("java", "blocker", what, fix, Exit.JAVA)]
    return [Finding("java", "ok", f"Java {found.version} ({found.java})")]


def ports(stack: Stack, names: Sequence[str]) -> list[Finding]:
    """Find ports that somebody else holds. Ports of services that run already are theirs."""
    running = {row.name for row in stack.status(ask=False) if row.state in ("running", "starting")}
    found = []
    owners: dict[int, str] = {}
    for name, service in stack.model.services.items():
        for port in service.ports:
            if port in owners:
                message = f"port {port} is given twice, to {owners[port]} and {name}"
                fix = f"give one of them another number in {env_file().name}"
                found.append(Finding("ports", "blocker", message, fix, Exit.PORT))
            owners[port] = name
    for name in names:
        for port in stack.model[name].ports:
            if name in running or _free(port):
                continue
            listener = _listener(port)
            if _free(port) or (listener and stack.host.supervisor.service_of(listener)):
                continue  # it was killed a moment ago, or the keeper has started it again since we asked
            holder, ours = _holder(port, listener)
            fix = f"set {_variable(port)} to another port in {env_file().name}"
            fix = f"end that program, or {fix}" if ours else fix
            message = f"port {port} of {name} is taken by {holder}"
            found.append(Finding("ports", "blocker", message, fix, Exit.PORT, name))
    return found or [Finding("ports", "ok", "the ports are free or ours")]


def _free(port: int) -> bool:
    with socket.socket() as sock:
        # As a server would: a port in TIME_WAIT is free for it.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE  # anything else is not another program's doing
    return True


def _listener(port: int) -> psutil.Process | None:
    """Find the process that listens there, if this user may know."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return psutil.Process(connection.pid)
    return None


def _holder(port: int, listener: psutil.Process | None) -> tuple[str, bool]:
    """Say who listens there, for people, and whether we may end it."""
    with contextlib.suppress(psutil.Error, OSError):
        if listener:
            said = f"{listener.name()} (pid {listener.pid})"
            if listener.uids().real == os.geteuid():
                return said, True
            return f"{said} of user {listener.username()}", os.geteuid() == 0
    # Whose process it is, an ordinary user cannot ask of another's; the kernel's list of sockets says so to everybody.
    for family in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for row in map(str.split, Path("/proc/net", family).read_text().splitlines()[1:]):
                if row[3] == LISTENS and int(row[1].rpartition(":")[2], 16) == port and int(row[7]) != os.geteuid():
                    return f"a program of user {_user(int(row[7]))}", False
    return "another program", True


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _variable(port: int) -> str:
    for name, value in in_force().items():
        if name.endswith("_PORT") and value == str(port):
            return name
    return "its NAME_PORT"


def memory(stack: Stack, names: Sequence[str]) -> list[Finding]:
    need = stack.model.memory_mb(names)
    running = sum(row.pss_mb for row in stack.status(ask=False) if row.name in names)
    free = _available_memory_mb() + running
    if need <= free:
        return [Finding("memory", "ok", f"{need} MB needed, {free:.0f} MB there")]
    fix = "close other programs, or start fewer services at once (flow360 down; flow360 up CHAPTER)"
    return [Finding("memory", "blocker", f"{need} MB of memory needed, {free:.0f} MB there", fix, Exit.MEMORY)]


def profile(together: Together, stack: Stack, _names: Sequence[str]) -> list[Finding]:
    """Say which part of the stack this machine can hold at once, notebooks included."""
    running = sum(row.pss_mb for row in stack.status(ask=False))
    free = _available_memory_mb() + running
    needs = {what: stack.model.memory_mb(services) for what, services in together.items()}
    largest = max(needs, key=lambda what: needs[what])
    for name in ("complete", "minimal"):
        need = stack.model.memory_mb(stack.model.profile(name))
        if need + NOTEBOOK_MB <= free:
            what = f"{free:.0f} MB there, {need} MB needed: `flow360 up {name}` fits, and every chapter"
            return [Finding("profile", "ok", what)]
    what = f"{free:.0f} MB there: chapter by chapter, with `flow360 down` between; {largest} needs {needs[largest]} MB"
    if needs[largest] + NOTEBOOK_MB <= free:
        return [Finding("profile", "ok", what)]
    return [Finding("profile", "warning", what, "close other programs before the larger chapters")]


def _available_memory_mb() -> float:
    free = psutil.virtual_memory().available / 1e6
    # In a container the limit is the group's, not the machine's.
    for group, limit, used, prefix in (
        ("/sys/fs/cgroup", "memory.max", "memory.current", ""),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),  # the older way
    ):
        try:
            there = int(Path(group, limit).read_text()) - int(Path(group, used).read_text())
        except (OSError, ValueError):
            continue
        # What it holds of files (of downloads, just now) is given up when somebody asks, as in `available`.
        with contextlib.suppress(OSError, ValueError):
            stat = dict(line.split() for line in Path(group, "memory.stat").read_text().splitlines())
            there += sum(int(stat.get(f"{prefix}{which}_file", 0)) for which in ("inactive", "active"))
        free = min(free, there / 1e6)
    return free


def disk(stack: Stack, names: Sequence[str]) -> list[Finding]:
    groups = {group for name in names for group in stack.model[name].native.jar_groups}
    fetched = len(jars.missing(groups)) * ARTIFACT_MB if stack.engine.name == "native" else 0
    wanted: dict[int, tuple[Path, float]] = {}  # by file system: data and downloads often share one
    for folder, megabytes in ((settings().state_dir, FREE_DISK_MB), (settings().cache_dir, fetched)):
        place = _existing(folder)
        first, so_far = wanted.get(place.stat().st_dev, (place, 0))
        wanted[place.stat().st_dev] = (first, so_far + megabytes)
    for folder, megabytes in wanted.values():
        free = shutil.disk_usage(folder).free / 1e6
        if free < megabytes:
            message = f"{free:.0f} MB free in {folder}, {megabytes:.0f} MB needed"
            return [Finding("disk", "blocker", message, "free some, or set FLOW360_STATE and FLOW360_CACHE", Exit.DISK)]
    return [Finding("disk", "ok", "room enough")]


def network(stack: Stack, names: Sequence[str]) -> list[Finding]:
    """Check the network, only when something must be fetched."""
    if stack.engine.name != "native":
        return [Finding("network", "ok", "images are docker's business")]
    services = [stack.model[name] for name in names]
    absent = jars.missing({group for s in services for group in s.native.jar_groups})
    packages = [
        s.name for s in services if s.native.debian and not debian.present(s.name, s.native.debian, s.native.relocate)
    ]
    if not absent and not packages:
        return [Finding("network", "ok", "nothing has to be fetched")]
    what = " and ".join(
        [f"{len(absent)} jars"] * bool(absent) + [f"the packages of {', '.join(packages)}"] * bool(packages)
    )
    if jars.reachable():
        return [Finding("network", "ok", f"{what} will be fetched")]
    return [Finding("network", "blocker", f"no network, and {what} must be fetched", "connect once", Exit.NETWORK)]


def _existing(path: Path) -> Path:
    while True:
        with contextlib.suppress(PermissionError):  # a folder that may not be entered is itself the nearest one
            if path.exists():
                return path
        path = path.parent
