"""What the command line and the notebooks see of the stack, whichever engine runs it."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flow360.errors import Exit, FlowError, ServiceError
from flow360.files import hold, is_free
from flow360.settings import ROOT, ensure_env, settings
from flow360.stack.model import Model, model
from flow360.stack.native.engine import NativeEngine
from flow360.stack.status import Event, Progress, ServiceStatus
from flow360.waiting import patient

if TYPE_CHECKING:
    from flow360.stack.docker.engine import DockerEngine

ENGINES = ("auto", "native", "docker")


def silent(_event: Event) -> None:
    """Take an event and say nothing: the progress callback for whoever wants none."""


class Stack:
    """The services of this checkout under one engine; JupyterLab runs on the host with either.

    Args:
        engine: "native" or "docker".
    """

    def __init__(self, engine: str, services: Model, state: Path) -> None:
        self.model = services
        self.host = NativeEngine(services, state)
        self.engine: NativeEngine | DockerEngine = self.host
        if engine == "docker":
            from flow360.stack.docker.engine import DockerEngine

            self.engine = DockerEngine(services)
        self._state = state

    def up(self, names: Iterable[str], progress: Progress = silent, asked: Container[str] | None = None) -> None:
        """Start services (and what they need) and wait until each answers; nothing happens to what runs already.

        Args:
            names: the services.
            progress: hears what each service does.
            asked: those that somebody named one by one, all by default: of these, one that this engine cannot run is
                an error; of the others (a profile's, a chapter's) it is left out with a word.

        Raises:
            FlowError: `doctor` found a blocker, and nothing was started (a taken port: nothing that needs it); or a
                service did not become ready.
        """
        from flow360.stack import doctor

        wanted = self._possible(list(names), progress, asked)
        with self._lock(f"up {' '.join(wanted)}"):
            for name in self.host.supervisor.end_orphans():
                progress(Event(name, "stopped", "left over by a killed run"))
            held = doctor.require(self, wanted)
            left = [name for name in wanted if held.keys() & set(self.model.closure([name]))]
            ready = [name for name in wanted if name not in left]
            if ready:
                _note_engine(self._state, self.engine.name)
            for engine, part in self._split(ready) if ready else []:
                engine.up(part, progress)
        if held:
            lines = [error.message for error in held.values()]
            if left := [name for name in left if name not in held]:
                lines.append(f"so these were not started, which need it: {', '.join(left)}")
            raise FlowError("\n".join(lines), next(iter(held.values())).code)

    def _possible(self, names: list[str], progress: Progress, asked: Container[str] | None) -> list[str]:
        """Leave out the services that this engine cannot run and nobody asked for by name."""
        asked = names if asked is None else asked
        if self.engine is not self.host:
            return names
        left = {name: why for name in names if name not in asked and (why := self._left_out(name))}
        for name, why in left.items():
            progress(Event(name, "stopped", f"compose only: {why}"))
        return [name for name in names if name not in left]

    def _left_out(self, name: str) -> str | None:
        """Say why the native engine cannot run a service here: for itself, or for one that it needs."""
        for other in self.model.closure([name]):
            if why := self.host.left_out(other):
                return why if other == name else f"it needs {other}: {why}"
        return None

    def fetch(self, names: Iterable[str], progress: Progress = silent) -> None:
        """Bring the programs and images of services without starting them, as far as this engine can run them."""
        order = self.model.closure(self._possible(list(names), progress, ()))
        for engine, part in self._split(order):
            engine.fetch(part, progress)

    def down(self, names: Iterable[str] | None = None, progress: Progress = silent, *, alone: bool = False) -> None:
        """Stop services and what depends on them; None stops all. Data stays.

        Args:
            alone: stop only the services named, as if they had failed: what depends on them goes on.
        """
        wanted = None if names is None else list(names)
        with self._lock(f"down {' '.join(wanted or ())}"):
            parts = self._split(wanted)
            if self.host.supervisor.around() is None:
                # The host first: where docker does not answer, JupyterLab is stopped all the same.
                parts.reverse()
            for engine, part in parts:
                engine.down(part, progress, alone)
            if wanted is None:
                (self._state / "run" / "engine").unlink(missing_ok=True)  # `auto` may choose again

    def kill(self, name: str) -> None:
        """End a service with SIGKILL, as a crash would; it is started again at once. `up` waits until it answers."""
        with self._lock(f"kill {name}"):
            self._engine_of(name).kill(name)

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Let a service neither answer nor end while the block runs: its port takes a connection and says nothing."""
        engine = self._engine_of(name)
        engine.freeze(name)
        try:
            yield
        finally:
            engine.freeze(name, thaw=True)

    def reset(self, names: Iterable[str], progress: Progress = silent) -> None:
        """Stop services and remove their data."""
        wanted = list(names)
        for name in wanted:
            together = [name, *self.model[name].native.reset_with]
            if not set(together) <= set(wanted):
                raise FlowError(f"what they keep belongs together: flow360 reset {' '.join(together)}", Exit.USAGE)
        with self._lock(f"reset {' '.join(wanted)}"):
            for name in wanted:
                self._forget(name, progress)
            for engine, part in self._split(wanted):
                engine.reset(part, progress)

    def _forget(self, name: str, progress: Progress) -> None:
        """Let a service remove what it keeps in others, as long as they answer."""
        module = self.model[name].forget
        if module is None:
            return
        command = [sys.executable, "-m", module, "--forget"]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=patient(300), stdin=subprocess.DEVNULL
        )
        lines = (done.stdout + done.stderr).strip().splitlines()
        if done.returncode:
            raise ServiceError(
                f"{name}: what it keeps elsewhere was not removed: {(lines or ['no message'])[-1][:200]}"
            )
        for line in lines:
            progress(Event(name, "reset", line))

    def status(self, ask: bool = True) -> list[ServiceStatus]:
        """Ask what is really there, in the order of the layers.

        Args:
            ask: whether each service is asked for an answer; if not, what has a process counts as running.
        """
        rows = self.engine.status(ask)
        if self.engine is not self.host:
            rows += [row for row in self.host.status(ask) if self.model[row.name].host]
        return sorted(rows, key=lambda row: row.layer)

    def busy(self) -> str:
        """Say what some flow360 is doing to services at this moment (`up kafka`, `down`); "" when none is at work."""
        try:
            with (self._state / "run" / "lock").open(encoding="utf-8") as file:
                return "" if is_free(file) else file.readline().strip()
        except FileNotFoundError:
            return ""

    def logs(self, name: str, lines: int = 20) -> str:
        """Return the last lines of a service's log."""
        return self._engine_of(name).logs(name, lines)

    def follow_command(self, name: str) -> list[str]:
        """Return the command of a program that prints a service's log as it grows."""
        return self._engine_of(name).follow_command(name)

    def tool_command(self, name: str, program: str, subcommand: str, args: Iterable[str]) -> list[str]:
        """Write the command line of a program that ships with a service: `("namenode", "hdfs", "oiv", …)`."""
        return self._engine_of(name).tool_command(name, program, subcommand, args)

    def path_in(self, name: str, path: Path) -> str:
        """Return how a service, and a program that ships with it, calls a file of this machine.

        Raises:
            FlowError: it runs in a container that has no such file.
        """
        return self._engine_of(name).path_in(name, path)

    def _engine_of(self, name: str) -> NativeEngine | DockerEngine:
        return self.host if self.model[name].host else self.engine

    def _split(self, names: Iterable[str] | None) -> list[tuple[NativeEngine | DockerEngine, list[str] | None]]:
        if self.engine is self.host:
            return [(self.host, None if names is None else list(names))]
        if names is None:
            return [(self.engine, None), (self.host, None)]
        names = list(names)
        parts = [(self.engine, [n for n in names if not self.model[n].host])]
        parts.append((self.host, [n for n in names if self.model[n].host]))
        return [(engine, part) for engine, part in parts if part]

    @contextlib.contextmanager
    def _lock(self, what: str, deadline: float = 300) -> Iterator[None]:
        """Let one `up` or `down` work at a time: two notebooks may start the same service in the same second.

        Args:
            what: is done, for `busy`.
        """
        run = self._state / "run"
        if os.geteuid() == 0:
            os.umask(0o022)  # root's PostgreSQL is another user, who must get down there; secrets have their own modes
        try:
            run.mkdir(parents=True, exist_ok=True)
            file = (run / "lock").open("a")
        except OSError as error:
            full = error.errno == errno.ENOSPC
            fix = "free some, or set FLOW360_STATE" if full else "set FLOW360_STATE to a folder of yours"
            raise FlowError(
                f"{error.filename} cannot be written ({error.strerror}): {fix}",
                Exit.DISK if full else Exit.PERMISSION,
            ) from None
        with file:
            hold(file, deadline, "another flow360 has been starting or stopping services for 5 minutes")
            file.truncate(0)
            print(what.strip(), file=file, flush=True)
            yield


