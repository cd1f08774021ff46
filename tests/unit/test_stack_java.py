"""Which Java is taken, and what is said of one that does not fit. The programs here are shell scripts that pretend."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from flow360.errors import Exit, FlowError
from flow360.settings import settings
from flow360.stack.model import Java
from flow360.stack.native import java


def fake(folder: Path, version: str = "", modules: str = "", status: int = 0, text: str | None = None) -> Path:
    """A `java` that answers -version (on standard error, as the real one does) and --list-modules."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True, exist_ok=True)
    answer = text if text is not None else f'openjdk version "{version}" 2025-01-01'
    program.write_text(
        f"#!/bin/sh\ncase $1 in --list-modules) printf '{modules}' ;; *) echo '{answer}' >&2 ;; esac\nexit {status}\n"
    )
    program.chmod(0o755)
    return program


@pytest.fixture(autouse=True)
def forget(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOW360_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FLOW360_ARCHIVES", raising=False)
    settings.cache_clear()
    java.jdk.cache_clear()
    yield
    settings.cache_clear()
    java.jdk.cache_clear()


@pytest.mark.parametrize(("text", "version"), [("17.0.15", 17), ("21", 21), ("21-ea", 21), ("18.0.2.1", 18)])
def test_a_java_that_fits(tmp_path, text, version):
    found = java.inspect(fake(tmp_path, text))
    assert found.version == version
    assert text in found.text


@pytest.mark.parametrize("text", ["11.0.2", "1.8.0_392", "22", "25.0.1"])
def test_a_version_that_does_not_fit_names_the_fix(tmp_path, text):
    with pytest.raises(FlowError, match="the stack needs 17 to 21: set JAVA_HOME") as caught:
        java.inspect(fake(tmp_path, text))
    assert caught.value.code is Exit.JAVA
    assert "\n" not in caught.value.message


def test_a_missing_program(tmp_path):
    with pytest.raises(FlowError, match="does not run .*: set JAVA_HOME") as caught:
        java.inspect(tmp_path / "bin" / "java")
    assert caught.value.code is Exit.JAVA


def test_a_program_that_is_none(tmp_path):
    program = tmp_path / "java"
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(0o755)
    with pytest.raises(FlowError, match="does not run"):
        java.inspect(program)


@pytest.mark.parametrize(("status", "text"), [(1, 'version "17"'), (0, "Hello"), (0, "")])
def test_a_broken_program(tmp_path, status, text):
    with pytest.raises(FlowError, match="-version answers nothing useful: set JAVA_HOME"):
        java.inspect(fake(tmp_path, status=status, text=text))


def test_java_home_wins_over_the_path(tmp_path, monkeypatch):
    home, other = tmp_path / "home", tmp_path / "other"
    fake(home, "17.0.1")
    fake(other, "21.0.1")
    monkeypatch.setenv("PATH", f"{other / 'bin'}{os.pathsep}/usr/bin:/bin")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert java.jdk().version == 17
    monkeypatch.delenv("JAVA_HOME")
    java.jdk.cache_clear()
    assert java.jdk().version == 21


def test_a_path_with_a_space(tmp_path):
    assert java.inspect(fake(tmp_path / "my java", "17.0.1")).version == 17


def test_without_any_java_one_is_downloaded_and_a_failure_is_one_line(tmp_path, monkeypatch):
    import cjdk

    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert java.locate() is None

    def broken(**_):
        raise RuntimeError("no index\nwith a long tale")

    monkeypatch.setattr(cjdk, "java_home", broken)
    with pytest.raises(FlowError, match="no Java, and none could be downloaded .no index.: install a JDK 17") as caught:
        java.jdk()
    assert caught.value.code is Exit.JAVA
    assert "\n" not in caught.value.message
    fake(tmp_path / "jdk", "17.0.9")
    monkeypatch.setattr(cjdk, "java_home", lambda **_: tmp_path / "jdk")
    assert java.jdk().version == 17


def test_a_trimmed_java_is_told_which_modules_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    fake(tmp_path, "17.0.1", modules="java.base@17.0.1\\njava.sql@17.0.1\\n")
    java.require_modules(["java.base", "java.sql"])
    with pytest.raises(FlowError, match=r"without java\.naming, jdk\.incubator\.vector: set JAVA_HOME"):
        java.require_modules(["java.base", "jdk.incubator.vector", "java.naming"])


# --- the command line of a service ------------------------------------------------------------------------------------


def command(tmp_path: Path, jars: list[Path], cds: bool = True) -> list[str]:
    spec = Java("org.example.Main", "64m", ("-Dx=y",))
    return java.command("svc", spec, jars, ["a b", "c"], tmp_path / "conf dir", cds=cds)


def test_the_class_path_stands_in_a_file_and_survives_spaces_and_quotes(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    fake(tmp_path, "17.0.1")
    jars = [tmp_path / "my jars" / "a.jar", tmp_path / 'b"c.jar']
    line = command(tmp_path, jars, cds=False)
    assert line[-3:] == ["org.example.Main", "a b", "c"]
    assert line[0] == str(tmp_path / "bin" / "java")
    assert "-Xmx64m" in line
    assert "-Dx=y" in line
    option, quoted = (tmp_path / "conf dir" / "java.args").read_text().splitlines()
    assert option == "-cp"
    assert quoted == f'"{jars[0]}:{str(jars[1]).replace(chr(34), chr(92) + chr(34))}"'
    assert f"@{tmp_path / 'conf dir' / 'java.args'}" in line


def archive_option(tmp_path: Path, jars: list[Path]) -> str:
    """What the argument file says about the archive."""
    command(tmp_path, jars)
    lines = (tmp_path / "conf dir" / "java.args").read_text().splitlines()
    (found,) = [line.strip('"') for line in lines if "Archive" in line]
    return found


@pytest.fixture
def java17(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    return fake(tmp_path, "17.0.1")


def test_the_class_archive_is_written_first_and_used_then(tmp_path, java17):
    jars, folder = [tmp_path / "a.jar"], tmp_path / "conf dir"
    before = command(tmp_path, jars)
    option, _, written = archive_option(tmp_path, jars).partition("=")
    assert option == "-XX:ArchiveClassesAtExit"
    java.keep_archive("svc", jars, folder)
    assert java.find_archive("svc", jars) is None
    Path(written).write_bytes(b"archive")
    assert java.find_archive("svc", jars) is None, "a half-written archive must not be taken for a whole one"
    java.keep_archive("svc", jars, folder)
    archive = java.find_archive("svc", jars)
    assert archive.read_bytes() == b"archive"
    assert archive_option(tmp_path, jars) == f"-XX:SharedArchiveFile={archive}"
    assert command(tmp_path, jars) == before, "or the next `up` would restart a service that runs"


def test_a_stack_that_may_write_no_archive_uses_one_that_is_there(tmp_path, java17, monkeypatch):
    jars, folder = [tmp_path / "a.jar"], tmp_path / "conf dir"
    written = Path(archive_option(tmp_path, jars).partition("=")[2])
    monkeypatch.setenv("FLOW360_ARCHIVES", "false")
    settings.cache_clear()
    command(tmp_path, jars)
    assert "Archive" not in (folder / "java.args").read_text("utf-8")
    written.write_bytes(b"archive")
    java.keep_archive("svc", jars, folder)
    assert archive_option(tmp_path, jars) == f"-XX:SharedArchiveFile={java.find_archive('svc', jars)}"


def test_a_cut_archive_is_not_used_but_made_anew(tmp_path, java17):
    jars, folder = [tmp_path / "a.jar"], tmp_path / "conf dir"
    Path(archive_option(tmp_path, jars).partition("=")[2]).write_bytes(b"archive")
    java.keep_archive("svc", jars, folder)
    archive = java.find_archive("svc", jars)
    archive.write_bytes(b"arch")
    assert archive_option(tmp_path, jars).startswith("-XX:ArchiveClassesAtExit=")
    assert not archive.exists()


def test_an_archive_that_another_checkout_removes_meanwhile_is_made_once_more(tmp_path, java17, monkeypatch):
    jars = [tmp_path / "a.jar"]
    Path(archive_option(tmp_path, jars).partition("=")[2]).write_bytes(b"archive")
    java.keep_archive("svc", jars, tmp_path / "conf dir")

    def removed(_path: Path) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(java.os, "utime", removed)
    assert archive_option(tmp_path, jars).startswith("-XX:ArchiveClassesAtExit=")


def test_the_archive_of_a_killed_jvm_is_thrown_away(tmp_path, java17):
    jars, folder = [tmp_path / "a.jar"], tmp_path / "conf dir"
    written = Path(archive_option(tmp_path, jars).partition("=")[2])
    written.write_bytes(b"arch")
    java.keep_archive("svc", jars, folder, whole=False)
    assert java.find_archive("svc", jars) is None
    assert not written.exists()


def test_another_java_or_class_path_has_another_archive_and_two_checkouts_write_two_files(tmp_path, java17):
    def written(name: str = "svc", jar: str = "a.jar", folder: str = "conf") -> str:
        java.command(name, Java("M", "1m"), [tmp_path / jar], [], tmp_path / folder)
        return (tmp_path / folder / "java.args").read_text().splitlines()[2]

    one = written()
    assert len({one, written(jar="b.jar"), written(name="other"), written(folder="conf2")}) == 4
    fake(tmp_path, "17.0.2")
    java.jdk.cache_clear()
    assert one != written()


def test_an_archive_of_jars_that_were_made_again_is_made_again(tmp_path, java17):
    jar = tmp_path / "a.jar"
    jar.write_bytes(b"jar")
    Path(archive_option(tmp_path, [jar]).partition("=")[2]).write_bytes(b"archive")
    java.keep_archive("svc", [jar], tmp_path / "conf dir")
    assert java.find_archive("svc", [jar])
    os.utime(jar, (1, 1))
    assert java.find_archive("svc", [jar]) is None, "the JVM would refuse it at each start, and never write another one"


def test_the_first_archive_stays_and_one_that_nothing_has_used_for_a_month_goes(tmp_path, java17):
    jars = [tmp_path / "a.jar"]

    def write_part(name: str, folder: str) -> Path:
        java.command(name, Java("M", "1m"), jars, [], tmp_path / folder)
        part = Path((tmp_path / folder / "java.args").read_text().splitlines()[2].strip('"').partition("=")[2])
        part.write_bytes(folder.encode())
        return part

    write_part("svc", "conf")
    unused = write_part("svc", "conf2").with_name("gone-0123-4.jsa")
    unused.write_bytes(b"jsa!")
    for folder in ("conf", "conf2"):
        java.keep_archive("svc", jars, tmp_path / folder)
    archive = java.find_archive("svc", jars)
    assert archive.read_bytes() == b"conf"
    assert set(archive.parent.iterdir()) == {archive, unused}
    for path in (unused, archive):
        os.utime(path, (1, 1))
    assert java.find_archive("svc", jars) == archive, "somebody uses it"
    write_part("new", "conf")
    java.keep_archive("new", jars, tmp_path / "conf")
    assert set(archive.parent.iterdir()) == {archive, java.find_archive("new", jars)}


def test_a_machine_whose_name_has_no_address_gets_a_file_of_hosts(tmp_path, java17, monkeypatch):
    def lines() -> str:
        command(tmp_path, [tmp_path / "a.jar"])
        return (tmp_path / "conf dir" / "java.args").read_text()

    def unknown(_host, _port):
        raise socket.gaierror

    java.name_resolves.cache_clear()
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, _port: [1])
    assert "hosts" not in lines()
    java.name_resolves.cache_clear()
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(socket, "gethostname", lambda: "nowhere")
    assert f'"-Djdk.net.hosts.file={tmp_path / "conf dir" / "hosts"}"' in lines()
    assert (tmp_path / "conf dir" / "hosts").read_text() == "127.0.0.1 localhost nowhere\n"
    java.name_resolves.cache_clear()
