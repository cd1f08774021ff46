"""Checks of chapter 07: the linters, the rule of Docker's cache, and the warehouse are asked."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import yaml

from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type
from flow360.clients.query import sql
from flow360.delivery import image_layers, linters
from flow360.stack.model import read_compose


def _jobs(name: str, text: Any) -> dict[str, Any]:
    """The jobs of a workflow that its linter has no objection to."""
    expect_type(name, text, str)
    if found := linters.workflow(text):
        raise NotYet(f"{name}: {found[0]}")
    return yaml.safe_load(text)["jobs"]


def _steps(job: dict[str, Any]) -> list[str]:
    return [step.get("uses", step.get("run", "")) for step in job["steps"]]


@exercise
def broken_workflow(workflow: Any) -> None:
    """The linter is content, and the workflow still says what it was meant to say."""
    jobs = _jobs("workflow", workflow)
    expect_equal("workflow", found=sorted(jobs), expected=["publish", "test"], why="these are its jobs")
    needs = jobs["publish"].get("needs")
    expect(
        needs in ("test", ["test"]),
        f"workflow: publish must wait for test, found needs: {needs!r}: it would run beside it",
    )
    for name, job in jobs.items():
        minutes = job.get("timeout-minutes", 360)
        expect(
            minutes <= 30,
            f"workflow: {name} may take {minutes} minutes, 30 are allowed: without the key it is six hours",
        )
        steps = _steps(job)
        expect_equal(f"workflow: steps of {name}", found=len(steps), expected=2, why="mend them, do not take one away")
        version = int(re.search(r"@v(\d+)", steps[0])[1]) if "actions/checkout@v" in steps[0] else 0
        expect(
            version >= 5,
            f"workflow: {name} must begin with actions/checkout@v6, found {steps[0]!r}: "
            "those before v5 are for Node 20, which the runners no longer have",
        )
    expect("matrix." not in workflow, "workflow: publish still speaks of a matrix that the job does not have")


@exercise
def version_matrix(matrix_workflow: Any) -> None:
    """Three runs of one job, with versions that are text."""
    job = _jobs("matrix_workflow", matrix_workflow).get("test") or {}
    expect(job, "matrix_workflow: expected a job `test`")
    strategy = job.get("strategy", {})
    axes = strategy.get("matrix", {})
    name, versions = next(iter(axes.items()), ("", []))
    expect(axes, "matrix_workflow: the job has no strategy: matrix")
    expect_equal(
        "matrix_workflow", found=sorted(map(str, versions)), expected=["3.10", "3.11", "3.9"],
        why="YAML reads 3.10 as a number, and that number is 3.1",
    )  # fmt: skip
    expect(
        strategy.get("fail-fast") is False,
        "matrix_workflow: the first red run cancels the other two: which key forbids it?",
    )
    setup = [step for step in job["steps"] if str(step.get("uses", "")).startswith("actions/setup-python@")]
    expect(
        setup, "matrix_workflow: no step uses actions/setup-python: the runner's own Python would be tested three times"
    )
    given = str(setup[0].get("with", {}).get("python-version", ""))
    expect(
        re.fullmatch(r"\$\{\{\s*matrix\." + re.escape(name) + r"\s*\}\}", given),
        f"matrix_workflow: setup-python gets {given!r}, not the version of the matrix",
    )


_FILES = {
    "requirements.lock": "a", "stack/jars.lock": "b",
    "README.md": "c", "flow360/settings.py": "d", "compose.yaml": "e",
}  # fmt: skip


def _computed(key: str, system: str, files: dict[str, str]) -> str:
    """The key as a runner computes it: `runner.os`, and hashFiles over the files that match any of the patterns."""

    def one(match: re.Match[str]) -> str:
        expression = match.group(1).strip()
        if expression == "runner.os":
            return system
        call = re.fullmatch(r"hashFiles\(\s*(.+?)\s*\)", expression)
        if not call:
            raise NotYet(f"key: ${{{{ {expression} }}}} is more than this needs: runner.os and hashFiles(…) will do")
        patterns = re.findall(r"'([^']*)'", call.group(1))
        wanted = [path for path in sorted(files) for p in patterns if image_layers.matches(path, p)]
        # As GitHub has it: no file matches, and the hash is empty.
        return hashlib.sha256("".join(files[path] for path in wanted).encode()).hexdigest() if wanted else ""

    return re.sub(r"\$\{\{(.+?)\}\}", one, key)


@exercise
def cache_key(key: Any) -> None:
    """Another key when a lock or the system changes, the same one when anything else does."""
    expect_type("key", key, str)
    before = _computed(key, "Linux", _FILES)
    expect(_computed(key, "macOS", _FILES) != before, "key: the same one on Linux and macOS: their packages differ")
    for path in _FILES:
        after = _computed(key, "Linux", _FILES | {path: "changed"})
        if path.endswith(".lock"):
            expect(after != before, f"key: {path} has changed, the key has not: old packages would be served")
        else:
            expect(after == before, f"key: {path} has changed, and the key with it: 2 GB are fetched for nothing")


@exercise
def safe_dockerfile(dockerfile: Any) -> None:
    """The linter is content, the user is not root, and a change of the program does not install the packages again."""
    expect_type("dockerfile", dockerfile, str)
    if found := linters.dockerfile(dockerfile):
        raise NotYet(f"dockerfile: {found[0]}")
    steps = image_layers.steps(dockerfile)
    bases = {step.stage: step.words[0] for step in steps if step.word == "FROM"}
    expect(bases, "dockerfile: expected FROM first")
    image = [steps[-1].stage]  # the last stage, and the stages that it stands on
    while bases[image[-1]] in bases and bases[image[-1]] not in image:
        image.append(bases[image[-1]])
    base = bases[image[-1]]
    expect(re.search(r":\d+\.\d+", base), f"dockerfile: {base} is not pinned to a version")
    users = [step.words[0] for step in steps if step.word == "USER" and step.stage in image]
    user = users[-1].partition(":")[0] if users else "root"
    expect(user not in ("root", "0"), "dockerfile: the program runs as root: which instruction makes it another user?")
    installs = [
        (step, again) for step, again in image_layers.rebuilt(dockerfile, ["report/main.py"]) if _installs(step)
    ]
    expect(installs, "dockerfile: nothing installs the packages of report/requirements.txt")
    copied = [
        again for step, again in image_layers.rebuilt(dockerfile, ["report/main.py"]) if step.word in ("COPY", "ADD")
    ]
    expect(any(copied), "dockerfile: report/main.py is not copied into the image")
    expect(
        not any(again for _, again in installs),
        "dockerfile: a change in report/main.py installs the packages again: what changes rarely stands above",
    )
    lists = image_layers.rebuilt(dockerfile, ["report/requirements.txt"])
    expect(
        any(again for step, again in lists if _installs(step)),
        "dockerfile: a changed report/requirements.txt would not be installed: is it copied before?",
    )


def _installs(step: image_layers.Step) -> bool:
    return re.search(r"\bpip[\d.]*( -\S+)* install\b", f"{' '.join(step.words)}\n{step.body}") is not None


def _port(entry: Any) -> str:
    """A published port in the short form, whichever form it was written in."""
    if isinstance(entry, dict):
        entry = ":".join(str(entry[key]) for key in ("host_ip", "published", "target") if key in entry)
    return str(entry).removesuffix("/tcp")


@exercise
def compose_service(service: Any) -> None:
    """`report` beside the course's services: valid, patient, bounded, on this machine only."""
    expect_type("service", service, str)
    try:
        mine = yaml.safe_load(service)["services"]["report"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise NotYet(
            f"service: expected a compose file with services: report: ({type(error).__name__}: {error})"
        ) from None
    whole = read_compose()
    whole["services"]["report"] = mine
    if found := linters.compose(yaml.safe_dump(whole)):
        raise NotYet(f"service: {found[0]}")
    expect_equal("service: image", found=mine.get("image"), expected="primeur/report:1.0")
    depends = mine.get("depends_on", {})
    rule = depends.get("postgres-dwh", {}).get("condition") if isinstance(depends, dict) else "service_started"
    expect_equal(
        "service: condition of postgres-dwh", found=rule, expected="service_healthy", why="started is not yet answering"
    )
    expect(mine.get("healthcheck", {}).get("test"), "service: no healthcheck with a test: nothing can wait for it")
    limits = mine.get("deploy", {}).get("resources", {}).get("limits", {})
    expect(mine.get("mem_limit") or limits.get("memory"), "service: no memory limit: it may take the whole machine")
    ports = [_port(entry) for entry in mine.get("ports", [])]
    expect_equal(
        "service: ports",
        found=ports,
        expected=["127.0.0.1:18777:8000"],
        why="without an address it is the whole network's",
    )


@exercise
def green_again(verdict: Any) -> None:
    """The view in the warehouse keeps the promise; computed here again, by SQL."""
    expect_type("verdict", verdict, str)
    promise = """
        with kept as (
            select r.store_id, count(*) filter (where d.delivered_at > d.promised_to)::float8 / count(*) as late
            from lake.deliveries d join lake.van_routes r using (route_id)
            where d.status <> 'refused' group by r.store_id)
    """
    exists = sql("select to_regclass('app.late_by_store') is not null as there").iat[0, 0]
    expect(exists, "verdict: there is no view app.late_by_store in the warehouse")
    rows = sql("select count(*) as n, count(distinct store_id) as stores from app.late_by_store")
    stores = sql(promise + "select count(*) as n from kept").iat[0, 0]
    expect_equal(
        "app.late_by_store: rows", found=int(rows.at[0, "n"]), expected=int(stores), why="one row for each store"
    )
    off = sql(
        promise + "select store_id from kept left join app.late_by_store v using (store_id) "
        "where v.late is null or abs(v.late - kept.late) > 1e-9 order by store_id"
    )
    expect(
        off.empty, f"app.late_by_store: {len(off)} of {stores} stores have another share: are refused ones left out?"
    )
    expect_equal("verdict", found=verdict, expected="green", why="the view is right, what does the test say?")
