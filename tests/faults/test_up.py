"""`flow360 up` on a machine where something is wrong: its own message and exit code each, through the real program."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from flow360.errors import Exit
from flow360.settings import PORTS, settings
from flow360.stack.native.supervise import Supervisor
from flow360.waiting import patient
from tests.environment import ports
from tests.faults.support import ROOT, report, until

SERVICES = ("postgres-dwh", "zookeeper", "mosquitto")
Run = Callable[..., subprocess.CompletedProcess]


class Course:
    """A course of its own: a state folder, an env file with free ports; the downloads are shared."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.ports = dict(zip(PORTS, ports("test_up", len(PORTS)), strict=True))
        env = folder / "course.env"
        env.write_text("".join(f"{name}={port}\n" for name, port in self.ports.items()), "utf-8")
        self.environment = os.environ | {
            "FLOW360_STATE": str(self.state),
            "FLOW360_ENV_FILE": str(env),
            "FLOW360_CACHE": str(settings().cache_dir),
            "FLOW360_ENGINE": "native",
        }

    def run(self, *words: str, before: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess:
        """`flow360 WORDS`, as a learner would type it."""
        command = [*before, sys.executable, "-m", "flow360.cli", *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=patient(150), cwd=ROOT, env=self.environment | environment
        )

    @property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.state)

    def counts(self, done: subprocess.CompletedProcess) -> dict[str, int]:
        """How it ended, how many lines it said of it, and how many processes run now, the supervisor among them."""
        running = [self.supervisor.daemon()] if self.supervisor.alive() else self.supervisor.orphans()
        family = [one for process in running for one in (process, *process.children(recursive=True))]
        return {"exit": done.returncode, "lines": len(done.stderr.strip().splitlines()), "running": len(family)}

    def refused(self, done: subprocess.CompletedProcess, code: Exit, *words: str) -> str:
        """`up` said one line with these words, left with this code, and started nothing."""
        lines = done.stderr.strip().splitlines()
        assert done.returncode == code, done.stdout + done.stderr
        assert len(lines) == 1, lines
        for word in words:
            assert word in lines[0], lines[0]
        assert not self.supervisor.alive()
        assert self.supervisor.orphans() == []
        return lines[0]


