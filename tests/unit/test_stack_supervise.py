"""The keeper of the processes: its config file, and a real supervisord with small programs in a folder with a space."""

from __future__ import annotations

import configparser
import os
import resource
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from flow360.environment import MARK
from flow360.errors import FlowError
from flow360.settings import settings
from flow360.stack import probes
from flow360.stack.memory import pss_mb
from flow360.stack.model import model
from flow360.stack.native import supervise
from flow360.stack.native.program import STOP, Program, inherited
from flow360.stack.native.supervise import Supervisor

# A child of a child: ending a program must end it too. Both wait to be signalled.
FAMILY = "import signal, subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']); "
PAUSE = "import signal; signal.pause()"


def until(condition, what: str, deadline: float = 15.0) -> None:
    missing = probes.wait_ready(lambda: None if condition() else what, deadline, lambda: None, pause=0.05)
    assert missing is None, missing


def gone(process: psutil.Process) -> bool:
    """Ended; a zombie that nobody has asked for yet has ended, too."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def program(folder: Path, name: str = "sleeper", code: str = PAUSE, **more) -> Program:
    return Program(name, [sys.executable, "-c", code], folder, folder / "logs" / f"{name}.log", **more)


# --- its section of the config file -----------------------------------------------------------------------------------


def parsed(one: Program) -> configparser.SectionProxy:
    """The section, read as supervisor reads it (comments after a blank and all)."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(one.section("owner"))
    return parser[f"program:{one.name}"]


@pytest.mark.parametrize(
    "awkward", ["a b", "100%", "%(here)s", "it's", 'say "hi"', "back\\slash", "tab\there", "$HOME"]
)
def test_awkward_arguments_come_through(awkward):
    one = Program("x", ["/bin/echo", awkward], Path("/tmp"), Path("/tmp/x.log"))
    assert shlex.split(parsed(one)["command"] % {}) == ["/bin/echo", awkward]


@pytest.mark.parametrize(
    "awkward", ["a b", "100%", "%(here)s", 'say "hi" now', "back\\slash", "comma,equals=it's", "a;b", "a#b", "ünï"]
)
def test_awkward_variables_come_through(awkward):
    from supervisor.datatypes import dict_of_key_value_pairs

    one = Program("x", ["/bin/true"], Path("/tmp"), Path("/tmp/x.log"), {"A": awkward, "B": "2"})
    got = dict_of_key_value_pairs(parsed(one)["environment"] % {})
    assert got == {"A": awkward, "B": "2", MARK: "owner:x", STOP: "TERM"}


@pytest.mark.parametrize("awkward", ["/my #1 course", "/a ;b", "/a\n[program:y]\ncommand=/bin/evil"])
def test_what_supervisor_cannot_read_is_refused_in_one_line(awkward):
    for one in (
        Program("x", ["/bin/echo", awkward], Path("/tmp"), Path("/x.log")),
        Program("x", ["/bin/true"], Path(awkward), Path("/x.log")),
        Program("x", ["/bin/true"], Path("/tmp"), Path(awkward)),
        Program("x", ["/bin/true"], Path("/tmp"), Path("/x.log"), {"A": awkward}),
    ):
        with pytest.raises(FlowError, match="rename the folder") as caught:
            one.section("owner")
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("awkward", ['it\'s "both"', '"quoted"', "ends with'"])
def test_quotes_that_supervisor_cannot_carry_are_refused(awkward):
    with pytest.raises(FlowError, match="such quotes"):
        Program("x", ["/bin/true"], Path("/tmp"), Path("/x.log"), {"A": awkward}).section("owner")


def test_a_path_with_a_percent_sign_comes_through():
    section = parsed(Program("x", ["/bin/true"], Path("/50% off"), Path("/50% off/x.log")))
    assert section["directory"] % {} == "/50% off"
    assert section["stdout_logfile"] % {} % {} == "/50% off/x.log", "supervisor does this one twice"


def test_whole_groups_are_stopped_and_postgresql_by_its_fast_signal():
    section = parsed(Program("x", ["/bin/true"], Path("/"), Path("/x"), {}, "nobody", 7, "INT"))
    assert section["stopasgroup"] == section["killasgroup"] == "true"
    assert section["stopsignal"] == "INT"
    assert section["user"] == "nobody"
    assert section["stopwaitsecs"] == "7"
    assert parsed(Program("x", ["/bin/true"], Path("/"), Path("/x")))["stopsignal"] == "TERM"
    assert {s.native.stop_signal for s in model().services.values() if s.native.prepare == "postgres"} == {"INT"}


