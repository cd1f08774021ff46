"""The figures about starting: one JVM, the stack, and the way from a clone to the first live cell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from flow360.bench.measure import Round, run, timer
from flow360.bench.sandbox import engine_of_its_own, folder_of_its_own, free_ports
from flow360.course.registry import course
from flow360.errors import FlowError
from flow360.settings import ROOT, settings
from flow360.stack import probes
from flow360.stack.facade import silent
from flow360.stack.memory import pss_mb
from flow360.stack.native import java
from flow360.stack.native.engine import NativeEngine
from flow360.stack.native.supervise import inherited
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
    """Measure the seconds from `git clone` to a notebook's first answer of a database, with the downloads in caches.

    The anchor is what nobody can do without: make the environment, start JupyterLab, start a kernel.
    """
    uv = shutil.which("uv") or str(settings().cache_dir / "uv" / "bin" / "uv")

    def step(command: list[str], folder: Path, env: dict[str, str]) -> None:
        run(command[0], command, 900, cwd=folder, env=env)

    def ours(folder: Path) -> float:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("FLOW360_", "VIRTUAL_ENV"))}
        env = clean | free_ports() | {"FLOW360_STATE": str(folder / "state"), "FLOW360_ENGINE": "native"}
        env["FLOW360_CACHE"] = str(settings().cache_dir)
        try:
            with timer() as took:
                step(["git", "clone", "--quiet", str(ROOT), str(folder / "course")], folder, env)
                step(["./scripts/up"], folder / "course", env)
                step([".venv/bin/python", "-c", _FIRST_CELL], folder / "course", env)
        finally:
            if (folder / "course" / ".venv" / "bin" / "flow360").exists():
                step([".venv/bin/flow360", "down"], folder / "course", env)
        return took[0]

    def anchor(folder: Path) -> float:
        port = free_ports()["JUPYTER_PORT"]
        python = folder / "venv" / "bin" / "python"
        env = {**os.environ, "UV_SYSTEM_CERTS": "true"}
        with timer() as took:
            step([uv, "venv", "--quiet", "--python", sys.executable, str(folder / "venv")], folder, env)
            sync = [uv, "pip", "sync", "--quiet", "--require-hashes", str(ROOT / "requirements.lock")]
            step([*sync, "--python", str(python)], folder, env)
            command = [python, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
            lab = subprocess.Popen(
                command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            try:
                if missing := probes.wait_ready(lambda: probes.http(int(port), "/api"), SECONDS, lambda: None):
                    raise FlowError(f"jupyterlab: {missing}")
                step([str(python), "-c", _KERNEL], folder, env)
            finally:
                lab.terminate()
                lab.wait(30)
        return took[0]

    def one() -> tuple[float, float]:
        with folder_of_its_own() as first, folder_of_its_own() as second:
            return ours(first), anchor(second)

    yield one
