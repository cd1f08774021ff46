"""The keeper of native processes: PyPI `supervisor`, its config file, its XML-RPC socket, and what a killed one left.

Each program is a process group of its own, ended whole, with its log; supervisord restarts what dies. The socket has
mode 0600.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterable
from pathlib import Path

import psutil

from flow360.environment import MARK
from flow360.errors import ServiceError
from flow360.files import write
from flow360.stack import probes
from flow360.stack.native.program import STOP, Program, inherited, value
from flow360.waiting import rounds

RESTART = 10  # seconds in which supervisord starts again what has crashed
LONGEST = 98  # bytes in the path of a socket: 107, less what supervisord adds to it while it makes one
FILES = 8_192  # that a program may have open, if the system lets it: the shipper has three for each task of Airflow's
ANSWER = 150  # seconds for one answer of supervisord, and for a program to stop: it takes its stop_seconds at most


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: object) -> _UnixConnection:
        return _UnixConnection(self._path)


class Supervisor:
    """supervisord of one state folder.

    Args:
        state: the folder of this checkout's native stack; `state/run` gets the config and the pid file.
        spared: programs whose children may outlive them: what a learner started in a terminal of JupyterLab.
    """

    def __init__(self, state: Path, spared: Iterable[str] = ()) -> None:
        self.state = state
        self.spared = frozenset(spared)
        self.run = state / "run"
        self.conf = self.run / "supervisord.conf"
        self.pidfile = self.run / "supervisord.pid"

    @property
    def socket(self) -> Path:
        """Where supervisord answers: in the state folder, which nobody else can enter.

        Where that path is too long for a socket, in a folder whose name nobody can guess, and so make before us; it is
        noted in the state folder, so that every shell of this user finds it.
        """
        place = self.run / "supervisor.sock"
        if len(os.fsencode(place)) > LONGEST:
            with contextlib.suppress(FileNotFoundError):
                place = Path((self.run / "socket").read_text("utf-8")) / place.name
        return place

    def _make_room(self) -> None:
        """Make the folder of the socket, where it is not the state folder."""
        if len(os.fsencode(self.socket)) > LONGEST or not self.socket.parent.is_dir():
            own = os.environ.get("XDG_RUNTIME_DIR", "")
            folder = tempfile.mkdtemp(prefix="flow360-", dir=own if os.access(own, os.W_OK) else None)
            write(self.run / "socket", folder, 0o600)

    # --- the daemon

    def alive(self) -> bool:
        """Ask whether supervisord answers."""
        try:
            return self._rpc().supervisor.getState()["statecode"] >= 0
        except (OSError, xmlrpc.client.Error, http.client.HTTPException):
            return False

    def ensure(self, programs: Iterable[Program]) -> None:
        """Run supervisord with (at least) these programs; running programs are left alone."""
        self.run.mkdir(parents=True, exist_ok=True)
        self._make_room()
        programs = list(programs)
        owner = str(self.state)
        running = self.alive()
        if not running:
            for old in self.run.glob("*.program"):
                old.unlink()
        changed = []
        for program in programs:
            if write(self.run / f"{program.name}.program", program.section(owner), 0o600):
                changed.append(program.name)
            program.log.parent.mkdir(parents=True, exist_ok=True)
        if not running:
            self._start()
        elif changed:
            self._reload()

    def _start(self) -> None:
        lines = [
            "[unix_http_server]",
            f"file={value(self.socket)}",
            "chmod=0600",
            "[supervisord]",
            f"logfile={value(self.run / 'supervisord.log')}",
            f"pidfile={value(self.pidfile)}",
            f"childlogdir={value(self.run)}",
            f"directory={value(self.state)}",
            "umask=022",
            f"minfds={min(FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])}",
            *(["user=root"] if os.geteuid() == 0 else []),
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
            "[include]",
            # supervisor splits this value at spaces, so it is relative to the config file.
            "files=*.program",
        ]
        write(self.conf, "\n".join(lines) + "\n", 0o600)
        self.socket.unlink(missing_ok=True)
        self.pidfile.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.conf)],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env=inherited(),
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            why = next((line for line in said if line.startswith("Error:")), said[-1])
            raise ServiceError(f"supervisord did not start: {why}")
        missing = probes.wait_ready(lambda: None if self.alive() else "no answer on its socket", 20, lambda: None)
        if missing:
            raise ServiceError(f"supervisord: {missing}; see {self.run / 'supervisord.log'}")

    def _reload(self) -> None:
        rpc = self._rpc().supervisor
        added, changed, removed = rpc.reloadConfig()[0]
        for name in [*changed, *removed]:
            self.stop(name)
            rpc.removeProcessGroup(name)
        for name in [*added, *changed]:
            rpc.addProcessGroup(name)

    def shutdown(self, deadline: float = 90) -> None:
        """Stop every program, then supervisord itself; returns when their children have gone, too."""
        daemon = self.daemon()
        with contextlib.suppress(OSError, xmlrpc.client.Error, http.client.HTTPException):
            self._rpc().supervisor.shutdown()
        end = time.monotonic() + deadline
        while self.alive() and time.monotonic() < end:
            time.sleep(0.1)
        if daemon:
            _still_there([daemon], max(end - time.monotonic(), 1))
        _still_there(self.orphans(), 5)  # children of a program get its signal and may need a moment longer
        self.socket.unlink(missing_ok=True)
        if self.socket.parent != self.run:
            with contextlib.suppress(OSError):
                self.socket.parent.rmdir()

    def daemon(self) -> psutil.Process | None:
        """Find the supervisord of this state folder, whether it answers or not, by its config file."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if str(self.conf) in process.cmdline() and "supervisor.supervisord" in process.cmdline():
                    return process
        return None

    # --- programs

    def processes(self) -> dict[str, dict]:
        """Ask for supervisor's own words on each program: statename, pid, exitstatus, spawnerr, start."""
        try:
            return {row["name"]: row for row in self._rpc().supervisor.getAllProcessInfo()}
        except (OSError, xmlrpc.client.Error, http.client.HTTPException):
            return {}

    def start(self, name: str) -> None:
        """Start it, unless it runs; does not wait until it is ready."""
        try:
            self._rpc().supervisor.startProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise ServiceError(f"{name} did not start: {fault.faultString}") from None

    def stop(self, name: str) -> bool:
        """Stop it and its whole group, and wait until it is gone; False when it had to be killed."""
        end = time.monotonic() + RESTART
        while True:
            try:
                # Asked to wait (True), supervisord would turn round at full speed until the program has ended.
                self._rpc().supervisor.stopProcess(name, False)
                self._await_end(name)
                break
            except xmlrpc.client.Fault as fault:
                if "NOT_RUNNING" not in fault.faultString and "BAD_NAME" not in fault.faultString:
                    raise ServiceError(f"{name} did not stop: {fault.faultString}") from None
            # One that has just crashed is not running, and supervisord is about to start it again.
            state = self.processes().get(name, {}).get("statename", "STOPPED")
            if state in ("STOPPED", "FATAL") or time.monotonic() > end:
                break
            time.sleep(0.05)
        # supervisor's word for "a signal ended it" is -1; a JVM that heeds TERM leaves with 143.
        return self.processes().get(name, {}).get("exitstatus", 0) != -1

    def _await_end(self, name: str) -> None:
        """Wait until a program that was asked to stop has ended, or was killed because it did not."""
        for _ in rounds(ANSWER, every=0.1):
            if self.processes().get(name, {}).get("statename") != "STOPPING":
                return
        raise ServiceError(f"{name} has not stopped in {ANSWER} s")

    def dead(self, name: str, since: float = 0) -> str | None:
        """Return None while the program runs or starts, else a sentence.

        Args:
            since: a moment (seconds of the epoch). What was started in the `RESTART` seconds after it, and ended, is
                not dead yet: supervisord starts it again, and what it met (its own registration before a crash, a port
                that is not free yet) may be over by then.
        """
        row = self.processes().get(name)
        if row is None:
            return "supervisord does not know it"
        if row["statename"] in ("STARTING", "RUNNING"):
            return None
        if row["statename"] in ("BACKOFF", "EXITED") and row["start"] < since + RESTART:
            return None
        if row["statename"] == "BACKOFF":
            return f"it ends right after its start ({row['spawnerr']})"
        return f"it ended ({row['statename'].lower()}, exit status {row['exitstatus']})"

    def _rpc(self) -> xmlrpc.client.ServerProxy:
        return xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(str(self.socket)))

    # --- what a killed supervisord, or a killed program, left behind

    def service_of(self, process: psutil.Process) -> str | None:
        """Name the service of this state folder to which a process belongs: by the mark in its environment.

        PostgreSQL's sessions write their titles over it, but work in their server's folder. (A shell that somebody
        opened there has an environment, and is nobody's child.)
        """
        with contextlib.suppress(psutil.Error, OSError, ValueError, IndexError):
            environment = process.environ()
            if not environment:
                return Path(process.cwd()).relative_to(self.state).parts[0]
            state, _, name = environment.get(MARK, "").rpartition(":")
            return name if state == str(self.state) else None
        return None

    def around(self) -> str | None:
        """Name the service in which this very process runs, as in a terminal of JupyterLab; None outside of them."""
        owner, _, name = os.environ.get(MARK, "").rpartition(":")
        return name if owner == str(self.state) else None

    def orphans(self) -> list[psutil.Process]:
        """Find living processes of this state folder's services that are not below a supervisord that keeps them.

        All of them, when it was killed; while it lives, the children of a program that was. The caller's own ancestors
        are left out.
        """
        daemon = self._rpc().supervisor.getPID() if self.alive() else None
        spared = self.spared if daemon else frozenset()
        mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
        found = []
        for process in psutil.process_iter():
            name = self.service_of(process)
            if name is None or name in spared or process.pid in mine:
                continue
            with contextlib.suppress(psutil.Error):
                if daemon is None or daemon not in [parent.pid for parent in process.parents()]:
                    found.append(process)
        return found

    def end_orphans(self, grace: float = 20) -> list[str]:
        """End them, each by its own signal, then by KILL after `grace` seconds. Returns their services."""
        alive = self.alive()
        deaf = None if alive else self.daemon()
        if deaf:  # it lives, but its socket is gone (somebody cleaned /tmp): it would restart what we end
            with contextlib.suppress(psutil.Error):
                deaf.kill()
            _still_there([deaf], 5)
        # Children of a program that ended just now may be about to end, too.
        orphans = _still_there(self.orphans(), 2) if alive else self.orphans()
        pids, names = {process.pid for process in orphans}, set()
        for process in orphans:
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                if name := self.service_of(process):
                    names.add(name)
                # A server of PostgreSQL ends its own sessions, which have no environment, in good order.
                if environment or process.ppid() not in pids:
                    process.send_signal(signal.Signals[f"SIG{environment.get(STOP, 'TERM')}"])
        stubborn = _still_there(orphans, grace)
        for process in stubborn:
            with contextlib.suppress(psutil.Error):
                process.kill()
        _still_there(stubborn, 5)
        if not alive:
            self.socket.unlink(missing_ok=True)
            self.pidfile.unlink(missing_ok=True)
        return sorted(names)


def _still_there(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until they have ended; returns those that live on after `seconds`.

    A zombie has ended: where PID 1 is not an init (a container), nobody may ever ask for its status, and psutil would
    wait.
    """
    end = time.monotonic() + seconds
    while True:
        alive = []
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
        if not alive or time.monotonic() >= end:
            return alive
        time.sleep(0.05)
