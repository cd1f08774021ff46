"""The warehouse project (dbt/), run in this process: `dbt.build("fct_orders")` gives a DataFrame of what was done.

In process because importing dbt takes as long as a small build; its parse is kept between runs (partial parse), apart
for each target, channel and lab. Addresses and the password come from `settings()`; nothing is sent anywhere.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flow360 import clients
from flow360.errors import Exit, FlowError
from flow360.files import hold
from flow360.processing import dbt_lineage, feed
from flow360.processing.dbt_lab import forget, lab_dir, laid_out, write
from flow360.settings import ROOT, settings, variables

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

__all__ = [
    "build", "compiled", "docs", "drop_sandbox", "forget", "lab_dir", "lineage", "manifest", "names", "run",
    "target_dir", "test", "write",
]  # fmt: skip

PROJECT = ROOT / "dbt"
COLUMNS = ["node", "kind", "status", "seconds", "rows", "message"]
WRITING = ("build", "run", "seed", "snapshot")
BAD = ("error", "fail", "runtime error", "partial success")
LOCK_SECONDS = 300
CAPTURED = (
    "select to_regclass('captured_shop.orders') is not null and to_regclass('captured_shop.payments') is not null"
)
"""Whether the models of what was captured can be built."""
Select = str | Sequence[str] | None


# --- Running ----------------------------------------------------------------------------------------------------------


def build(
    select: Select = None,
    *,
    exclude: Select = None,
    target: str = "prod",
    channel: str = "lake",
    lab: bool | Path = False,
    full_refresh: bool = False,
    lookback: int | None = None,
    at: str | None = None,
    keep_failures: bool | None = None,
    check: bool = False,
    command: str = "build",
    state: Path | None = None,
    warehouse: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Build models, seeds and snapshots in the order of their dependencies, with their tests in between.

    What a failed test stands before is skipped and keeps its last state.

    Args:
        select: names or dbt's selectors ("+fct_orders", "marts", "source:landing"); None takes the whole project.
        exclude: the same, for what is left out.
        target: "prod" (schema `marts` …) or "sandbox" (schemas of its own: `sandbox_marts` …).
        channel: where the twelve tables come from: "lake" (nights, or feed.py) or "landing" (landing.py).
        lab: with the learner's own models, from `lab_dir()`: those that `select` names and what they stand on, so that
            a broken file is in nobody's way; all where it names none. Or another folder, with all that is there.
        full_refresh: incremental models from the beginning.
        lookback: days that incremental models look back; None: as many as dbt_project.yml says.
        at: the moment for which the snapshot of the customers is taken, ISO; None is now.
        keep_failures: failing rows go into schema `test_failures`, a table for each test; None: landing's do.
        check: raise when something failed (for a scheduler), instead of only saying so in the table.
        command: dbt's command: "build", "run", "test", "snapshot", "seed", "compile", "source freshness".
        state: a target folder (`target_dir`) of an earlier build, to compare with: `select="state:modified+"`. What is
            not selected and not there is read from that build's schemas (dbt's `--defer`).
        warehouse: where it is, in psycopg's words (host, port, user, password, dbname), if not where `settings()` says.

    Returns:
        One row for each node: node, kind (view, table, incremental, test, unit_test …), status (success, pass, warn,
        fail, error, skipped), seconds, rows (written; for a test: found), message.

    Raises:
        FlowError: the warehouse is down, nothing was delivered to it yet, the project cannot be read (the line says
            which file), or nothing has that name; with `check`, also what failed first.
    """
    arguments = command.split()
    for option, value in (("--select", select), ("--exclude", exclude)):
        if value is not None:
            arguments += [option, *([value] if isinstance(value, str) else value)]
    if full_refresh:
        arguments.append("--full-refresh")
    if state is not None:
        arguments += ["--defer", "--state", str(state)]
    if target == "sandbox" and command in ("build", "test"):
        # A sandbox holds what was built there, so a test must not ask for what was not.
        arguments += ["--indirect-selection", "buildable"]
    keep = channel == "landing" if keep_failures is None else keep_failures
    if keep and command in ("build", "test"):
        arguments.append("--store-failures")
    result = _invoke(arguments, target, channel, lab, select, at, warehouse, lookback)
    frame = _frame(result.result.results if result.result else [])
    if frame.empty:
        raise FlowError(f"dbt: nothing is called {select!r}: `flow360.processing.dbt.names()` lists all", Exit.USAGE)
    bad = frame[frame["status"].isin(BAD)]
    if check and not bad.empty:
        first = bad.iloc[0]
        raise FlowError(f"dbt: {len(bad)} of {len(frame)} nodes failed, the first one {first['node']}: {first.message}")
    return frame


