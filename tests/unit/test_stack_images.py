"""The images of the docker engine: what they are built from, and what is made of docker's words while they come."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flow360.errors import Exit
from flow360.settings import ROOT
from flow360.stack.docker import images
from flow360.stack.docker.engine import DockerEngine
from flow360.stack.model import model, read_compose

SERVICES: dict[str, dict] = read_compose()["services"]


@pytest.fixture
def engine() -> DockerEngine:
    return DockerEngine(model())


def test_the_build_is_one_dockerfile_with_a_pinned_base():
    builds = [spec["build"] for spec in SERVICES.values() if "build" in spec]
    assert {build["dockerfile"] for build in builds} == {"stack/images/Dockerfile"}
    text = (ROOT / "stack" / "images" / "Dockerfile").read_text("utf-8")
    assert re.search(r"^ARG BASE=\S+:\d\S+$", text, re.MULTILINE)
    for build in builds:
        assert f" AS {build['target']}\n" in text
        assert set(build["args"]) <= set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))
    assert re.search(r"^USER \d+$", text, re.MULTILINE)


def test_the_images_take_their_packages_from_the_lock_and_their_files_through_dockerignore():
    lock = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE))
    lists = sorted((ROOT / "stack" / "images").glob("*.txt"))
    assert lists
    for wanted in lists:
        lines = wanted.read_text("utf-8").splitlines()
        names = [line.partition("[")[0] for line in lines if not line.startswith("#")]
        assert set(names) <= lock
        assert names == sorted(names)
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert ignored[1] == "*"
    for entry in images.INPUTS:
        assert f"!{entry}" in ignored or entry == "stack/images"
        assert (ROOT / entry).exists()


def test_airflow_s_image_has_what_its_added_packages_need():
    """They are installed without their dependencies: each of those is Airflow's own, or stands in the list."""

    def asked_by(name: str, extra: str = "") -> list[Requirement]:
        every = [Requirement(text) for text in distribution(name).requires or ()]
        return [one for one in every if one.marker is None or one.marker.evaluate({"extra": extra})]

    def needs(names: set[tuple[str, str]]) -> set[str]:
        found, left = set(), set(names)
        while left:
            name, extra = left.pop()
            found.add((name, extra))
            for one in asked_by(name, extra):
                left |= {(canonicalize_name(one.name), extra) for extra in ("", *one.extras)} - found
        return {name for name, _ in found}

    lines = (ROOT / "stack" / "images" / "airflow.txt").read_text("utf-8").splitlines()
    added = {line for line in lines if not line.startswith("#")}
    # Spark's client is copied, not installed; what its extra `connect` names is what it needs here.
    wanted = {(name, "") for name in added} | {("pyspark", ""), ("pyspark", "connect")}
    own = needs({("apache-airflow", ""), ("apache-airflow-providers-postgres", "")})
    assert needs(wanted) - own <= added | {"pyspark"}
    # The image may have other versions than our lock: what is wanted in exactly one version must be ours, too.
    exact = {one.name for name, _ in wanted for one in asked_by(name) if any(s.operator == "==" for s in one.specifier)}
    assert {canonicalize_name(name) for name in exact} <= added


def test_what_the_dockerfile_copies_is_there_and_passes_dockerignore():
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    copies = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (ROOT / "stack" / "images" / "Dockerfile").read_text(), re.MULTILINE
    )
    sources = {source for line in copies for source in line.split()}
    assert "stack/images/spark.sh" in sources
    for source in sources:
        assert (ROOT / source).exists()
        inside = (pattern for pattern in allowed if Path(source).is_relative_to(pattern) or fnmatch(source, pattern))
        assert any(inside) or source == "flow360", source  # of flow360, its allowed parts


