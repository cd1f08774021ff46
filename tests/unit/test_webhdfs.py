"""HDFS from Python without HDFS: addresses, and what becomes of errors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import requests

from flow360 import clients
from flow360.clients import reach, webhdfs
from flow360.errors import Exit, FlowError
from flow360.settings import settings
from flow360.stack.docker.engine import DockerEngine
from flow360.stack.model import model
from flow360.stack.native import jars
from flow360.stack.native.engine import NativeEngine


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://datanode-2:9864/webhdfs/v1/a?op=OPEN", "http://127.0.0.1:{datanode_2_web_port}/webhdfs/v1/a?op=OPEN"),
        ("http://datanode:9864/x", "http://127.0.0.1:{datanode_web_port}/x"),
        ("http://localhost:19864/x", "http://localhost:19864/x"),
    ],
)
def test_a_datanode_in_a_container_is_reached_by_its_published_port(url, expected):
    assert webhdfs.published(url) == expected.format(**settings().model_dump())


def test_a_datanode_is_known_by_name_in_containers_and_by_port_elsewhere():
    assert webhdfs._service("datanode-3", 9866) == "datanode-3"
    assert webhdfs._service("localhost", settings().datanode_2_port) == "datanode-2"
    assert webhdfs._service("somewhere", 9866) == "somewhere:9866"


class Silent(requests.adapters.HTTPAdapter):
    """Answers nothing: raises what the network would."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def send(self, request, timeout=None, **_):
        assert timeout == 4
        raise self.error


@pytest.mark.parametrize(
    ("error", "answers", "expected"),
    [
        (requests.ReadTimeout(), True, "datanode-2 gave no answer within 4 s"),
        (requests.ConnectionError(), False, "datanode-2 does not answer on 127.0.0.1:.*flow360 up datanode-2"),
        (requests.ConnectionError(), True, "datanode-2 broke off in the middle of an answer"),
    ],
)
def test_what_goes_wrong_on_the_way_is_one_line_that_names_the_service(monkeypatch, error, answers, expected):
    monkeypatch.setattr(reach, "answers", lambda _service: answers)
    session = webhdfs._Session(4, webhdfs.published)
    session.mount("http://", Silent(error))
    with pytest.raises(FlowError, match=expected) as caught:
        session.get(f"http://localhost:{settings().datanode_2_web_port}/webhdfs/v1/x")
    assert caught.value.code is Exit.SERVICE
    assert "\n" not in caught.value.message


