"""Kibana's saved objects in a notebook: the same dashboards, the same saved search, live.

`boards.draw("primeur-errors")` reads stack/kibana/primeur.ndjson, which Kibana imports, so a picture is written once.
Drawn are the kinds that a course needs: histogram, horizontal_bar, a saved search as a table. The rest is Kibana's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from flow360 import clients
from flow360.errors import Exit, FlowError
from flow360.monitoring.grid import Grid, empty
from flow360.settings import ROOT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE = ROOT / "stack" / "kibana" / "primeur.ndjson"
COLUMNS = 48  # Kibana's grid
ROW = 0.2  # inches that one row of it is high here
BARS = 60  # of a picture of some time, at most
STEPS = (1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 10800, 43200, 86400)  # seconds that a bar may stand for
NESTED = "within"  # how an aggregation is called in another one
Saved = Mapping[str, Any]


def read(kind: str, name: str) -> dict[str, Any]:
    """Read a saved object by its type (dashboard, visualization, search, index-pattern) and id.

    Raises:
        FlowError: there is none; the line names those that there are.
    """
    objects = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
    ours = {one["id"]: one for one in objects if one["type"] == kind}
    if name not in ours:
        raise FlowError(f"there is no {kind} {name!r}. There are: {', '.join(sorted(ours))}", Exit.USAGE)
    return ours[name]


def draw(dashboard: str, minutes: float = 15, width: float = 13) -> Figure:
    """Draw a dashboard with the lines of the last minutes.

    Args:
        dashboard: its id, such as "primeur-errors".
        width: inches.

    Raises:
        FlowError: the search engine is down, or a panel is of a kind that is not drawn here.
    """
    board = read("dashboard", dashboard)
    panels = json.loads(board["attributes"]["panelsJSON"])
    ids = {one["name"].partition(":")[2]: one["id"] for one in board["references"]}
    grid = Grid(max(panel["gridData"]["y"] + panel["gridData"]["h"] for panel in panels), COLUMNS, ROW, width)
    for panel in panels:
        saved = read(panel["type"], ids[panel["panelRefName"]])
        before = 1.5 if saved["type"] == "visualization" and _state(saved)["type"] == "horizontal_bar" else 0.65
        axes = grid.axes(panel["gridData"], before, 0.7)
        axes.set_title(saved["attributes"]["title"], loc="left", fontsize=10, fontweight="bold")
        if saved["type"] == "search":
            _table(axes, rows(saved["id"], minutes, size=8))
        else:
            _picture(axes, saved, minutes)
    return grid.figure


def rows(search: str, minutes: float = 15, size: int = 100) -> pd.DataFrame:
    """Ask for the lines of a saved search: its columns, in its order.

    Raises:
        FlowError: there is no such search, or the search engine is down.
    """
    saved = read("search", search)
    body = {
        "query": _query(saved, minutes),
        "size": size,
        "sort": [{field: order} for field, order in saved["attributes"]["sort"]],
    }
    columns = ["@timestamp", *saved["attributes"]["columns"]]
    hits = clients.search().get(f"/{_index(saved)}/_search", json=body).json()["hits"]["hits"]
    return pd.DataFrame([[_value(hit["_source"], name) for name in columns] for hit in hits], columns=columns)


def query_of(kql: str) -> str:
    """Translate Kibana's query language to the engine's own `query_string`, as far as our saved objects use it."""
    text = re.sub(r"\s*:\s*", ":", kql)
    return re.sub(r"\b(and|or|not)\b(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", lambda match: match[1].upper(), text)


def buckets(visualization: str, minutes: float = 15) -> pd.DataFrame:
    """Ask for the numbers of a visualization: one row for each bucket, `count` beside its keys.

    Raises:
        FlowError: there is no such visualization, or the search engine is down.
    """
    saved = read("visualization", visualization)
    levels = [one for one in _state(saved)["aggs"] if one["schema"] != "metric"]
    inner: dict[str, Any] = {}
    for level in reversed(levels):
        inner = {"aggs": {NESTED: {**_aggregation(level, minutes), **inner}}}
    body = {"query": _query(saved, minutes), "size": 0, **inner}
    found = clients.search().get(f"/{_index(saved)}/_search", json=body).json().get("aggregations", {})
    names = [level["params"]["field"] for level in levels]
    return pd.DataFrame(_flat(found, len(levels)), columns=[*names, "count"])


def _flat(found: Mapping[str, Any], deep: int) -> list[list[Any]]:
    if NESTED not in found:
        return []
    out = []
    for bucket in found[NESTED]["buckets"]:
        if deep == 1:
            out.append([bucket["key"], bucket["doc_count"]])
        else:
            out += [[bucket["key"], *more] for more in _flat(bucket, deep - 1)]
    return out


def _aggregation(level: Saved, minutes: float) -> dict[str, Any]:
    field = level["params"]["field"]
    if level["type"] == "date_histogram":
        return {"date_histogram": {"field": field, "fixed_interval": f"{_seconds(minutes)}s"}}
    if level["type"] == "terms":
        return {"terms": {"field": field, "size": level["params"]["size"]}}
    raise FlowError(f"aggregation {level['type']!r} is not drawn here, only date_histogram and terms", Exit.USAGE)


def _seconds(minutes: float) -> int:
    """Choose how long a bar lasts, so that there are at most `BARS`."""
    return next((step for step in STEPS if step * BARS >= minutes * 60), STEPS[-1])


def _state(saved: Saved) -> dict[str, Any]:
    return json.loads(saved["attributes"]["visState"])


def _index(saved: Saved) -> str:
    return read("index-pattern", saved["references"][0]["id"])["attributes"]["title"]


def _query(saved: Saved, minutes: float) -> dict[str, Any]:
    source = json.loads(saved["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
    kept: list[dict[str, Any]] = [{"range": {"@timestamp": {"gte": f"now-{round(minutes * 60)}s"}}}]
    if asked := source["query"]["query"]:
        kept.append({"query_string": {"query": query_of(asked)}})
    return {"bool": {"filter": kept}}


def _value(source: Any, field: str) -> Any:
    for part in field.split("."):
        source = source.get(part) if isinstance(source, dict) else None
    return source


def _picture(axes: Axes, saved: Saved, minutes: float) -> None:
    kind, found = _state(saved)["type"], buckets(saved["id"], minutes)
    axes.tick_params(labelsize=8)
    if found.empty:
        empty(axes, "no lines")
        return
    if kind == "histogram":
        _bars_in_time(axes, found, minutes)
    elif kind == "horizontal_bar":
        bars = axes.barh(found.iloc[::-1, 0].astype(str), found.iloc[::-1]["count"])
        axes.bar_label(bars, [f"{count:,}" for count in found.iloc[::-1]["count"]], fontsize=8, padding=3)
        axes.margins(x=0.2)
        axes.xaxis.set_visible(False)
    else:
        raise FlowError(f"{saved['attributes']['title']!r}: {kind!r} is not drawn here, only {DRAWN}", Exit.USAGE)


DRAWN = "histogram and horizontal_bar"


def _bars_in_time(axes: Axes, found: pd.DataFrame, minutes: float) -> None:
    import matplotlib.dates as dates

    found = found.assign(at=pd.to_datetime(found.iloc[:, 0], unit="ms", utc=True))
    wide = found.pivot_table(index="at", columns=found.columns[1], values="count", aggfunc="sum", fill_value=0)
    below = pd.Series(0, wide.index)
    width = pd.Timedelta(seconds=_seconds(minutes))
    for name in wide:
        axes.bar(wide.index, wide[name], width=width, bottom=below, align="edge", label=str(name))
        below = below + wide[name]
    now = pd.Timestamp.now("UTC")
    axes.set_xlim(now - pd.Timedelta(minutes=minutes), now)
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    axes.legend(fontsize=7, loc="upper left", framealpha=0.5)


def _table(axes: Axes, found: pd.DataFrame) -> None:
    axes.set_axis_off()
    if found.empty:
        empty(axes, "no lines")
        return
    short = found.fillna("").astype(str).map(lambda text: text if len(text) <= 46 else text[:45] + "…")
    table = axes.table(short.values.tolist(), colLabels=list(short), loc="upper left", cellLoc="left")
    table.auto_set_font_size(False)
    table.set_fontsize(7)
    table.auto_set_column_width(list(range(len(short.columns))))
