"""HDFS over HTTP: fsspec's WebHDFS with time-outs, our one-line errors, and the questions that only HDFS answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from fsspec.implementations.webhdfs import WebHDFS

from flow360.clients import direct, reach
from flow360.errors import Exit, FlowError, ServiceError
from flow360.settings import settings

if TYPE_CHECKING:
    import pandas as pd

USER = "primeur"
DATANODES = ("datanode", "datanode-2", "datanode-3")
TRIES = 30  # asked so often, the NameNode names the one DataNode of three that lives, but for one time in 100,000


class _Gone(ServiceError):
    """Nothing came back from the service that was asked."""


class _Session(direct.Session):
    """Every request with a time-out; what goes wrong on the way becomes one line."""

    def __init__(self, seconds: float, address: Callable[[str], str]) -> None:
        super().__init__()
        self.seconds = seconds
        self.address = address
        self.hooks["response"] = [self._send_on]

    def _send_on(self, answer: requests.Response, **_: Any) -> None:
        """Make a redirect to a DataNode one that leads there from here; called before it is followed."""
        if answer.is_redirect and _asked(answer.headers["Location"]) in DATANODES:
            # On the way through Java's URI a name written as e + accent becomes è, another name: ours is put back.
            target = urlsplit(self.address(answer.headers["Location"]))
            answer.headers["Location"] = target._replace(path=urlsplit(answer.request.url).path).geturl()

    def send(self, request: requests.PreparedRequest, **kw: Any) -> requests.Response:  # type: ignore[override]
        answer = self._once(request, **kw)
        if request.method == "GET" and not answer.ok and (who := _asked(request.url)) in DATANODES:
            # A DataNode that still holds a connection to a NameNode that has gone since finds out by failing once.
            answer = self._once(request, **kw)
            if not answer.ok:  # fsspec would take what it says for the file's bytes
                raise ServiceError(f"{who} could not read it: {_remote(answer)}")
        return answer

    def _once(self, request: requests.PreparedRequest, **kw: Any) -> requests.Response:
        kw["timeout"] = kw.get("timeout") or self.seconds
        who = _asked(request.url)
        try:
            answer = super().send(request, **kw)
        except requests.Timeout:
            line = f"{who} gave no answer within {self.seconds:g} s: see `flow360 status` and `flow360 logs {who}`"
            raise ServiceError(line) from None
        except requests.ConnectionError:
            if reach.answers(who):
                line = f"{who} broke off in the middle of an answer: see `flow360 logs {who}`"
                raise _Gone(line) from None
            raise _Gone(str(reach.is_down(who))) from None
        if answer.status_code == 403 and "SafeModeException" in answer.text:
            line = "namenode is in safe mode: it waits for its DataNodes, see `flow360 status`"
            raise ServiceError(line)
        return answer


def published(url: str) -> str:
    """Translate a DataNode's address to one that this machine reaches: in containers it says `datanode-2:9864`."""
    host = urlsplit(url).hostname
    return re.sub(r"^http://[^/]+", f"http://127.0.0.1:{reach.port_of(host)}", url) if host in DATANODES else url


def _asked(url: str | None) -> str:
    """Name the service that was asked, by its name or its port."""
    place, ports = urlsplit(url or ""), {reach.port_of(name): name for name in DATANODES}
    return place.hostname if place.hostname in DATANODES else ports.get(place.port, "namenode")


def _remote(answer: requests.Response) -> str:
    """Return the first line of what a daemon says about its refusal."""
    try:
        said = answer.json()["RemoteException"]["message"]
    except (ValueError, KeyError):
        said = f"HTTP {answer.status_code}"
    return said.strip().splitlines()[0][:240]


def _service(host: str, port: int) -> str:
    """Name the service behind a DataNode's address, as the NameNode knows it."""
    if host in DATANODES:
        return host  # in containers a DataNode is known by its service's name
    at = settings()
    ports = {at.datanode_port: "datanode", at.datanode_2_port: "datanode-2", at.datanode_3_port: "datanode-3"}
    return ports.get(port, f"{host}:{port}")


