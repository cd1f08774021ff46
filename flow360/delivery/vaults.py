"""The secrets' server beside its API: its audit log, and a server of one's own to throw away."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import subprocess
import tempfile
import weakref
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flow360.clients import vault_as
from flow360.clients.secrets import Missing
from flow360.errors import FlowError
from flow360.process import run
from flow360.stack import open_stack
from flow360.stack.native.prepare import bao
from flow360.waiting import wait_for

if TYPE_CHECKING:
    import hvac
    import pandas as pd

LOG = "store/audit.log"
CONFIG = """
disable_mlock = true
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:1"
storage "raft" {{
  path = "raft"
  node_id = "throw-away"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:0"
  tls_disable = true
}}
"""


def records(since: datetime | None = None) -> list[dict[str, Any]]:
    """Read the audit log as Vault wrote it, oldest first: a dict for each question and one for each answer.

    Texts in questions and answers are keyed hashes, and so are tokens; paths, moments and roles are plain.

    Args:
        since: only from this moment on; it has a zone.

    Raises:
        FlowError: there is no log: Vault has never run.
    """
    found = []
    for line in reversed(_text().splitlines()):
        one = json.loads(line)
        if since and datetime.fromisoformat(one["time"]) < since:
            break
        found.append(one)
    return found[::-1]


def audit(since: datetime | None = None) -> pd.DataFrame:
    """Read the audit log, a row for each answer: who asked for what, when, and whether it was refused.

    Columns: time (UTC), who (the AppRole), operation, path, error (empty when it was answered), request_id.

    Args:
        since: only from this moment on; it has a zone.

    Raises:
        FlowError: there is no log: Vault has never run.
    """
    import pandas as pd

    rows = [
        {
            "time": one["time"],
            "who": who(one),
            "operation": one["request"]["operation"],
            "path": one["request"]["path"],
            "error": " ".join(one.get("error", "").split()),
            "request_id": one["request"]["id"],
        }
        for one in records(since)
        if one["type"] == "response"
    ]
    frame = pd.DataFrame(rows, columns=["time", "who", "operation", "path", "error", "request_id"])
    return frame.assign(time=pd.to_datetime(frame["time"], utc=True, format="ISO8601"))


def who(record: dict[str, Any]) -> str:
    """Name the AppRole whose token was shown with a record of the audit log; "" for another kind of token, or none."""
    return (record.get("auth") or {}).get("metadata", {}).get("role_name", "")


def _text() -> str:
    stack = open_stack()
    if stack.engine is not stack.host:
        return run(stack.tool_command("vault", "cat", f"/vault/file/{LOG}", []), seconds=30)
    path = stack.host.programs.data(stack.model["vault"]) / LOG
    if not path.exists():
        raise FlowError("vault has no audit log yet: start it with `flow360 up vault`")
    return path.read_text("utf-8")


class ThrowAway:
    """A server of secrets that knows nothing yet: neither initialised nor unsealed. `stop()` removes all of it.

    In dev mode it is initialised and unsealed at each start, keeps everything in memory, and has `token` for its root
    token, in its command line, as tutorials have it.
    """

    def __init__(self, dev: bool = False) -> None:
        self.token = secrets.token_urlsafe(16) if dev else ""
        self.folder = Path(tempfile.mkdtemp(prefix="flow360-vault-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        (self.folder / "raft").mkdir()
        (self.folder / "server.hcl").write_text(CONFIG.format(port=self.port), "utf-8")
        self._process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """Start it, sealed if it was initialised; returns when it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(bao()), "server", *self._options()], cwd=self.folder, stdout=log, stderr=log
            )
        self._end = weakref.finalize(self, _end, self._process, self.folder)
        wait_for(self._answers, 30, "the throw-away server to answer")

    def _answers(self) -> bool:
        if self.token:
            with suppress(Missing):  # the engine of its secrets is the last thing that it makes for itself
                self.client(self.token).secrets.kv.v2.read_secret("none")
        return bool(self.client().sys.read_seal_status())

    def _options(self) -> list[str]:
        if not self.token:
            return ["-config=server.hcl"]
        # Without the last one it would put its token into the home folder, where every other client would find it.
        address, token = f"-dev-listen-address=127.0.0.1:{self.port}", f"-dev-root-token-id={self.token}"
        return ["-dev", address, token, "-dev-no-store-token"]

    def client(self, token: str = "") -> hvac.Client:
        """Make a client with this token; without one it may only ask for the seal."""
        return vault_as(self.url, token)

    def restart(self) -> None:
        """Kill it and start it again, as after a power cut."""
        self._end.detach()
        self._process.kill()
        self._process.wait(20)
        self.start()

    def stop(self) -> None:
        """End it and remove what it kept."""
        self._end()

    def __enter__(self) -> ThrowAway:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.kill()
    process.wait(20)
    shutil.rmtree(folder, ignore_errors=True)