def run(select: Select = None, **options: Any) -> pd.DataFrame:
    """Build as `build` does, without tests, seeds and snapshots."""
    return build(select, command="run", **options)


def test(select: Select = None, **options: Any) -> pd.DataFrame:
    """As `build`, the tests alone: nothing is built, nothing skipped."""
    return build(select, command="test", **options)


def _frame(results: Sequence[Any]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for result in results:
        node = result.node
        kind = str(node.resource_type)
        if kind == "model":
            kind = str(node.config.materialized)
        written = (result.adapter_response or {}).get("rows_affected")
        found = result.failures if kind in ("test", "unit_test") else written
        found = None if found is not None and found < 0 else found  # a view writes no rows
        said = result.message if str(result.status) in BAD else ""
        rows.append((node.name, kind, str(result.status), round(result.execution_time, 2), found, _one_line(said)))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"rows": "Int64"})


def _one_line(text: Any, longest: int = 600) -> str:
    """Write dbt's message without its colours, rules and line ends, and with paths as they stand in the project."""
    plain = re.sub(r"\x1b\[[0-9;]*m|-{3,}", "", str(text or "")).replace(f"{PROJECT}/", "")
    line = re.split(r" > in macro | compiled code at ", re.sub(r"(\| )+\|", "|", " ".join(plain.split())))[0]
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _invoke(
    arguments: list[str],
    target: str,
    channel: str,
    lab: bool | Path,
    select: Select = None,
    at: str | None = None,
    warehouse: Mapping[str, Any] | None = None,
    lookback: int | None = None,
) -> Any:
    """Run one command of dbt.

    Raises:
        FlowError: nothing was delivered yet, or dbt gave up before it came to a node.
    """
    # A server that is down is one line of ours, not twenty of a driver.
    with clients.postgres(**(warehouse or {})) as db:
        if channel == "lake" and arguments[0] in ("build", "run", "test", "snapshot"):
            feed.demand(db)
        has_captured = db.execute(CAPTURED).fetchone()[0]
        environment = _environment(db.info, at)
    folder = target_dir(target, channel, bool(lab))
    folder.mkdir(parents=True, exist_ok=True)
    options = [
        "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target", target,
        "--target-path", str(folder), "--log-path", str(settings().dbt_dir / "logs"),
        "--log-level", "none", "--log-level-file", "info", "--no-version-check", "--no-use-colors",
    ]  # fmt: skip
    told = {} if channel == "lake" else {"channel": channel}
    if lookback is not None:
        told["lookback_days"] = lookback
    if has_captured:
        told["captured"] = True
    if told:
        options += ["--vars", json.dumps(told)]
    only = select if lab is True else None
    with (
        _alone(folder),
        variables(environment | (laid_out(folder / "lab", lab_dir() if lab is True else lab, only) if lab else {})),
        _installed_alone(),
    ):
        from dbt.cli.main import dbtRunner

        result = dbtRunner().invoke([*arguments, *options])
        if arguments[0] in WRITING and getattr(result.result, "results", None):
            dbt_lineage.emit(folder)  # before another run writes over it
    if result.exception is not None and not getattr(result.result, "results", None):
        raise FlowError(f"dbt: {_one_line(result.exception)}")
    return result


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one run at a time use each target folder: two would write over each other's parse and tables."""
    said = f"dbt: another run has held {folder.name} for {LOCK_SECONDS} s: end it, or wait for it"
    with (folder / ".lock").open("w") as file:
        hold(file, LOCK_SECONDS, said)
        yield


@contextlib.contextmanager
def _installed_alone() -> Iterator[None]:
    """Import only what is installed, in the block.

    dbt imports every module whose name begins with `dbt_` as a plugin of its own, and the learner's folder comes first:
    a `dbt_nightly.py` there that calls `build` would run inside the run that it waits for.
    """
    before = sys.path[:]
    installed = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    sys.path[:] = [path for path in before if any(Path(path).is_relative_to(one) for one in installed)]
    try:
        yield
    finally:
        sys.path[:] = before