# --- a real supervisord -----------------------------------------------------------------------------------------------


@pytest.fixture
def supervisor(tmp_path):
    """A supervisord's keeper in a folder with a space; whatever it started is gone afterwards."""
    one = Supervisor(tmp_path / "a folder" / "state 100%")
    yield one
    if daemon := one.daemon():
        daemon.kill()  # quicker than an orderly end, which has a test of its own
    one.end_orphans(2)


def family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def test_a_service_asks_this_machine_directly_whatever_the_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.0/8")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy:1080")
    found = inherited()
    assert "ALL_PROXY" not in found
    assert found["https_proxy"] == "http://proxy:3128"
    assert found["no_proxy"] == found["NO_PROXY"] == "localhost,127.0.0.0/8,127.0.0.1,localhost"


def test_where_tmp_lets_nothing_run_java_unpacks_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOW360_CACHE", str(tmp_path))
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Da=b")
    settings.cache_clear()
    for flag, expected in ((0, None), (os.ST_NOEXEC, f'"-Djava.io.tmpdir={tmp_path / "tmp"}"')):
        monkeypatch.setattr(supervise.os, "statvfs", lambda _path, flag=flag: SimpleNamespace(f_flag=flag))
        assert inherited().get("JAVA_TOOL_OPTIONS") == expected, "and nobody else's options"
    settings.cache_clear()


