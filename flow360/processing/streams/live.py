"""A live topology as a process that a notebook starts, asks, kills and starts again.

    alarms = streams.run(topology, "my-alarms")
    alarms.ask("vans", "VAN-03")
    alarms.kill()           # SIGKILL, to the whole process group
    alarms.start()          # takes up where the last commit was
    alarms.stop()

A function of the notebook travels to the process by value (cloudpickle), with what it refers to. The process ends with
the notebook's kernel, whatever kills that one. State and log stand below the stack's state folder, in `streams/`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flow360 import clients
from flow360.clients import reach
from flow360.errors import Exit, FlowError, ServiceError
from flow360.settings import ROOT, settings
from flow360.waiting import rounds

DEADLINE = 60.0
"""Seconds until a topology is RUNNING, its state restored."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
_running: dict[str, Live] = {}  # one process for each application of this kernel


class Live:
    """A topology that runs as a process of its own.

    Args:
        topology: a function that takes a StreamsBuilder; the name of a module, or a .py file, that has one.
        application: its id: consumer group, prefix of its own topics, folder of its state.
        guarantee: "exactly_once_v2" or "at_least_once".
    """

    def __init__(self, topology: Callable[[Any], None] | str | Path, application: str, guarantee: str) -> None:
        if not _NAME.fullmatch(application):
            raise FlowError(f"application: letters, digits and . _ -, found {application!r}", Exit.USAGE)
        self.application = application
        self.guarantee = guarantee
        self.url = ""
        self._topology = topology
        self._folder = settings().state_dir / "streams" / application
        self._process: subprocess.Popen | None = None
        self._told = 0  # bytes of the log that belong to earlier processes

    def __repr__(self) -> str:
        return f"<{self.application}: {self.state}>"

    # --- its life

    def start(self, seconds: float = DEADLINE, wait: bool = True, commit_every: float | None = None) -> Live:
        """Start the process and wait until it is RUNNING. Nothing happens when it lives already.

        Args:
            seconds: how long it may take.
            wait: False returns at once, whatever becomes of it.
            commit_every: seconds between two commits, less than the ten after which Kafka ends a transaction: time
                enough to look between the work and its commit. Kafka Streams' own if nothing is said.

        Raises:
            FlowError: Kafka is down, or the process ended or was not RUNNING in time; with the end of its log.
        """
        if self.alive:
            return self
        reach.require("kafka")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._told = self.log_file.stat().st_size if self.log_file.exists() else 0
        command = [
            sys.executable,
            "-u",
            "-m",
            "flow360.processing.streams",
            self._source(),
            "--application",
            self.application,
        ]
        command += ["--bootstrap", settings().kafka_bootstrap, "--state", str(self.state_folder)]
        command += ["--guarantee", self.guarantee, "--with-parent"]
        command += [] if commit_every is None else ["--commit-every", str(commit_every)]
        with self.log_file.open("ab") as log:
            # A session of its own: the notebook's Ctrl-C is not meant for it, and killpg reaches all of it.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True
            )
        if not wait:
            return self
        try:
            self._until_running(seconds)
        except BaseException:  # also when the learner presses stop
            self.kill()
            raise
        return self

    def kill(self) -> None:
        """Send SIGKILL to the process and all it started: no goodbye to the broker, no commit."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._reap(10)

    def stop(self, seconds: float = 20) -> None:
        """Ask it to commit and end; after `seconds` it is killed."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reap(10)

    def _reap(self, seconds: float) -> None:
        if self._process is not None:
            self._process.wait(seconds)
            if self._process.stdin:
                self._process.stdin.close()

    def lose_disk(self) -> None:
        """Remove its local state, as if it came back on another machine. It must not be running."""
        if self.alive:
            raise FlowError(f"{self.application} is running: kill() or stop() it first")
        shutil.rmtree(self.state_folder, ignore_errors=True)

    # --- what it says

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def state(self) -> str:
        """What Kafka Streams says of itself (RUNNING, REBALANCING …), or "not running"."""
        if not self.alive:
            return "not running"
        try:
            return self.health()["state"]
        except FlowError:
            return "starting"

    def health(self) -> dict[str, Any]:
        """Ask for application, state, guarantee, restored (records by store), error."""
        return self._get("/health", also=(503,))

    def ask(self, store: str, key: str | None = None) -> Any:
        """Read what a state store holds now: the value of a key (None when it has none), or of all keys.

        Raises:
            FlowError: it is not RUNNING, or has no such store.
        """
        from urllib.parse import quote

        path = f"/stores/{quote(store, safe='')}" + ("" if key is None else f"/{quote(key, safe='')}")
        answer = self._get(path, also=(404, 503))
        if isinstance(answer, dict) and set(answer) == {"error"}:
            if key is not None and answer["error"].startswith("no key"):
                return None
            raise FlowError(f"{self.application}: {answer['error']}")
        return answer

    def describe(self) -> str:
        """Return the steps of the topology, as Kafka Streams describes them."""
        return self._get("/topology")

    def log(self, lines: int = 20) -> str:
        """Return the last lines that this run of the process has written."""
        with self.log_file.open("rb") as file:
            file.seek(self._told)
            text = file.read().decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])

    def problem(self) -> str | None:
        """Say why it ended, in one line; None while nothing has gone wrong."""
        failed = [line for line in self.log(1000).splitlines() if line.startswith("failed: ")]
        return failed[-1].removeprefix("failed: ") if failed else None

    @property
    def log_file(self) -> Path:
        return self._folder / "log"

    @property
    def state_folder(self) -> Path:
        return self._folder / "state"

    # --- inside

    def _source(self) -> str:
        if isinstance(self._topology, str | Path):
            path = Path(self._topology)
            return str(path.resolve()) if path.suffix == ".py" else str(self._topology)
        path = self._folder / "topology.pickle"
        path.write_bytes(_pickled(self._topology))
        return str(path)

    def _until_running(self, seconds: float) -> None:
        state = "starting"
        for _ in rounds(seconds, every=0.1):
            if not self.alive:
                raise FlowError(f"{self.application} ended while it started. Its log ends:\n{self._last_words()}")
            found = re.search(r"^queries: (http\S+)", self.log(200), re.MULTILINE)
            if found:
                self.url = found.group(1)
                state = self.state
                if state == "RUNNING":
                    return
        raise FlowError(
            f"{self.application}: not RUNNING after {seconds:.0f} s ({state}). Its log ends:\n{self._last_words()}"
        )

    def _last_words(self) -> str:
        lines = [line for line in self.log(200).splitlines() if not line.startswith("\tat ")]
        return "\n".join(f"  {line[:200]}" for line in ([self.problem()] if self.problem() else lines[-3:]))

    def _get(self, path: str, also: tuple[int, ...] = ()) -> Any:
        import requests

        from flow360.clients.direct import Session

        if not self.alive:
            raise FlowError(f"{self.application} is not running: start() it")
        try:
            with Session() as session:
                answer = session.get(self.url + path, timeout=10)
        except requests.RequestException as error:
            raise FlowError(f"{self.application}: GET {path}: {type(error).__name__}") from None
        if answer.status_code not in (200, *also):
            raise FlowError(f"{self.application}: GET {path}: {answer.status_code} {answer.text[:200]}")
        return answer.json() if "json" in answer.headers["Content-Type"] else answer.text


