"""Checks of chapter 07: the linters, GitHub's rules, the rule of Docker's cache, and the warehouse are asked."""

from __future__ import annotations

import copy
import posixpath
import random
import re
from collections.abc import Mapping
from typing import Any

import yaml

from flow360.checks import github
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type, shown
from flow360.clients.query import sql
from flow360.delivery import image_layers, linters
from flow360.stack.model import read_compose

BROKEN = """\
name: delivery
on: push
permissions: {contents: read}
jobs:
  test:
    runs-on: ubuntu-24.04
    timeout: 10
    steps:
      - uses: actions/checkout@v1
      - run: ./scripts/test --only lint --only unit
  publish:
    needs: tests
    runs-on: ubuntu-24.04
    timeout-minutes: 10
    steps:
      - uses: actions/checkout@v4
      - run: ./publish.sh "${{ matrix.version }}"
"""
"""The workflow of the exercise `broken_workflow`."""

MINUTES, CHECKOUT, SETUP = 30, 5, 6
"""Minutes that a job may take; the oldest versions of actions/checkout and actions/setup-python that are taken."""


def _workflow(name: str, text: Any) -> dict[str, Any]:
    """A workflow that its linter has no objection to."""
    expect_type(name, text, str)
    if found := linters.workflow(text):
        raise NotYet(f"{name}: {found[0]}")
    return github.load(text)


def _version(action: Any, of: str) -> int:
    """The version of a step's action; 0 where it is another one, or its version is not a number."""
    found = re.fullmatch(rf"{of}@v(\d+)(\.\d+)*", str(action))
    return int(found[1]) if found else 0


# --- The broken workflow ----------------------------------------------------------------------------------------------


@exercise
def broken_workflow(workflow: Any) -> None:
    """The linter is content, and the workflow still says what it was meant to say."""
    mine, meant = _workflow("workflow", workflow), github.load(BROKEN)
    jobs = mine["jobs"]
    expect_equal("workflow", found=sorted(jobs), expected=["publish", "test"], why="these are its jobs")
    needs = jobs["publish"].get("needs")
    expect(
        needs in ("test", ["test"]),
        f"workflow: publish must wait for test, found needs: {needs!r}: it would run beside it",
    )
    for name, job in jobs.items():
        _mended(name, job, meant["jobs"][name])
    argument = str(jobs["publish"]["steps"][1].get("run", ""))
    expect(argument.split()[:1] == ["./publish.sh"], f"workflow: publish must run ./publish.sh, found {argument!r}")
    axes = (jobs["publish"].get("strategy") or {}).get("matrix") or {}
    for axis in re.findall(r"matrix\.(\w+)", argument):
        expect(axis in axes, "workflow: publish still speaks of a matrix that the job does not have")
    _expect_kept(mine, meant)


def _mended(name: str, job: dict[str, Any], meant: dict[str, Any]) -> None:
    minutes = job.get("timeout-minutes", 360)
    expect(
        isinstance(minutes, int | float) and 0 < minutes <= MINUTES,
        f"workflow: {name} may take {minutes} minutes, {MINUTES} are allowed: without the key it is six hours",
    )
    steps = job.get("steps") or []
    why = "mend them, take none away and add none"
    expect_equal(f"workflow: steps of {name}", found=len(steps), expected=len(meant["steps"]), why=why)
    uses = steps[0].get("uses")
    expect(
        _version(uses, "actions/checkout") >= CHECKOUT,
        f"workflow: {name} must begin with actions/checkout@v6, found {uses!r}: "
        "those before v5 are for Node 20, which the runners no longer have",
    )
    for place, step in ((name, job), *((f"a step of {name}", step) for step in steps)):
        if step.get("continue-on-error"):
            raise NotYet(f"workflow: {place} has continue-on-error: what is red would count as green")
        if "if" in step and str(step["if"]).strip("${} ") not in ("success()", "True"):
            raise NotYet(
                f"workflow: {place} has if: {step['if']}: each push is tested, and published after a green test"
            )


def _expect_kept(mine: dict[str, Any], meant: dict[str, Any]) -> None:
    """All but what was to be mended is as it was."""
    mine, meant = (_without_the_mended(one) for one in (mine, meant))
    for place, one, other in _places(mine, meant):
        if one != other:
            raise NotYet(f"workflow: {place} was not to change: expected {shown(other)}, found {shown(one)}")


