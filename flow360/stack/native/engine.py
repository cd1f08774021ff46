"""The native engine: the stack as plain processes.

supervisor keeps the processes. Ours is what it lacks: dependency order with independent services side by side,
readiness with a deadline, artifacts, config files, memory.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import psutil

from flow360.errors import Exit, FlowError, ServiceError
from flow360.settings import ROOT, settings
from flow360.stack import probes
from flow360.stack.memory import pss_mb
from flow360.stack.model import Model, Service
from flow360.stack.native import debian, jars, java, prepare
from flow360.stack.native.program import inherited
from flow360.stack.native.programs import Programs
from flow360.stack.native.supervise import Supervisor
from flow360.stack.status import LOG_LINES, Event, Progress, ServiceStatus, State, another_password, with_log

DEADLINE = 120  # seconds for one service to become ready, on a slow machine


class NativeEngine:
    """Starts, stops and describes the services of a model on this machine."""

    name = "native"

    def __init__(self, model: Model, state: Path | None = None) -> None:
        self.model = model
        self.state = state or settings().state_dir
        self.programs = Programs(model, self.state)
        self.supervisor = Supervisor(self.state, [service.name for service in model.services.values() if service.host])
        self._cut_off = threading.Event()

    # --- up

    def up(self, names: Iterable[str], progress: Progress) -> None:
        """Start services and what they need; returns when all are ready.

        Raises:
            FlowError: the first thing that went wrong; what runs already is left running.
        """
        order = self.model.closure(names)
        for name in order:
            if why := self.left_out(name):
                raise ServiceError(f"{name} runs with --engine docker only: {why}")
        self._folders()
        self.fetch(order, progress)
        self.supervisor.ensure([self.programs.kept(self.model[name]) for name in order if not self.model[name].job])
        futures: dict[str, Future] = {}
        self._cut_off.clear()
        with ThreadPoolExecutor(max(len(order), 1)) as pool:
            try:
                # The desk first and alone: somebody waits for its page, and on two cores the rest would take its time.
                for name in sorted(order, key=lambda name: not self.model[name].host):
                    before = [futures[other] for other in self.model[name].depends_on]
                    futures[name] = pool.submit(self._bring_up, self.model[name], before, progress)
                    if self.model[name].host:
                        wait([futures[name]])
                wait(futures.values())
            except BaseException:  # Ctrl-C: the pool is waited for, and what it has not begun stays undone
                self._cut_off.set()
                raise
        errors = [error for future in futures.values() if isinstance(error := future.exception(), Exception)]
        first = next((error for error in errors if not isinstance(error, _Skipped)), None)
        if first:
            raise first

    def left_out(self, name: str) -> str | None:
        """Say why this engine cannot run a service here; None where it can."""
        service = self.model[name]
        if service.native.runs == "compose only":
            return service.native.why
        if service.native.machines and platform.machine() not in service.native.machines:
            return f"its program is made for {' and '.join(service.native.machines)}, not for {platform.machine()}"
        return debian.why_not(service.name, service.native.debian, service.native.relocate)

    def fetch(self, names: Iterable[str], progress: Progress) -> None:
        """Bring the programs that are not Python: jars and Debian packages."""
        services = [self.model[name] for name in names]
        groups = dict.fromkeys(group for s in services for group in s.native.jar_groups)
        wanted = jars.missing(groups)
        if wanted:
            jars.fetch(
                wanted,
                lambda done, of, name: progress(Event("jars", "fetching", f"{done} of {of}: {name}", done / of)),
            )
            progress(Event("jars", "ready", f"{len(wanted)} files"))
        with ThreadPoolExecutor(4) as pool:
            futures = []
            for service in services:
                needs = (service.name, service.native.debian, service.native.relocate)
                if service.native.debian and not debian.present(*needs):
                    progress(Event(service.name, "fetching", f"{len(service.native.debian)} Debian packages"))
                    futures.append(pool.submit(debian.fetch, *needs))
        for future in futures:
            future.result()

    def _bring_up(self, service: Service, before: list[Future], progress: Progress) -> None:
        for future in before:
            if future.exception() is not None:
                raise _Skipped(service.name)
        if self._cut_off.is_set():
            raise _Skipped(service.name)
        start = time.monotonic()
        say = partial(self._say, progress, service, start)
        if service.job:
            self._run_job(service, say)
            return
        if self.supervisor.dead(service.name) is None and self._probe(service)() is None:
            say("running", "already")
            return
        say("starting", "")
        self.programs.write_config(service)
        tmp = self.programs.tmp(service)
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir(parents=True)
        if service.native.prepare:
            prepare.STEPS[service.native.prepare](
                service, self.programs.data(service), self.programs.command(service, once=True)
            )
        missing = self._start(service.name, self._probe(service))
        if missing and missing.startswith("not ready"):  # alive, and it never answers: a second start often helps
            self.supervisor.stop(service.name)
            self.supervisor.end_orphans()
            missing = self._start(service.name, self._probe(service))
        if missing and service.native.database and probes.REFUSED in missing:
            raise ServiceError(another_password(service.name))
        if missing:
            raise ServiceError(self._with_log(service.name, missing))
        say("running", "")

    def _start(self, name: str, probe: probes.Probe) -> str | None:
        """Start it and wait until it answers; None, or what is missing."""
        since = time.time()
        self.supervisor.start(name)
        return probes.wait_ready(probe, DEADLINE, partial(self._hopeless, name, since))

    def _hopeless(self, name: str, since: float) -> str | None:
        return "it was cut off" if self._cut_off.is_set() else self.supervisor.dead(name, since)

    def _with_log(self, name: str, sentence: str) -> str:
        return with_log(name, sentence, self.logs(name, LOG_LINES))

    @staticmethod
    def _say(progress: Progress, service: Service, start: float, state: State, detail: str) -> None:
        progress(Event(service.name, state, detail, seconds=time.monotonic() - start))

    def _run_job(self, service: Service, say: Callable[[State, str], None]) -> None:
        """Run a program that ends. A mark says that it is done; resetting a service it depends on removes the mark."""
        if self.programs.is_done(service):
            say("done", "was done")
            return
        say("starting", "")
        self.programs.write_config(service)
        log = self.programs.log(service)
        with log.open("a", encoding="utf-8") as out:
            done = subprocess.run(
                self.programs.command(service),
                cwd=ROOT,
                env={**inherited(), **self.programs.environment(service)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=600,
                start_new_session=True,
            )
        if done.returncode:
            raise ServiceError(self._with_log(service.name, "it failed"))
        self.programs.mark_done(service)
        say("done", "")

    # --- down, reset, logs

    def down(self, names: Iterable[str] | None, progress: Progress, alone: bool = False) -> None:
        """Stop services and what depends on them (None: all, and supervisord; `alone`: only these). Data stays.

        The service in which this very process runs is the last one: its end may be that of this process, and what is
        left to do then is supervisord's.
        """
        if self.supervisor.alive():
            names = None if names is None else list(names)
            asked = self.model.services if names is None else names
            order = names if names and alone else self.model.dependants(asked)
            around = self.supervisor.around()
            self._stop_all([name for name in order if name != around], progress)
            if around in order:
                progress(Event(around, "stopped", "last, with this terminal"))
                if names is not None:
                    self.supervisor.stop(around)
            if names is None:
                self.supervisor.shutdown()
        for name in self.supervisor.end_orphans():
            progress(Event(name, "stopped", "left over by a killed run"))

    def _stop_all(self, order: Iterable[str], progress: Progress) -> None:
        rows = self.supervisor.processes()
        running = {name for name, row in rows.items() if row["pid"] or row["statename"] == "EXITED"}  # crashed just now
        with ThreadPoolExecutor(8) as pool:
            futures: dict[str, Future] = {}
            for name in order:
                if name in running:
                    # Also those that need it by way of a job, which does not run any more.
                    users = [futures[other] for other in futures if name in self.model.closure([other])]
                    futures[name] = pool.submit(self._stop, self.model[name], users, progress)
        for future in futures.values():
            future.result()

    def _stop(self, service: Service, before: list[Future], progress: Progress) -> None:
        for future in before:
            future.result()
        start = time.monotonic()
        ended_by_itself = self.supervisor.stop(service.name)
        if service.native.java:
            java.keep_archive(
                service.name, self.programs.classpath(service), self.programs.conf(service), whole=ended_by_itself
            )
        self._say(progress, service, start, "stopped", "")

    def kill(self, name: str) -> None:
        """End a service with SIGKILL, as a crash would; supervisord starts it again. Returns when the process is gone.

        Raises:
            FlowError: it does not run.
        """
        process = self._process(name, "killed")
        process.kill()
        process.wait(30)  # until then its port is open, and whoever asks would take the dead for the living

    def freeze(self, name: str, thaw: bool = False) -> None:
        """Let a service neither work nor end, with the processes below it; with `thaw`, let it go on.

        Raises:
            FlowError: it does not run.
        """
        process = self._process(name, "frozen")
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since we asked
                (one.resume if thaw else one.suspend)()

    def _process(self, name: str, done: str) -> psutil.Process:
        """Find the process of a service, to which something is to be done.

        Raises:
            FlowError: it does not run.
        """
        pid = self.pids().get(self.model[name].name)
        if pid is None:
            raise ServiceError(f"{name} does not run, so it cannot be {done}: start it with `flow360 up {name}`")
        return psutil.Process(pid)

    def reset(self, names: Iterable[str], progress: Progress) -> None:
        """Stop services and remove their data, with the marks of the jobs that filled them."""
        names = list(names)
        self.down(names, progress)
        for name in names:
            data = self.programs.data(self.model[name])
            shutil.rmtree(data, ignore_errors=True)
            if data.exists():
                raise FlowError(f"{data} could not be removed: look who owns it", Exit.PERMISSION)
            for other in self.model.services.values():
                if other.job and name in self.model.closure([other.name]):
                    self.programs.job_mark(other).unlink(missing_ok=True)
            progress(Event(name, "reset", ""))

    def logs(self, name: str, lines: int) -> str:
        """Return the last lines of a service's log."""
        log = self.programs.log(self.model[name])
        if not log.exists():
            return ""
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 400 * lines))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])

    def follow_command(self, name: str) -> list[str]:
        """Return the command of a program that prints the log as it grows."""
        return ["tail", "-n", "20", "-F", str(self.programs.log(self.model[name]))]

    def tool_command(self, name: str, program: str, subcommand: str, args: Iterable[str]) -> list[str]:
        """Write the command line of a program that ships with a service: `("namenode", "hdfs", "oiv", …)`."""
        return self.programs.tool(self.model[name], program, subcommand, args)

    def path_in(self, name: str, path: Path) -> str:
        """Return the path of a file of this machine as a service calls it: as everybody does."""
        return str(path)

    # --- status

    def status(self, ask: bool = True) -> list[ServiceStatus]:
        """Ask what is really there, now; probes run side by side. Not asked, what has a process counts as running."""
        rows = self.supervisor.processes()
        with ThreadPoolExecutor(8) as pool:
            return list(
                pool.map(
                    lambda service: self._status(service, rows.get(service.name), ask),
                    self.model.services.values(),
                )
            )

    def _status(self, service: Service, row: Mapping | None, ask: bool) -> ServiceStatus:
        pss = 0.0
        if service.job:
            state: State = "done" if self.programs.is_done(service) else "stopped"
        elif row and row["pid"]:
            state = "running" if not ask or self._probe(service)() is None else "starting"
            pss = pss_mb([row["pid"]])
        elif row and row["statename"] in ("FATAL", "BACKOFF"):
            state = "failed"
        else:
            state = "stopped"
        native = service.native
        return ServiceStatus(
            service.name,
            service.layer,
            state,
            "compose only" if self.left_out(service.name) else native.runs,
            native.what,
            service.port,
            round(pss, 1),
            service.link,
            service.title,
        )

    def pids(self) -> dict[str, int]:
        """Return the main process of each running service."""
        return {name: row["pid"] for name, row in self.supervisor.processes().items() if row["pid"]}

    def kept(self) -> list[Path]:
        """List what the services keep, JupyterLab apart: the data folders that are there, the marks of jobs done."""
        own = [service for service in self.model.services.values() if not service.host]
        paths = [self.programs.job_mark(service) if service.job else self.programs.data(service) for service in own]
        return [path for path in paths if path.exists()]

    # --- the parts of a service

    def _folders(self) -> None:
        # For root, services of another user live below, so the way down may be entered, but not listed.
        way = 0o711 if os.geteuid() == 0 else 0o700
        try:
            for folder, mode in ((self.state, way), (self.state / "run", 0o700), (self.state / "logs", 0o700)):
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(mode)
        except OSError as error:
            raise FlowError(
                f"{error.filename} cannot be made ({error.strerror}): set FLOW360_STATE to a folder of yours",
                Exit.PERMISSION,
            ) from None

    def _probe(self, service: Service) -> probes.Probe:
        return probes.of(self.model, service)


class _Skipped(Exception):
    """Not started because something it needs failed."""
