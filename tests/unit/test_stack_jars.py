"""Jars and packages: what is locked, what counts as here, and what happens to a file that is not the right one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from flow360.errors import Exit, FlowError
from flow360.ingestion.connect import connectors
from flow360.settings import settings
from flow360.stack.model import STACK, JarGroup, Model, model
from flow360.stack.native import debian, jars, own_jars
from flow360.stack.native.jars import Jar, read_lock

BODY = b"not really a jar, but it has bytes" * 40


def jar(body: bytes = BODY, name: str = "org.example:tool:1.0") -> Jar:
    return Jar(name, hashlib.sha256(body).hexdigest())


def put(one: Jar, body: bytes = BODY) -> Path:
    one.path.parent.mkdir(parents=True, exist_ok=True)
    one.path.write_bytes(body)
    return one.path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache for each test."""
    monkeypatch.setenv("FLOW360_CACHE", str(tmp_path / "cache"))
    settings.cache_clear()
    yield tmp_path / "cache"
    settings.cache_clear()


class Repository:
    """Stands in for jgo's MavenContext: `answers` are given one by one, bytes to write or an error to raise."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, repo_cache: Path, timeout: float) -> Repository:
        self.root = repo_cache
        return self

    def project(self, group: str, artifact: str) -> Repository:
        self.path = self.root / group.replace(".", "/") / artifact
        self.name = artifact
        return self

    def at_version(self, version: str) -> Repository:
        self.path = self.path / version / f"{self.name}-{version}.jar"
        return self

    def artifact(self, classifier: str, packaging: str) -> Repository:
        return self

    def resolve(self) -> Path:
        self.asked.append(self.path.name)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(answer)
        return self.path


@pytest.fixture
def repository(monkeypatch):
    def use(*answers: bytes | Exception) -> Repository:
        import jgo.maven

        one = Repository(*answers)
        monkeypatch.setattr(jgo.maven, "MavenContext", one)
        return one

    return use


# --- coordinates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coordinates", "parts", "tail"),
    [
        ("org.a.b:c:1.2", ("org.a.b", "c", "1.2", "", "jar"), "org/a/b/c/1.2/c-1.2.jar"),
        ("g:c:1:linux", ("g", "c", "1", "linux", "jar"), "g/c/1/c-1-linux.jar"),
        ("g:c:1:plugin@tar.gz", ("g", "c", "1", "plugin", "tar.gz"), "g/c/1/c-1-plugin.tar.gz"),
        ("g:c:1@zip", ("g", "c", "1", "", "zip"), "g/c/1/c-1.zip"),
    ],
)
def test_parts_and_path(coordinates, parts, tail, cache):
    one = Jar(coordinates, "0")
    assert one.parts == parts
    assert one.path == cache / "maven" / tail


# --- what counts as here ----------------------------------------------------------------------------------------------


def test_a_file_counts_only_after_it_was_hashed():
    one = jar()
    assert not one.present()
    assert not one.verify()
    put(one)
    assert not one.present()
    assert one.verify()
    assert one.present()


def test_a_truncated_file_does_not_count():
    one = jar()
    put(one)
    one.verify()
    put(one, BODY[:-1])
    assert not one.present()
    assert not one.verify()


def test_a_damaged_file_of_the_same_size_is_found_by_its_hash():
    one = jar()
    put(one, b"X" + BODY[1:])
    assert not one.verify()
    assert not one.present()


def test_one_that_was_altered_after_its_check_is_found_though_size_and_times_say_nothing():
    one = jar()
    put(one)
    assert one.verify()
    before = one.path.stat()
    with one.path.open("r+b") as file:
        file.write(b"X")
    os.utime(one.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert one.path.stat().st_size == before.st_size
    assert not one.present()


def test_each_boot_hashes_anew_and_once(monkeypatch):
    one = jar()
    put(one)
    hashed = []
    monkeypatch.setattr(jars, "sha256", lambda path: hashed.append(path) or one.sha256)
    assert one.verify()
    assert one.present()
    assert len(hashed) == 1
    monkeypatch.setattr(jars, "_boot", lambda: "the next one")
    assert one.present()
    assert one.present()
    assert len(hashed) == 2


def test_a_file_of_another_lock_does_not_count():
    one = jar()
    put(one)
    one.verify()
    assert not Jar(one.coordinates, "0" * 64).present()


# --- fetching ---------------------------------------------------------------------------------------------------------


def test_fetch_brings_what_is_missing_and_says_so(repository):
    one = jar()
    asked = repository(BODY)
    seen = []
    jars.fetch([one], lambda *event: seen.append(event))
    assert one.present()
    assert seen == [(1, 1, "tool")]
    jars.fetch([one])
    assert asked.asked == ["tool-1.0.jar"], "the second fetch asks nobody"


def test_a_truncated_file_is_fetched_again(repository):
    one = jar()
    put(one, BODY[:100])
    asked = repository(BODY)
    jars.fetch([one])
    assert one.present()
    assert len(asked.asked) == 1


def test_a_truncated_answer_is_asked_for_again(repository):
    asked = repository(BODY[:50], BODY)
    jars.fetch([jar()])
    assert len(asked.asked) == 2
    assert jar().present()


def test_a_file_that_is_not_the_locked_one_is_refused_and_removed(repository):
    one = jar()
    repository(b"evil", b"evil", b"evil")
    with pytest.raises(FlowError, match=r"org\.example:tool:1\.0 came, but is not the locked file") as caught:
        jars.fetch([one])
    assert caught.value.code is Exit.FAILED
    assert not one.path.exists(), "the message says that it was removed"
    assert not one.present()


def test_a_hiccup_is_tried_again(repository):
    asked = repository(ConnectionError("reset"), ConnectionError("reset"), BODY)
    jars.fetch([jar()])
    assert len(asked.asked) == 3
    assert jar().present()


def test_no_network_is_one_line_with_its_own_code(repository):
    repository(*[ConnectionError("no route\nto host")] * 3)
    with pytest.raises(FlowError, match="is there a network") as caught:
        jars.fetch([jar()])
    assert caught.value.code is Exit.NETWORK
    assert "\n" not in caught.value.message


def test_a_full_disk_is_said_at_once(repository):
    asked = repository(OSError(28, "No space left on device"))
    with pytest.raises(FlowError, match="no room in") as caught:
        jars.fetch([jar()])
    assert caught.value.code is Exit.DISK
    assert len(asked.asked) == 1


def test_what_came_before_a_failure_is_kept(repository):
    good, bad = jar(), jar(name="org.example:zzz:1.0")
    jars.fetch([good]) if good.present() else put(good)
    repository(*[ConnectionError("x")] * 3)
    with pytest.raises(FlowError):
        jars.fetch([good, bad])
    assert good.present()


def test_missing_names_each_jar_once(cache):
    lock = read_lock()["kafka"]
    assert jars.missing([]) == []
    assert jars.missing(["kafka", "kafka"]) == lock


# --- Debian packages --------------------------------------------------------------------------------------------------


def test_packages_count_only_when_they_are_exactly_these():
    note = debian.root_of("mosquitto") / ".packages"
    assert not debian.present("mosquitto", ["a", "b"])
    note.parent.mkdir(parents=True)
    note.write_text("a b\n", "utf-8")
    assert debian.present("mosquitto", ["a", "b"])
    assert not debian.present("mosquitto", ["a"])


def test_a_system_without_apt_is_told_of_the_other_engine(monkeypatch):
    monkeypatch.setattr(jars.shutil, "which", lambda _name: None)
    with pytest.raises(FlowError, match="no apt: run it with --engine docker"):
        debian.fetch("mosquitto", ["mosquitto"])


def test_of_alternatives_the_first_that_the_system_has_is_taken(monkeypatch, cache):
    asked = []

    def run(command, cwd, **_):
        asked.append(command)
        if command[0] == "apt-get" and "download" in command:
            for name in command[command.index("download") + 1 :]:
                (cwd / f"{name}_1.deb").write_text("")
        return subprocess.CompletedProcess(command, 100 if command[-1] in ("lib17", "lib18") else 0, "", "")

    monkeypatch.setattr(jars.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(jars.subprocess, "run", run)
    debian.fetch("mosquitto", ["mosquitto", "lib17|lib19|lib20"])
    assert debian.present("mosquitto", ["mosquitto", "lib17|lib19|lib20"])
    assert next(c for c in asked if "download" in c)[-2:] == ["mosquitto", "lib19"]
    with pytest.raises(FlowError, match=r"no package lib17\|lib18: run it with --engine docker"):
        debian.fetch("mosquitto", ["lib17|lib18"])


def test_an_archive_that_is_gone_does_not_matter_where_another_has_the_package(monkeypatch, cache):
    def run(command, cwd, **_):
        if "download" in command:
            (cwd / "mosquitto_1.deb").write_text("")
        return subprocess.CompletedProcess(command, 100 if "update" in command else 0, "", "E: a dead archive")

    monkeypatch.setattr(jars.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(jars.subprocess, "run", run)
    debian.fetch("mosquitto", ["mosquitto"])
    assert debian.present("mosquitto", ["mosquitto"])


def test_apts_own_last_line_is_passed_on_and_nothing_half_is_left(monkeypatch, cache):
    def run(command, **_):
        return subprocess.CompletedProcess(command, 100, "", "W: first\nE: Unable to locate package mosquitto")

    monkeypatch.setattr(jars.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(jars.subprocess, "run", run)
    with pytest.raises(FlowError, match="E: Unable to locate package mosquitto") as caught:
        debian.fetch("mosquitto", ["mosquitto"])
    assert caught.value.code is Exit.NETWORK
    assert list((cache / "debian").iterdir()) == []


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_the_lock_holds_every_root_with_a_hash():
    lock = read_lock()
    assert set(lock) == set(model().jar_groups)
    for name, group in model().jar_groups.items():
        locked = [one.coordinates for one in lock[name]]
        assert tuple(locked[: len(group.roots)]) == group.roots, f"{name}: run `flow360 jars lock`"
        assert set(group.also) <= set(locked), f"{name}: run `flow360 jars lock`"
        assert all(len(one.sha256) == 64 and int(one.sha256, 16) for one in lock[name])
        names = [one.parts[:2] + one.parts[3:] for one in lock[name]]
        assert len(set(names)) == len(names), f"{name}: two versions of one artifact"
        for excluded in group.exclude:
            of, artifact = excluded.split(":")
            # What is excluded may come back alone, by name.
            back = [one for one in lock[name] if one.parts[0] == of and artifact in ("*", one.parts[1])]
            assert {one.coordinates for one in back} <= set(group.also), excluded


MAVEN_SAYS = """
The following files have been resolved:
   org.example:root:jar:1.0:compile -- module root (auto)
   org.example:native:jar:linux-x86_64:2.0:runtime
   org.example:alpha:jar:3.0:compile
   org.example:data:zip:4.0:runtime
   org.example:given:jar:5.0:provided
   org.example:asked:jar:6.0:test