@pytest.fixture
def course(started) -> Iterator[Course]:
    """Beside the tests' own state folder, where PostgreSQL's user may enter; gone afterwards."""
    # What is downloaded is here now, and the ports in use are not ours.
    started("postgres-dwh", "zookeeper", "mosquitto")
    folder = settings().state_dir.with_name(settings().state_dir.name + f"-up-{os.getpid()}")
    folder.mkdir(parents=True)
    one = Course(folder)
    yield one
    one.run("down")
    one.supervisor.end_orphans(5)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_port_is_taken(course):
    """Fault 9: who has it, and which variable changes it."""
    port = course.ports["POSTGRES_DWH_PORT"]
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        done = course.run("up", "postgres-dwh")
    said = course.refused(done, Exit.PORT, f"port {port} of postgres-dwh is taken by", f"(pid {os.getpid()})")
    assert "POSTGRES_DWH_PORT" in said
    report("9 up, port taken", **course.counts(done))


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, timeout=20).returncode:
        pytest.skip("a small disk needs root and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)


@pytest.mark.parametrize("full", [False, True], ids=["small", "full"])
def test_no_room_on_the_disk(course, full):
    """Fault 9: how much is there, how much is needed; and the same answer when not even a file fits."""
    with small_disk(course.state.with_name("disk"), 8) as disk:
        if full:
            with pytest.raises(OSError, match="No space"), (disk / "filler").open("wb") as file:
                while True:
                    file.write(bytes(1 << 16))
                    file.flush()
        done = course.run("up", "postgres-dwh", FLOW360_STATE=str(disk / "state"))
        course.refused(done, Exit.DISK, "free some", "FLOW360_STATE")
    report(f"9 up, disk {'full' if full else 'too small'}", **course.counts(done))


@pytest.mark.parametrize("service", ["zookeeper", "mosquitto"])
def test_no_network_while_something_must_be_fetched(course, tmp_path, service):
    """Fault 9: what is missing, and that once connected is enough."""
    unshare = ("unshare", "-n") if os.geteuid() == 0 else ("unshare", "-rn")
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("cutting the network needs unshare, which is not allowed here")
    if service == "mosquitto" and not shutil.which("apt-get"):
        pytest.skip("no apt here, so mosquitto is not fetched")
    done = course.run("up", service, before=unshare, FLOW360_CACHE=str(tmp_path / "empty"))
    what = "jars" if service == "zookeeper" else "the packages of mosquitto"
    course.refused(done, Exit.NETWORK, "no network", what, "connect once")
    report(f"9 up, no network ({service})", **course.counts(done))


def test_no_network_when_everything_is_here(course):
    """Fault 9, the other side: what was fetched once needs no network again."""
    unshare = ("unshare", "-n") if os.geteuid() == 0 else ("unshare", "-rn")
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("cutting the network needs unshare, which is not allowed here")
    done = course.run("doctor", "kafka", "mosquitto", before=unshare)
    assert "nothing has to be fetched" in done.stdout
    assert done.returncode in (Exit.OK, Exit.MEMORY), done.stdout


@pytest.mark.parametrize("pid", ["somebody else's", "nobody's"])
def test_a_stale_pid_file(course, pid):
    """Fault 9: a pid file whose process is gone, or is another program by now: said, and no hindrance."""
    run = course.state / "run"
    run.mkdir(parents=True)
    (run / "supervisord.pid").write_text("99999999\n" if pid == "nobody's" else f"{os.getpid()}\n")
    said = course.run("doctor", "zookeeper").stdout
    assert "a stale pid file of a killed run" in said
    assert "flow360 up replaces it" in said
    done = course.run("up", "zookeeper")
    assert done.returncode == Exit.OK, done.stderr
    assert psutil.pid_exists(os.getpid()), "whoever has that number was left alone"
    assert course.supervisor.alive()
    assert "nothing left over" in course.run("doctor", "zookeeper").stdout
    report(f"9 up, stale pid file ({pid})", **course.counts(done))


QUERY = """
import sys
from flow360.clients import postgres
with postgres() as db:
    db.execute("create table if not exists kept (n int)")
    if sys.argv[1:]:
        db.execute("insert into kept select generate_series(1, 100)")
    print(db.execute("select count(*) from kept").fetchone()[0])
"""


def test_a_killed_supervisor(course):
    """Fault 9: the next `up` ends what was left running, starts again, and the data is there."""
    assert course.run("up", "postgres-dwh", "zookeeper").returncode == Exit.OK
    rows = subprocess.run(
        [sys.executable, "-c", QUERY, "fill"], env=course.environment, cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert rows.strip() == "100"
    before = {name: row["pid"] for name, row in course.supervisor.processes().items()}
    daemon = course.supervisor.daemon()
    os.kill(daemon.pid, signal.SIGKILL)
    until(lambda: not course.supervisor.alive(), "the supervisor's end", 10)
    orphans = len(course.supervisor.orphans())
    assert orphans >= 2
    said = course.run("doctor", "postgres-dwh")
    assert "processes of a killed run are still there" in said.stdout
    assert "flow360 down" in said.stdout
    done = course.run("up", "postgres-dwh", "zookeeper")
    assert done.returncode == Exit.OK, done.stderr
    assert done.stdout.count("left over by a killed run") == 2
    after = {name: row["pid"] for name, row in course.supervisor.processes().items()}
    kept = subprocess.run(
        [sys.executable, "-c", QUERY], env=course.environment, cwd=ROOT, capture_output=True, text=True
    ).stdout
    report("9 up, supervisor killed", orphans=orphans, exit=done.returncode, rows=int(rows), lost=int(rows) - int(kept))
    assert kept.strip() == "100"
    assert not set(before.values()) & set(after.values())


def test_a_session_that_outlives_its_database_is_ended_by_the_next_up(course):
    """One waits for ever for a lock of the dead, and no other PostgreSQL starts beside it. Its title hides our mark."""
    assert course.run("up", "postgres-dwh").returncode == Exit.OK
    server = psutil.Process(course.supervisor.processes()["postgres-dwh"]["pid"])
    server.suspend()
    stuck, *others = server.children()
    stuck.suspend()
    for process in (server, *others):
        process.kill()
    until(lambda: "in use" in (course.state / "logs" / "postgres-dwh.log").read_text(), "the next one to fail", 30)
    assert course.supervisor.orphans() == [stuck]
    done = course.run("up", "postgres-dwh")
    left = len(course.supervisor.orphans())
    report("9 up, a session left", orphans=1, exit=done.returncode, still_there=left)
    assert done.returncode == Exit.OK, done.stderr
    assert "postgres-dwh     stopped left over by a killed run" in done.stdout
    assert not left


def test_down_after_a_killed_supervisor_leaves_nothing(course):
    """Fault 9: `down` is enough, too."""
    assert course.run("up", "zookeeper").returncode == Exit.OK
    os.kill(course.supervisor.daemon().pid, signal.SIGKILL)
    until(lambda: not course.supervisor.alive(), "the supervisor's end", 10)
    assert course.supervisor.orphans()
    done = course.run("down")
    assert done.returncode == Exit.OK
    assert "zookeeper        stopped left over by a killed run" in done.stdout
    assert course.supervisor.orphans() == []
    report("9 down, supervisor killed", **course.counts(done))
