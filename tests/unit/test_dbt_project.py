"""The habits of dbt/: grain, keys, contracts, names, lower case, 80 columns; and that no secret stands in it."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import yaml

from flow360.errors import FlowError
from flow360.processing import dbt
from flow360.processing.dbt_lab import laid_out
from flow360.settings import settings

SQL = sorted(p for folder in ("models", "macros", "tests") for p in (dbt.PROJECT / folder).rglob("*.sql"))
MODELS = sorted((dbt.PROJECT / "models").rglob("*.sql"))


def described(path: Path) -> dict:
    """The model's entry in the .yml beside it."""
    document = yaml.safe_load(path.with_suffix(".yml").read_text("utf-8"))
    return next(model for model in document["models"] if model["name"] == path.stem)


def promises_of(model: dict) -> list[dict]:
    found = list(model.get("data_tests", []))
    for column in model.get("columns", []):
        found += column.get("data_tests", [])
    return found


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_each_model_says_its_grain(path: Path) -> None:
    assert re.search(r"One row per [a-z]", " ".join(described(path)["description"].split()))


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_each_test_is_named_by_a_sentence(path: Path) -> None:
    for test in promises_of(described(path)):
        ((_, options),) = test.items()
        assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", options["name"]), test


@pytest.mark.parametrize("path", [p for p in MODELS if p.parent.name != "intermediate"], ids=lambda p: p.stem)
def test_each_key_is_tested_or_kept_by_the_server(path: Path) -> None:
    model = described(path)
    kinds = {kind for test in promises_of(model) for kind in test}
    primary = any({"type": "primary_key"} in column.get("constraints", []) for column in model["columns"])
    assert primary or kinds & {"unique", "unique_together"}, path.stem


@pytest.mark.parametrize("path", [p for p in MODELS if p.parent.name == "marts"], ids=lambda p: p.stem)
def test_each_mart_has_a_contract(path: Path) -> None:
    model = described(path)
    assert model["config"]["contract"]["enforced"] is True
    assert all(column["data_type"] for column in model["columns"])


@pytest.mark.parametrize("path", SQL, ids=lambda p: p.stem)
def test_style(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert [n for n, line in enumerate(lines, 1) if len(line) > 80] == []
    code = re.sub(r"--.*|{#.*?#}|'[^']*'", "", "\n".join(lines), flags=re.DOTALL)
    assert not re.search(r"\b(SELECT|FROM|WHERE|JOIN|GROUP BY)\b", code)


@pytest.mark.parametrize("path", [p for p in MODELS if p.parent.name == "staging"], ids=lambda p: p.stem)
def test_staging_takes_one_source_and_renames(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("source(") == 1
    assert "ref(" not in text and " join " not in text
    assert text.rstrip().endswith("select * from renamed")


@pytest.mark.parametrize("path", [p for p in MODELS if p.parent.name != "staging"], ids=lambda p: p.stem)
def test_only_staging_touches_a_source(path: Path) -> None:
    assert "source(" not in path.read_text("utf-8")


def test_the_profile_holds_no_secret() -> None:
    profile = yaml.safe_load((dbt.PROJECT / "profiles.yml").read_text("utf-8"))["primeur"]["outputs"]["prod"]
    for name in ("host", "port", "user", "password", "dbname"):
        assert str(profile[name]).startswith("{{ env_var("), name


def test_nothing_is_sent() -> None:
    project = yaml.safe_load((dbt.PROJECT / "dbt_project.yml").read_text("utf-8"))
    assert project["flags"]["send_anonymous_usage_stats"] is False
    assert not (dbt.PROJECT / "packages.yml").exists()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLOW360_DBT", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def test_a_learners_file_is_written_and_forgotten(folder: Path) -> None:
    path = dbt.write("tests/lab_x.sql", "\nselect 1\n\n")
    assert path == folder / "lab" / "tests" / "lab_x.sql"
    assert path.read_text() == "select 1\n"
    dbt.forget("tests/lab_x.sql", "never_there.sql")
    assert not path.exists()


@pytest.mark.parametrize("name", ["../models/x.sql", "/tmp/x.sql", "x.py", "x"])
def test_a_learners_file_stays_in_its_folder(folder: Path, name: str) -> None:
    with pytest.raises(FlowError, match="NAME.sql"):
        dbt.write(name, "select 1")


@pytest.mark.parametrize(
    ("select", "read"),
    [
        ("lab_a", {"lab_a.sql", "lab_sources.yml"}),
        (["lab_b"], {"lab_a.sql", "lab_b.sql", "lab_b.yml", "lab_sources.yml"}),
        ("lab_fits", {"tests/lab_fits.sql", "lab_sources.yml"}),
        ("staging", {"lab_a.sql", "lab_b.sql", "lab_b.yml", "lab_sources.yml", "tests/lab_fits.sql"}),
    ],
)
def test_dbt_reads_what_a_run_is_about(folder: Path, tmp_path: Path, select, read: set[str]) -> None:
    files = {
        "lab_a.sql": "select 1",
        "lab_b.sql": "select * from {{ ref('lab_a') }}",
        "lab_b.yml": "unit_tests: [",
        "lab_sources.yml": "sources: []",
        "tests/lab_fits.sql": "select 1",
    }
    for name, text in files.items():
        dbt.write(name, text)
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "of_yesterday.sql").write_text("select", "utf-8")
    laid_out(copy, dbt.lab_dir(), select)
    assert {str(path.relative_to(copy)) for path in copy.rglob("*.*")} == read


def test_messages_are_one_line() -> None:
    text = f"Error\n  in {dbt.PROJECT}/models/x.sql\n| a |\n| --- |\n\x1b[31mred\x1b[0m\n\n> in macro y"
    assert dbt._one_line(text) == "Error in models/x.sql | a | red"


def test_a_learners_file_whose_name_begins_as_dbts_plugins_do_is_not_imported(tmp_path, monkeypatch):
    """dbt would import it in the middle of a run; one that calls `build` waits for its own lock then."""
    from dbt.plugins.manager import PluginManager, _get_dbt_modules

    (tmp_path / "dbt_nightly.py").write_text("raise RuntimeError('imported')\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.path)
    with dbt._installed_alone():
        _get_dbt_modules.cache_clear()
        found = PluginManager.get_prefixed_modules()
        assert importlib.util.find_spec("this"), "the standard library is still there"
        assert importlib.util.find_spec("flow360.processing.landing"), "and so is our own package"
    assert "dbt_common" in found
    assert sys.path == before
    _get_dbt_modules.cache_clear()
    with pytest.raises(RuntimeError, match="imported"):
        PluginManager.get_prefixed_modules()
