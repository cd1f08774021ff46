"""Plans and figures of Spark, without Spark: the plan's text, and REST answers as Spark gives them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest

from flow360 import lesson
from flow360.clients import compute, reach
from flow360.errors import Exit, FlowError
from flow360.processing import spark
from flow360.settings import settings
from flow360.stack import probes
from flow360.stack.model import STACK, model
from flow360.stack.native import supervise
from flow360.stack.native.engine import NativeEngine
from flow360.stack.native.prepare import spark_home
from flow360.stack.native.programs import Programs

PLAN = """== Physical Plan ==
AdaptiveSparkPlan isFinalPlan=false
+- HashAggregate(keys=[category#9], functions=[sum(euros#7)])
   +- Exchange hashpartitioning(category#9, 4), ENSURE_REQUIREMENTS, [plan_id=1]
      +- *(2) BroadcastHashJoin [id#1], [id#2], Inner, BuildRight, false, false
         :- FileScan parquet [id#1]
         +- BroadcastExchange HashedRelationBroadcastMode(List(input[0, int, false])), [plan_id=2]
            +- Exchange SinglePartition, ENSURE_REQUIREMENTS, [plan_id=3]

"""


class Query:
    """A DataFrame that only explains itself."""

    def explain(self, mode: str) -> None:
        print(PLAN if mode == "simple" else mode, end="")


class Conf(dict):
    """Spark's settings; a key that was never set has a default."""

    def get(self, key: str) -> str:
        return super().get(key, "default")

    def set(self, key: str, value: str) -> None:
        self[key] = value


class Session:
    session_id = "abc"

    def __init__(self) -> None:
        self.conf = Conf()


def test_a_plan_is_its_text_and_shuffles_are_exchanges_but_no_broadcasts() -> None:
    assert spark.plan(Query()) == PLAN
    assert [step.split(" ")[0].split("(")[0] for step in spark.operators(Query())] == [
        *("HashAggregate", "Exchange", "BroadcastHashJoin", "FileScan", "BroadcastExchange", "Exchange"),
    ]
    assert [step.split(",")[0] for step in spark.shuffles(Query())] == [
        "Exchange hashpartitioning(category#9",
        "Exchange SinglePartition",
    ]


def test_settings_hold_inside_the_block_and_are_put_back_after_an_error() -> None:
    session = Session()
    session.conf["spark.sql.shuffle.partitions"] = "4"
    with (
        pytest.raises(ValueError, match="x"),
        spark.configured(session, shuffle_partitions=8, adaptive_enabled="false"),
    ):
        assert session.conf["spark.sql.shuffle.partitions"] == 8
        raise ValueError("x")
    assert session.conf == {"spark.sql.shuffle.partitions": "4", "spark.sql.adaptive.enabled": "default"}


def job(number: int, stages: list[int], session: str = "abc", status: str = "SUCCEEDED", failed: int = 0) -> dict:
    tags = [f"SparkConnect_OperationTag_User__Session_{session}_Operation_1"]
    return {"jobId": number, "jobTags": tags, "stageIds": stages, "status": status, "numFailedTasks": failed}


def stage(number: int, written: int) -> dict:
    counts = {"shuffleReadRecords": 0, "shuffleWriteRecords": written, "shuffleWriteBytes": written * 1000}
    return {
        **{"stageId": number, "attemptId": 0, "status": "COMPLETE", "numCompleteTasks": 2, "executorRunTime": 1500},
        **counts,
    }


def test_work_is_that_of_this_session_s_jobs_in_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [[job(1, [1])], [job(1, [1]), job(2, [2, 3], failed=1), job(3, [4], session="other")]]
    spread = {"inputMetrics": {"recordsRead": [10.0, 40.0]}, "shuffleReadMetrics": {"readRecords": [1.0, 2.0]}}

    def answer(_session: Session, path: str) -> object:
        if path == "jobs":
            return jobs.pop(0)
        return [stage(n, 100 * n) for n in (4, 3, 2, 1)] if path == "stages" else spread

    monkeypatch.setattr(spark, "rest", answer)
    with spark.watch(Session()) as work:
        pass
    assert list(work.stages["stage"]) == [2, 3]
    assert list(work.stages.columns) == spark.COLUMNS
    assert (work.stages["median_records"].iat[0], work.stages["max_records"].iat[0]) == (11, 42)
    assert (work.shuffled_mb, work.tasks_failed) == (0.5, 1)


def test_a_job_that_goes_on_after_the_block_is_named_and_not_measured_by_half(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [[], [job(7, [1], status="RUNNING"), job(8, [2])]]
    monkeypatch.setattr(spark, "rest", lambda _session, _path: jobs[0] if len(jobs) == 1 else jobs.pop(0))
    monkeypatch.setattr(spark, "_SETTLED", 0.2)
    with pytest.raises(FlowError, match="still works at job 7 of the block") as caught, spark.watch(Session()):
        pass
    assert "\n" not in caught.value.message


def test_a_page_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_UI_PORT", "1")
    monkeypatch.setenv("SPARK_CONNECT_PORT", "2")
    settings.cache_clear()
    try:
        with pytest.raises(FlowError, match="spark-connect does not answer") as caught:
            spark.rest(Session(), "jobs")
    finally:
        settings.cache_clear()
    assert caught.value.code == Exit.SERVICE


# --- the services -----------------------------------------------------------------------------------------------------


@pytest.fixture
def connect_server() -> Iterator[tuple[int, list[str]]]:
    """A server that answers Connect's Config as a driver does; its port, and the tokens that it was shown."""
    shown: list[str] = []

    def config(_request: bytes, context: grpc.ServicerContext) -> bytes:
        shown.append(dict(context.invocation_metadata()).get("authorization", ""))
        return b"spark.app.id app-20261128-0000"

    method = {"Config": grpc.unary_unary_rpc_method_handler(config)}
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("spark.connect.SparkConnectService", method)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port, shown
    server.stop(0)


def test_the_probe_shows_the_token_and_a_driver_whose_context_has_ended_is_not_ready(
    connect_server: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a driver goes on to answer Connect's questions of old; its page has ended with its context."""
    port, shown = connect_server
    monkeypatch.setenv("SPARK_CONNECT_TOKEN", "secret")
    settings.cache_clear()
    try:
        with HTTPServer(("127.0.0.1", 0), Page) as page:
            threading.Thread(target=page.serve_forever, daemon=True).start()
            assert probes.spark_connect(port, page.server_port) is None
            page.shutdown()
        assert "GET /static/webui.css" in (probes.spark_connect(port, page.server_port) or "ready")
    finally:
        settings.cache_clear()
    assert shown == ["Bearer secret"] * 2


class Page(BaseHTTPRequestHandler):
    """Spark's page, as far as the probe asks."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


def test_what_keeps_the_native_drivers_on_this_machine_stands_in_their_commands(tmp_path: Path) -> None:
    """A config file may be missing or cut; then its defaults hold, and those are all interfaces."""
    programs = Programs(model(), tmp_path)
    command = " ".join(programs.command(model()["spark-connect"]))
    for key in ("spark.driver.host", "spark.driver.bindAddress", "spark.connect.grpc.binding.address"):
        assert f"--conf {key}=127.0.0.1" in command
    for name in ("spark-master", "spark-worker"):
        assert "--host 127.0.0.1" in " ".join(programs.command(model()[name]))
    for name in ("spark-master", "spark-worker", "spark-connect"):
        assert programs.environment(model()[name])["SPARK_LOCAL_IP"] == "127.0.0.1"  # for the web pages
        for secret in (settings().spark_auth_secret, settings().spark_connect_token):
            assert not secret or secret not in " ".join(programs.command(model()[name]))


def test_the_largest_jars_of_a_folder_stand_first_on_the_class_path(tmp_path: Path) -> None:
    found = Programs(model(), tmp_path).classpath(model()["spark-connect"])
    own = [path for path in found if path.parent == spark_home() / "jars"]
    sizes = [path.stat().st_size for path in own]
    assert sizes == sorted(sizes, reverse=True)
    assert set(own) == set((spark_home() / "jars").glob("*.jar"))
    assert found[: len(own)] == own
    # Of two that have the same classes, the newer one is found.
    names = [path.name.partition("-")[0] for path in own]
    assert names.index("javax.jdo") < names.index("jdo")
    assert {path.name for path in own}.isdisjoint(path.name for path in found[len(own) :])  # nothing is there twice


def test_spark_s_module_options_are_those_that_it_asks_for() -> None:
    """JavaModuleOptions of the wheel; a new version may want more."""
    text = (STACK / "spark" / "java.options").read_text("utf-8")
    assert "--add-modules=jdk.incubator.vector" in text
    assert text.count("--add-opens=") == 15
    assert all(line.startswith(("-", "#")) for line in text.splitlines())


def test_no_service_may_take_longer_to_stop_than_its_keeper_is_waited_for() -> None:
    assert max(service.native.stop_seconds for service in model().services.values()) + 30 < supervise.ANSWER


def test_what_does_not_run_cannot_be_killed(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="spark-connect does not run") as caught:
        NativeEngine(model(), tmp_path).kill("spark-connect")
    assert caught.value.code == Exit.SERVICE


def test_a_lesson_kills_by_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    killed: list[str] = []
    monkeypatch.setattr(lesson, "_stack", lambda: type("Stack", (), {"kill": staticmethod(killed.append)}))
    lesson.kill("spark-connect")
    assert killed == ["spark-connect"]
    assert capsys.readouterr().out == "killed: spark-connect\n"


@pytest.mark.parametrize(
    ("up", "text", "expected"),
    [
        (True, "[X] one\n\ntwo\nJVM stacktrace:\n\tat org.apache", ["ValueError: [X] one", "two"]),
        (True, "\n".join("abcdefg"), ["ValueError: a", "b", "c", "d", "e"]),
        (False, "UNAVAILABLE: " + "x" * 900, ["ValueError: spark-connect does not answer"]),
    ],
)
def test_spark_s_errors_are_short(monkeypatch: pytest.MonkeyPatch, up: bool, text: str, expected: list[str]) -> None:
    monkeypatch.setattr(reach, "answers", lambda _service: up)
    shown = compute._spark_error(ValueError(text))
    assert len(shown) == len(expected)
    assert all(line.startswith(start) for line, start in zip(shown, expected, strict=True))