def open_stack(engine: str | None = None) -> Stack:
    """Open the stack of this checkout.

    Args:
        engine: native, docker or auto; by default FLOW360_ENGINE of the settings. `auto` stays with the engine that was
            used last until `flow360 down` has stopped all, else takes docker where a daemon answers and the images are
            there or can be pulled, else native.
    """
    ensure_env()
    choice = engine or settings().flow360_engine
    if choice not in ENGINES:
        raise FlowError(f"there is no engine {choice!r}: take {', '.join(ENGINES)}", Exit.USAGE)
    state = settings().state_dir
    if choice == "auto":
        choice = _noted_engine(state) or _choose(model())
    return Stack(choice, model(), state)


def _note_engine(state: Path, name: str) -> None:
    (state / "run" / "engine").write_text(name + "\n", "utf-8")


def _noted_engine(state: Path) -> str | None:
    try:
        name = (state / "run" / "engine").read_text("utf-8").strip()
    except OSError:
        return None
    return name if name in ENGINES[1:] else None


def _choose(services: Model) -> str:
    from flow360.stack.docker import images
    from flow360.stack.docker.engine import DockerEngine

    docker = DockerEngine(services)
    if docker.answers() is not None:
        return "native"
    there = docker.images_ready(services.services) or images.can_pull(str(services["postgres-dwh"].image))
    return "docker" if there else "native"
