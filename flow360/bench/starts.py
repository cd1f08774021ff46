"""The figures about starting: one JVM, the stack, and the way from a clone to the first live cell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import requests

from flow360.bench.measure import Round, percentile, run, timer
from flow360.bench.sandbox import engine_of_its_own, folder_of_its_own, free_ports
from flow360.course.registry import course
from flow360.errors import FlowError
from flow360.settings import ROOT, env_values, settings
from flow360.stack import probes
from flow360.stack.facade import silent
from flow360.stack.memory import pss_mb
from flow360.stack.native import java
from flow360.stack.native.engine import NativeEngine
from flow360.stack.native.program import inherited
from flow360.stack.status import Event

SECONDS = 120  # for one step


# --- one JVM ----------------------------------------------------------------------------------------------------------


@contextmanager
def jvm_with_archive() -> Iterator[Round]:
    """Compare the seconds until Spark's master answers, with the archive of its classes and without one."""
    with engine_of_its_own() as engine:
        service, programs = engine.model["spark-master"], engine.programs
        programs.kept(service)  # makes its folder
        probe = probes.of(engine.model, service)

        def start(cds: bool) -> float:
            command = programs.command(service, once=not cds)
            env = {**inherited(), **programs.environment(service)}
            process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                with timer() as took:
                    missing = probes.wait_ready(probe, 60, lambda: None, pause=0.005)
                if missing:
                    raise FlowError(f"{service.name}: {missing}")
            finally:
                process.terminate()
                process.wait(30)
            return took[0]

        start(cds=True)
        java.keep_archive(service.name, programs.classpath(service), programs.conf(service))
        if java.find_archive(service.name, programs.classpath(service)) is None:
            raise FlowError("the JVM wrote no archive")
        yield lambda: (start(cds=True), start(cds=False))


# --- the stack --------------------------------------------------------------------------------------------------------


def _names() -> list[str]:
    """List what the written chapters need."""
    return list(dict.fromkeys(name for chapter in course().chapters if chapter.written for name in chapter.services))


def _cpu_seconds(engine: NativeEngine) -> float:
    total = 0.0
    for pid in engine.pids().values():
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            times = one.cpu_times()
            total += times.user + times.system
    return total


@contextmanager
def stack_over_bound() -> Iterator[Round]:
    """Compare the seconds to start all services with the larger of: the slowest one alone, CPU-seconds over cores.

    The data is in place, as it is every morning. Alone means one after another; that round also gives the CPU-seconds.
    """
    with engine_of_its_own() as engine:
        order = engine.model.closure(_names())
        engine.up(order, silent)
        engine.down(None, silent)

        def one() -> tuple[float, float]:
            with timer() as together:
                engine.up(order, silent)
            engine.down(None, silent)
            alone: dict[str, float] = {}

            def note(event: Event) -> None:
                alone[event.service] = max(alone.get(event.service, 0.0), event.seconds or 0.0)

            for name in order:
                engine.up([name], note)
            bound = max(*alone.values(), _cpu_seconds(engine) / (os.cpu_count() or 1))
            engine.down(None, silent)
            return together[0], bound

        yield one


@contextmanager
def memory_of_stack() -> Iterator[Round]:
    """Compare PSS of what the written chapters need, idle for ten seconds, with 4 GB that Airflow alone asks for."""
    with engine_of_its_own() as engine:

        def one() -> tuple[float, float]:
            engine.up([*_names(), "jupyterlab"], silent)
            time.sleep(10)
            found = pss_mb(engine.pids().values())
            engine.down(None, silent)
            return found, 4096.0

        yield one


# --- home -------------------------------------------------------------------------------------------------------------


@contextmanager
def home_over_lab() -> Iterator[Round]:
    """Compare, in milliseconds (p95), home's answers with JupyterLab's own page, while the stack is at work.

    It is made to work as it does most: the services of chapter 02 start, on the same cores as JupyterLab.
    """
    with engine_of_its_own() as engine:
        headers = {"Authorization": f"token {settings().jupyter_token}"}

        def ask(path: str) -> float:
            with timer() as took:
                answer = requests.get(f"http://127.0.0.1:{settings().jupyter_port}{path}", headers=headers, timeout=30)
            answer.raise_for_status()
            return took[0] * 1000

        def one() -> tuple[float, float]:
            engine.up(["jupyterlab"], silent)
            home, lab = [ask("/flow360/home")], [ask("/lab")]  # the first answers count, too
            with ThreadPoolExecutor(1) as pool:
                work = pool.submit(engine.up, course().chapter("02").services, silent)
                while not wait([work], timeout=0.1).done:
                    home.append(ask("/flow360/home/now"))
                    lab.append(ask("/lab"))
                work.result()
            engine.down(None, silent)
            return percentile(home, 95), percentile(lab, 95)

        yield one


