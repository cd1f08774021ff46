"""Grafana's dashboards drawn in a notebook: the same JSON, the same PromQL, live.

`dashboards.draw("primeur")` reads stack/grafana/dashboards/primeur.json, which Grafana reads too, so a panel is written
once. Drawn are the panels that a course needs: timeseries, stat, bargauge. Everything else is Grafana's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flow360.clients import prometheus
from flow360.errors import Exit, FlowError
from flow360.monitoring.grid import Grid, empty
from flow360.settings import ROOT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = ROOT / "stack" / "grafana" / "dashboards"
COLUMNS = 24  # Grafana's grid
STEP = 2  # seconds between two points of a line
ROW = 0.36  # inches that one row of it is high here
# unit in Grafana's JSON -> (factor, what is written behind the number)
UNITS = {
    "none": (1, ""),
    "short": (1, ""),
    "s": (1, " s"),
    "ms": (1, " ms"),
    "percent": (1, " %"),
    "percentunit": (100, " %"),
    "reqps": (1, " /s"),
    "ops": (1, " /s"),
    "bytes": (1 / 1e6, " MB"),
    "celsius": (1, " °C"),
}
Panel = Mapping[str, Any]


def read(name: str) -> dict[str, Any]:
    """Read a dashboard of stack/grafana/dashboards by its name, as Grafana's JSON."""
    file = FOLDER / f"{name}.json"
    if not file.exists():
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.json")))
        raise FlowError(f"there is no dashboard {name!r}. There are: {known}", Exit.USAGE)
    return json.loads(file.read_text("utf-8"))


def draw(dashboard: str | Mapping[str, Any], minutes: float = 5, width: float = 13) -> Figure:
    """Draw a dashboard with the numbers of the last minutes.

    Args:
        dashboard: a name, or Grafana's JSON as a dict; one panel alone will do, too.
        minutes: how far back.
        width: inches.

    Raises:
        FlowError: Prometheus is down or refuses an expression, or a panel cannot be drawn; the line names the panel.
    """
    board = read(dashboard) if isinstance(dashboard, str) else dashboard
    panels = board.get("panels") or [board]
    places = [panel.get("gridPos") or {"x": 0, "y": 8 * n, "w": COLUMNS, "h": 8} for n, panel in enumerate(panels)]
    grid = Grid(max(place["y"] + place["h"] for place in places), COLUMNS, ROW, width)
    for panel, place in zip(panels, places, strict=True):
        before = 1.4 if panel.get("type") == "bargauge" else 0.65
        draw_panel(grid.axes(place, before, 0.65), panel, minutes)
    return grid.figure


def draw_panel(axes: Axes, panel: Panel, minutes: float) -> None:
    """Draw one panel of Grafana's JSON."""
    title, kind = panel.get("title", "panel"), panel.get("type")
    if kind not in DRAWERS:
        raise FlowError(f"panel {title!r}: type {kind!r} is not drawn here, only {', '.join(DRAWERS)}", Exit.USAGE)
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    unit = defaults.get("unit", "none")
    if unit not in UNITS:
        raise FlowError(f"panel {title!r}: unit {unit!r} is not known here, only {', '.join(UNITS)}", Exit.USAGE)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    DRAWERS[kind](axes, panel, minutes, unit)


def _timeseries(axes: Axes, panel: Panel, minutes: float, unit: str) -> None:
    import matplotlib.dates as dates
    import pandas as pd
    from matplotlib.ticker import LinearLocator

    factor, behind = UNITS[unit]
    drawn = 0
    for target in panel["targets"]:
        for name, values in _range(target, minutes):
            values = values.asfreq(pd.Timedelta(seconds=STEP))  # a time without samples is a gap, and no straight line
            axes.plot(values.index, values * factor, linewidth=1.5, label=name)
            drawn += 1
    for step in panel.get("fieldConfig", {}).get("defaults", {}).get("thresholds", {}).get("steps", ())[1:]:
        axes.axhline(step["value"] * factor, color=step.get("color", "red"), linewidth=1, linestyle="--")
    if not drawn:
        empty(axes, "no data")
    axes.set_ylabel(behind.strip())
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    now = pd.Timestamp.now("UTC")
    axes.set_xlim(now - pd.Timedelta(minutes=minutes), now)
    axes.xaxis.set_major_locator(LinearLocator(4))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
    axes.tick_params(labelsize=8)
    if 0 < drawn <= 8:
        axes.legend(fontsize=7, loc="upper left", framealpha=0.5)


def _stat(axes: Axes, panel: Panel, _minutes: float, unit: str) -> None:
    rows = [(name, value) for target in panel["targets"] for name, value in _now(target) if value == value]  # no NaN
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    axes.set_axis_off()
    if not rows:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", color="0.5")
    for place, (name, value) in enumerate(rows):
        x = (place + 0.5) / len(rows)
        axes.text(x, 0.5, _text(value, unit), ha="center", va="center", fontsize=20, color=_colour(value, defaults))
        if len(rows) > 1:
            axes.text(x, 0.05, name, ha="center", fontsize=8)


def _bargauge(axes: Axes, panel: Panel, _minutes: float, unit: str) -> None:
    rows = [row for target in panel["targets"] for row in _now(target)][::-1]
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    factor, _ = UNITS[unit]
    bars = axes.barh(
        [name for name, _ in rows],
        [value * factor for _, value in rows],
        color=[_colour(value, defaults) for _, value in rows],
    )
    axes.bar_label(bars, [_text(value, unit) for _, value in rows], fontsize=8, padding=3)
    axes.margins(x=0.2)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_visible(False)


DRAWERS = {"timeseries": _timeseries, "stat": _stat, "bargauge": _bargauge}


def _range(target: Mapping[str, Any], minutes: float) -> list[tuple[str, Any]]:
    form = target.get("legendFormat", "")
    return [(_legend(form, labels), values) for labels, values in prometheus().series(target["expr"], minutes, STEP)]


def _now(target: Mapping[str, Any]) -> list[tuple[str, float]]:
    table = prometheus().query(target["expr"])
    form = target.get("legendFormat", "")
    rows = table.to_dict("records")
    return [(_legend(form, row), row["value"]) for row in rows]


def _legend(form: str, labels: Mapping[str, Any]) -> str:
    """Replace `{{route}}` in a legend by the value of that label; without a legend show all labels."""
    if not form:
        return " ".join(str(value) for key, value in labels.items() if key not in ("__name__", "instance", "value"))
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: str(labels.get(match[1], "")), form)


def _text(value: float, unit: str) -> str:
    factor, behind = UNITS[unit]
    return f"{value * factor:,.3g}{behind}" if abs(value * factor) < 1000 else f"{value * factor:,.0f}{behind}"


def _colour(value: float, defaults: Mapping[str, Any]) -> str:
    """Pick the colour of the highest threshold that the value has reached."""
    colour = "tab:blue"
    for step in defaults.get("thresholds", {}).get("steps", ()):
        if step.get("value") is None or value >= step["value"]:
            colour = {"green": "tab:green", "red": "tab:red", "orange": "tab:orange"}.get(step["color"], step["color"])
    return colour