class Refusing(requests.adapters.HTTPAdapter):
    """A DataNode that cannot read the file, a few times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def send(self, request, **_):
        answer = requests.Response()
        answer.url, answer.request, answer.status_code = request.url, request, 403 if self.left else 200
        said = b'{"RemoteException": {"message": "End of File Exception\\n\\tat a.b.C"}}'
        answer._content = said if self.left else b"the bytes"
        self.left -= 1
        return answer


def test_a_datanodes_error_is_never_taken_for_the_files_bytes():
    url = f"http://localhost:{settings().datanode_2_web_port}/webhdfs/v1/x?op=OPEN"
    session = webhdfs._Session(4, webhdfs.published)
    session.mount("http://", Refusing(1))
    assert session.get(url).content == b"the bytes"
    session.mount("http://", Refusing(2))
    with pytest.raises(FlowError, match="datanode-2 could not read it: End of File Exception$"):
        session.get(url)


class Redirecting(requests.adapters.HTTPAdapter):
    """A NameNode in a container: it sends whoever reads to `datanode-3:9864`, with another spelling of the name."""

    def send(self, request, **_):
        answer = requests.Response()
        answer.url, answer.request, answer.raw, answer._content = request.url, request, None, b"the bytes"
        if request.url.startswith(settings().namenode_url):
            answer.status_code = 307
            answer.headers["Location"] = "http://datanode-3:9864/webhdfs/v1/caf%C3%A8?op=OPEN"
        else:
            answer.status_code = 200
        return answer


@pytest.mark.parametrize("follow", [True, False])
def test_a_redirect_leads_to_the_published_port_whoever_follows_it(monkeypatch, follow):
    monkeypatch.setattr("requests.sessions.extract_cookies_to_jar", lambda *_: None)  # there is no connection
    session = webhdfs._Session(4, webhdfs.published)
    session.mount("http://", Redirecting())
    answer = session.get(f"{settings().namenode_url}/webhdfs/v1/cafe%CC%81?op=OPEN", allow_redirects=follow)
    place = answer.url if follow else answer.headers["Location"]
    assert place == f"http://127.0.0.1:{settings().datanode_3_web_port}/webhdfs/v1/cafe%CC%81?op=OPEN"


def test_what_hiveserver2_says_becomes_one_line(monkeypatch):
    from impala.error import OperationalError
    from thrift.transport.TTransport import TTransportException

    monkeypatch.setattr(reach, "answers", lambda _service: True)
    said = "Error while compiling statement: FAILED: ParseException line 1:0 cannot recognize input\n\tat a.b.C"
    with (
        pytest.raises(FlowError, match=r"^lake: ParseException line 1:0 cannot recognize"),
        clients.lake_errors(),
    ):
        raise OperationalError(said)
    with pytest.raises(FlowError, match="hive-server broke off .*flow360 logs"), clients.lake_errors():
        raise TTransportException(message="TSocket read 0 bytes")
    monkeypatch.setattr(reach, "answers", lambda service: service != "hive-metastore")
    with pytest.raises(FlowError, match="hive-metastore does not answer"), clients.lake_errors():
        raise OperationalError("MetaException(message: many words")


def test_the_hdfs_command_is_run_where_the_namenode_runs(monkeypatch, tmp_path):
    monkeypatch.setattr(jars, "paths", lambda _group: [])
    native = NativeEngine(model(), tmp_path).tool_command("namenode", "hdfs", "fsck", ["/"])
    assert native[-2:] == ["org.apache.hadoop.hdfs.tools.DFSck", "/"]
    container = DockerEngine(model()).tool_command("namenode", "hdfs", "fsck", ["/"])
    assert container[-6:] == ["exec", "--no-TTY", "namenode", "hdfs", "fsck", "/"]
    with pytest.raises(FlowError, match="hdfs format: there is dfs, dfsadmin, fsck, oev, oiv"):
        NativeEngine(model(), tmp_path).tool_command("namenode", "hdfs", "format", [])


def test_a_write_goes_to_a_datanode_that_lives_though_the_namenode_names_one_that_has_gone(monkeypatch):
    named = iter(["datanode-3", "datanode-2", "datanode"])
    lake = webhdfs.Lake.__new__(webhdfs.Lake)
    asked = lambda *_, **__: SimpleNamespace(headers={"Location": f"http://{next(named)}:9864/x"})  # noqa: E731
    put = []
    lake._call, lake.session = (
        asked,
        SimpleNamespace(put=lambda place, **_: put.append(place) or SimpleNamespace(ok=True)),
    )
    monkeypatch.setattr(reach, "answers", lambda service: service == "datanode")
    lake.write("/x", b"")
    assert put == ["http://datanode:9864/x"]


@pytest.mark.parametrize(("given", "asked"), [("640", "640"), (0o640, "640"), (None, None)])
def test_a_file_that_is_written_piece_by_piece_has_the_permissions_that_were_asked_for(monkeypatch, given, asked):
    calls = []

    def call(op: str, *_: object, **options: object) -> SimpleNamespace:
        calls.append((op, options.get("permission")))
        return SimpleNamespace(headers={"Location": "http://datanode:9864/x"})

    lake = webhdfs.Lake.__new__(webhdfs.Lake)
    lake._call, lake.tempdir, lake._intrans = call, "/tmp", False
    lake.session = SimpleNamespace(put=lambda *_, **__: SimpleNamespace(ok=True))
    monkeypatch.setattr(reach, "answers", lambda _service: True)
    lake._open("/x", "wb", permissions=given)
    assert calls == [("CREATE", asked), ("APPEND", None)]
