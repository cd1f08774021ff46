"""Ports, credentials and paths: one typed object, read from the environment and `.env`.

`.env` is the only file that both engines read (Docker Compose reads it by itself). It is written by `flow360 up`
with generated passwords and mode 0600; a variable in the environment wins over it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import string
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from flow360.errors import Exit, FlowError

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: the folder that holds README.md."""

GENERATED = ROOT / "data" / "generated"
"""What is generated on this machine; Spark sees it under the same path with either engine."""

# The port you know, plus 10000: easy to remember, and free on a machine that already runs PostgreSQL or Jupyter.
PORTS = {
    "ZOOKEEPER_PORT": 12181,
    "KAFKA_PORT": 19092,
    "POSTGRES_SOURCE_PORT": 15432,
    "POSTGRES_DWH_PORT": 15433,
    "POSTGRES_AIRFLOW_PORT": 15434,
    "POSTGRES_HIVE_PORT": 15435,
    "MQTT_PORT": 11883,
    "MARKET_API_PORT": 18000,
    "STREAMS_PORT": 17070,
    "PROMETHEUS_PORT": 19090,
    "ALERTMANAGER_PORT": 19093,
    "PUSHGATEWAY_PORT": 19091,
    "NODE_EXPORTER_PORT": 19100,
    "POSTGRES_EXPORTER_PORT": 19187,
    "KAFKA_EXPORTER_PORT": 19308,
    "KAFKA_METRICS_PORT": 19404,
    "GRAFANA_PORT": 13000,
    "SPARK_MASTER_PORT": 17077,
    "SPARK_MASTER_WEB_PORT": 18081,
    "SPARK_WORKER_WEB_PORT": 18082,
    # As it is usual: 10000 more would be a number that the system gives to outgoing connections in the tests.
    "SPARK_CONNECT_PORT": 15002,
    "SPARK_UI_PORT": 14040,
    "NAMENODE_PORT": 18020,
    "NAMENODE_WEB_PORT": 19870,
    "DATANODE_PORT": 19866,
    "DATANODE_WEB_PORT": 19864,
    "DATANODE_2_PORT": 19876,
    "DATANODE_2_WEB_PORT": 19874,
    "DATANODE_3_PORT": 19886,
    "DATANODE_3_WEB_PORT": 19884,
    "HIVE_METASTORE_PORT": 19083,
    "HIVE_SERVER_PORT": 20000,
    "JUPYTER_PORT": 18888,
    "AIRFLOW_PORT": 18080,
}
SECRETS = (
    "POSTGRES_SOURCE_PASSWORD",
    "POSTGRES_DWH_PASSWORD",
    "AIRFLOW_DB_PASSWORD",
    "HIVE_DB_PASSWORD",
    "MONITOR_DB_PASSWORD",
    "GRAFANA_PASSWORD",
    "JUPYTER_TOKEN",
    "AIRFLOW_PASSWORD",
    "AIRFLOW_JWT_SECRET",
    "AIRFLOW_API_SECRET",
    "AIRFLOW_FERNET_KEY",
)
SPLIT = "compose.split.yaml"  # in COMPOSE_FILE: three PostgreSQL servers in the place of one
# HS512 wants 64 bytes; a Fernet key is 32 bytes in base64, which are 43 characters and a `=`.
SECRET_LENGTHS = {"AIRFLOW_JWT_SECRET": 64, "AIRFLOW_FERNET_KEY": 43}


@contextlib.contextmanager
def variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """These environment variables for the length of a block; what is started in it inherits them."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def env_file() -> Path:
    """The `.env` in force: `FLOW360_ENV_FILE`, else the one in the checkout."""
    return Path(os.environ.get("FLOW360_ENV_FILE", ROOT / ".env"))


def is_split(compose_file: str | None) -> bool:
    """Have Airflow and Hive PostgreSQL servers of their own? They have where COMPOSE_FILE names compose.split.yaml."""
    return any(Path(name).name == SPLIT for name in (compose_file or "").split(":"))


def new_secret(length: int = 24) -> str:
    """A random password of letters and digits only (some images rewrite `@`, `$` and `%` in their variables)."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(length))


