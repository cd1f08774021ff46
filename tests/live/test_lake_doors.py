"""The lake as others meet it: another user, a web page, a file named on macOS, a query after one that failed."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from flow360 import clients, lesson
from flow360.errors import FlowError
from flow360.settings import ROOT, settings
from flow360.stack.native import jars
from tests.live.listeners import listeners

SERVICES = ("datanode", "hive-server")
FOLDER = "/doors"
PAGE = {"Origin": "http://evil.example", "User-Agent": "Mozilla/5.0", "Content-Type": "text/plain"}


@pytest.fixture
def lake(started) -> Iterator:
    """HDFS with an empty folder of ours."""
    started("datanode")
    clients.lake().rm(FOLDER, recursive=True, missing_ok=True)
    clients.lake().makedirs(FOLDER)
    yield clients.lake()
    clients.lake().rm(FOLDER, recursive=True, missing_ok=True)


@pytest.fixture
def tables(started, lake) -> Iterator[None]:
    """Two tables of the same columns; the files of the second one hold a text where it declares a double."""
    started("hive-server")
    numbers = [float(number) for number in range(1000)]
    for name, values in (("sound", numbers), ("unsound", [f"{value} €" for value in numbers])):
        buffer = io.BytesIO()
        pq.write_table(pa.table({"n": pa.array(range(1000), pa.int64()), "x": values}), buffer)
        lake.write(f"{FOLDER}/{name}/rows.parquet", buffer.getvalue())
        ask(f"drop table if exists {name}")
        ask(f"create external table {name} (n bigint, x double) stored as parquet location '{FOLDER}/{name}'")
    yield
    for name in ("sound", "unsound"):
        ask(f"drop table if exists {name}")


def ask(query: str) -> list[tuple]:
    return list(lesson.sql(query, db="lake").itertuples(index=False, name=None))


# --- HiveServer2 ------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_after_a_query_that_failed_the_next_ones_answer_right(tables):
    """In one process for all tasks, a failed reader's mark made every later task drop its rows and report success."""
    right = [(1000, 499500.0)]
    assert ask("select count(*), sum(x) from sound") == right
    for times in (1, 2):
        with pytest.raises(FlowError, match="lake: Execution Error"):
            ask("select sum(x), max(n) from unsound")
        # Each time another question: an answer that it has given once, HiveServer2 may give again without a task.
        assert ask(f"select count(*), sum(x) from sound where n >= -{times}") == right
        assert len(ask(f"select n, count(*) from sound where n < {times} group by n")) == times


def test_the_jar_before_hives_own_differs_from_it_in_one_byte():
    """Made of another version of Hive, it would be another class."""
    name = "org/apache/hadoop/hive/ql/io/HiveContextAwareRecordReader.class"
    ours = zipfile.ZipFile(ROOT / "stack" / "hive" / "flow360.jar").read(name)
    (hive,) = (jar for jar in jars.paths("hive") if jar.name.startswith("hive-exec-"))
    theirs = zipfile.ZipFile(hive).read(name)
    assert len(ours) == len(theirs)
    assert [pair for pair in zip(theirs, ours, strict=True) if pair[0] != pair[1]] == [(4, 3)], "iconst_1, iconst_0"


@pytest.mark.parametrize("password", ["x", "password", "HIVE_SERVER_PASSWORD"])
def test_hiveserver2_lets_nobody_in_without_its_password(started, monkeypatch, password):
    started("hive-server")
    monkeypatch.setattr(settings(), "hive_server_password", password)
    with pytest.raises(FlowError, match="hive-server refuses the password: is .env the one"):
        ask("select 1")


@pytest.mark.parametrize(
    "statement",
    [
        "select transform(n) using 'id' as (line) from sound",
        "select reflect('java.lang.System', 'getProperty', 'user.name')",
        "select java_method('java.lang.System', 'getProperty', 'user.name')",
        "select in_file('root', '/etc/passwd')",
        "create temporary function f as 'org.apache.hadoop.hive.ql.udf.generic.GenericUDFReflect'",
        "add jar /etc/passwd",
        "dfs -ls /",
        "compile `class X {}` as groovy named x.groovy",
        "load data local inpath '/etc/passwd' into table sound",
        "create external table passwords (line string) location 'file:///etc'",
        "set hive.security.authorization.enabled=false",
        "set hive.exec.post.hooks=x",
    ],
)
def test_sql_starts_no_program_and_reads_no_file_of_the_machine(tables, statement):
    with pytest.raises(FlowError, match="(?i)denied|not allowed|disallowed|cannot modify"):
        ask(statement)


@pytest.mark.timeout(300)
def test_nothing_listens_beyond_this_machine_while_queries_run(stack, tables):
    """Looked at all the time: the port that Tez opened at a session's first query was there for the session only."""
    daemon, seen, over = stack.host.supervisor.daemon(), set(), threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            seen.update(listeners(family))

    family: list[psutil.Process] = [daemon, *daemon.children(recursive=True)]
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        ask("select n % 7, count(*) from sound group by n % 7")
        ask("select count(*) from sound a join sound b on a.n = b.n")
    finally:
        over.set()
        watcher.join()
    assert settings().hive_server_port in {port for _, _, port in seen}
    assert {address for _, address, _ in seen} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}, seen


