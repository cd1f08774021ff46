"""A program as the keeper keeps it: its section of supervisord.conf, and the environment that it inherits."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flow360.environment import MARK, clean
from flow360.errors import FlowError
from flow360.settings import OURS, settings

STOP = "FLOW360_STOP_SIGNAL"  # beside the mark: how such a program wants to be ended


@dataclass(frozen=True)
class Program:
    """One supervised program. `user` is a name, when root starts it as somebody else."""

    name: str
    command: list[str]
    directory: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_seconds: int = 20
    stop_signal: str = "TERM"

    def section(self, owner: str) -> str:
        """Write its section of supervisord.conf."""
        environment = {**self.environment, MARK: f"{owner}:{self.name}", STOP: self.stop_signal}
        pairs = ",".join(f"{key}={_quoted(one)}" for key, one in environment.items())
        lines = [
            f"[program:{self.name}]",
            f"command={value(shlex.join(self.command))}",
            f"directory={value(self.directory)}",
            f"environment={value(pairs)}",
            "autostart=false",
            "autorestart=true",
            "startsecs=1",
            "startretries=10",
            f"stopwaitsecs={self.stop_seconds}",
            f"stopsignal={self.stop_signal}",
            "stopasgroup=true",
            "killasgroup=true",
            "redirect_stderr=true",
            f"stdout_logfile={value(value(self.log))}",  # supervisor replaces % in this one twice
            "stdout_logfile_maxbytes=10MB",
            "stdout_logfile_backups=1",
        ]
        if self.user:
            lines.append(f"user={self.user}")
        return "\n".join(lines) + "\n"


def inherited() -> dict[str, str]:
    """Return what of this process's environment a service gets: all, but for what would break it on some machines."""
    # The mark is that of JupyterLab, where somebody types `flow360 up` in one of its terminals.
    kept = {name: value for name, value in clean(os.environ, OURS).items() if name != MARK}
    # httpx (JupyterLab, Airflow's tasks) does not start with a SOCKS proxy, reads no_proxy before NO_PROXY, and knows
    # no networks in it such as 127.0.0.0/8.
    kept = {k: v for k, v in kept.items() if not (k.lower().endswith("_proxy") and v.startswith("socks"))}
    direct = ",".join(filter(None, [kept.get("no_proxy") or kept.get("NO_PROXY"), "127.0.0.1,localhost"]))
    # In C and POSIX, and in a language that is not installed, a JVM opens no file whose path has an é.
    kept |= {"no_proxy": direct, "NO_PROXY": direct, "LC_ALL": "C.UTF-8"}
    # Airflow's processes would write their titles over their environment, and with it over the mark.
    kept["SPT_NOENV"] = "1"
    if os.statvfs("/tmp").f_flag & os.ST_NOEXEC:
        # Kafka Streams and Spark unpack native code, which there may not run.
        place = settings().cache_dir / "tmp"
        place.mkdir(parents=True, exist_ok=True)
        kept["JAVA_TOOL_OPTIONS"] = f'"-Djava.io.tmpdir={place}"'
    return kept


def value(text: str | Path) -> str:
    """Write a value as its config file wants it, but no blank before `#` or `;`: a comment would begin there."""
    if re.search(r"\s[#;]|[\r\n]", str(text)):
        raise FlowError(
            f"supervisor cannot use a path with ' #' or ' ;' in it: rename the folder ({str(text)[:120]!r})"
        )
    return str(text).replace("%", "%%")


def _quoted(text: str) -> str:
    """Quote the value of an environment variable: supervisor knows two kinds of quotes here, and no escapes."""
    quote = "'" if '"' in text else '"'
    if quote in text or text.strip("'\"") != text:
        raise FlowError(f"supervisor cannot pass on a value with such quotes: rename the folder ({text[:120]!r})")
    return f"{quote}{text}{quote}"