class Settings(BaseSettings):
    """Everything that a client needs to reach a service. Ports are on 127.0.0.1."""

    model_config = SettingsConfigDict(extra="ignore", case_sensitive=False, env_ignore_empty=True)

    zookeeper_port: int = PORTS["ZOOKEEPER_PORT"]
    kafka_port: int = PORTS["KAFKA_PORT"]
    postgres_source_port: int = PORTS["POSTGRES_SOURCE_PORT"]
    postgres_dwh_port: int = PORTS["POSTGRES_DWH_PORT"]
    postgres_airflow_port: int = PORTS["POSTGRES_AIRFLOW_PORT"]
    postgres_hive_port: int = PORTS["POSTGRES_HIVE_PORT"]
    mqtt_port: int = PORTS["MQTT_PORT"]
    market_api_port: int = PORTS["MARKET_API_PORT"]
    streams_port: int = PORTS["STREAMS_PORT"]
    prometheus_port: int = PORTS["PROMETHEUS_PORT"]
    alertmanager_port: int = PORTS["ALERTMANAGER_PORT"]
    pushgateway_port: int = PORTS["PUSHGATEWAY_PORT"]
    node_exporter_port: int = PORTS["NODE_EXPORTER_PORT"]
    postgres_exporter_port: int = PORTS["POSTGRES_EXPORTER_PORT"]
    kafka_exporter_port: int = PORTS["KAFKA_EXPORTER_PORT"]
    kafka_metrics_port: int = PORTS["KAFKA_METRICS_PORT"]
    grafana_port: int = PORTS["GRAFANA_PORT"]
    spark_master_port: int = PORTS["SPARK_MASTER_PORT"]
    spark_master_web_port: int = PORTS["SPARK_MASTER_WEB_PORT"]
    spark_worker_web_port: int = PORTS["SPARK_WORKER_WEB_PORT"]
    spark_connect_port: int = PORTS["SPARK_CONNECT_PORT"]
    spark_ui_port: int = PORTS["SPARK_UI_PORT"]
    namenode_port: int = PORTS["NAMENODE_PORT"]
    namenode_web_port: int = PORTS["NAMENODE_WEB_PORT"]
    datanode_port: int = PORTS["DATANODE_PORT"]
    datanode_web_port: int = PORTS["DATANODE_WEB_PORT"]
    datanode_2_port: int = PORTS["DATANODE_2_PORT"]
    datanode_2_web_port: int = PORTS["DATANODE_2_WEB_PORT"]
    datanode_3_port: int = PORTS["DATANODE_3_PORT"]
    datanode_3_web_port: int = PORTS["DATANODE_3_WEB_PORT"]
    hive_metastore_port: int = PORTS["HIVE_METASTORE_PORT"]
    hive_server_port: int = PORTS["HIVE_SERVER_PORT"]
    jupyter_port: int = PORTS["JUPYTER_PORT"]
    airflow_port: int = PORTS["AIRFLOW_PORT"]

    postgres_source_user: str = "shop"
    postgres_source_db: str = "shop"
    postgres_source_password: str = Field("", repr=False)
    postgres_dwh_user: str = "warehouse"
    postgres_dwh_db: str = "datawarehouse"
    postgres_dwh_password: str = Field("", repr=False)
    postgres_airflow_user: str = "airflow"
    postgres_airflow_db: str = "airflow_metadata"
    postgres_hive_user: str = "hive"
    postgres_hive_db: str = "hive_metastore"
    airflow_db_password: str = Field("", repr=False)
    hive_db_password: str = Field("", repr=False)
    monitor_db_password: str = Field("", repr=False)
    grafana_password: str = Field("", repr=False)
    jupyter_token: str = Field("", repr=False)
    airflow_password: str = Field("", repr=False)
    airflow_jwt_secret: str = Field("", repr=False)
    airflow_api_secret: str = Field("", repr=False)
    airflow_fernet_key: str = Field("", repr=False)

    compose_file: str = ""
    flow360_engine: str = "auto"
    flow360_state: Path | None = None
    flow360_cache: Path | None = None
    flow360_progress: Path | None = None
    flow360_dbt: Path | None = None
    flow360_rules: Path | None = None

    @field_validator("flow360_state", "flow360_cache", "flow360_progress", "flow360_dbt", "flow360_rules")
    @classmethod
    def _one_place(cls, path: Path | None) -> Path | None:
        """Services and notebooks run in folders of their own: a relative path, or `~`, must mean one place."""
        return path and ROOT / path.expanduser()

    @property
    def postgres_airflow_password(self) -> str:
        return self.airflow_db_password

    @property
    def postgres_hive_password(self) -> str:
        return self.hive_db_password

    @property
    def state_dir(self) -> Path:
        """Where the native services keep data, logs and sockets: one folder for each checkout.

        It is outside the checkout because PostgreSQL, started for root as another user, could not enter /root.
        """
        if self.flow360_state:
            return self.flow360_state
        home = Path.home()
        base = (
            Path("/var/lib")
            if os.geteuid() == 0
            else Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state")
        )
        mark = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
        return base / "flow360" / mark

    @property
    def cache_dir(self) -> Path:
        """Where downloaded artifacts are kept, shared by all checkouts."""
        if self.flow360_cache:
            return self.flow360_cache
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flow360"

    @property
    def progress_file(self) -> Path:
        """The learner's own record of passed exercises."""
        return self.flow360_progress or ROOT / "progress.json"

    @property
    def dbt_dir(self) -> Path:
        """Where dbt keeps what it writes (target/, logs/), and where the learner's own models stand (lab/)."""
        return self.flow360_dbt or ROOT / "dbt"

    @property
    def rules_dir(self) -> Path:
        """The learner's own rule files, which Prometheus reads."""
        return self.flow360_rules or ROOT / "stack" / "prometheus" / "learner"

    @property
    def kafka_bootstrap(self) -> str:
        return f"127.0.0.1:{self.kafka_port}"

    @property
    def zookeeper_hosts(self) -> str:
        return f"127.0.0.1:{self.zookeeper_port}"

    @property
    def namenode_url(self) -> str:
        return f"http://127.0.0.1:{self.namenode_web_port}"

    @property
    def market_api_url(self) -> str:
        return f"http://127.0.0.1:{self.market_api_port}"

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.airflow_port}"

    @property
    def jupyter_url(self) -> str:
        return f"http://127.0.0.1:{self.jupyter_port}/lab/tree/notebooks/00_welcome.ipynb"