def _environment(at: psycopg.ConnectionInfo, moment: str | None) -> dict[str, str]:
    """Return the variables that profiles.yml and the project read; the warehouse is the one that has answered."""
    return {
        "POSTGRES_DWH_HOST": at.host,
        "POSTGRES_DWH_PORT": str(at.port),
        "POSTGRES_DWH_USER": at.user,
        "POSTGRES_DWH_DB": at.dbname,
        "DBT_ENV_SECRET_POSTGRES_DWH_PASSWORD": at.password,
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "False",
        "FLOW360_DBT_AT": moment or "",
    }


# --- Files ------------------------------------------------------------------------------------------------------------


def target_dir(target: str = "prod", channel: str = "lake", lab: bool = False) -> Path:
    """Return the folder where dbt leaves its parse, compiled SQL and results."""
    return settings().dbt_dir / "target" / "-".join([target, channel, *(["lab"] if lab else [])])


def drop_sandbox() -> None:
    """Drop the schemas of target "sandbox", with all that is in them."""
    with clients.postgres() as db:
        for (name,) in db.execute(r"select nspname from pg_namespace where nspname like 'sandbox\_%'").fetchall():
            db.execute(f'drop schema "{name}" cascade')


# --- What dbt knows of the project ------------------------------------------------------------------------------------


def manifest(target: str = "prod", channel: str = "lake", lab: bool = False, built: bool = False) -> dict[str, Any]:
    """Read dbt's manifest, of the project as it stands now: nodes, sources, exposures, parent_map …

    With `built`, the one that the last build left: after a build there is no need to parse all of it once more.
    """
    if not built:
        _invoke(["parse"], target, channel, lab)
    return json.loads((target_dir(target, channel, lab) / "manifest.json").read_text("utf-8"))


def names(lab: bool = False) -> list[str]:
    """List all that `select` can name: models, seeds, snapshots, tests."""
    return sorted(node["name"] for node in manifest(lab=lab)["nodes"].values())


def compiled(name: str, *, lab: bool = False, **options: Any) -> str:
    """Return the SQL that a model or a test becomes.

    Raises:
        FlowError: nothing has that name.
    """
    build(name, command="compile", lab=lab, **options)
    folder = target_dir(lab=lab, **options)
    nodes = json.loads((folder / "manifest.json").read_text("utf-8"))["nodes"].values()
    return next(node["compiled_code"] for node in nodes if node["name"] == name).strip()


_SHAPE = {"source": '[("{}")]', "snapshot": "[/{}/]", "exposure": "([{}])", "seed": '[("{}")]'}


def lineage(*wanted: str, downstream: bool = True, lab: bool = False) -> str:
    """Draw what the named models are made of and, with `downstream`, what is made of them, as a Mermaid flowchart.

    Args:
        wanted: names of models; none draws the whole project.

    Raises:
        FlowError: no such model.
    """
    document = manifest(lab=lab)
    found = {**document["nodes"], **document["sources"], **document["exposures"]}
    keys = {key: node for key, node in found.items() if node["resource_type"] not in ("test", "unit_test")}
    starts = [key for key, node in keys.items() if not wanted or node["name"] in wanted]
    if missing := set(wanted) - {node["name"] for node in keys.values()}:
        raise FlowError(f"dbt: there is no model {min(missing)!r}", Exit.USAGE)
    shown = _reachable(starts, document["parent_map"])
    if downstream:
        shown |= _reachable(starts, document["child_map"])
    shown &= set(keys)
    short = {key: f"n{number}" for number, key in enumerate(sorted(shown))}
    lines = ["flowchart LR"]
    for key in sorted(shown):
        kind = keys[key]["resource_type"]
        lines.append(f"    {short[key]}{_SHAPE.get(kind, '[{}]').format(keys[key]['name'])}")
    for key in sorted(shown):
        lines += [f"    {short[parent]} --> {short[key]}" for parent in document["parent_map"][key] if parent in shown]
    if wanted:
        lines.append(f"    style {short[starts[0]]} stroke-width:3px")
    return "\n".join(lines)


def _reachable(starts: Sequence[str], edges: dict[str, list[str]]) -> set[str]:
    seen, left = set(), list(starts)
    while left:
        if (key := left.pop()) not in seen:
            seen.add(key)
            left += edges.get(key, [])
    return seen


def docs() -> Path:
    """Write the project's documentation with its lineage, as one page that needs no server; return its path."""
    _invoke(["docs", "generate", "--static"], "prod", "lake", False)
    page = settings().dbt_dir / "target" / "docs.html"
    shutil.copyfile(target_dir() / "static_index.html", page)
    return page
