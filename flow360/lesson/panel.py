"""The status panel of a notebook: one row a service, buttons to start and stop, and the same table as plain text."""

from __future__ import annotations

import html
from typing import Any

import ipywidgets as widgets

from flow360.errors import FlowError
from flow360.lesson import stopping

_MARK = {"running": "●", "done": "●", "starting": "◐", "stopped": "○", "failed": "✕"}
_COLUMNS = (
    ("Service", "150px"),
    ("Layer", "60px"),
    ("State", "120px"),
    ("Runs", "110px"),
    ("Port", "70px"),
    ("Memory", "80px"),
    ("Link", "90px"),
)


class Panel(widgets.VBox):
    """Buttons and table over a stack (`status`, `up`, `down`).

    A front end without widgets shows the text twin: the same columns, no buttons.
    """

    def __init__(self, stack: Any) -> None:
        self._stack = stack
        self._message = widgets.HTML()
        refresh = widgets.Button(description="Refresh", icon="refresh", tooltip="Ask every service again")
        refresh.on_click(lambda _: self.refresh())
        self._rows = widgets.VBox()
        super().__init__([widgets.HBox([refresh, self._message]), self._rows])
        self.refresh()

    def refresh(self) -> None:
        """Ask the stack and draw the rows again."""
        services = self._stack.status()
        self._text = text_table(services)
        head = [_cell(f"<b>{title}</b>", width) for title, width in _COLUMNS]
        rows = [widgets.HBox(head)]
        for service in services:
            rows.append(widgets.HBox([*self._facts(service), *self._buttons(service)]))
        self._rows.children = rows

    def _facts(self, service: Any) -> list[widgets.HTML]:
        link = f'<a href="{html.escape(service.link)}" target="_blank">open</a>' if service.link else ""
        memory = f"{service.pss_mb:,.0f} MB" if service.pss_mb else ""
        texts = (
            f'<span title="{html.escape(service.what or "")}">{html.escape(service.name)}</span>',
            str(service.layer),
            f"{_MARK.get(service.state, '·')} {html.escape(service.state)}",
            html.escape(service.runs),
            str(service.port or ""),
            memory,
            link,
        )
        return [_cell(text, width) for text, (_, width) in zip(texts, _COLUMNS, strict=True)]

    def _buttons(self, service: Any) -> list[widgets.Button]:
        # The notebook's own server must not be stopped from inside the notebook; what only compose runs has no button.
        if service.name == "jupyterlab" or service.runs == "compose only" or service.state == "done":
            return []
        running = service.state == "running"
        verb = "Stop" if running else "Start"
        button = widgets.Button(
            description=verb,
            tooltip=f"{verb} {service.name}",
            layout=widgets.Layout(width="80px"),
        )
        button.on_click(lambda _: self._act(service.name, verb, button))
        return [button]

    def _act(self, name: str, verb: str, button: widgets.Button) -> None:
        button.disabled = True
        self.say(f"{verb} {name} …")
        try:
            if verb == "Start":
                names = stopping.with_users([name])
                self._stack.up(names, progress=lambda e: self.say(f"{e.service}: {e.state} {e.detail}"))
                stopping.started(names)
            else:
                names = stopping.stop(self._stack, [name])
        except FlowError as error:
            self.say(str(error))
        else:
            self.say(f"{', '.join(names)}: {'started' if verb == 'Start' else 'stopped'}")
        finally:
            self.refresh()

    def say(self, text: str) -> None:
        """Show one line beside the buttons; a screen reader reads it out."""
        self._message.value = f'<span role="status" aria-live="polite">{html.escape(text)}</span>'

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(**kwargs) or {}
        bundle["text/plain"] = self._text
        return bundle

    def __repr__(self) -> str:
        return self._text

    __str__ = __repr__


def _cell(text: str, width: str) -> widgets.HTML:
    return widgets.HTML(text, layout=widgets.Layout(width=width))


def text_table(services: list[Any]) -> str:
    """Write the services as aligned text: service, layer, state, runs, port, memory in MB."""
    head = ("service", "layer", "state", "runs", "port", "memory MB", "link")
    rows = [
        (
            s.name,
            str(s.layer),
            s.state,
            s.runs,
            str(s.port or ""),
            f"{s.pss_mb:.0f}" if s.pss_mb else "",
            s.link or "",
        )
        for s in services
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]]
    return "\n".join(lines)
