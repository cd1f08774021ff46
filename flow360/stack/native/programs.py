"""A service as a plain process: its folders, its command line, its variables, what the supervisor is told."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from flow360.errors import Exit, FlowError
from flow360.settings import PORTS, ROOT, SECRETS, settings
from flow360.stack.model import STACK, Model, Service, interpolate
from flow360.stack.native import configs, debian, jars, java, mariadb, postgres, prepare, users
from flow360.stack.native.program import Program


class Programs:
    """The services of a model as programs on this machine, below one state folder. Nothing here starts anything."""

    def __init__(self, model: Model, state: Path) -> None:
        self.model = model
        self.state = state

    def data(self, service: Service) -> Path:
        """Return the folder of what it keeps."""
        return self.state / service.name / "data"

    def tmp(self, service: Service) -> Path:
        """Return the folder of its temporary files, emptied before each start: a server's files in /tmp would stay."""
        return self.state / service.name / "tmp"

    def conf(self, service: Service) -> Path:
        """Return the folder of its config files as this machine needs them."""
        return self.state / service.name / "conf"

    def log(self, service: Service) -> Path:
        return self.state / "logs" / f"{service.name}.log"

    def job_mark(self, service: Service) -> Path:
        """Return the file that says that a job is done."""
        return self.state / "run" / f"{service.name}.done"

    def is_done(self, job: Service) -> bool:
        """Say whether a job was done on the very services that it works on now, and with its files as they are now."""
        try:
            return self.job_mark(job).read_text("utf-8") == _done(job)
        except OSError:
            return False

    def mark_done(self, job: Service) -> None:
        """Note that a job has been done."""
        self.job_mark(job).write_text(_done(job), "utf-8")

    def _values(self, service: Service) -> dict[str, object]:
        return {
            "port": {name: self.model[name].port for name in (*self.model.services, *self.model.aliases)},
            "ports": {name: other.ports for name, other in self.model.services.items()},
            "own": service.ports,
            "secret": {name: getattr(settings(), name.lower()) for name in SECRETS},
            "data": self.data(service),
            "data_of": {name: self.data(other) for name, other in self.model.services.items()},
            "conf": self.conf(service),
            "logs": self.state / "logs",
            "tmp": self.tmp(service),
            "root": ROOT,
            "dbt": settings().dbt_dir,
            "lineage": settings().lineage_dir,
            "python": sys.executable,
            "bin": Path(sys.executable).parent,
            "debian": debian.root_of(service.name),
            "unpacked": _Unpacked(),
            "triplet": debian.TRIPLET,
            "postgres": _Late(postgres.home),
            "mariadb": _Late(mariadb.home),
            "spark": _Late(prepare.spark_home),
            "bao": _Late(prepare.bao),
            "jars": os.pathsep.join(map(str, jars.paths(service.native.jars))) if service.native.jars else "",
        }

    def command(self, service: Service, once: bool = False) -> list[str]:
        """Write the command line; with `once`, for a run beside the service itself, such as formatting."""
        native, values = service.native, self._values(service)
        if native.java is None:
            return [part.format(**values) for part in native.command]
        options = tuple(option.format(**values) for option in native.java.options)
        for group, told in native.java.agents.items():
            (jar,) = jars.paths(group)
            # Without the first two, the JVM would refuse to start with an agent while it records its class archive; and
            # without the third, its last word in the log would be a warning about the second.
            options += ("-XX:+UnlockDiagnosticVMOptions", "-XX:+AllowArchivingWithJavaAgent", "-XX:-PrintWarnings")
            options += (f"-javaagent:{jar}={told.format(**values)}",)
        spec = java.Java(native.java.main, native.java.heap, options)
        args = [part.format(**values) for part in native.args]
        folder = self.conf(service) / "once" if once else self.conf(service)
        # The JVM makes no archive for a class path with folders in it; and one for a single run is not worth it.
        folders = not all(entry.endswith(("/*", ".jar")) for entry in native.java.classpath)
        cds = not (folders or once or service.job)
        return java.command(service.name, spec, self.classpath(service), args, folder, cds)

    def classpath(self, service: Service) -> list[Path]:
        """List the jars of a Java service, in the order that the JVM shall look."""
        assert service.native.java
        values = self._values(service)
        before: list[Path] = []
        for entry in service.native.java.classpath:
            path = Path(entry.format(**values))
            before += _largest_first(path.parent) if path.name == "*" else [path]
        return [*before, *(jars.paths(service.native.jars) if service.native.jars else [])]

    def environment(self, service: Service) -> dict[str, str]:
        """Return the variables that the service gets beside those of whoever starts it."""
        values = self._values(service)
        found = {}
        if service.native.container_environment:
            known = {name: str(getattr(settings(), name.lower())) for name in (*PORTS, *SECRETS)}
            for key, value in service.environment.items():
                found[key] = configs.local_addresses(interpolate(value, known), self.model)
        return found | {key: value.format(**values) for key, value in service.native.environment.items()}

    def write_config(self, service: Service) -> None:
        """Write its config files again, as `command` names them."""
        configs.write(service, self.conf(service), self._values(service), self.model)

    def tool(self, service: Service, program: str, subcommand: str, args: Iterable[str]) -> list[str]:
        """Write the command line of a program that ships with a service: `tool(namenode, "hdfs", "oiv", …)`.

        Raises:
            FlowError: there is no such program.
        """
        known = service.native.tools.get(program, {})
        if subcommand not in known:
            raise FlowError(f"{program} {subcommand}: there is {', '.join(known) or 'no such program'}", Exit.USAGE)
        if service.native.java is None:
            return [known[subcommand].format(**self._values(service)), subcommand, *args]
        # With the service's own config files in front, which a run of its own may read from a folder.
        jars = [self.conf(service), *self.classpath(service)]
        spec = java.Java(known[subcommand], "128m", ("-Dlog4j.rootLogger=WARN",))
        return java.command(service.name, spec, jars, list(args), self.conf(service) / "tool", cds=False)

    def kept(self, service: Service) -> Program:
        """Describe the service as the supervisor keeps it, and make the folder that its data goes to."""
        data, native = self.data(service), service.native
        data.parent.mkdir(parents=True, exist_ok=True)
        if not native.prepare:
            data.mkdir(exist_ok=True)
        command = self.command(service)
        if os.geteuid() == 0:
            command += native.root_args
        user = users.ordinary_user() if native.ordinary_user and os.geteuid() == 0 else None
        folder = data.parent if user else ROOT
        if native.relocate:
            folder = debian.root_of(service.name) / native.relocate.lstrip("/")
        environment = self.environment(service)
        return Program(
            service.name, command, folder, self.log(service), environment, user, native.stop_seconds, native.stop_signal
        )


def _largest_first(folder: Path) -> list[Path]:
    """List a folder's jars: the JVM looks for a class in one after the other, and most are in the largest.

    By name, Spark's own come last of 277: a driver would look into six times as many. An order of the folder's own, as
    the JVM would take, would not fit its class archive.
    """
    return sorted(folder.glob("*.jar"), key=lambda jar: (-jar.stat().st_size, jar.name))


def _done(job: Service) -> str:
    """Write what a job's mark says: the services that it worked on, and a digest of the files that it read."""
    lines = sorted(job.depends_on)
    if job.native.config:
        files = b"".join((STACK / config.file).read_bytes() for config in job.native.config)
        lines.append(hashlib.sha256(files).hexdigest())
    return "".join(f"{line}\n" for line in lines)


class _Late:
    """A folder that is looked up where it is used: it may have to be fetched, or copied for root, before."""

    def __init__(self, find: Callable[[], Path]) -> None:
        self._find = find

    def __format__(self, _spec: str) -> str:
        return str(self._find())


class _Unpacked(dict):
    """`{unpacked[GROUP]}`: unpacked where it is used, since it must have been fetched."""

    def __missing__(self, group: str) -> Path:
        return jars.unpacked(group)
