"""Ports, credentials and paths: one typed object, read from the environment and `.env`.

`.env` is the only file that both engines read (Docker Compose reads it by itself). It is written by `scripts/env`
with generated passwords and mode 0600; a variable in the environment wins over it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import Field, ValidationError, ValidationInfo, create_model, field_validator

from flow360 import environment
from flow360.errors import Exit, FlowError
from flow360.files import locked

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: the folder that holds README.md."""

GENERATED = ROOT / "data" / "generated"
"""What is generated on this machine; Spark sees it under the same path with either engine."""

LAYERS = ROOT / "stack" / "layers"
"""The stack's description: a file for each layer and engine (see flow360/stack/model.py)."""


def _described() -> tuple[dict[str, dict[str, int]], tuple[str, ...]]:
    """Read what the layers' files say of ports and secrets.

    By patterns and not as YAML, since every start of Python pays for it; a unit test holds it equal to the model.

    Returns:
        For each service the variables of the ports that it publishes, with their usual numbers; the generated secrets.
    """
    ports: dict[str, dict[str, int]] = {}
    secrets: dict[str, None] = {}
    for file in sorted(LAYERS.glob("*.[yt]*ml")):
        for line in file.read_text("utf-8").splitlines():
            if heading := re.match(r"(?:  |\[host\.)([a-z][\w-]*)[:\]]$", line):
                service = heading[1]
            for variable, number in re.findall(r"127\.0\.0\.1:\$\{(\w+):-(\d+)\}:\d+", line):
                ports.setdefault(service, {})[variable] = int(number)
            secrets |= dict.fromkeys(re.findall(r"(?:\$\{|\{secret\[)(\w+)(?::\?|\])", line))
    return ports, tuple(secrets)


PUBLISHED, SECRETS = _described()
PORTS = {variable: number for ports in PUBLISHED.values() for variable, number in ports.items()}
OURS = frozenset([*PORTS, *SECRETS])
environment.drop(os.environ, OURS)
# A line of `.env` that python-dotenv and Docker Compose read alike. Where they differ (`KEY: v`, an open quote, what
# stands behind a closed one, backslashes and `$` outside '…', a comment behind a tab), services would get one value and
# clients another.
PAIR = re.compile(
    r"""[ \t]*(?:\#[^\r]*|(?:export[ ]+)?(?!export\b)[A-Za-z_][A-Za-z0-9_]*[ \t]*=[ \t]*
    (?:(?:'[^'\\\r]*'|"[^"\\$\r]*"|(?![\s'"\#])(?:[^\s$\0]|[ ])*?[^\s$\0])(?:[ ]+\#[^\r]*)?)?[ \t]*)?\r?""",
    re.VERBOSE,
)
SPLIT = "stack/layers/split.yaml"  # in COMPOSE_FILE: three PostgreSQL servers in the place of one
VAULTED = "stack/layers/vaulted.yaml"  # in COMPOSE_FILE: Airflow's connections out of Vault


@contextlib.contextmanager
def variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set these environment variables for the length of a block; what is started in it inherits them."""
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
    """Return the `.env` in force: `FLOW360_ENV_FILE`, else the one in the checkout."""
    return Path(os.environ.get("FLOW360_ENV_FILE", ROOT / ".env"))


def env_values(path: Path | None = None) -> dict[str, str]:
    """Read `.env` (or another such file), the one reader of it; nothing where there is no file.

    Raises:
        FlowError: it is not UTF-8, or has a line that Docker Compose would read in another way.
    """
    path = path or env_file()
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Windows' editors begin a file with a mark; Compose skips it, too
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise FlowError(f"{path}, line {line}: this is not UTF-8: save the file as UTF-8") from None
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        match = PAIR.fullmatch(line)
        if not match:
            said = "this is not NAME=value, or its value can be read in two ways: put the value in '…' on one line"
            raise FlowError(f"{path}, line {number}: {said}")
        for name, value in dotenv_values(stream=io.StringIO(line), interpolate=False).items():
            before, earlier = found.get(name, (0, ""))
            if earlier not in ("", value):
                said = f"{name} has another value than in line {before}: remove one of the two"
                raise FlowError(f"{path}, line {number}: {said}")
            found[name] = number, value or ""
    return {name: value for name, (_, value) in found.items()}


def in_force() -> dict[str, str]:
    """Return the variables of `.env`, with the environment's on top; an empty one is none."""
    ours = env_values()
    return {name: value for name in ours | os.environ if (value := os.environ.get(name) or ours.get(name))}


def overlays(compose_file: str | None) -> tuple[str, ...]:
    """Read what COMPOSE_FILE puts on top of the layers: SPLIT, VAULTED, both or nothing, in its order."""
    names = (compose_file or "").split(":")
    return tuple(one for name in names for one in (SPLIT, VAULTED) if name.endswith(one))


