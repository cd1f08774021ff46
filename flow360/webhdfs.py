"""HDFS over HTTP: fsspec's WebHDFS with time-outs, our one-line errors, and the questions that only HDFS answers."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import requests
from fsspec.implementations.webhdfs import WebHDFS

from flow360 import clients
from flow360.errors import Exit, FlowError
from flow360.settings import settings

USER = "primeur"


class _Session(requests.Session):
    """Every request with a time-out; what goes wrong on the way becomes one line."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.trust_env = False  # a proxy in the environment must not be asked for 127.0.0.1

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        return target and published(target)

    def send(self, request: requests.PreparedRequest, **kw: Any) -> requests.Response:  # type: ignore[override]
        kw["timeout"] = kw.get("timeout") or self.seconds
        try:
            answer = super().send(request, **kw)
        except requests.Timeout:
            raise FlowError(
                f"{_who(request.url)} gave no answer within {self.seconds:g} s: see `flow360 status`", Exit.SERVICE
            ) from None
        except requests.ConnectionError:
            raise clients.is_down(_who(request.url)) from None
        if answer.status_code == 403 and "StandbyException" in answer.text or "SafeModeException" in answer.text[:400]:
            raise FlowError("namenode is in safe mode: it waits for its DataNodes, see `flow360 status`", Exit.SERVICE)
        return answer


def published(url: str) -> str:
    """A DataNode's address as this machine reaches it: in containers it calls itself `datanode-2:9864`."""
    port = clients.port_of(str(urlsplit(url).hostname))
    return re.sub(r"^http://[^/]+", f"http://127.0.0.1:{port}", url) if port else url


def _who(url: str | None) -> str:
    """The service that was asked, by its port."""
    port = urlsplit(url or "").port
    for service in ("datanode", "datanode-2", "datanode-3"):
        if port == clients.port_of(service):
            return service
    return "namenode"


class Lake(WebHDFS):
    """The lake's file system. Beside what fsspec knows: blocks, fsck, quotas and raw WebHDFS calls."""

    cachable = False  # a service may have gone since the last time

    def __init__(self, seconds: float = 20.0) -> None:
        self._seconds = seconds
        super().__init__("127.0.0.1", settings().namenode_web_port, user=USER, data_proxy=published)
        self._call("GETFILESTATUS", path="/")

    def _connect(self) -> None:
        self.session = _Session(self._seconds)

    def _apply_proxy(self, location: str) -> str:
        return published(location)