def run(topology: Callable[[Any], None] | str | Path, application: str, guarantee: str = "exactly_once_v2") -> Live:
    """Start a topology as a process; returns when it is RUNNING. One of the same name of this kernel is stopped first.

    Raises:
        FlowError: as `Live.start`.
    """
    if before := _running.pop(application, None):
        before.stop()
    live = Live(topology, application, guarantee)
    reach.require("kafka")
    # A program that was killed is still a member, with its tasks; another topology would be given these, and not fit.
    _empty_group(_admin(), application)
    _running[application] = live
    return live.start()


def reset(application: str, *topics: str) -> None:
    """Forget an application: end its process, remove its state, its group, its own topics, and the topics named here.

    Nothing happens to what is not there. Afterwards it begins with the first record again. After a kill it takes until
    the end of the dead member's session, ten seconds.

    Raises:
        FlowError: the broker is down, or a program of this name runs somewhere else.
    """
    from confluent_kafka import KafkaException

    if before := _running.pop(application, None):
        before.stop()
    shutil.rmtree(settings().state_dir / "streams" / application, ignore_errors=True)
    admin = _admin()
    try:
        if _empty_group(admin, application):
            _delete_group(admin, application)
        own = re.compile(re.escape(application) + r"-.*-(changelog|repartition)")

        def there() -> list[str]:
            return [name for name in admin.list_topics(timeout=10).topics if own.fullmatch(name) or name in topics]

        if gone := there():
            for future in admin.delete_topics(gone, operation_timeout=20).values():
                future.result(30)
        _wait(lambda: not there(), 20, f"{application}: its topics are still being removed: try again")
    except KafkaException as error:
        raise ServiceError(f"{application}: {error.args[0].str()}") from None


def _admin() -> Any:
    from confluent_kafka.admin import AdminClient

    return AdminClient(clients.confluent() | {"log_level": 4})  # no news about its own queues


def _empty_group(admin: Any, application: str) -> bool:
    """Wait until the group has no members left; False when the group does not exist."""
    groups = admin.list_consumer_groups(request_timeout=20).result(30).valid
    if application not in [group.group_id for group in groups]:
        return False

    def left() -> bool:
        return not admin.describe_consumer_groups([application], request_timeout=20)[application].result(30).members

    _wait(left, 20, f"a program called {application} runs somewhere else: stop it, or take another name")
    return True


def _delete_group(admin: Any, application: str) -> None:
    """Delete an empty group. One that has kept no offset may go by itself first, since its last member has left."""
    from confluent_kafka import KafkaError, KafkaException

    try:
        admin.delete_consumer_groups([application], request_timeout=20)[application].result(30)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise


def _wait(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    if not any(condition() for _ in rounds(seconds)):
        raise ServiceError(otherwise)


def _pickled(function: Callable[[Any], None]) -> bytes:
    """Pickle the function by value; Java's classes and our serdes by name."""
    import io
    import pickle

    import cloudpickle
    import jpype

    from flow360.processing.streams import api

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, jpype.JClass):
                return _java_class, (obj.class_.getName(),)
            for name in ("JSON", "TEXT"):
                if obj is getattr(api, name):
                    return _of_api, (name,)
            return super().reducer_override(obj)

    out = io.BytesIO()
    try:
        Pickler(out).dump(function)
    except (pickle.PicklingError, TypeError, AttributeError, RuntimeError) as error:
        raise FlowError(
            f"{getattr(function, '__name__', function)} cannot travel to its process ({error}): "
            "let it refer to functions and plain values only"
        ) from None
    return out.getvalue()


def _java_class(name: str) -> Any:
    import jpype

    return jpype.JClass(name)


def _of_api(name: str) -> Any:
    from flow360.processing.streams import api

    return getattr(api, name)
