"""How work is shown: plain lines in a file, one live line a service in a terminal, tokens nowhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flow360.stack import console as module
from flow360.stack.console import Reporter, links, status_table
from flow360.stack.status import Event, ServiceStatus


@pytest.fixture
def screen(monkeypatch):
    def make(terminal: bool, width: int = 100) -> io.StringIO:
        out = io.StringIO()
        monkeypatch.setattr(
            module, "console", Console(file=out, force_terminal=terminal, width=width, highlight=False, no_color=True)
        )
        return out

    return make


def row(name: str = "kafka", state: str = "running", link: str | None = None, pss: float = 278.4) -> ServiceStatus:
    return ServiceStatus(name, 2, state, "real", "Kafka 3.9.2 [x]", 19092, pss, link, "Kafka")


def test_a_file_gets_a_line_for_each_step(screen):
    out = screen(terminal=False)
    with Reporter() as report:
        report(Event("kafka", "starting"))
        report(Event("kafka", "running", "", seconds=3.25))
        report(Event("zookeeper", "running", "already", seconds=0.01))
    assert out.getvalue().splitlines() == [
        "kafka            starting",
        "kafka            running (3.2 s)",
        "zookeeper        running already",
    ]


def test_a_long_fetch_is_ten_lines_in_a_file(screen):
    out = screen(terminal=False)
    with Reporter() as report:
        for number in range(1, 501):
            report(Event("jars", "fetching", f"{number} of 500", number / 500))
    assert 9 <= len(out.getvalue().splitlines()) <= 12


def test_brackets_in_a_detail_are_text(screen):
    out = screen(terminal=False)
    with Reporter() as report:
        report(Event("jars", "fetching", "[bold]a[/bold] [/oops]"))
    assert "[bold]a[/bold] [/oops]" in out.getvalue()


def test_a_terminal_gets_a_live_line_a_service(screen):
    out = screen(terminal=True)
    with Reporter() as report:
        report(Event("kafka", "starting"))
        report(Event("jars", "fetching", "[/oops] 5 of 10", 0.5))
        report(Event("kafka", "running", "", seconds=3.0))
        report(Event("jars", "ready", "10 files"))
    shown = out.getvalue()
    assert "running (3.0 s)" in shown
    assert "ready 10 files" in shown


def test_an_error_ends_the_live_lines(screen):
    screen(terminal=True)
    with pytest.raises(ValueError, match="x"), Reporter() as report:
        report(Event("kafka", "starting"))
        raise ValueError("x")


def test_the_status_table_keeps_names_and_states_whole(screen):
    out = screen(terminal=False, width=60)
    module.console.print(
        status_table([row(), row("postgres-source", "stopped", pss=0), row("market-sensors", "failed")])
    )
    text = out.getvalue()
    for word in ("postgres-source", "market-sensors", "stopped", "running", "failed", "278"):
        assert word in text


def test_links_of_what_runs_only():
    rows = [row(link="http://127.0.0.1:1/"), row("other", "stopped", "http://127.0.0.1:2/"), row("third")]
    assert links(rows) == ["kafka            http://127.0.0.1:1/"]


def test_the_address_of_jupyterlab_lets_its_reader_in():
    rows = [row("jupyterlab", link="http://127.0.0.1:1/lab"), row("kafka", link="http://127.0.0.1:2/")]
    assert [line.split()[1] for line in links(rows, "?token=x")] == [
        "http://127.0.0.1:1/lab?token=x",
        "http://127.0.0.1:2/",
    ]
