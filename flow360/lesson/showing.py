"""What a notebook shows: code as it stands in its file, diagrams, tables. In a terminal, plain text."""

from __future__ import annotations

import html
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flow360.course.tables import aligned
from flow360.errors import FlowError
from flow360.settings import ROOT

if TYPE_CHECKING:
    import pandas as pd

_LANGUAGE = {
    ".py": "python",
    ".sql": "sql",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".json": "json",
    ".sh": "bash",
    ".conf": "ini",
    ".properties": "ini",
    ".cfg": "ini",
    ".md": "markdown",
    ".html": "html",
}


def show(what: Any, region: str | None = None) -> None:
    """Show code as it stands in its file: a function or class, a whole file, or a marked region of it.

    Args:
        what: a function, a class, a module, or a path below the checkout.
        region: the name between `[START name]` and `[END name]` in the file's comments.

    Raises:
        FlowError: no such file or region, or a file that holds passwords.
    """
    if isinstance(what, str | Path):
        path = Path(what) if Path(what).is_absolute() else ROOT / what
        if path.name.startswith(".env"):
            raise FlowError(f"{path.name} holds passwords: it is not shown in a notebook")
        try:
            lines = path.read_text("utf-8").splitlines()
        except OSError as error:
            raise FlowError(f"{what}: {error.strerror}") from None
        first = 1
    else:
        try:
            target = inspect.unwrap(what) if callable(what) else what
            lines, first = inspect.getsourcelines(target)
            path = Path(inspect.getsourcefile(target) or "")
        except (OSError, TypeError):
            raise FlowError(f"the source of {what!r} cannot be found: pass a function, a class or a path") from None
        lines, first = [line.rstrip("\n") for line in lines], max(first, 1)
    if region:
        begin, end = _region(lines, region, path)
        lines, first = lines[begin:end], first + begin
    place = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else None
    caption = f"`{place}`, lines {first}-{first + len(lines) - 1}\n\n" if place else ""
    code = textwrap.dedent("\n".join(lines)).strip("\n")
    language = "dockerfile" if path.name.startswith("Dockerfile") else _LANGUAGE.get(path.suffix, "")
    if not isinstance(what, str | Path):
        language = "python"
    show_code(code, language, caption)


def show_code(code: str, language: str = "python", caption: str = "") -> None:
    """Show a piece of code, with a line of Markdown above it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", code)), default=0))
    display_bundle({"text/markdown": f"{caption}{fence}{language}\n{code}\n{fence}", "text/plain": code})


def _region(lines: list[str], region: str, path: Path) -> tuple[int, int]:
    marks = {}
    for edge in ("START", "END"):
        at = [i for i, line in enumerate(lines) if f"[{edge} {region}]" in line]
        if len(at) != 1:
            raise FlowError(f"{path.name}: the mark [{edge} {region}] stands there {len(at)} times: it must be once")
        marks[edge] = at[0]
    return marks["START"] + 1, marks["END"]


def mermaid(text: str) -> None:
    """Draw a Mermaid diagram (JupyterLab draws it; elsewhere its text is shown)."""
    source = textwrap.dedent(text).strip()
    display_bundle({"text/vnd.mermaid": source, "text/plain": source})


def _in_ipython() -> bool:
    ipython = sys.modules.get("IPython")
    return bool(ipython and ipython.get_ipython())


def display_bundle(bundle: dict[str, str]) -> None:
    if not _in_ipython():
        print(bundle["text/plain"])
        return
    from IPython.display import display

    display(bundle, raw=True)


def display_link(title: str, url: str) -> None:
    link = f'<a href="{html.escape(url)}" target="_blank">{html.escape(url)}</a>'
    display_bundle({"text/html": f"{html.escape(title)}: {link}", "text/plain": f"{title}: {url}"})


def display_table(table: pd.DataFrame, *, index: bool = True) -> None:
    table = table.astype(object).where(table.notna(), "")
    text = table.to_string(index=index)
    display_bundle({"text/html": aligned(table.to_html(index=index, border=0)), "text/plain": text})
