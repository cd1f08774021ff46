"""What the checks of 03_orchestration share: the learner's DAG file, read by Airflow, and its runs."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from flow360.checks import liberal
from flow360.checks.verdict import NotAttempted, NotYet, expect_equal
from flow360.errors import FlowError, ServiceError
from flow360.orchestration import pipelines


def lab_file(name: str, given: Any) -> Path:
    """Find the learner's file in dags/lab; NotAttempted while it is missing or still holds a hole."""
    file = pipelines.LAB / liberal.path(name, given)
    if not file.is_file():
        raise NotAttempted(f"{name}: dags/lab/{file.name} is not there: run the cell that writes it.")
    try:
        tree = ast.parse(file.read_text("utf-8"))
    except SyntaxError as error:
        raise NotYet(f"{name}: dags/lab/{file.name}, line {error.lineno}: {error.msg}") from None
    types = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.Subscript) for inner in ast.walk(node.slice)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value is Ellipsis and id(node) not in types:
            raise NotAttempted(f"{name}: dags/lab/{file.name} still holds `...` (line {node.lineno}).")
    return file


def lab_dag(name: str, given: Any, dag_id: str) -> Path:
    """Wait until Airflow has read the file as it is, as the DAG of that name, and return its path."""
    file = lab_file(name, given)
    expect_equal(name, found=file.stem, expected=dag_id, why="the file has the name of its DAG")
    try:
        pipelines.await_dag(file)
    except FlowError as error:
        raise NotYet(f"{name}: {error}") from None
    return file


def succeed(name: str, dag_id: str, run: str) -> None:
    late = None
    try:
        if pipelines.finish(dag_id, run) == "success":
            return
    except ServiceError:
        raise
    except FlowError as error:
        late = error  # a task that failed and waits to be tried again keeps its run from ending
    failed = [one for one in pipelines.tasks(dag_id, run) if one["state"] in ("failed", "up_for_retry")]
    if not failed:
        raise NotYet(f"{name}: {late or 'the run failed, and none of its tasks did'}")
    said = pipelines.log(dag_id, run, failed[0]["task_id"], failed[0]["try_number"])
    raise NotYet(f"{name}: the task {failed[0]['task_id']} failed: {said[-1] if said else 'it logged nothing'}")
