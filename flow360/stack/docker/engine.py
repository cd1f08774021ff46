"""The docker engine: `compose.yaml` as it stands, run by Docker Compose.

Compose does the work. Ours is what a course needs around it: progress while images come, the same readiness probes as
the native engine on the published ports, one line for each failure, jobs that run once, and a status that says what
really runs.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from flow360.errors import Exit, FlowError, ServiceError
from flow360.settings import GENERATED, settings
from flow360.stack import probes
from flow360.stack.docker import images
from flow360.stack.docker.compose import Background, CommandFailed, Compose, brief, error_of, follow, run
from flow360.stack.memory import pss_mb
from flow360.stack.model import LAYERS, Model, Service
from flow360.stack.status import LOG_LINES, Event, Progress, ServiceStatus, State, another_password, with_log
from flow360.waiting import patient

DEADLINE = 180  # seconds for one service to become ready once its container runs, on an idle machine
STOP = 300  # seconds for everything to stop: databases write a checkpoint first
Life = tuple[str, str]
"""The id of a container and when it was started last: another one, or a new start, makes another life."""


class DockerEngine:
    """Starts, stops and describes the services of a model as containers. JupyterLab is not its business."""

    name = "docker"

    def __init__(self, model: Model) -> None:
        self.model = model
        self.compose = Compose()

    # --- is it there?

    def answers(self) -> str | None:
        """Return None when the daemon and Compose answer within 5 seconds, else the reason and the fix in one line."""
        return self.compose.answers()

    def images_ready(self, names: Iterable[str]) -> bool:
        """Say whether all images of these services are on this machine (ours built from the files as they are now)."""
        return not images.missing(self.compose, self._services(names))

    def fetch(self, names: Iterable[str], progress: Progress) -> None:
        """Pull and build the images that are missing, a few side by side.

        Raises:
            FlowError: an image cannot be had; what has come so far is kept.
        """
        images.fetch(self.compose, self._services(names), progress)

    # --- up

    def up(self, names: Iterable[str], progress: Progress) -> None:
        """Start services and what they need; returns when all are healthy and answer on their published ports.

        Raises:
            FlowError: the first thing that went wrong; what runs already is left running.
        """
        order = self._ours(self.model.closure(names))
        if reason := self.answers():
            raise FlowError(f"{reason}. Or take --engine native.", Exit.DOCKER)
        GENERATED.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            GENERATED.chmod(0o1777)  # for root, the containers' user is another one (FLOW360_UID)
        todo = self._not_running(order, progress)
        if not todo:
            return
        self.fetch(todo, progress)
        for name in todo:
            progress(Event(name, "starting"))
        # Compose follows depends_on, and starts side by side what does not wait for anything.
        command = self.compose.command("up", "--detach", "--no-build", "--pull", "never", *todo)
        before = {name: _life(container) for name, container in self.compose.containers().items()}
        with Background(command) as process:
            self._await(process, todo, before, progress)

    def _not_running(self, order: Sequence[str], progress: Progress) -> list[str]:
        """Find those that still have to be started; of the others report that they run."""
        containers = self.compose.containers()
        todo = []
        with ThreadPoolExecutor(8) as pool:
            states = pool.map(lambda name: self._state(self.model[name], containers.get(name)), order)
        for name, state in zip(order, states, strict=True):
            same = name in containers and containers[name]["Config"]["Image"] == self.model[name].image
            if state == "done":
                progress(Event(name, "done", "was done"))
            elif state == "running" and same:
                progress(Event(name, "running", "already"))
            else:
                todo.append(name)
        return todo

    def _await(self, process: Background, todo: Sequence[str], before: Mapping[str, Life], progress: Progress) -> None:
        """Watch the containers until every service is ready, compose gives up, or time is up.

        A container that still has its life of `before` counts only when compose has ended and left it as it was: until
        then it reports on the last run.
        """
        began = time.monotonic()
        since: dict[str, float] = {}
        left = list(todo)
        said: list[str] = []
        missing = ""
        deadline = patient(DEADLINE)
        while left:
            ended = process.poll()
            said += process.lines()
            containers = self.compose.containers()
            old = {name for name, container in containers.items() if before.get(name) == _life(container)}
            if ended:
                # What ended in the last run is not why Compose failed in this one.
                told = {name: row for name, row in containers.items() if name not in old or row["State"]["Running"]}
                raise self._failure(said, left, told)
            for name in list(left):
                service, container = self.model[name], containers.get(name)
                if container is None or not _started(container) or (ended is None and name in old):
                    continue
                since.setdefault(name, time.monotonic())
                if trouble := self._trouble(service, container):
                    raise ServiceError(trouble)
                missing = self._unready(service, container)
                if missing is None:
                    progress(Event(name, "done" if service.job else "running", "", None, time.monotonic() - began))
                    left.remove(name)
                    if service.job:
                        self._mark_done(service)
                elif probes.REFUSED in missing:
                    raise ServiceError(another_password(name))
                elif time.monotonic() - since[name] > deadline:
                    raise ServiceError(self._with_log(name, f"not ready after {deadline:.0f} s ({missing})"))
            if time.monotonic() - began > deadline * (len(todo) + 1):
                raise ServiceError(f"docker compose up: {', '.join(left)} did not start")
            time.sleep(0.3)

    def _unready(self, service: Service, container: Mapping) -> str | None:
        """Return None when a service is ready or a job has ended well, else what is missing."""
        state = container["State"]
        if service.job:
            return None if _exited_well(state) else "it still works"
        health = state.get("Health", {}).get("Status", "healthy")
        return f"its health is {health}" if health != "healthy" else self._probe(service)()

    def _trouble(self, service: Service, container: Mapping) -> str | None:
        """Describe a state that waiting cannot mend, with the end of the log; None while there is hope."""
        state = container["State"]
        if state["Status"] in ("exited", "dead") and not (service.job and _exited_well(state)):
            return self._with_log(service.name, f"ended with exit code {state['ExitCode']}")
        if container["RestartCount"] >= 3:
            return self._with_log(service.name, f"ends again and again (exit code {state['ExitCode']})")
        if state.get("Health", {}).get("Status") == "unhealthy":
            last = (state["Health"].get("Log") or [{"Output": ""}])[-1]["Output"].strip().splitlines()[-1:]
            return self._with_log(service.name, f"unhealthy ({last[0][:100] if last else 'its check gives no reason'})")
        return None

    def _with_log(self, name: str, sentence: str) -> str:
        try:
            log = self.logs(name, LOG_LINES)
        except FlowError as error:  # the sentence is what matters
            log = f"(it cannot be read: {error.message})"
        return with_log(name, sentence, log)

    def _failure(self, said: Sequence[str], names: Sequence[str], containers: Mapping[str, Mapping]) -> FlowError:
        """Put what `docker compose up` said into one line that names the fix."""
        for name in names:
            container = containers.get(name)
            trouble = container and _started(container) and self._trouble(self.model[name], container)
            if trouble:
                return ServiceError(trouble)
        text = "\n".join(said)
        if re.search("address already in use|port is already allocated|ports are not available", text):
            for number in re.findall(r"127\.0\.0\.1:(\d+)", text):
                for service in self._services(self.model.services):
                    if int(number) in service.ports:
                        variable = self.compose.port_variable(service.name)
                        return FlowError(
                            f"{service.name}: port {number} is taken by another program: end it, "
                            f"or give {variable} in .env another number",
                            Exit.PORT,
                        )
        return error_of("docker compose up", said)

    # --- down, reset, logs

    def down(self, names: Iterable[str] | None, progress: Progress, alone: bool = False) -> None:
        """Stop services and what depends on them and remove the containers (None: all, and the network). Data stays.

        Args:
            alone: stop only these, as if they had failed.

        Raises:
            FlowError: docker does not answer, or Compose has failed. With None, a missing daemon is not an error.
        """
        if names is None:
            wanted = self._ours(self.model.services)
            arguments = ["down", "--remove-orphans"]
        else:
            wanted = self._ours(names if alone else self.model.dependants(names))
            arguments = ["rm", "--stop", "--force", *wanted]
        if reason := self.answers():
            if names is None and not self.compose.has_daemon():
                return  # no container runs
            raise FlowError(reason, Exit.DOCKER)
        running = [name for name in self.compose.containers() if name in wanted]
        if names is not None and not running:
            return
        start = time.monotonic()
        try:
            follow(self.compose.command(*arguments), lambda _: None, STOP)
        except CommandFailed as failed:
            raise error_of("docker compose " + arguments[0], failed.lines) from None
        for name in running:
            if not self.model[name].job:
                progress(Event(name, "stopped", "", None, time.monotonic() - start))

    def kill(self, name: str) -> None:
        """End a service with SIGKILL, as a crash would, and start it again (a container that was killed stays down)."""
        for verb in ("kill", "start"):
            done = run(self.compose.command(verb, self.model[name].name), STOP)
            if done.returncode:
                raise error_of(f"docker compose {verb}", done.stderr.splitlines())

    def freeze(self, name: str, thaw: bool = False) -> None:
        """Let a service neither work nor end; with `thaw`, let it go on."""
        verb = "unpause" if thaw else "pause"
        done = run(self.compose.command(verb, self.model[name].name), STOP)
        if done.returncode:
            raise error_of(f"docker compose {verb}", done.stderr.splitlines())

    def reset(self, names: Iterable[str], progress: Progress) -> None:
        """Stop services and remove their volumes, none else; jobs that filled them will run again."""
        names = self._ours(names)
        self.down(names, progress)
        for name in names:
            volumes = list(self.compose.volumes([name]))
            if volumes:
                done = run(["docker", "volume", "rm", *volumes], STOP)
                if done.returncode:
                    raise error_of("docker volume rm", done.stderr.splitlines())
            if self.model[name].job:
                self._mark(self.model[name]).unlink(missing_ok=True)
            progress(Event(name, "reset"))

    def logs(self, name: str, lines: int) -> str:
        """Return the last lines of a service's log; none when it has no container.

        Raises:
            FlowError: docker does not answer, or has its own complaint.
        """
        command = self.compose.command(
            "logs", "--no-log-prefix", "--no-color", "--tail", str(lines), self.model[name].name
        )
        done = run(command, 30)
        if done.returncode:
            reason = self.answers()
            raise FlowError(reason, Exit.DOCKER) if reason else error_of(brief(command), done.stderr.splitlines())
        return done.stdout.rstrip("\n")

    def follow_command(self, name: str) -> list[str]:
        """Return the command of a program that prints the log as it grows."""
        return self.compose.command("logs", "--no-log-prefix", "--follow", "--tail", "20", self.model[name].name)

    def tool_command(self, name: str, program: str, subcommand: str, args: Iterable[str]) -> list[str]:
        """Write the command line of a program that ships with a service, run in its container."""
        return self.compose.command("exec", "--no-TTY", self.model[name].name, program, subcommand, *args)

    def path_in(self, name: str, path: Path) -> str:
        """Return how a service calls a file of this machine that is in a folder, or is a file, which its container has.

        Raises:
            FlowError: it has no such file.
        """
        for spec in self.compose.description["services"][self.model[name].name].get("volumes", ()):
            outside, _, inside = spec.partition(":")
            mounted = (LAYERS / outside).resolve()
            if outside.startswith(".") and path.resolve().is_relative_to(mounted):
                return str(PurePosixPath(inside.partition(":")[0]) / path.resolve().relative_to(mounted))
        raise FlowError(f"{path}: {name} has no such file in its container")

    # --- status

    def status(self, ask: bool = True) -> list[ServiceStatus]:
        """Ask what is really there, now; probes run side by side. Without a daemon everything is stopped.

        Not asked, what has a container that runs counts as running.
        """
        services = self._services(self.model.services)
        if self.answers() is not None:
            return [self._row(service, "stopped", {}, 0.0) for service in services]
        containers = self.compose.containers()
        present = self.compose.images(str(service.image) for service in services)
        with ThreadPoolExecutor(8) as pool:
            memory = pool.submit(self._memory, containers)
            states = list(pool.map(lambda service: self._state(service, containers.get(service.name), ask), services))
        rows = []
        for service, state in zip(services, states, strict=True):
            container = containers.get(service.name)
            labels = container["Config"]["Labels"] if container else present.get(str(service.image), {})
            rows.append(self._row(service, state, labels, memory.result().get(service.name, 0.0)))
        return rows

    @staticmethod
    def _row(service: Service, state: State, labels: Mapping[str, str], memory: float) -> ServiceStatus:
        other = labels.get(images.STAND_IN)
        return ServiceStatus(
            service.name,
            service.layer,
            state,
            "stand-in" if other else "real",
            other or str(service.image),
            service.port,
            memory,
            service.link,
            service.title,
        )

    def _state(self, service: Service, container: Mapping | None, ask: bool = True) -> State:
        if service.job:
            if container and container["State"]["Running"]:
                return "starting"
            if container and container["State"]["Status"] == "exited" and container["State"]["ExitCode"]:
                return "failed"
            return "done" if self._is_done(service) else "stopped"
        if container is None:
            return "stopped"
        state = container["State"]
        if state["Status"] == "running" and state.get("Health", {}).get("Status") != "unhealthy":
            return "running" if not ask or self._unready(service, container) is None else "starting"
        if state["Status"] == "created":
            return "stopped"
        # 137 and 143 are SIGKILL and SIGTERM: somebody stopped it.
        return "stopped" if state["Status"] == "exited" and state["ExitCode"] in (0, 130, 137, 143) else "failed"

    def _memory(self, containers: Mapping[str, Mapping]) -> dict[str, float]:
        """Measure MB of each service: PSS where this user may read it, else what the kernel accounts to containers."""
        running = {name: row for name, row in containers.items() if row["State"]["Running"]}
        found = {name: round(pss_mb([row["State"]["Pid"]]), 1) for name, row in running.items()}
        return found if all(found.values()) else self.compose.memory_mb({n: row["Id"] for n, row in running.items()})

    # --- the parts of a service

    def _ours(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if not self.model[name].host]

    def _services(self, names: Iterable[str]) -> list[Service]:
        return [self.model[name] for name in self._ours(names)]

    def _probe(self, service: Service) -> probes.Probe:
        return probes.of(self.model, service)

    # A job is done when it has ended well on the very volumes that are there now.

    def _mark(self, service: Service) -> Path:
        return settings().state_dir / "run" / f"{self.compose.project}-{service.name}.docker-done"

    def _filled(self, service: Service) -> str:
        made = self.compose.volumes(self._ours(self.model.closure([service.name])))
        return "".join(f"{name} {when}\n" for name, when in sorted(made.items()))

    def _mark_done(self, service: Service) -> None:
        mark = self._mark(service)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(self._filled(service), "utf-8")

    def _is_done(self, service: Service) -> bool:
        mark = self._mark(service)
        return mark.exists() and mark.read_text("utf-8") == self._filled(service)


def _life(container: Mapping) -> Life:
    return container["Id"], container["State"]["StartedAt"]


def _started(container: Mapping) -> bool:
    return container["State"]["Status"] != "created"


def _exited_well(state: Mapping) -> bool:
    return state["Status"] == "exited" and state["ExitCode"] == 0
