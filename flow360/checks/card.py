"""How a verdict or a hint looks: a calm card in a notebook, with the same beside it for programs; a line elsewhere.

A wrong answer is not a crash. A front end where somebody sits (JupyterLab, VS Code: it says that it can be asked for
input) gets the card alone, and a cell that goes on; a program that runs a notebook (papermill, nbclient, nbval) gets
the card and the exception, so that it fails where it must.
"""

from __future__ import annotations

import html
import re
import sys
from dataclasses import dataclass
from typing import Any

from flow360.course.report import MIME
from flow360.lesson.showing import display_bundle

_OFF = "\x1b[0m"


@dataclass(frozen=True)
class Kind:
    """What a card says first, its colour (white letters stand on it, by day and by night), and a terminal's."""

    label: str
    colour: str
    ansi: str


NOT_ATTEMPTED = Kind("Not attempted", "#5f6368", "\x1b[90m")
NOT_YET = Kind("Not yet", "#8a5300", "\x1b[33m")
CORRECT = Kind("Correct", "#1a7337", "\x1b[32m")
HINT = Kind("Hint", "#2b5d9b", "\x1b[36m")


def line(kind: Kind, message: str, label: str = "") -> str:
    """Write it in one line for a terminal."""
    return f"{kind.ansi}{label or kind.label}:{_OFF} {message}"


def show(kind: Kind, message: str, *, label: str = "", link: tuple[str, str] | None = None, **about: str) -> None:
    """Show a card.

    Args:
        kind: one of the four above.
        message: what it says; what stands between backticks is code.
        label: instead of the kind's own.
        link: a title and an address, relative to the lab, below the message.
        about: what a program reads beside the kind and the message.
    """
    label = label or kind.label
    more = (
        f'<div style="margin-top:.4em"><a href="{html.escape(link[1])}">{html.escape(link[0])}</a></div>'
        if link
        else ""
    )
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(message, quote=False)).replace("\n", "<br>")
    card = (
        f'<div style="border-left:4px solid {kind.colour};padding:.5em .8em;'
        f'background:var(--jp-layout-color2,#f5f5f5);color:var(--jp-content-font-color1,#212121)">'
        f'<span style="background:{kind.colour};color:#fff;border-radius:3px;padding:.1em .6em;margin-right:.6em;'
        f'font-weight:600">{label}</span>{text}{more}</div>'
    )
    plain = line(kind, message, label) + (f"\n{link[0]}: {link[1]}" if link else "")
    display_bundle(
        {
            "text/html": card,
            "text/plain": plain,
            MIME: {"verdict": kind.label.lower(), "label": label, "message": message} | about,
        }
    )


def cell() -> dict[str, Any] | None:
    """Find what the front end said of the cell that runs; None outside a notebook."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython and ipython.get_ipython()
    return shell.get_parent().get("content", {}) if hasattr(shell, "get_parent") else None


def somebody_sits_there() -> bool:
    """Say whether the running cell came from a front end that can be asked for input."""
    return bool((cell() or {}).get("allow_stdin"))
