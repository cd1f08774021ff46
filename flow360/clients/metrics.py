"""Prometheus and Alertmanager from a notebook: `prom = clients.prometheus()`, then `prom.query("up")`.

Every answer is a DataFrame; every error is one line. Times are in UTC.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd
import psutil
import requests
import yaml

from flow360.clients import direct
from flow360.errors import Exit, FlowError, ServiceError
from flow360.files import write
from flow360.settings import settings
from flow360.waiting import wait_for

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SECONDS = 10


class Prometheus:
    """One Prometheus with its Alertmanager and its Pushgateway, on the ports of `settings()`."""

    def __init__(self) -> None:
        s = settings()
        self.url = f"http://127.0.0.1:{s.prometheus_port}"
        self._http = direct.Session()

    # --- questions

    def query(self, promql: str, at: float | None = None) -> pd.DataFrame:
        """Ask what an expression is worth now, or `at` a moment (seconds since 1970): one row for each series.

        Returns:
            The labels as columns, and `value`; a range such as `up[10s]` gives `time` beside it, a row a sample.

        Raises:
            FlowError: Prometheus is down, or does not understand the expression: its own words.
        """
        found = self._ask("query", query=promql, **({"time": at} if at else {}))
        if found["resultType"] == "matrix":
            return _samples(found["result"])
        if found["resultType"] in ("scalar", "string"):
            return pd.DataFrame({"value": [float(found["result"][1])]})
        rows = [{**_labels(one["metric"]), "value": float(one["value"][1])} for one in found["result"]]
        return pd.DataFrame(rows, columns=None if rows else ["value"])

    def value(self, promql: str, at: float | None = None) -> float | None:
        """Ask for the one number of an expression; None where there is none yet.

        Raises:
            FlowError: as `query`; or the expression has several series.
        """
        rows = self.query(promql, at)
        if len(rows) > 1:
            raise FlowError(f"`{promql}` has {len(rows)} series, not one: sum() them, or name labels", Exit.USAGE)
        return None if rows.empty else float(rows["value"].iat[0])

    def query_range(self, promql: str, minutes: float = 5, step: float = 2, end: float | None = None) -> pd.DataFrame:
        """Ask for an expression over the last minutes, every `step` seconds.

        Returns:
            One column for each series, named by the labels in which they differ; the index is the time (UTC).
        """
        found = self.series(promql, minutes, step, end)
        names = _names([labels for labels, _ in found])
        return pd.DataFrame({name: values for name, (_, values) in zip(names, found, strict=True)}).sort_index()

    def series(
        self, promql: str, minutes: float = 5, step: float = 2, end: float | None = None
    ) -> list[tuple[dict[str, str], pd.Series]]:
        """Ask the same with all labels: (labels, values by time) for each series, as a drawing needs it."""
        end = end or time.time()
        found = self._ask("query_range", query=promql, start=end - 60 * minutes, end=end, step=step)["result"]
        return [
            (
                one["metric"],
                pd.Series(
                    [float(value) for _, value in one["values"]],
                    index=pd.to_datetime([moment for moment, _ in one["values"]], unit="s", utc=True).round("ms"),
                ),
            )
            for one in found
        ]

    def targets(self) -> pd.DataFrame:
        """List whom Prometheus asks: job, address, health (up, down, unknown), time of an answer, last error."""
        rows = [
            {
                "job": one["labels"]["job"],
                "asked": one["scrapeUrl"],
                "health": one["health"],
                "milliseconds": round(one["lastScrapeDuration"] * 1000, 1),
                "error": one["lastError"],
            }
            for one in self._ask("targets", state="active")["activeTargets"]
        ]
        return pd.DataFrame(rows, columns=["job", "asked", "health", "milliseconds", "error"])

    def alerts(self, name: str | None = None) -> pd.DataFrame:
        """List the alerts: alert, state (pending, firing), since, value, labels; those of one name, if given."""
        rows = [
            {
                "alert": one["labels"]["alertname"],
                "state": one["state"],
                "since": pd.Timestamp(one["activeAt"]),
                "value": float(one["value"]),
                "labels": {key: value for key, value in one["labels"].items() if key != "alertname"},
            }
            for one in self._ask("alerts")["alerts"]
            if name in (None, one["labels"]["alertname"])
        ]
        return pd.DataFrame(rows, columns=["alert", "state", "since", "value", "labels"])

    def notified(self, name: str | None = None) -> pd.DataFrame:
        """List what Alertmanager would report to people now: alert, state (active, suppressed), since, summary."""
        port = settings().alertmanager_port
        found = self._get(f"http://127.0.0.1:{port}/api/v2/alerts", "alertmanager").json()
        rows = [
            {
                "alert": one["labels"]["alertname"],
                "state": one["status"]["state"],
                "since": pd.Timestamp(one["startsAt"]),
                "summary": one["annotations"].get("summary", ""),
            }
            for one in found
            if name in (None, one["labels"]["alertname"])
        ]
        return pd.DataFrame(rows, columns=["alert", "state", "since", "summary"])

    def await_scrape(self, *jobs: str, seconds: float = 30) -> float:
        """Wait until Prometheus has asked these jobs again: a number read earlier does not know what was just done.

        Returns:
            A moment (seconds since 1970) for `at`: everything that was done before the call can be seen there.

        Raises:
            FlowError: a job did not answer within `seconds`.
        """
        called = time.time()
        each = [f'min(timestamp(up{{job="{job}"}}) and up{{job="{job}"}} == 1)' for job in jobs]
        what = f"Prometheus to ask {', '.join(jobs)}"
        wait_for(lambda: all((self.value(one) or 0) > called for one in each), seconds, what)
        return time.time()

    # --- what the learner adds

    def push(self, registry: CollectorRegistry, job: str) -> None:
        """Leave a program's metrics at the Pushgateway, in place of what it left there before.

        Raises:
            FlowError: the Pushgateway is down.
        """
        from prometheus_client import push_to_gateway

        try:
            push_to_gateway(f"127.0.0.1:{settings().pushgateway_port}", job=job, registry=registry, timeout=SECONDS)
        except OSError:
            raise _down("pushgateway") from None

    def forget(self, job: str) -> None:
        """Take away what a job left at the Pushgateway, which would show it for ever."""
        from prometheus_client import delete_from_gateway

        try:
            delete_from_gateway(f"127.0.0.1:{settings().pushgateway_port}", job=job, timeout=SECONDS)
        except OSError:
            raise _down("pushgateway") from None

    def rules(self, name: str, text: str | None) -> None:
        """Put a rule file of your own into force, or with None take it out again.

        Args:
            name: the file's name, without `.yml`.
            text: the file: `groups`, each with `rules`.

        Raises:
            FlowError: it is not YAML, or Prometheus refuses an expression; the rules in force stay as they were.
        """
        file = settings().rules_dir / f"{name}.yml"
        before = file.read_text("utf-8") if file.exists() else None
        if text is not None:
            for expression in _expressions(text):
                self.query(expression)
        if text == before:
            return
        _write(file, text)
        try:
            self.reload()
        except FlowError:
            _write(file, before)
            self.reload()
            raise

    def reload(self) -> None:
        """Let Prometheus read its configuration and rules again: by a signal, or in a container it looks itself.

        Raises:
            FlowError: it refuses them, and goes on with the old ones.
        """
        moment, well = (f"prometheus_config_last_reload_success{end}" for end in ("_timestamp_seconds", "ful"))
        before = self._own()
        for process in psutil.process_iter(["name"]):
            if process.info["name"] == "prometheus" and _listens(process, settings().prometheus_port):
                process.send_signal(signal.SIGHUP)

        def answer() -> str:
            now = self._own()
            return "read" if now[moment] > before[moment] else "refused" if now[well] < before[well] else ""

        if wait_for(answer, SECONDS, "prometheus to read its rules", every=0.1) == "refused":
            raise FlowError("prometheus keeps its old rules: `flow360 logs prometheus` says why")

    def _own(self) -> dict[str, float]:
        """Read what it measures of itself, now and not at its last scrape: name -> value, of what has no labels."""
        text = self._get(f"{self.url}/metrics", "prometheus").text
        pairs = (line.split() for line in text.splitlines() if "{" not in line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    # ---

    def _ask(self, path: str, **parameters: Any) -> Any:
        answer = self._get(f"{self.url}/api/v1/{path}", "prometheus", parameters)
        try:
            body = answer.json()
            if body["status"] == "success":
                return body["data"]
            said = body["error"]
        except (ValueError, KeyError, TypeError):
            text = " ".join(answer.text.split())[:200] or "an empty body"
            raise ServiceError(f"prometheus: {answer.status_code} {text}") from None
        raise FlowError(f"prometheus: {' '.join(said.split())}", Exit.USAGE)

    def _get(self, url: str, service: str, parameters: dict[str, Any] | None = None) -> requests.Response:
        try:
            return self._http.get(url, params=parameters, timeout=SECONDS)
        except requests.Timeout:
            raise ServiceError(f"{service} did not answer within {SECONDS} s") from None
        except requests.RequestException:
            raise _down(service) from None


def _listens(process: psutil.Process, port: int) -> bool:
    """Say whether a process of this user listens on a port."""
    try:
        return any(one.laddr.port == port for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN)
    except psutil.Error:  # it has ended, or is somebody else's
        return False


def _down(service: str) -> FlowError:
    from flow360.clients import is_down

    return is_down(service)


def _labels(metric: dict[str, str]) -> dict[str, str]:
    # The name is the same in every row, and the address says nothing that the job does not say here.
    return {key: value for key, value in metric.items() if key not in ("__name__", "instance")}


def _names(metrics: list[dict[str, str]]) -> list[str]:
    """Find a short, different name for each series: the labels that are not the same in all of them."""
    keys = {key for metric in metrics for key in metric}
    differing = sorted(key for key in keys if len({metric.get(key) for metric in metrics}) > 1)
    if len(metrics) == 1:
        return [metrics[0].get("__name__") or " ".join(_labels(metrics[0]).values()) or "value"]
    return [" ".join(metric[key] for key in differing if key in metric) for metric in metrics]


def _samples(series: list[dict[str, Any]]) -> pd.DataFrame:
    rows = [
        {**_labels(one["metric"]), "time": pd.Timestamp(moment, unit="s", tz="UTC"), "value": float(value)}
        for one in series
        for moment, value in one["values"]
    ]
    return pd.DataFrame(rows, columns=None if rows else ["time", "value"])


def _expressions(text: str) -> Iterable[str]:
    """List the `expr` of each rule in a rule file."""
    try:
        groups = yaml.safe_load(text)["groups"]
        found = [str(rule["expr"]) for group in groups for rule in group["rules"]]
    except yaml.YAMLError as error:
        raise FlowError(f"the rules are not YAML: {' '.join(str(error).split())[:200]}", Exit.USAGE) from None
    except (KeyError, TypeError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else "the form is another one"
        raise FlowError(f"the rules need groups: [{{name, rules: [{{alert, expr}}]}}]: {said}", Exit.USAGE) from None
    return found


def _write(file: Any, text: str | None) -> None:
    if text is None:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, text)