@cache
def settings() -> Settings:
    """The settings in force, read once a process."""
    try:
        return Settings(_env_file=env_file())
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper()
        raise FlowError(f"{env_file()}: {name}: {first['msg']} (found {first['input']!r})") from None


def ensure_env() -> Path:
    """Write `.env` if it is missing, and add what a newer version needs; existing values are kept.

    Returns:
        The file's path. Its mode is 0600.
    """
    path = env_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent):
            changed = _complete(path)
    except OSError as error:
        if path.exists() and not os.access(path, os.R_OK):
            fix = f"it cannot be read by this user: sudo chown $USER '{path}'"
        else:
            fix = f"it cannot be written ({error.strerror})"
        code = Exit.DISK if error.errno == errno.ENOSPC else Exit.PERMISSION
        raise FlowError(f"{path}: {fix}", code) from None
    if changed:
        settings.cache_clear()
    return path


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two `up` at once must end with the same passwords: one writes the file, the other finds it written."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems know no locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _complete(path: Path) -> bool:
    """Write what is missing; False when nothing is."""
    old = path.read_text("utf-8") if path.exists() else ""
    pairs = [line.partition("=") for line in old.splitlines() if "=" in line and not line.startswith("#")]
    names = {name.strip().removeprefix("export ").strip(): value.strip() for name, _, value in pairs}
    known = {name for name, value in names.items() if value or name not in SECRETS}  # an empty password is none
    lines = [] if old else ["# Made by `flow360 up`: ports and passwords of this checkout. Never commit it."]
    if "COMPOSE_FILE" not in known:
        lines.append("COMPOSE_FILE=stack/compose.yaml")
    if "COMPOSE_PROFILES" not in known:
        # Without it `docker compose down` and `ps` would overlook what was started by name.
        lines.append("COMPOSE_PROFILES=*")
    if "FLOW360_DATA" not in known:
        # What containers share with notebooks (data/generated) keeps its path and its owner; nothing in them is root.
        lines += [f"FLOW360_DATA={GENERATED}", f"FLOW360_UID={os.geteuid() or 10001}"]
    lines += [f"{name}={port}" for name, port in PORTS.items() if name not in known]
    lines += [f"{name}={new_secret(SECRET_LENGTHS.get(name, 24))}" for name in SECRETS if name not in known]
    if not lines:
        return False
    text = old + ("\n" if old and not old.endswith("\n") else "") + "\n".join(lines) + "\n"
    part = path.with_name(path.name + ".part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    part.replace(path)
    return True
