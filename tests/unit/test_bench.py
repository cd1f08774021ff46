"""`flow360 bench` without its services: it works on a stack of its own, and what fails is one line."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

import flow360.stack
from flow360.bench import data, measure, overheads, sandbox, secrets, sql, vans
from flow360.clients import port_of
from flow360.errors import FlowError
from flow360.settings import settings


@pytest.mark.parametrize(
    "prepare",
    [
        data.load_over_copy,
        data.kafka_over_perf_test,
        sql.dbt_over_psql,
        overheads.attach_over_private,
        overheads.task_over_import,
        secrets.vault_over_environment,
        secrets.borrowed_over_kept,
        vans.alarm_of_twelve_vans,
    ],
)
def test_bench_starts_its_services_on_an_engine_of_its_own(monkeypatch, prepare):
    class Started(Exception):
        pass

    def up(_names, _progress):
        raise Started

    @contextmanager
    def own():
        yield SimpleNamespace(up=up)

    for module in (data, overheads, secrets, sql, vans):
        monkeypatch.setattr(module, "engine_of_its_own", own)
    monkeypatch.setattr(flow360.stack, "open_stack", lambda _engine=None: pytest.fail("the learner's own stack"))
    with pytest.raises(Started), prepare():
        pass


def test_an_engine_of_its_own_has_other_ports_and_other_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOW360_STATE", str(tmp_path / "state"))
    settings.cache_clear()
    before = port_of("postgres-dwh")
    with sandbox.engine_of_its_own() as engine:
        assert port_of("postgres-dwh") == engine.model["postgres-dwh"].port != before
        assert settings().state_dir == engine.state != tmp_path / "state"
        mine = settings()
        assert all(engine.state in path.parents for path in (mine.progress_file, mine.dbt_dir, mine.rules_dir))
    assert port_of("postgres-dwh") == before
    assert list(tmp_path.iterdir()) == []
    settings.cache_clear()


@pytest.mark.parametrize(
    ("code", "expected"),
    [("sleep 5", r"^sh: it did not end within 0\.2 s$"), ("echo one; echo why >&2; exit 1", "^sh: why$")],
)
def test_a_program_of_bench_that_fails_is_one_line(code, expected):
    with pytest.raises(FlowError, match=expected):
        measure.run("sh", ["sh", "-c", code], 0.2)


def test_tpchgen_that_fails_is_one_line(monkeypatch, tmp_path):
    program = tmp_path / "tpchgen-cli"
    program.write_text("#!/bin/sh\necho why >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("flow360.primeur.generate.customers_csv", lambda _path, rows: (rows, 1))
    monkeypatch.setattr(data.sys, "executable", str(tmp_path / "python"))
    with data.generator_over_tpchgen() as one, pytest.raises(FlowError, match="^tpchgen-cli: why$"):
        one()
