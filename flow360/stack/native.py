"""The native engine: the stack as plain processes.

supervisor keeps the processes. Ours is what it lacks: dependency order with independent services side by side,
readiness with a deadline, artifacts, config files, memory.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil

from flow360.errors import Exit, FlowError
from flow360.settings import ROOT, SECRETS, settings
from flow360.stack import artifacts, java, prepare, probes
from flow360.stack.model import STACK, Model, Service
from flow360.stack.status import Event, Progress, ServiceStatus, State
from flow360.stack.supervise import Program, Supervisor, inherited, pss_mb

DEADLINE = 120  # seconds for one service to become ready, on a slow machine


class NativeEngine:
    """Starts, stops and describes the services of a model on this machine."""

    name = "native"

    def __init__(self, model: Model, state: Path | None = None) -> None:
        self.model = model
        self.state = state or settings().state_dir
        self.supervisor = Supervisor(self.state)

    # --- up

    def up(self, names: Iterable[str], progress: Progress) -> None:
        """Start services and what they need; returns when all are ready.

        Raises:
            FlowError: the first thing that went wrong; what runs already is left running.
        """
        order = self.model.closure(names)
        for name in order:
            native = self.model[name].native
            if native.runs == "compose only":
                raise FlowError(f"{name} runs with --engine docker only: {native.why}", Exit.SERVICE)
        self._folders()
        self.fetch(order, progress)
        self.supervisor.ensure(self._programs(order))
        futures: dict[str, Future] = {}
        with ThreadPoolExecutor(max(len(order), 1)) as pool:
            for name in order:
                before = [futures[other] for other in self.model[name].depends_on]
                futures[name] = pool.submit(self._bring_up, self.model[name], before, progress)
        errors = [error for future in futures.values() if isinstance(error := future.exception(), Exception)]
        first = next((error for error in errors if not isinstance(error, _Skipped)), None)
        if first:
            raise first

    def fetch(self, names: Iterable[str], progress: Progress) -> None:
        """Bring the programs that are not Python: jars and Debian packages."""
        services = [self.model[name] for name in names]
        groups = dict.fromkeys(group for s in services for group in s.native.jar_groups)
        wanted = artifacts.missing(groups)
        if wanted:
            artifacts.fetch(
                wanted,
                lambda done, of, name: progress(Event("jars", "fetching", f"{done} of {of}: {name}", done / of)),
            )
            progress(Event("jars", "ready", f"{len(wanted)} files"))
        with ThreadPoolExecutor(4) as pool:
            futures = []
            for service in services:
                needs = (service.name, service.native.debian, service.native.relocate)
                if service.native.debian and not artifacts.debian_present(*needs):
                    progress(Event(service.name, "fetching", f"{len(service.native.debian)} Debian packages"))
                    futures.append(pool.submit(artifacts.fetch_debian, *needs))
        for future in futures:
            future.result()

    def _bring_up(self, service: Service, before: list[Future], progress: Progress) -> None:
        for future in before:
            if future.exception() is not None:
                raise _Skipped(service.name)
        start = time.monotonic()
        say = partial(self._say, progress, service, start)
        if service.job:
            self._run_job(service, say)
            return
        if self.supervisor.dead(service.name) is None and self._probe(service)() is None:
            say("running", "was running")
            return
        say("starting", "")
        self._render_config(service)
        if service.native.prepare:
            getattr(prepare, service.native.prepare)(service, self._data(service), self._command(service, once=True))
        self.supervisor.start(service.name)
        missing = probes.wait_ready(self._probe(service), DEADLINE, partial(self.supervisor.dead, service.name))
        if missing:
            tail = "\n".join(f"  {line[:160]}" for line in self.logs(service.name, 4).splitlines())
            raise FlowError(
                f"{service.name}: {missing}. Its log (flow360 logs {service.name}) ends:\n{tail}",
                Exit.SERVICE,
            )
        say("running", "")

    @staticmethod
    def _say(progress: Progress, service: Service, start: float, state: State, detail: str) -> None:
        progress(Event(service.name, state, detail, seconds=time.monotonic() - start))

    def _run_job(self, service: Service, say: Callable[[State, str], None]) -> None:
        """Run a program that ends. A mark says that it is done; resetting a service it depends on removes the mark."""
        mark = self._job_mark(service)
        if mark.exists():
            say("done", "was done")
            return
        say("starting", "")
        self._render_config(service)
        log = self._log(service)
        with log.open("a", encoding="utf-8") as out:
            done = subprocess.run(
                self._command(service), cwd=ROOT, env=self._environment(service), stdout=out, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, timeout=600, start_new_session=True,
            )  # fmt: skip
        if done.returncode:
            tail = "\n".join(f"  {line[:160]}" for line in self.logs(service.name, 4).splitlines())
            raise FlowError(f"{service.name} failed. Its log (flow360 logs {service.name}) ends:\n{tail}", Exit.SERVICE)
        mark.touch()
        say("done", "")

    # --- down, reset, logs

    def down(self, names: Iterable[str] | None, progress: Progress) -> None:
        """Stop services and what depends on them (None: all, and supervisord). Data stays."""
        ended = self.supervisor.end_orphans()
        for name in ended:
            progress(Event(name, "stopped", "left over by a killed run"))
        order = self.model.dependants(self.model.services if names is None else names)
        if not self.supervisor.alive():
            return
        rows = self.supervisor.processes()
        running = {name for name, row in rows.items() if row["pid"] or row["statename"] == "EXITED"}  # crashed just now
        with ThreadPoolExecutor(8) as pool:
            futures: dict[str, Future] = {}
            for name in order:
                if name in running:
                    users = [futures[other] for other in futures if name in self.model[other].depends_on]
                    futures[name] = pool.submit(self._stop, self.model[name], users, progress)
        for future in futures.values():
            future.result()
        if names is None:
            self.supervisor.shutdown()

    def _stop(self, service: Service, before: list[Future], progress: Progress) -> None:
        for future in before:
            future.result()
        start = time.monotonic()
        ended_by_itself = self.supervisor.stop(service.name)
        if service.native.java:
            java.keep_archive(service.name, self._classpath(service), self._conf(service), whole=ended_by_itself)
        self._say(progress, service, start, "stopped", "")

    def kill(self, name: str) -> None:
        """End a service with SIGKILL, as a crash would; supervisord starts it again. Returns when the process is gone.

        Raises:
            FlowError: it does not run.
        """
        pid = self.pids().get(self.model[name].name)
        if pid is None:
            raise FlowError(
                f"{name} does not run, so it cannot be killed: start it with `flow360 up {name}`", Exit.SERVICE
            )
        process = psutil.Process(pid)
        process.kill()
        process.wait(30)  # until then its port is open, and whoever asks would take the dead for the living

    def reset(self, names: Iterable[str], progress: Progress) -> None:
        """Stop services and remove their data, with the marks of the jobs that filled them."""
        names = list(names)
        self.down(names, progress)
        for name in names:
            shutil.rmtree(self._data(self.model[name]), ignore_errors=True)
            if self._data(self.model[name]).exists():
                raise FlowError(
                    f"{self._data(self.model[name])} could not be removed: look who owns it", Exit.PERMISSION
                )
            for other in self.model.services.values():
                if other.job and (other.name == name or name in other.depends_on):
                    self._job_mark(other).unlink(missing_ok=True)
            progress(Event(name, "reset", ""))

    def logs(self, name: str, lines: int) -> str:
        """The last lines of a service's log."""
        log = self._log(self.model[name])
        if not log.exists():
            return ""
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 400 * lines))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])

    def follow_command(self, name: str) -> list[str]:
        """A program that prints the log as it grows."""
        return ["tail", "-n", "20", "-F", str(self._log(self.model[name]))]

    def tool_command(self, name: str, program: str, subcommand: str, args: Iterable[str]) -> list[str]:
        """The command line of a program that ships with a service: `tool_command("namenode", "hdfs", "oiv", …)`."""
        service = self.model[name]
        main = _subcommand(service, program, subcommand)
        # With the service's own config files in front, which a run of its own may read from a folder.
        jars = [self._conf(service), *self._classpath(service)]
        spec = java.Java(main, "128m", ("-Dlog4j.rootLogger=WARN",))
        return java.command(name, spec, jars, list(args), self._conf(service) / "tool", cds=False)

    # --- status

    def status(self) -> list[ServiceStatus]:
        """What is really there, asked now; probes run side by side."""
        rows = self.supervisor.processes()
        with ThreadPoolExecutor(8) as pool:
            return list(
                pool.map(
                    lambda service: self._status(service, rows.get(service.name)),
                    self.model.services.values(),
                )
            )

    def _status(self, service: Service, row: Mapping | None) -> ServiceStatus:
        pss = 0.0
        if service.job:
            state: State = "done" if self._job_mark(service).exists() else "stopped"
        elif row and row["pid"]:
            state = "running" if self._probe(service)() is None else "starting"
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
            native.runs,
            native.what,
            service.port,
            round(pss, 1),
            service.link,
            service.title,
        )

    def pids(self) -> dict[str, int]:
        """The main process of each running service."""
        return {name: row["pid"] for name, row in self.supervisor.processes().items() if row["pid"]}

    def kept(self) -> list[Path]:
        """What the services keep, JupyterLab apart: the data folders that are there, and the marks of jobs done."""
        own = [service for service in self.model.services.values() if not service.host]
        paths = [self._job_mark(service) if service.job else self._data(service) for service in own]
        return [path for path in paths if path.exists()]

    # --- the parts of a service

    def _folders(self) -> None:
        # Services of another user live below, so the way down may be entered by all; what is secret has its own mode.
        try:
            for folder in (self.state, self.state / "run", self.state / "logs"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FlowError(
                f"{error.filename} cannot be made ({error.strerror}): set FLOW360_STATE to a folder of yours",
                Exit.PERMISSION,
            ) from None

    def _data(self, service: Service) -> Path:
        return self.state / service.name / "data"

    def _conf(self, service: Service) -> Path:
        return self.state / service.name / "conf"

    def _log(self, service: Service) -> Path:
        return self.state / "logs" / f"{service.name}.log"

    def _job_mark(self, service: Service) -> Path:
        return self.state / "run" / f"{service.name}.done"

    def _values(self, service: Service) -> dict[str, object]:
        return {
            "port": {name: other.port for name, other in self.model.services.items()},
            "ports": {name: other.ports for name, other in self.model.services.items()},
            "own": service.ports,
            "secret": {name: getattr(settings(), name.lower()) for name in SECRETS},
            "data": self._data(service),
            "data_of": {name: self._data(other) for name, other in self.model.services.items()},
            "conf": self._conf(service),
            "root": ROOT,
            "python": sys.executable,
            "debian": artifacts.debian_root(service.name),
            "unpacked": _Unpacked(),
            "triplet": artifacts.TRIPLET,
            "postgres": _PostgresHome(),
            "spark": _SparkHome(),
            "jars": os.pathsep.join(map(str, artifacts.jars(service.native.jars))) if service.native.jars else "",
        }

    def _command(self, service: Service, once: bool = False) -> list[str]:
        """The command line; with `once`, for a run beside the service itself, such as formatting."""
        native, values = service.native, self._values(service)
        if native.java is None:
            return [part.format(**values) for part in native.command]
        options = tuple(option.format(**values) for option in native.java.options)
        for group, told in native.java.agents.items():
            (jar,) = artifacts.jars(group)
            # Without the two switches, the JVM would refuse to start with an agent while it records its class archive.
            options += ("-XX:+UnlockDiagnosticVMOptions", "-XX:+AllowArchivingWithJavaAgent")
            options += (f"-javaagent:{jar}={told.format(**values)}",)
        spec = java.Java(native.java.main, native.java.heap, options)
        args = [part.format(**values) for part in native.args]
        folder = self._conf(service) / "once" if once else self._conf(service)
        # The JVM makes no archive for a class path with folders in it; and one for a single run is not worth it.
        folders = not all(entry.endswith("/*") for entry in native.java.classpath)
        cds = not (folders or once or service.job)
        return java.command(service.name, spec, self._classpath(service), args, folder, cds)

    def _classpath(self, service: Service) -> list[Path]:
        assert service.native.java
        values = self._values(service)
        before: list[Path] = []
        for entry in service.native.java.classpath:
            path = Path(entry.format(**values))
            # Sorted: the JVM's own order is the folder's, and another order would not fit its class archive.
            before += sorted(path.parent.glob("*.jar")) if path.name == "*" else [path]
        return [*before, *(artifacts.jars(service.native.jars) if service.native.jars else [])]

    def _environment(self, service: Service) -> dict[str, str]:
        own = {key: value.format(**self._values(service)) for key, value in service.native.environment.items()}
        return {**inherited(), **own}

    def _programs(self, names: Iterable[str]) -> list[Program]:
        programs = []
        for name in names:
            service = self.model[name]
            if service.job:
                continue
            data = self._data(service)
            data.parent.mkdir(parents=True, exist_ok=True)
            if not service.native.prepare:
                data.mkdir(exist_ok=True)
            values = self._values(service)
            own = {key: value.format(**values) for key, value in service.native.environment.items()}
            if name == "jupyterlab":
                own["JUPYTER_TOKEN"] = settings().jupyter_token
            command = self._command(service)
            if name == "jupyterlab" and os.geteuid() == 0:
                command.append("--allow-root")
            user = prepare.ordinary_user() if service.native.ordinary_user and os.geteuid() == 0 else None
            folder = data.parent if user else ROOT
            if service.native.relocate:
                folder = artifacts.debian_root(name) / service.native.relocate.lstrip("/")
            programs.append(Program(name, command, folder, self._log(service), own, user, service.native.stop_seconds))
        return programs

    def _render_config(self, service: Service) -> None:
        """Write the native copies of config files: the shared text with the keys that differ here."""
        values = self._values(service)
        for config in service.native.config:
            changes = {key: value.format(**values) for key, value in config.set.items()}
            text = (STACK / config.file).read_text("utf-8")
            text = (
                overlay_xml(text, changes) if config.file.endswith(".xml") else overlay(text, changes, config.separator)
            )
            if config.addresses:
                text = local_addresses(text, self.model)
            target = self._conf(service) / Path(config.file).name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.touch(mode=0o600 if config.secret else 0o644)
            target.write_text(text, "utf-8")

    def _probe(self, service: Service) -> probes.Probe:
        return probes.of(self.model, service)


class _PostgresHome:
    """`{postgres}`: looked up where it is used, since root's copy is made at the first look."""

    def __format__(self, _spec: str) -> str:
        return str(prepare.postgres_home())


class _SparkHome:
    """`{spark}`: looked up where it is used."""

    def __format__(self, _spec: str) -> str:
        return str(prepare.spark_home())


class _Unpacked(dict):
    """`{unpacked[GROUP]}`: unpacked where it is used, since it must have been fetched."""

    def __missing__(self, group: str) -> Path:
        return artifacts.unpacked(group)


def _subcommand(service: Service, program: str, subcommand: str) -> str:
    known = service.native.tools.get(program, {})
    if subcommand not in known:
        raise FlowError(f"{program} {subcommand}: there is {', '.join(known) or 'no such program'}", Exit.USAGE)
    return known[subcommand]


class _Skipped(Exception):
    """Not started because something it needs failed."""


def overlay(text: str, changes: Mapping[str, str], separator: str) -> str:
    """Set keys in a line-oriented config file: a line that sets the key is replaced, a new key is appended."""
    lines, found = [], set()
    for line in text.splitlines():
        key = line.split(separator, 1)[0].strip()
        if key in changes and not line.startswith("#"):
            found.add(key)
            line = f"{key}{separator}{changes[key]}"
        lines.append(line)
    lines += [f"{key}{separator}{value}" for key, value in changes.items() if key not in found]
    return "\n".join(lines) + "\n"


def local_addresses(text: str, services: Model) -> str:
    """Where containers say `kafka:9092`, plain processes say 127.0.0.1 and the port that the service publishes."""

    def one(match: re.Match[str]) -> str:
        service = services.services.get(match[1])
        port = service.published.get(int(match[2])) if service else None
        return f"127.0.0.1:{port}" if port else match[0]

    return re.sub(r"(?<![\w.-])([a-z][a-z0-9-]*):(\d+)\b", one, text)


def overlay_xml(text: str, changes: Mapping[str, str]) -> str:
    """Set properties in a Hadoop configuration: `<property><name>KEY</name><value>VALUE</value></property>`."""
    root = ElementTree.fromstring(text)
    found = {prop.findtext("name", "").strip(): prop for prop in root.iter("property")}
    for key, value in changes.items():
        prop = found.get(key)
        if prop is None:
            prop = ElementTree.SubElement(root, "property")
            ElementTree.SubElement(prop, "name").text = key
        place = prop.find("value")
        if place is None:
            place = ElementTree.SubElement(prop, "value")
        place.text = value
    return ElementTree.tostring(root, encoding="unicode") + "\n"