@contextmanager
def memory_of_home() -> Iterator[Round]:
    """Compare the memory (PSS) of JupyterLab as it is here, home looked at, with that of a plain one."""
    with engine_of_its_own() as engine:
        service, programs = engine.model["jupyterlab"], engine.programs
        kept = programs.kept(service)
        whole = {**inherited(), **kept.environment}
        plain = {name: value for name, value in whole.items() if name != "JUPYTER_CONFIG_PATH"}
        headers = {"Authorization": f"token {settings().jupyter_token}"}

        def size(env: dict[str, str], *paths: str) -> float:
            process = subprocess.Popen(kept.command, cwd=kept.directory, env=env, stderr=subprocess.DEVNULL)
            try:
                if missing := probes.wait_ready(lambda: probes.http(service.port, "/api"), SECONDS, lambda: None):
                    raise FlowError(f"jupyterlab: {missing}")
                for path in paths:
                    requests.get(f"http://127.0.0.1:{service.port}{path}", headers=headers, timeout=30)
                time.sleep(5)
                return pss_mb([process.pid])
            finally:
                process.terminate()
                process.wait(30)

        yield lambda: (size(whole, "/lab", "/flow360/home", "/flow360/home/now"), size(plain, "/lab"))


# --- from a clone to the first cell -----------------------------------------------------------------------------------

_KERNEL = """
import jupyter_client
manager = jupyter_client.KernelManager()
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute_interactive("1 + 1", timeout=60)
client.stop_channels()
manager.shutdown_kernel(now=True)
"""
_FIRST_CELL = """
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read("notebooks/00_welcome.ipynb", as_version=4)
notebook.cells = [cell for cell in notebook.cells if cell.id in ("start", "parameters", "orders-per-day")]
NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": "notebooks"}}).execute()
"""


@contextmanager
def first_cell() -> Iterator[Round]:
    """Measure the seconds from `git clone` to a notebook's first answer of a database, with the downloads in caches."""

    def ours(folder: Path) -> float:
        with _clone(folder) as (course_, env), timer() as took:
            _step(["git", "clone", "--quiet", str(ROOT), str(course_)], folder, env)
            _step(["./scripts/up"], course_, env)
            _step([".venv/bin/python", "-c", _FIRST_CELL], course_, env)
        return took[0]

    yield lambda: (_in_a_folder(ours), _in_a_folder(_desk_alone))


@contextmanager
def home_open() -> Iterator[Round]:
    """Measure the seconds from `./scripts/up` in a clone until home answers with its chapters; databases may follow."""

    def ours(folder: Path) -> float:
        with _clone(folder) as (course_, env):
            _step(["git", "clone", "--quiet", str(ROOT), str(course_)], folder, env)

            def home() -> str | None:
                token = env_values(course_ / ".env").get("JUPYTER_TOKEN", "")
                url = f"http://127.0.0.1:{env['JUPYTER_PORT']}/flow360/home"
                try:
                    said = requests.get(url, headers={"Authorization": f"token {token}"}, timeout=5).text
                except requests.RequestException as error:
                    return type(error).__name__
                return None if 'id="chapters"' in said else "no chapters"

            with timer() as took, (folder / "said").open("w") as said:
                up = subprocess.Popen(["./scripts/up"], cwd=course_, env=env, stdout=said, stderr=subprocess.STDOUT)
                ended = lambda: (folder / "said").read_text("utf-8")[-200:] if up.poll() else None  # noqa: E731
                missing = probes.wait_ready(home, SECONDS, ended, pause=0.02)
            up.wait(SECONDS)
            if missing:
                raise FlowError(f"home: {missing}")
        return took[0]

    yield lambda: (_in_a_folder(ours), _in_a_folder(_desk_alone))


def _in_a_folder(measure: Callable[[Path], float]) -> float:
    with folder_of_its_own() as folder:
        return measure(folder)


def _step(command: list[str], folder: Path, env: dict[str, str]) -> None:
    run(command[0], command, 900, cwd=folder, env=env)


@contextmanager
def _clone(folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give the place of a clone and the environment of its own stack; stop at the end what was started in it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FLOW360_", "VIRTUAL_ENV"))}
    env = clean | free_ports() | {"FLOW360_STATE": str(folder / "state"), "FLOW360_ENGINE": "native"}
    env["FLOW360_CACHE"] = str(settings().cache_dir)
    try:
        yield folder / "course", env
    finally:
        if (folder / "course" / ".venv" / "bin" / "flow360").exists():
            _step([".venv/bin/flow360", "down"], folder / "course", env)


def _desk_alone(folder: Path) -> float:
    """Do what nobody can do without: make the environment, start JupyterLab, start a kernel."""
    uv = shutil.which("uv") or str(settings().cache_dir / "uv" / "bin" / "uv")
    port = free_ports()["JUPYTER_PORT"]
    python = folder / "venv" / "bin" / "python"
    env = {**os.environ, "UV_SYSTEM_CERTS": "true"}
    command = [python, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    with ExitStack() as at_the_end, timer() as took:
        _step([uv, "venv", "--quiet", "--python", sys.executable, str(folder / "venv")], folder, env)
        sync = [uv, "pip", "sync", "--quiet", "--require-hashes", str(ROOT / "requirements.lock")]
        _step([*sync, "--python", str(python)], folder, env)
        lab = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        at_the_end.callback(lab.wait, 30)
        at_the_end.callback(lab.terminate)
        if missing := probes.wait_ready(lambda: probes.http(int(port), "/api"), SECONDS, lambda: None):
            raise FlowError(f"jupyterlab: {missing}")
        _step([str(python), "-c", _KERNEL], folder, env)
    return took[0]
