"""A service is down: one short message that says which and what to type, in Python and in a notebook's cell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import nbclient
import nbformat
import pytest

from flow360 import clients, lesson
from flow360.errors import FlowError
from tests.environment import ROOT
from tests.faults.support import report

SERVICES = ()  # it stops them all

# What a learner would type, and the service it needs.
CALLS: dict[str, tuple[str, Callable[[], object]]] = {
    "clients.postgres()": ("postgres-dwh", lambda: clients.postgres()),
    "clients.postgres('source')": ("postgres-source", lambda: clients.postgres("source")),
    "clients.engine()": ("postgres-dwh", lambda: clients.engine()),
    "clients.producer()": ("kafka", lambda: clients.producer()),
    "clients.consumer('orders')": ("kafka", lambda: clients.consumer("orders")),
    "clients.kafka_admin()": ("kafka", lambda: clients.kafka_admin()),
    "clients.confluent()": ("kafka", lambda: clients.confluent()),
    "clients.zookeeper().__enter__()": ("zookeeper", lambda: clients.zookeeper().__enter__()),
    "clients.mqtt()": ("mosquitto", lambda: clients.mqtt()),
    "clients.api().get('/orders')": ("market-api", lambda: clients.api().get("/orders")),
    "clients.airflow()": ("airflow-webserver", lambda: clients.airflow()),
    "clients.spark()": ("spark-connect", lambda: clients.spark()),
    "clients.lake()": ("namenode", lambda: clients.lake()),
    "clients.hive()": ("hive-server", lambda: clients.hive()),
    "lesson.sql('select 1', db='lake')": ("hive-server", lambda: lesson.sql("select 1", db="lake")),
    "clients.vault()": ("vault", lambda: clients.vault()),
    "lesson.sql('select 1')": ("postgres-dwh", lambda: lesson.sql("select 1")),
}
LONGEST = 5  # lines


@pytest.fixture(scope="module")
def all_down(stack) -> Iterator[None]:
    """Nothing runs; the next test that needs a service starts it."""
    stack.down()
    yield


def names_service_and_command(text: str, service: str) -> bool:
    return service in text and f"flow360 up {service}" in text


@pytest.mark.parametrize("code", CALLS)
def test_each_client_says_which_service_and_what_to_type(all_down, code):
    """Fault 10, in Python."""
    service, call = CALLS[code]
    with pytest.raises(FlowError) as caught:
        call()
    assert names_service_and_command(caught.value.message, service)
    assert len(caught.value.message.splitlines()) <= LONGEST


@pytest.mark.timeout(180)
def test_a_cell_shows_the_line_and_no_traceback(all_down):
    """Fault 10, in a notebook: what a learner sees below the cell."""
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("from flow360 import clients, lesson"),
            *[nbformat.v4.new_code_cell(code, metadata={"tags": ["raises-exception"]}) for code in CALLS],
        ]
    )
    here = {"metadata": {"path": ROOT}}
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", resources=here).execute()
    longest = tracebacks = 0
    for cell, (service, _) in zip(notebook.cells[1:], CALLS.values(), strict=True):
        lines = [line for output in cell.outputs for line in _lines(output)]
        longest = max(longest, len(lines))
        assert len(lines) <= LONGEST, "\n".join(lines)
        assert names_service_and_command("\n".join(lines), service), lines
        tracebacks += "Traceback" in "\n".join(lines)
    report("10 cells with their service down", cells=len(CALLS), longest_message=longest, tracebacks=tracebacks)
    assert tracebacks == 0


def _lines(output: nbformat.NotebookNode) -> list[str]:
    """The text of an output as it is shown."""
    text = "\n".join(output.traceback) if output.output_type == "error" else output.get("text", "")
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip("\n").splitlines()