# --- HDFS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [PAGE, {}, {"X-XSRF-HEADER": "x"}, {"X-": "x"}])
def test_nobody_changes_a_file_over_http_without_the_secret(lake, headers):
    lake.write(f"{FOLDER}/precious.txt", b"precious")
    at, nn, dn = settings(), settings().namenode_url, f"http://localhost:{settings().datanode_web_port}"
    told = f"namenoderpcaddress=127.0.0.1:{at.namenode_port}&createparent=true&overwrite=true"
    path = f"/webhdfs/v1{FOLDER}/precious.txt?user.name=primeur&op="
    for method, url in (
        ("DELETE", f"{nn}{path}DELETE"),
        ("POST", f"{nn}{path}TRUNCATE&newlength=0"),
        ("PUT", f"{nn}{path}RENAME&destination={FOLDER}/gone"),
        ("PUT", f"{nn}{path}CREATE&overwrite=true&noredirect=true"),
        ("POST", f"{nn}{path}APPEND&noredirect=true"),
        ("PUT", f"{dn}{path}CREATE&{told}"),
        ("POST", f"{dn}{path}APPEND&{told}"),
    ):
        answer = requests.request(method, url, headers=headers, data="evil", allow_redirects=False, timeout=20)
        assert answer.status_code == 400, (method, url)
    assert lake.cat_file(f"{FOLDER}/precious.txt") == b"precious"


def test_no_page_of_another_site_may_read_an_answer(lake):
    lake.write(f"{FOLDER}/precious.txt", b"precious")
    url = f"{settings().namenode_url}/webhdfs/v1{FOLDER}/precious.txt?op=OPEN"
    answer = requests.get(url, headers=PAGE, timeout=20)
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("page", ["/conf", "/conf?format=json", "/jmx", "/logs/", "/explorer.html"])
def test_the_pages_of_hdfs_do_not_tell_the_secret(lake, page):
    for port in (settings().namenode_web_port, settings().datanode_web_port):
        answer = requests.get(f"http://127.0.0.1:{port}{page}", timeout=20)
        assert settings().lake_secret not in answer.text


@pytest.mark.parametrize("name", ["namenode", "datanode"])
def test_the_logs_of_hdfs_do_not_tell_the_secret(stack, lake, name):
    written = stack.host.programs.log(stack.model[name]).read_text("utf-8", "replace")
    _, started, since = written.rpartition("STARTUP_MSG: Starting ")
    assert started
    assert settings().lake_secret not in since


@pytest.mark.parametrize("name", ["namenode", "datanode"])
def test_temporary_files_stay_in_the_folder_of_the_service(stack, lake, name):
    """In /tmp, where Jetty unpacks its pages, each start would leave one more folder behind."""
    assert list(stack.host.programs.tmp(stack.model[name]).glob("jetty-*"))


@pytest.mark.parametrize("name", ["cre\u0300me.txt", "crème.txt", "a+b %41;#ä&?.txt", "日本.bin"])
def test_a_file_is_found_under_the_name_that_it_was_given(lake, name):
    """An accent of its own, as macOS writes it, is another name than the letter with the accent in it."""
    lake.write(f"{FOLDER}/{name}", b"written")
    assert lake.ls(FOLDER, detail=False) == [f"{FOLDER}/{name}"]
    assert lake.cat_file(f"{FOLDER}/{name}") == b"written"
    with lake.open(f"{FOLDER}/{name}", "wb") as file:
        file.write(b"opened")
    with lake.open(f"{FOLDER}/{name}", "ab") as file:
        file.write(b" and appended")  # with one DataNode there is no second one to ask for
    assert lake.ls(FOLDER, detail=False) == [f"{FOLDER}/{name}"]
    assert lake.cat_file(f"{FOLDER}/{name}") == b"opened and appended"
    lake.mv(f"{FOLDER}/{name}", f"{FOLDER}/other-{name}")
    assert lake.ls(FOLDER, detail=False) == [f"{FOLDER}/other-{name}"]


def test_what_was_not_moved_or_removed_is_said(lake):
    for name in ("new", "final"):
        lake.write(f"{FOLDER}/{name}", name.encode())
    for call, line in (
        (lambda: lake.mv(f"{FOLDER}/new", f"{FOLDER}/final"), "there is one already"),
        (lambda: lake.mv(f"{FOLDER}/none", f"{FOLDER}/any"), "it does not exist"),
        (lambda: lake.mv(f"{FOLDER}/new", f"{FOLDER}/nowhere/new"), f"there is no folder {FOLDER}/nowhere"),
        (lambda: lake.rm(f"{FOLDER}/none"), "it does not exist"),
        (lambda: lake.rm(f"{FOLDER}/none", recursive=True), "it does not exist"),
    ):
        with pytest.raises(FlowError, match=line) as caught:
            call()
        assert len(caught.value.message.splitlines()) == 1
    lake.rm(f"{FOLDER}/none", missing_ok=True)
    assert lake.cat_file(f"{FOLDER}/final") == b"final"
