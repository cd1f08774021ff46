"""The fleet's database: what it refuses, what a kill costs, who may come in."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import subprocess
import threading

import psutil
import pymysql
import pytest

from flow360 import clients, lesson
from flow360.errors import FlowError
from flow360.primeur import fleet_load
from flow360.primeur.schema import FLEET, UTC
from flow360.primeur.snapshot import seed_table
from flow360.settings import settings
from tests.faults.support import kill, recovered, report, until
from tests.live.listeners import watched

SERVICES = ("fleet-load",)
ROWS = 50


@pytest.fixture(scope="module", autouse=True)
def beyond(stack) -> set[str]:
    """The fleet, loaded; what could be reached from another machine meanwhile, its data folder's making included."""
    with watched(stack.host.supervisor.service_of) as found:
        stack.reset(["mysql"])
        stack.up(["fleet-load"])
    fleet_load.load()
    return found


@pytest.fixture
def trial():
    """A table of ours, gone afterwards."""
    with clients.mysql(autocommit=True) as db, db.cursor() as cursor:
        cursor.execute("drop table if exists trial")
        cursor.execute("create table trial (id int primary key, code varchar(3), day date, small tinyint)")
    yield
    with clients.mysql(autocommit=True) as db, db.cursor() as cursor:
        cursor.execute("drop table trial")


def rows(name: str) -> list[dict]:
    with clients.mysql(cursorclass=pymysql.cursors.DictCursor) as db, db.cursor() as cursor:
        cursor.execute(f"select * from {name} order by {FLEET[name].key[0]}")
        return list(cursor.fetchall())


def truth(name: str) -> list[dict]:
    """The seed's rows, moments as MySQL gives them: in UTC, without saying so."""
    found = seed_table(name).sort_by(FLEET[name].key[0]).to_pylist()
    moments = [column.name for column in FLEET[name].columns if column.type == UTC]
    for row in found:
        row |= {key: row[key] and row[key].replace(tzinfo=None) for key in moments}
    return found


def test_the_seed_is_there_and_a_load_that_was_cut_off_is_done_again(monkeypatch):
    assert {name: rows(name) for name in FLEET} == {name: truth(name) for name in FLEET}
    assert fleet_load.load() == 0
    lesson.sql("update vans set odometer_km = 0 where van_id = 'VAN-01'", db="mysql")
    assert fleet_load.load() == 0, "changes stay"

    def cut(*_args):
        raise pymysql.OperationalError(2013, "Lost connection")

    with monkeypatch.context() as broken:
        broken.setattr(fleet_load, "insert", cut)
        with pytest.raises(FlowError, match="mysql could not be loaded: Lost connection"):
            fleet_load.load(force=True)
    assert rows("vans")[0]["odometer_km"] == 0, "all of before"
    with monkeypatch.context() as broken:
        broken.setattr(fleet_load, "insert", cut)
        broken.setattr(fleet_load, "SHAPE", "another one")  # its tables are made again, which no transaction takes back
        with pytest.raises(FlowError):
            fleet_load.load()
    assert rows("vans") == []
    assert fleet_load.load() == sum(len(truth(name)) for name in FLEET)
    assert {name: rows(name) for name in FLEET} == {name: truth(name) for name in FLEET}


BAD = (
    ("values (1, 'abcd', null, null)", "Data too long"),
    ("values (1, null, null, 300)", "Out of range"),
    ("values (1, null, '0000-00-00', null)", "Incorrect date"),
    ("values (1, null, '2026-02-30', null)", "Incorrect date"),
    ("values (1, null, null, 1 / 0)", "Division by 0"),
    ("values (1, x'ff', null, null)", "Incorrect string"),
    ("values (1, null, null, 'x')", "Incorrect integer"),
)


@pytest.mark.parametrize(("values", "said"), BAD)
def test_what_does_not_fit_is_refused_not_changed(trial, values, said):
    with pytest.raises(FlowError, match=f"mysql: {said}"):
        lesson.sql(f"insert into trial {values}", db="mysql")
    assert lesson.sql("select count(*) as n from trial", db="mysql").n[0] == 0