def is_split(compose_file: str | None) -> bool:
    """Have Airflow and Hive PostgreSQL servers of their own? They have where COMPOSE_FILE names split.yaml."""
    return SPLIT in overlays(compose_file)


# A field for each port and each secret of the layers' files: `kafka_port`, `postgres_dwh_password`.
_Described = create_model(
    "_Described",
    **{name.lower(): (int, number) for name, number in PORTS.items()},
    **{name.lower(): (str, Field("", repr=False)) for name in SECRETS},
)


class Settings(_Described):
    """Everything that a client needs to reach a service. Ports are on 127.0.0.1."""

    postgres_source_user: str = "shop"
    postgres_source_db: str = "shop"
    postgres_dwh_user: str = "warehouse"
    postgres_dwh_db: str = "datawarehouse"
    postgres_airflow_user: str = "airflow"
    postgres_airflow_db: str = "airflow_metadata"
    postgres_hive_user: str = "hive"
    postgres_hive_db: str = "hive_metastore"
    fleet_user: str = "fleet"
    fleet_db: str = "fleet"
    catalogue_user: str = "catalogue"

    compose_file: str = ""
    flow360_engine: str = "auto"
    flow360_state: Path | None = None
    flow360_cache: Path | None = None
    flow360_progress: Path | None = None
    flow360_dbt: Path | None = None
    flow360_rules: Path | None = None
    flow360_lineage: Path | None = None
    flow360_archives: bool = True  # a JVM that found no class archive writes one as it stops
    flow360_machinery: bool = False  # shown in JupyterLab's file browser

    @field_validator("*", mode="before")
    @classmethod
    def _a_port(cls, value: Any, field: ValidationInfo) -> Any:
        """Refuse what Compose would refuse: `19_092`, or a port beyond the last one."""
        port = str(field.field_name).endswith("_port")
        if port and not (re.fullmatch("[1-9][0-9]{0,4}", str(value)) and int(value) < 65536):
            raise ValueError("this is not a port number")
        return value

    @field_validator(
        "flow360_state", "flow360_cache", "flow360_progress", "flow360_dbt", "flow360_rules", "flow360_lineage"
    )
    @classmethod
    def _one_place(cls, path: Path | None) -> Path | None:
        """Resolve a relative path, or `~`, to one place: services and notebooks run in folders of their own."""
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
    def lineage_dir(self) -> Path:
        """Where the programs write down what they have carried."""
        return self.flow360_lineage or self.state_dir / "lineage"

    @property
    def kafka_bootstrap(self) -> str:
        return f"127.0.0.1:{self.kafka_port}"

    @property
    def kafka_connect_url(self) -> str:
        return f"http://127.0.0.1:{self.kafka_connect_port}"

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
    def vault_url(self) -> str:
        return f"http://127.0.0.1:{self.vault_port}"

    @property
    def elasticsearch_url(self) -> str:
        return f"http://127.0.0.1:{self.elasticsearch_port}"

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.airflow_port}"

    @property
    def jupyter_url(self) -> str:
        """Where JupyterLab is open; `/tree/` and the path of a file of the checkout may follow."""
        return f"http://127.0.0.1:{self.jupyter_port}/lab"


@cache
def settings() -> Settings:
    """Return the settings in force, read once a process."""
    try:
        found = in_force()
        return Settings.model_validate({n: found[n.upper()] for n in Settings.model_fields if n.upper() in found})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper()
        said = f"{first['msg'].removeprefix('Value error, ')} (found {first['input']!r})"
        if os.environ.get(name):
            # Kubernetes sets such variables for services of the same name.
            raise FlowError(f"{name} in the environment, not in .env: {said}: unset {name}") from None
        raise FlowError(f"{env_file()}: {name}: {said}") from None


def ensure_env() -> Path:
    """Write `.env` if it is missing, and add what a newer version needs; existing values are kept.

    Returns:
        The file's path. Its mode is 0600.
    """
    path = env_file()
    try:
        with locked(path):  # two `up` at once must end with the same passwords
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


def _complete(path: Path) -> bool:
    """Let scripts/env write what is missing; False when nothing is."""
    found = env_values(path)
    if all(
        found.get(name) for name in ("COMPOSE_PATH_SEPARATOR", "COMPOSE_PROFILES", "FLOW360_DATA", *PORTS, *SECRETS)
    ):
        return False
    command = [ROOT / "scripts" / "env", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        raise OSError(errno.ENOSPC if "No space left" in done.stderr else errno.EACCES, done.stderr.strip()[-200:])
    return True