class Lake(WebHDFS):
    """The lake's file system: what fsspec knows, and what only HDFS has (blocks, copies, DataNodes, fsck, quotas)."""

    cachable = False  # a service may have gone since the last time

    def __init__(
        self, seconds: float = 20.0, host: str = "127.0.0.1", port: int | None = None, secret: str | None = None
    ) -> None:
        """Connect to the NameNode's web address: the published one, or inside the containers' network another.

        Args:
            secret: LAKE_SECRET of `.env`, without which HDFS changes nothing; None takes ours.
        """
        self._seconds = seconds
        self._secret = secret or settings().lake_secret
        # A client that reaches the NameNode by its own name reaches the DataNodes by theirs.
        self._reach = published if host == "127.0.0.1" else str
        super().__init__(host, port or settings().namenode_web_port, user=USER)
        self._call("GETFILESTATUS", path="/")

    def _connect(self) -> None:
        self.session = _Session(self._seconds, self._reach)
        self.session.headers[f"X-{self._secret}"] = "flow360"

    def _open(self, path: str, mode: str = "rb", replication: int | None = None, **kw: Any) -> Any:
        if "w" in mode:
            self.write(path, b"", replication=replication, permission=kw.get("permissions"))
        file = super()._open(path, mode, replication=replication, **kw)
        if "r" not in mode:  # fsspec takes whichever DataNode is named, and forgets where to append to
            file.location = self._place("APPEND", "post", path)
            file._initiate_upload = lambda: None
        return file

    def _place(self, op: str, method: str, path: str, **options: Any) -> str:
        """Ask for the address of a DataNode that takes data for a file.

        For seconds the NameNode may name a DataNode that has gone; which one it names is chance.
        """
        for _ in range(TRIES):
            place = self._call(op, method, path, redirect=False, **options).headers["Location"]
            if reach.answers(_asked(place)):
                break
        return place

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        """Give a file or folder another name; where `path2` is a folder, move it into that.

        Raises:
            FlowError: there is nothing to move, a file of that name already, or no folder to move it to.
        """
        if self._done("RENAME", "put", path1, destination=self._strip_protocol(path2)):
            return
        if not self.exists(path1):
            why = "it does not exist"
        elif self.exists(path2):
            why = "there is one already, take it away first"
        else:
            why = f"there is no folder {path2.rpartition('/')[0]}"
        raise FlowError(f"lake: {path1} was not moved to {path2}: {why}")

    def rm(self, path: str, recursive: bool = False, missing_ok: bool = False, **_: Any) -> None:
        """Remove a file, or a folder with all that is in it (`recursive`).

        Raises:
            FlowError: it does not exist (unless `missing_ok`).
        """
        if not self._done("DELETE", "delete", path, recursive=str(recursive).lower()) and not missing_ok:
            raise FlowError(f"lake: {path} was not removed: it does not exist")

    def _done(self, op: str, method: str, path: str, **options: str) -> bool:
        """Read what HDFS answers to a change: true, or false where there was nothing to do."""
        return self._call(op, method, path, **options).json()["boolean"]

    def write(
        self,
        path: str,
        data: bytes,
        *,
        replication: int | None = None,
        block_size: int | None = None,
        permission: str | int | None = None,
    ) -> None:
        """Write a whole file, replacing what was there.

        Args:
            replication: how many copies of each block (by default dfs.replication, 3).
            block_size: bytes of a block, 65,536 at least and a multiple of 512 (by default dfs.blocksize, 128 MB).
            permission: of a new file, as octal digits ("640") or a number (0o640); by default what HDFS's umask leaves.

        Raises:
            FlowError: HDFS refused it (a quota, too few DataNodes); what was there before may be gone.
        """
        permission = f"{permission:o}" if isinstance(permission, int) else permission
        options = {"overwrite": "true", "replication": replication, "blocksize": block_size, "permission": permission}
        options = {name: value for name, value in options.items() if value}
        headers = {"content-type": "application/octet-stream"}
        for attempt in range(1, TRIES + 1):
            # In two steps: in one, the data would travel to the NameNode, only to be sent on from there.
            place = self._place("CREATE", "put", path, **options)
            try:
                answer = self.session.put(place, data=data, headers=headers)
                break
            except _Gone:  # a container's port takes connections for a DataNode that has gone
                if attempt == TRIES:
                    raise
        if not answer.ok:
            raise FlowError(f"lake: {path} was not written: {_remote(answer)}")

    def replace(self, path: str, data: bytes) -> None:
        """Write a whole file so that a reader sees what was there before or all of it: first aside, then renamed.

        Raises:
            FlowError: HDFS refused it; what was there before still is.
        """
        folder, _, name = path.rpartition("/")
        aside = f"{folder}/_{name}.part"  # Hive and Spark pass over what begins with _
        self.write(aside, data)
        self._call("RENAME", "put", aside, destination=path, renameoptions="OVERWRITE")

    def blocks(self, path: str) -> pd.DataFrame:
        """List the blocks of a file, one a row: block (number), offset, bytes, copies, on (services that hold it)."""
        import pandas as pd

        found = self._call("GET_BLOCK_LOCATIONS", path=path).json()["LocatedBlocks"]["locatedBlocks"]
        rows = [
            {
                "block": one["block"]["blockId"],
                "offset": one["startOffset"],
                "bytes": one["block"]["numBytes"],
                "copies": len(one["locations"]),
                "on": ", ".join(sorted(_service(place["hostName"], place["xferPort"]) for place in one["locations"])),
            }
            for one in found
        ]
        return pd.DataFrame(rows, columns=["block", "offset", "bytes", "copies", "on"])

    def datanodes(self) -> pd.DataFrame:
        """List the DataNodes that the NameNode knows, one a row: service, state, silent_s (seconds), blocks."""
        import pandas as pd

        info = self.jmx("NameNodeInfo")
        rows = []
        for key, state in (("LiveNodes", "live"), ("DeadNodes", "dead")):
            for name, node in json.loads(info[key]).items():
                service = _service(name.partition(":")[0], int(node["xferaddr"].rpartition(":")[2]))
                blocks = node.get("numBlocks", 0)
                rows.append({"service": service, "state": state, "silent_s": node["lastContact"], "blocks": blocks})
        columns = ["service", "state", "silent_s", "blocks"]
        return pd.DataFrame(rows, columns=columns).sort_values("service", ignore_index=True)

    def jmx(self, bean: str) -> dict[str, Any]:
        """Read what the NameNode measures of itself: NameNodeInfo, FSNamesystem, FSNamesystemState …"""
        url = f"{settings().namenode_url}/jmx"
        answer = self.session.get(url, params={"qry": f"Hadoop:service=NameNode,name={bean}"})
        answer.raise_for_status()
        if not (beans := answer.json()["beans"]):
            raise FlowError(f"namenode has no bean {bean!r}", Exit.USAGE)
        return beans[0]

    def set_quota(self, path: str, *, files: int | None = None, space: int | None = None) -> None:
        """Limit the names below a folder, and the bytes of all copies in it; None takes a limit away."""
        none = -1
        self._call(
            *("SETQUOTA", "put", path),
            namespacequota=none if files is None else files,
            storagespacequota=none if space is None else space,
        )