def test_its_settings_are_those_of_the_file():
    found = (
        lesson.sql(
            "select @@sql_mode, @@character_set_server, @@time_zone, @@binlog_format, @@binlog_row_image, @@log_bin,"
            " @@sync_binlog, @@innodb_flush_log_at_trx_commit, @@local_infile, @@gtid_strict_mode",
            db="mysql",
        )
        .iloc[0]
        .tolist()
    )
    assert "STRICT_TRANS_TABLES" in found[0]
    assert found[1:] == ["utf8mb4", "+00:00", "ROW", "FULL", 1, 1, 1, 0, 1]


@pytest.mark.timeout(200)
def test_a_kill_among_commits_loses_none_of_them(stack, trial, beyond):
    told: list[int] = []

    def write() -> None:
        """One transaction a row, until the server is gone; noted once it has said that the row is kept."""
        with contextlib.suppress(pymysql.Error), clients.mysql() as db, db.cursor() as cursor:
            for number in itertools.count():
                cursor.execute("insert into trial (id) values (%s)", [number])
                db.commit()
                told.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    until(lambda: len(told) >= ROWS, "some rows")
    back = recovered(stack, "mysql", kill(stack, "mysql"))
    writer.join(30)
    assert not writer.is_alive()
    held = lesson.sql("select id from trial order by id", db="mysql").id.tolist()
    report(
        "MySQL killed among commits",
        told=len(told),
        held=len(held),
        lost=len(set(told) - set(held)),
        beyond=len(beyond),
        recovery=back,
    )
    # The last one may have been committed without our hearing of it.
    assert held in (told, [*told, len(told)])
    with watched(stack.host.supervisor.service_of) as after_a_kill:
        psutil.Process(stack.host.pids()["mysql"]).kill()
        stack.up(["mysql"])
    assert not beyond | after_a_kill


# --- who may come in --------------------------------------------------------------------------------------------------


def test_without_the_password_nobody_comes_in_and_there_are_no_other_accounts():
    s = settings()
    wrong = (("root", ""), ("root", s.fleet_password), ("fleet", ""), ("fleet", "x"), ("", ""), ("mysql", ""))
    for user, password in wrong:
        with pytest.raises(FlowError, match="mysql refused the password"):
            clients.mysql(user=user, password=password, database=None)
    with clients.mysql(user="root", password=s.fleet_root_password) as db, db.cursor() as cursor:
        cursor.execute("select user from mysql.user where user not in ('mariadb.sys', 'capture') order by user")
        assert cursor.fetchall() == (("fleet",), ("root",))


def test_the_fleets_own_user_has_its_database_and_nothing_else():
    for query in ("select * from mysql.global_priv", "create database other", "select 1 into outfile '/tmp/x'"):
        with pytest.raises(FlowError, match="^mysql: .* denied"):
            lesson.sql(query, db="mysql")
    # Its password was right: nobody is told to make the database again.
    with pytest.raises(FlowError, match="^mysql runs .* but: Access denied .* to database 'mysql'"):
        clients.mysql(database="mysql")
    # What it may not read is nothing to this function, as if there were no such file.
    assert lesson.sql("select load_file('/etc/passwd') as held", db="mysql").held[0] is None


def test_another_user_of_this_machine_reaches_neither_its_files_nor_its_socket(stack):
    service = stack.model["mysql"]
    data = stack.host.programs.data(service)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    owner = psutil.Process(stack.host.pids()["mysql"]).uids().real
    assert data.stat().st_uid == owner
    assert (owner != 0) or os.geteuid() != 0, "root runs it as another user"
    assert (data / "mysqld.sock").is_socket()
    if os.geteuid() == 0:
        other = {"user": 65533, "group": 65533, "extra_groups": []}
        for path in (data, data / "mysqld.sock", data / "db" / "ibdata1"):
            done = subprocess.run(["cat", path], capture_output=True, text=True, timeout=20, **other)
            assert "Permission denied" in done.stderr


def test_no_password_stands_in_its_command_line_its_files_or_its_log(stack):
    service, s = stack.model["mysql"], settings()
    told = " ".join(psutil.Process(stack.host.pids()["mysql"]).cmdline())
    files = [path for path in stack.host.programs.conf(service).rglob("*") if path.is_file()]
    texts = [told, *(path.read_text("utf-8", "replace") for path in (*files, stack.host.programs.log(service)))]
    assert len(texts) > 2
    for secret in (s.fleet_password, s.fleet_root_password):
        assert len(secret) > 20
        assert not [text for text in texts if secret in text]