"""


def test_maven_s_answer_becomes_the_lock(monkeypatch, cache, tmp_path):
    """Maven is asked once a group; roots first, then the rest by name, then what is added, each with its own hash."""
    asked = []

    def run(command, **_):
        options = dict(word[2:].split("=", 1) for word in command if word.startswith("-D"))
        asked.append((Path(command[command.index("--file") + 1]).read_text("utf-8"), options))
        Path(options["outputFile"]).write_text(MAVEN_SAYS, "utf-8")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(jars.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(jars.subprocess, "run", run)
    also = ("org.example:extra:9:bin@tar.gz",)
    group = JarGroup(roots=("org.example:root:1.0",), exclude=("org.bad:*", "org.other:one"), also=also)
    for one in ("root:1.0", "native:2.0:linux-x86_64", "alpha:3.0", "data:4.0@zip", "extra:9:bin@tar.gz"):
        put(jar(name=f"org.example:{one}"), one.encode())
    count = jars.write_lock(Model({}, {"tool": group, "files": JarGroup(also=also)}), tmp_path / "lock")
    locked = read_lock(tmp_path / "lock")
    assert count == 6
    assert [one.coordinates.removeprefix("org.example:") for one in locked["tool"]] == [
        *("root:1.0", "alpha:3.0", "data:4.0@zip", "native:2.0:linux-x86_64", "extra:9:bin@tar.gz")
    ]
    assert [one.coordinates for one in locked["files"]] == list(also)
    assert all(one.verify() for group in locked.values() for one in group)
    ((pom, options),) = asked
    assert options["maven.repo.local"] == str(cache / "maven")
    assert pom.count("<exclusion>") == 2
    assert "<groupId>org.bad</groupId><artifactId>*</artifactId>" in pom


@pytest.mark.parametrize(
    ("maven", "said", "expected"),
    [
        (None, "", "needs Maven"),
        ("/usr/bin/mvn", "[INFO] x\n[ERROR] no such artifact\n", "group tool: .*no such artifact"),
    ],
)
def test_a_lock_that_cannot_be_made_is_one_line_and_leaves_the_old_one(monkeypatch, tmp_path, maven, said, expected):
    monkeypatch.setattr(jars.shutil, "which", lambda _name: maven)
    monkeypatch.setattr(jars.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, said, ""))
    old = tmp_path / "lock"
    old.write_text("# old\n", "utf-8")
    with pytest.raises(FlowError, match=expected) as caught:
        jars.write_lock(Model({}, {"tool": JarGroup(roots=("g:a:1",))}), old)
    assert "\n" not in caught.value.message
    assert old.read_text("utf-8") == "# old\n"


# --- archives ---------------------------------------------------------------------------------------------------------


def test_an_archive_is_unpacked_once(monkeypatch, tmp_path, cache):
    body = tmp_path / "body.zip"
    with zipfile.ZipFile(body, "w") as file:
        file.writestr("scripts/make.sql", "select 1")
    one = jar(body.read_bytes(), "org.example:tool:1.0:bin@zip")
    put(one, body.read_bytes())
    monkeypatch.setattr(jars, "read_lock", lambda: {"tool": [one]})
    folder = jars.unpacked("tool")
    assert (folder / "scripts" / "make.sql").read_text("utf-8") == "select 1"
    put(one, b"no archive any more")
    assert jars.unpacked("tool") == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


# --- the course's own lock --------------------------------------------------------------------------------------------


def test_no_old_log4j_and_no_address_is_locked():
    text = jars.LOCK.read_text("utf-8")
    assert "://" not in text
    for one in {one for group in read_lock().values() for one in group}:
        group, artifact, version, *_ = one.parts
        assert (group, artifact) != ("log4j", "log4j")
        if artifact == "log4j-core":
            assert tuple(map(int, version.split(".")[:2])) >= (2, 17)


def test_the_locked_broker_is_the_one_that_the_table_names():
    versions = {one.parts[1]: one.parts[2] for one in read_lock()["kafka"]}
    assert f"Kafka {versions['kafka_2.13']}" in model()["kafka"].native.what
    assert f"ZooKeeper {versions['zookeeper']}" in model()["zookeeper"].native.what


def test_programs_are_told_to_look_below_the_folder_they_start_in(tmp_path):
    for place in ("/usr/share/prometheus", "/usr/share/even"):
        program = tmp_path / "program"
        program.write_bytes(b"\x7fELF\0" + place.encode() + b"/web\0" + place.encode() + b"\0rest")
        before = program.stat().st_size
        debian.relocated(tmp_path, place)
        text = program.read_bytes()
        assert len(text) == before
        assert place.encode() not in text
        assert os.path.normpath(text.split(b"\0")[1].decode()) == "web"


def test_packages_that_were_relocated_are_others_than_those_that_were_not(monkeypatch, tmp_path):
    monkeypatch.setattr(debian, "root_of", lambda _name: tmp_path)
    (tmp_path / ".packages").write_text("prometheus\n", "utf-8")
    assert debian.present("prometheus", ["prometheus"])
    assert not debian.present("prometheus", ["prometheus"], "/usr/share/prometheus")


def test_the_locked_lake_is_the_one_that_the_table_names():
    for group, artifact, services in (
        ("hadoop", "hadoop-hdfs", ("namenode", "datanode", "datanode-2", "datanode-3")),
        ("hive", "hive-service", ("hive-metastore", "hive-server", "hive-schema")),
    ):
        version = next(one.parts[2] for one in read_lock()[group] if one.parts[1] == artifact)
        assert all(version in model()[name].native.what for name in services)


@pytest.mark.parametrize(
    "folder", sorted(file.parent for file in STACK.glob("*/make_jar.py")), ids=lambda one: one.name
)
def test_a_jar_of_our_own_was_made_of_the_sources_beside_it(folder):
    with zipfile.ZipFile(folder / "flow360.jar") as jar:
        kept = {name: jar.read(name) for name in jar.namelist()}
    sources = own_jars.sources_of(folder / "java")
    assert {name: data for name, data in kept.items() if name.endswith(".java")} == sources, (
        f"run python {folder.relative_to(STACK.parent)}/make_jar.py"
    )
    assert {name.replace(".java", ".class") for name in sources} <= set(kept)


def test_what_is_captured_is_closed_to_those_without_a_login_under_the_names_that_the_connectors_have():
    doors = (STACK / "kafka" / "java" / "flow360" / "Doors.java").read_text("utf-8")
    for name, config in connectors().items():
        for begin in (f"{config['topic.prefix']}.", f"{config['topic.heartbeat.prefix']}.{config['topic.prefix']}"):
            assert f'"{begin}"' in doors, f"{name}: {begin}"
