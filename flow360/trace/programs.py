"""Whether the program that carries a thing runs: a service by the stack, a DAG by Airflow."""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any

from flow360 import clients
from flow360.errors import FlowError, ServiceError
from flow360.settings import ROOT

SECONDS = 2.0
"""How long Airflow may take for one answer."""
SCHEDULER = "airflow-scheduler"


@cache
def is_dag(name: str) -> bool:
    """Say whether a program is one of Airflow's pipelines: its file has its name."""
    return (ROOT / "dags" / f"{name}.py").exists()


class Programs:
    """The programs as they are at one moment; the stack and Airflow are asked when the first of them is."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def state(self, name: str) -> str:
        """Say in a few words whether a service or a DAG runs, and what would make it."""
        if name not in self._said:
            self._said[name] = self._dag(name) if is_dag(name) else self._service(name)
        return self._said[name]

    def _service(self, name: str) -> str:
        found = self._states.get(name)
        return "runs" if found == "running" else f"does not run: flow360 up {name}"

    @cached_property
    def _states(self) -> dict[str, str]:
        from flow360.stack import open_stack

        return {row.name: row.state for row in open_stack().status(ask=False)}

    def _dag(self, name: str) -> str:
        if self._states.get(SCHEDULER) != "running":
            return f"does not run, Airflow is off: flow360 up {SCHEDULER}"
        try:
            paused, busy = _ask(name)
        except ServiceError as error:
            return f"perhaps runs: {error.message}"
        except (FlowError, OSError) as error:
            return f"perhaps runs: {str(error).splitlines()[0][:120]}"
        if busy:
            return f"runs now, as {busy}"
        return "does not run: it is paused" if paused else "does not run now, and waits for its hour or its data"


def _ask(name: str) -> tuple[bool, str]:
    """Ask whether a DAG is paused, and for the id of the run that is under way, if one is."""
    airflow: Any = clients.airflow(seconds=SECONDS)
    runs = airflow.get(f"/dags/{name}/dagRuns", params={"state": "running", "limit": 1}).json()["dag_runs"]
    return airflow.get(f"/dags/{name}").json()["is_paused"], runs[0]["dag_run_id"] if runs else ""