def test_a_program_may_have_as_many_files_open_as_the_system_allows_up_to_a_bound(supervisor):
    supervisor.state.mkdir(parents=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))  # as most systems have it
    try:
        supervisor.ensure([program(supervisor.state)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    supervisor.start("sleeper")
    pid = supervisor.processes()["sleeper"]["pid"]
    assert psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE)[0] == min(supervise.FILES, hard)


def test_start_stop_and_what_it_says_of_itself(supervisor):
    folder = supervisor.state
    folder.mkdir(parents=True)
    assert not supervisor.alive()
    assert supervisor.processes() == {}
    assert supervisor.dead("sleeper") == "supervisord does not know it"
    supervisor.ensure([program(folder, code=FAMILY + "print('hello', flush=True); signal.pause()")])
    assert supervisor.alive()
    assert supervisor.daemon()
    assert "stopped" in supervisor.dead("sleeper")
    supervisor.start("sleeper")
    supervisor.start("sleeper")  # the second time is not an error
    assert supervisor.dead("sleeper") is None
    pid = supervisor.processes()["sleeper"]["pid"]
    until(lambda: len(family(pid)) == 2, "a grandchild")
    until(lambda: "hello" in (folder / "logs" / "sleeper.log").read_text(), "its log")
    assert psutil.Process(pid).environ()[MARK] == f"{folder}:sleeper"
    assert 0 < pss_mb([pid]) < 200
    processes = family(pid)
    supervisor.stop("sleeper")
    supervisor.stop("sleeper")
    until(lambda: all(map(gone, processes)), "the end of the whole group")
    with pytest.raises(FlowError, match="ghost did not start"):
        supervisor.start("ghost")
    supervisor.stop("ghost")


def test_what_is_secret_is_readable_by_its_owner_only(supervisor):
    supervisor.state.mkdir(parents=True)
    supervisor.ensure([program(supervisor.state, environment={"TOKEN": "x"})])
    for path in (supervisor.run / "sleeper.program", supervisor.conf, supervisor.socket):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_killed_program_is_started_again(supervisor):
    supervisor.state.mkdir(parents=True)
    supervisor.ensure([program(supervisor.state)])
    supervisor.start("sleeper")
    # Only after startsecs does supervisor call it RUNNING; before, a death counts as a failed start.
    until(lambda: supervisor.processes()["sleeper"]["statename"] == "RUNNING", "RUNNING")
    pid = supervisor.processes()["sleeper"]["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: supervisor.processes()["sleeper"]["pid"] not in (0, pid), "another process")


@pytest.mark.parametrize("wait", [0.0, 0.02, 0.2])
def test_a_program_that_crashed_just_now_stays_stopped(supervisor, wait):
    """Between a crash and the restart, supervisord says that it does not run; stopped it must be all the same."""
    supervisor.state.mkdir(parents=True)
    supervisor.ensure([program(supervisor.state, stop_seconds=2)])  # a TERM between fork and exec is lost
    supervisor.start("sleeper")
    until(lambda: supervisor.processes()["sleeper"]["statename"] == "RUNNING", "RUNNING")
    os.kill(supervisor.processes()["sleeper"]["pid"], signal.SIGKILL)
    time.sleep(wait)
    supervisor.stop("sleeper")
    time.sleep(1.5)  # longer than supervisord takes to start it again
    row = supervisor.processes()["sleeper"]
    assert (row["pid"], row["statename"]) == (0, "STOPPED")


def test_a_program_that_cannot_run_is_told(supervisor):
    supervisor.state.mkdir(parents=True)
    broken = Program("broken", ["/no/such/program"], supervisor.state, supervisor.state / "broken.log")
    ends = program(supervisor.state, "ends", "raise SystemExit(3)")
    supervisor.ensure([broken, ends])
    supervisor.start("ends")
    until(lambda: supervisor.dead("ends") is not None, "BACKOFF")
    assert "it ends right after its start" in supervisor.dead("ends")
    with pytest.raises(FlowError, match="broken did not start: .*(NO_FILE|/no/such/program)"):
        supervisor.start("broken")


def test_ensure_leaves_running_programs_alone_and_takes_new_and_changed_ones(supervisor):
    folder = supervisor.state
    folder.mkdir(parents=True)
    supervisor.ensure([program(folder)])
    supervisor.start("sleeper")
    pid, daemon = supervisor.processes()["sleeper"]["pid"], supervisor.daemon()
    supervisor.ensure([program(folder), program(folder, "second")])
    supervisor.start("second")
    assert supervisor.processes()["sleeper"]["pid"] == pid
    assert supervisor.daemon() == daemon
    supervisor.ensure([program(folder, "second", environment={"NEW": "1"})])
    assert supervisor.processes()["sleeper"]["pid"] == pid
    assert supervisor.processes()["second"]["pid"] == 0, "what changed is stopped, to be started again"


def test_shutdown_ends_everything(supervisor):
    supervisor.state.mkdir(parents=True)
    supervisor.ensure([program(supervisor.state, code=FAMILY + "signal.pause()")])
    supervisor.start("sleeper")
    pid = supervisor.processes()["sleeper"]["pid"]
    until(lambda: len(family(pid)) == 2, "a grandchild")
    processes = [*family(pid), supervisor.daemon()]
    supervisor.shutdown(30)
    assert all(map(gone, processes))
    assert not supervisor.alive()
    assert not supervisor.socket.exists()
    supervisor.shutdown(1)  # twice is not an error


def test_the_children_of_a_killed_supervisord_are_found_and_ended(supervisor):
    folder = supervisor.state
    folder.mkdir(parents=True)
    stubborn = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    )
    supervisor.ensure([program(folder, code=FAMILY + "signal.pause()"), program(folder, "stubborn", stubborn)])
    supervisor.start("sleeper")
    supervisor.start("stubborn")
    until(lambda: "ready" in (folder / "logs" / "stubborn.log").read_text(), "a deaf program")
    pid = supervisor.processes()["sleeper"]["pid"]
    until(lambda: len(family(pid)) == 2, "a grandchild")
    assert supervisor.orphans() == [], "while supervisord lives, nobody is an orphan"
    daemon = supervisor.daemon()
    daemon.kill()
    until(lambda: gone(daemon), "its end")
    orphans = supervisor.orphans()
    assert len(orphans) == 3
    other = Supervisor(folder.with_name("another"))
    assert other.orphans() == [], "another checkout's supervisor has nothing to do with them"
    assert supervisor.daemon() is None, "a stale pid file names nobody"
    assert supervisor.end_orphans(1) == ["sleeper", "stubborn"]
    assert all(map(gone, orphans))
    supervisor.ensure([program(folder)])
    supervisor.start("sleeper")
    assert supervisor.dead("sleeper") is None


def test_the_children_of_a_killed_program_are_found_and_ended_while_supervisord_lives(supervisor):
    """Spark's Python workers outlive a killed driver: it is started again, and they are nobody's."""
    supervisor.state.mkdir(parents=True)
    away = FAMILY.replace("']);", "'], start_new_session=True);")  # in a group of its own, as daemons are
    supervisor.spared = frozenset(["desk"])
    supervisor.ensure([program(supervisor.state, name, away + "signal.pause()") for name in ("driver", "desk")])
    killed = {}
    for name in ("driver", "desk"):
        supervisor.start(name)
        pid = supervisor.processes()[name]["pid"]
        until(lambda pid=pid: len(family(pid)) == 2, "a grandchild")
        killed[name] = family(pid)
    until(lambda: all(row["statename"] == "RUNNING" for row in supervisor.processes().values()), "RUNNING")
    for parent, _ in killed.values():
        parent.kill()

    def started_again() -> list[psutil.Process]:
        pid = supervisor.processes()["driver"]["pid"]
        return family(pid) if pid not in (0, killed["driver"][0].pid) else []

    until(lambda: len(started_again()) == 2, "another driver with its child", 30)
    again = started_again()
    child_of_the_driver, child_of_the_desk = (children[1] for children in killed.values())
    try:
        assert supervisor.orphans() == [child_of_the_driver]
        assert supervisor.end_orphans(5) == ["driver"]
        assert gone(child_of_the_driver)
        assert not any(map(gone, again)), "what is below supervisord is kept"
        assert not gone(child_of_the_desk), "a learner's own work"
        assert supervisor.alive()
    finally:
        child_of_the_desk.kill()


def test_a_child_that_wrote_its_title_over_its_environment_is_found_by_its_folder(supervisor):
    """As PostgreSQL's sessions do; somebody's shell in that folder is left alone."""
    place = supervisor.state / "database" / "data"
    place.mkdir(parents=True)
    with (
        subprocess.Popen([sys.executable, "-c", PAUSE], cwd=place, env={}) as session,
        subprocess.Popen([sys.executable, "-c", PAUSE], cwd=place, env={"HOME": "/"}) as shell,
        subprocess.Popen([sys.executable, "-c", PAUSE], cwd=supervisor.state, env={}) as nobody,
    ):
        try:
            found = {one.pid: supervisor.service_of(psutil.Process(one.pid)) for one in (session, shell, nobody)}
            assert found == {session.pid: "database", shell.pid: None, nobody.pid: None}
        finally:
            for one in (session, shell, nobody):
                one.kill()


def test_a_program_that_ends_is_waited_for_while_it_is_started_again_and_given_up_then(supervisor):
    """A broker that meets its own registration of before the crash ends; the next one does not."""
    supervisor.state.mkdir(parents=True)
    supervisor.ensure([program(supervisor.state, "ends", "raise SystemExit(3)")])
    began = time.time()
    supervisor.start("ends")
    until(lambda: supervisor.processes()["ends"]["statename"] == "BACKOFF", "BACKOFF")
    assert supervisor.dead("ends", began) is None
    assert supervisor.dead("ends", began - supervise.RESTART - 1) is not None
    assert supervisor.dead("ends") is not None
    supervisor.stop("ends")
    assert "stopped" in supervisor.dead("ends", began), "nobody starts it again"


def test_a_folder_whose_name_begins_alike_is_not_ours(supervisor):
    """/state and /state-test are two checkouts' folders: the mark ends with a colon."""
    supervisor.state.mkdir(parents=True)
    supervisor.ensure([program(supervisor.state)])
    supervisor.start("sleeper")
    daemon = supervisor.daemon()
    daemon.kill()
    until(lambda: gone(daemon), "its end")
    # Between its fork and its exec a program does not bear the mark yet.
    until(lambda: len(supervisor.orphans()) == 1, "the orphan to be recognized")
    assert Supervisor(supervisor.state.with_name("state 100")).orphans() == []


def test_a_stale_pid_file_of_another_program_is_not_believed(supervisor):
    supervisor.run.mkdir(parents=True)
    for text in (str(os.getpid()), "1", "99999999", "not a number", ""):
        supervisor.pidfile.write_text(text)
        assert supervisor.daemon() is None, text
        assert not supervisor.alive()
    supervisor.ensure([program(supervisor.state)])
    assert supervisor.alive()


@pytest.mark.parametrize("runtime", ["", "runtime"])
def test_a_path_too_long_for_a_socket_is_replaced_by_one_that_nobody_can_take_before_us(tmp_path, monkeypatch, runtime):
    """And another shell, with other variables, finds it; a folder that was cleaned away is made again."""
    short = Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))  # noqa: S108 - pytest's own folder is too long for a socket
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short) if runtime else "/no/such/folder")
    state = tmp_path / ("long" * 30)
    state.mkdir()
    one, other = Supervisor(state), Supervisor(state)
    try:
        one.ensure([program(state)])
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        assert other.alive()
        folder = other.socket.parent
        assert (folder.parent == short) == bool(runtime)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        other.shutdown(30)
        assert not folder.exists()
        one.ensure([program(state)])
        assert other.alive()
    finally:
        one.shutdown(30)
        short.rmdir()