def _without_the_mended(workflow: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(workflow)
    events = found.get("on")
    # One event as a word, in a list, or with nothing said of it.
    events = [events] if isinstance(events, str) else events
    found["on"] = dict.fromkeys(events) if isinstance(events, list) else events
    for name, job in found["jobs"].items():
        for key in ("timeout", "timeout-minutes", "needs", "name", "if", "continue-on-error"):
            job.pop(key, None)
        if name == "publish":
            job.pop("strategy", None)
            job["steps"][1].pop("run", None)
        job["steps"][0].pop("uses", None)
        if isinstance(job.get("runs-on"), list) and len(job["runs-on"]) == 1:
            job["runs-on"] = job["runs-on"][0]
        for step in job["steps"]:
            for key in ("name", "id", "if", "continue-on-error"):
                step.pop(key, None)
            if "run" in step:
                step["run"] = " ".join(str(step["run"]).split())
    return found


def _places(mine: dict[str, Any], meant: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    found = [(key, mine.get(key), meant.get(key)) for key in sorted({*mine, *meant} - {"jobs", "name"})]
    for job in meant["jobs"]:
        one, other = mine["jobs"][job], meant["jobs"][job]
        found += [(f"{key} of {job}", one.get(key), other.get(key)) for key in sorted({*one, *other})]
    return found


# --- Three versions ---------------------------------------------------------------------------------------------------

PYTHONS = ["3.10", "3.11", "3.9"]


@exercise
def version_matrix(matrix_workflow: Any) -> None:
    """Three runs of one job, with versions that are text."""
    jobs = _workflow("matrix_workflow", matrix_workflow)["jobs"]
    job = jobs.get("test") or {}
    expect(job, "matrix_workflow: expected a job `test`")
    strategy = job.get("strategy") or {}
    expect(strategy.get("matrix"), "matrix_workflow: the job has no strategy: matrix")
    steps = job.get("steps") or []
    places = [number for number, step in enumerate(steps) if _is_setup(step)]
    expect(
        places,
        "matrix_workflow: no step uses actions/setup-python: the runner's own Python would be tested three times",
    )
    setup = steps[places[0]]
    given = str((setup.get("with") or {}).get("python-version", ""))
    expect("matrix" in given, f"matrix_workflow: setup-python gets {given!r}, not the version of the matrix")
    found = [github.given("matrix_workflow", given, run) for run in github.runs("matrix_workflow", strategy["matrix"])]
    expect_equal(
        "matrix_workflow", found=sorted(found), expected=PYTHONS,
        why="the Pythons of its runs; YAML reads 3.10 as a number, and that number is 3.1",
    )  # fmt: skip
    expect(
        strategy.get("fail-fast") is False,
        "matrix_workflow: the first red run cancels the other two: which key forbids it?",
    )
    expect(
        _version(setup["uses"], "actions/setup-python") >= SETUP,
        f"matrix_workflow: expected actions/setup-python@v6, found {setup['uses']}",
    )
    for place, one in (("the job", job), ("setup-python", setup)):
        expect("if" not in one, f"matrix_workflow: {place} has if: {one.get('if')}: it may be left out in a run")
    expect(not job.get("continue-on-error"), "matrix_workflow: with continue-on-error a red run counts as green")
    expect(
        any(str(step.get("uses", "")).startswith("actions/checkout@") for step in steps),
        "matrix_workflow: no step fetches the code (actions/checkout): there is nothing to test on the runner",
    )
    after = [str(step.get("run", "")) for step in steps[places[0] + 1 :]]
    expect(
        any("test" in run for run in after),
        "matrix_workflow: no step after setup-python runs the tests: nothing is tested on these versions",
    )


def _is_setup(step: Mapping[str, Any]) -> bool:
    return str(step.get("uses", "")).startswith("actions/setup-python@")


# --- The key of a cache -----------------------------------------------------------------------------------------------

LOCKS = ("requirements.lock", "stack/jars.lock")
OTHERS = (
    "README.md", "flow360/settings.py", "compose.yaml", "pyproject.toml", "stack/native.toml", "stack/jars.toml",
    "stack/kafka/server.properties", "requirements.in", "labs/07_delivery.ipynb", "scripts/lock", ".github/ci.yml",
)  # fmt: skip


@exercise
def cache_key(key: Any) -> None:
    """Another key when a lock or the system changes, the same one when anything else does."""
    expect_type("key", key, str)
    plain = re.sub(r"\$\{\{.+?\}\}", "", key)
    expect(
        "," not in plain and "\n" not in plain.strip(), "key: GitHub takes neither a comma nor a line's end in a key"
    )
    expect("${{" not in plain and "}}" not in plain, "key: an expression is not closed: `${{ … }}`")
    files = _files(draw())
    before = github.computed("key", key, github.SYSTEMS[0], files)
    keys = {github.computed("key", key, system, files) for system in github.SYSTEMS}
    expect(len(keys) == len(github.SYSTEMS), "key: the same one on Linux and macOS: their packages differ")
    for path in files:
        after = github.computed("key", key, github.SYSTEMS[0], {**files, path: "changed"})
        if path in LOCKS:
            expect(after != before, f"key: {path} has changed, the key has not: old packages would be served")
        else:
            expect(after == before, f"key: {path} has changed, and the key with it: 2 GB are fetched for nothing")


def _files(chance: random.Random) -> dict[str, str]:
    """A repository of these files, and of some whose names nobody knows before."""
    number = chance.randint(1, 99)
    drawn = (f"notes-{number}.txt", f"stack/part{number}/config.yaml", f"data/day-{number}/orders.csv")
    return {path: f"{path} {chance.random()}" for path in (*LOCKS, *OTHERS, *drawn)}


# --- An image ---------------------------------------------------------------------------------------------------------

PROGRAM, LIST = "report/main.py", "report/requirements.txt"


@exercise
def safe_dockerfile(dockerfile: Any) -> None:
    """The linter is content, the user is not root, and a change of the program does not install the packages again."""
    expect_type("dockerfile", dockerfile, str)
    expect(
        not re.search(r"hadolint\s+(global\s+)?ignore", dockerfile),
        "dockerfile: a comment tells the linter to ignore a rule: mend what it objects to",
    )
    if found := linters.dockerfile(dockerfile):
        raise NotYet(f"dockerfile: {found[0]}")
    steps = image_layers.steps(dockerfile)
    bases = {step.stage: step.words[0] for step in steps if step.word == "FROM"}
    expect(bases, "dockerfile: expected FROM first")
    image = [steps[-1].stage]  # the last stage, and the stages that it stands on
    while bases[image[-1]] in bases and bases[image[-1]] not in image:
        image.append(bases[image[-1]])
    base = bases[image[-1]]
    expect(re.search(r":\d+\.\d+|@sha256:", base), f"dockerfile: {base} is not pinned to a version")
    expect(re.search(r"(^|/)python[:@]", base), f"dockerfile: expected an image of Python to start from, found {base}")
    # From the lowest stage to the last one, as the image is made.
    mine = [step for stage in reversed(image) for step in steps if step.stage == stage]
    _not_root(mine)
    _installs_once(dockerfile)
    _starts(mine)
    _finds(dockerfile)


def _not_root(steps: list[image_layers.Step]) -> None:
    users = [step.words[0] for step in steps if step.word == "USER"]
    user = users[-1].partition(":")[0] if users else "root"
    expect(user not in ("root", "0"), "dockerfile: the program runs as root: which instruction makes it another user?")


def _installs_once(dockerfile: str) -> None:
    after = image_layers.rebuilt(dockerfile, [PROGRAM])
    installs = [again for step, again in after if _installs(step)]
    expect(installs, f"dockerfile: nothing installs the packages of {LIST}")
    copied = [again for step, again in after if step.word in ("COPY", "ADD")]
    expect(any(copied), f"dockerfile: {PROGRAM} is not copied into the image")
    expect(
        not any(installs),
        f"dockerfile: a change in {PROGRAM} installs the packages again: what changes rarely stands above",
    )
    expect(
        any(again for step, again in image_layers.rebuilt(dockerfile, [LIST]) if _installs(step)),
        f"dockerfile: a changed {LIST} would not be installed: is it copied before?",
    )


def _finds(dockerfile: str) -> None:
    """Each command looks for the list and the program where COPY has put them."""
    steps = image_layers.steps(dockerfile)
    if any(re.search(r"\b(cp|mv|ln|cd)\b", f"{step.text} {step.body}") for step in steps if step.word == "RUN"):
        return  # what a command moves is not known
    for path, words in ((LIST, ("RUN",)), (PROGRAM, ("CMD", "ENTRYPOINT"))):
        name = path.rpartition("/")[2]
        for step, folder, where in image_layers.places(dockerfile, path):
            if step.word not in words or "--mount" in step.text:
                continue
            for word in (word for word in [*step.words, *step.body.split()] if word.rpartition("/")[2] == name):
                at = posixpath.normpath(posixpath.join(folder, word))
                lies = ", ".join(sorted(where)) or "nowhere"
                expect(at in where, f"dockerfile: `{step.text}` looks for {at}, and {path} lies {lies}")


def _installs(step: image_layers.Step) -> bool:
    return re.search(r"\bpip[\d.]*( -\S+)* install\b", f"{' '.join(step.words)}\n{step.body}") is not None


def _starts(steps: list[image_layers.Step]) -> None:
    """The last CMD and ENTRYPOINT start the program."""
    last = {step.word: step.words for step in steps if step.word in ("CMD", "ENTRYPOINT")}
    said = " ".join(word for words in last.values() for word in words)
    expect(
        re.search(r"\bmain\b", said),
        f"dockerfile: the container would not start {PROGRAM}: which instruction says what it runs?",
    )


# --- A service --------------------------------------------------------------------------------------------------------

IMAGE, PORT = "primeur/report:1.0", "127.0.0.1:18777:8000"
LEAST = 6 * 1024**2
"""Bytes that Docker wants at least for a container."""
ALWAYS = re.compile(r"(CMD-SHELL |CMD )?(/bin/)?(true|:|exit 0|echo\b[^|;&]*|sleep \S+)")


@exercise
def compose_service(service: Any) -> None:
    """`report` beside the course's services: valid, patient, bounded, on this machine only."""
    expect_type("service", service, str)
    try:
        services = yaml.safe_load(service)["services"]
        mine = services["report"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())
        raise NotYet(
            f"service: expected a compose file with services: report: ({type(error).__name__}: {said})"
        ) from None
    expect_equal(
        "service", found=sorted(services), expected=["report"], why="one service, the others are there already"
    )
    whole = read_compose()
    whole["services"]["report"] = mine
    if found := linters.compose(yaml.safe_dump(whole)):
        raise NotYet(f"service: {found[0]}")
    expect_equal("service: image", found=mine.get("image"), expected=IMAGE)
    depends = mine.get("depends_on", {})
    rule = depends.get("postgres-dwh", {}).get("condition") if isinstance(depends, dict) else "service_started"
    expect_equal(
        "service: condition of postgres-dwh", found=rule, expected="service_healthy", why="started is not yet answering"
    )
    _healthy(mine.get("healthcheck") or {})
    limits = ((mine.get("deploy") or {}).get("resources") or {}).get("limits") or {}
    limit = mine.get("mem_limit") or limits.get("memory")
    expect(limit, "service: no memory limit: it may take the whole machine")
    expect(_bytes(limit) >= LEAST, f"service: a memory limit of {limit!r} is less than the 6 MB that Docker wants")
    expect(
        mine.get("network_mode") != "host", "service: network_mode: host publishes each port of it on the whole network"
    )
    ports = [_port(entry) for entry in mine.get("ports", [])]
    expect(
        ports == [PORT],
        f"service: ports: found {ports}: one is wanted, and of this machine only: without an address it is the whole "
        "network's",
    )


def _healthy(check: dict[str, Any]) -> None:
    test = check.get("test")
    expect(test and not check.get("disable"), "service: no healthcheck with a test: nothing can wait for it")
    said = test if isinstance(test, str) else " ".join(map(str, test))
    expect(said.split()[0] != "NONE", "service: no healthcheck with a test: nothing can wait for it")
    expect(
        not ALWAYS.fullmatch(said.strip()), f"service: the healthcheck `{said}` is always content: what does it ask?"
    )


def _bytes(limit: Any) -> float:
    """Bytes of a limit such as 128m; 0 for one that cannot be read."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([bkmg]?)i?b?", str(limit).strip().lower())
    return float(found[1]) * 1024 ** "bkmg".index(found[2] or "b") if found else 0


def _port(entry: Any) -> str:
    """A published port in the short form, whichever form it was written in."""
    if isinstance(entry, dict):
        entry = ":".join(str(entry[key]) for key in ("host_ip", "published", "target") if key in entry)
    return str(entry).removesuffix("/tcp")


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