def test_the_stage_that_fetches_jars_has_all_that_it_imports(tmp_path):
    """It copies single files of the package, so that a change elsewhere fetches nothing again."""
    text = (ROOT / "stack" / "images" / "Dockerfile").read_text("utf-8")
    stage = text[text.index(" AS jars\n") :].split("\nFROM ")[0]
    for sources, target in re.findall(r"^COPY (.+) (\S+)$", stage, re.MULTILINE):
        for source in sources.split():
            if source.startswith("flow360/"):
                (tmp_path / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, tmp_path / target)
    command = [sys.executable, "-c", "import flow360.stack.native.jars as found; print(found.__file__)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(str(tmp_path)), done.stderr


def test_our_images_have_what_their_programs_import(tmp_path):
    """Of the package they get what .dockerignore lets in; the build itself asks the same, but needs a daemon."""
    for entry in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        if entry.startswith(("!flow360", "!stack/layers", "!stack/jars.lock")):
            source, target = ROOT / entry[1:], tmp_path / entry[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    text = (ROOT / "stack" / "images" / "Dockerfile").read_text("utf-8")
    asked = [code for code in re.findall(r"&& python -c '(.+)'$", text, re.MULTILINE) if "flow360" in code]
    assert len(asked) == 2
    for code in asked:
        code = code.partition("; api.build")[0]  # the topology wants its jars
        command = [sys.executable, "-c", f"{code}; import flow360; print(flow360.__file__)"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.stdout.startswith(str(tmp_path)), done.stderr


@pytest.mark.parametrize(
    ("said", "code", "expected"),
    [
        ("Error response from daemon: manifest for a:1 not found: manifest unknown", Exit.NETWORK, "cannot be pulled"),
        ("toomanyrequests: You have reached your unauthenticated pull rate limit.", Exit.NETWORK, "docker login"),
        ("write /var/lib/docker/tmp/x: no space left on device", Exit.DISK, "docker system df"),
    ],
)
def test_an_image_that_cannot_be_had(said, code, expected):
    error = images.not_to_be_had("a:1", ["a: Pulling", said], built=False)
    assert error.code == code
    assert expected in error.message
    assert len(error.message.splitlines()) == 1


def read_all(count, lines: Iterable[str]) -> list[tuple[int, int]]:
    return [(count.done, count.all) for line in lines if count.read(line)]


def test_progress_of_a_pull():
    lines = [
        *("18.6-bookworm: Pulling from library/postgres", "9824c27679d3: Pulling fs layer", "f6f1b1f9d2a1: Waiting"),
        *("9824c27679d3: Pull complete", "f6f1b1f9d2a1: Download complete", "f6f1b1f9d2a1: Pull complete"),
        "Digest: sha256:0123",
    ]
    assert read_all(images.Layers(), lines) == [(0, 1), (0, 2), (1, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    "lines",
    [
        ["Step 1/3 : FROM x", " ---> 123", "Step 2/3 : RUN y", "Step 3/3 : RUN z"],
        ["#5 [primeur 1/3] FROM x", "#5 CACHED", "#6 [primeur 2/3] RUN y", "#7 [market-api primeur 3/3] RUN z"],
    ],
)
def test_progress_of_a_build_with_either_builder(lines):
    assert read_all(images.Steps(), lines) == [(1, 3), (2, 3), (3, 3)]


def test_our_image_is_built_again_when_its_files_differ(engine, monkeypatch):
    image = engine.model["market-api"].image
    monkeypatch.setattr(engine.compose, "images", lambda _names: {image: {images.SOURCE: images.source_digest()}})
    assert engine.images_ready(["market-api"])
    monkeypatch.setattr(engine.compose, "images", lambda _names: {image: {images.SOURCE: "older"}})
    assert not engine.images_ready(["market-api"])
    assert images.missing(engine.compose, [engine.model["market-api"]]) == [image]


def test_each_image_is_fetched_once(engine, monkeypatch):
    monkeypatch.setattr(engine.compose, "images", lambda _names: {})
    fetched: list[str] = []
    monkeypatch.setattr(images, "_fetch_one", lambda _compose, image, _progress: fetched.append(image))
    engine.fetch([*SERVICES, "jupyterlab"], lambda _: None)
    assert sorted(fetched) == sorted({spec["image"] for spec in SERVICES.values()})
