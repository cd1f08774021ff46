"""What is generated in README, and in the page for teachers: the chapters from the registry, the services from the
stack's description, the picture from the arrows that programs have really drawn, the scores of the checks from what was
recorded of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from flow360.course import timetable
from flow360.course.registry import Course, course
from flow360.course.scores import Score, recorded
from flow360.errors import FlowError
from flow360.monitoring.lineage import graph
from flow360.stack.model import Model, Service, model


def chapter_table(registry: Course | None = None) -> str:
    """Write the chapters as a Markdown table: links to lesson and lab, layer, services, minutes, exercises."""
    rows = [
        "| | Lesson | Layer | What it starts | Minutes | Lab |",
        "|---|---|---|---|---:|---|",
    ]
    for chapter in (registry or course()).chapters:
        services = ", ".join(f"`{name}`" for name in chapter.services)
        count = len(chapter.exercises)
        lab = f"[{count} exercise{'s' * (count != 1)}]({chapter.lab})" if chapter.written else "in preparation"
        title = f"[{chapter.title}]({chapter.lesson})" if chapter.written else chapter.title
        rows.append(f"| {chapter.number} | {title} | {chapter.layer} | {services} | {chapter.minutes} | {lab} |")
    return "\n".join(rows)


def service_table(services: Model | None = None) -> str:
    """Write the services as a Markdown table, those of one program in a row; programs that run once are left out."""
    rows = [
        "| Layer | Service | Without containers (native) | With Docker |",
        "|---|---|---|---|",
    ]
    groups: dict[tuple, list[Service]] = {}
    for service in (services or model()).services.values():
        if not service.job:
            image = "on the host" if service.host else f"`{service.image}`"
            groups.setdefault((service.layer, service.native.runs, service.native.why, image), []).append(service)
    for (layer, runs, why, image), members in sorted(groups.items(), key=lambda group: group[0][0]):
        names = ", ".join(f"`{service.name}`" for service in members)
        what = os.path.commonprefix([f"{service.native.what}," for service in members]).rpartition(",")[0]
        what = f"{runs}: {why}" if why else f"{runs}: {what or members[0].native.what}"
        rows.append(f"| {layer or '–'} | {names} | {what} | {image} |")
    return "\n".join(rows)


def picture() -> str:
    """Draw the system in Mermaid: each arrow is a program, and a test sees it move something."""
    return f"```mermaid\n{graph.mermaid(graph.recorded())}\n```"


def score_table(scores: Mapping[str, Mapping[str, Score]] | None = None) -> str:
    """Write how strict the checks are, as a Markdown table: a row for each lab of which something was recorded."""
    rows = [
        "| Lab | Mistakes tried | of these harmless | refused of the others | by exercise |",
        "|---|---:|---:|---:|---|",
    ]
    found = recorded() if scores is None else scores
    for chapter in course().chapters:
        if tried := found.get(chapter.number):
            total, harmless, refused = (
                sum(getattr(one, of) for one in tried.values()) for of in ("tried", "equivalent", "refused")
            )
            each = [f"`{one.name}` {_share(tried.get(one.name))}" for one in chapter.exercises]
            rows.append(
                f"| [{chapter.number}]({chapter.lab}) | {total} | {harmless} | {refused} of {total - harmless} "
                f"| {', '.join(each)} |"
            )
    return "\n".join(rows)


def _share(score: Score | None) -> str:
    if score is None:
        return "no score yet"
    return f"{score.share:.0%}" + (f" ({score.tried} of {score.mutants})" if score.tried < score.mutants else "")


TABLES = {"picture": picture, "chapters": chapter_table, "scores": score_table, "services": service_table}
PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": TABLES,
    "solutions/README.md": {"chapters": timetable.chapter_table, "needs": timetable.needs},
}
"""The pages with generated regions, and what makes each of these."""


def render_all(root: Path) -> dict[Path, str]:
    """Render each page as it must be now."""
    return {root / name: render((root / name).read_text("utf-8"), name) for name in PAGES}


def render(text: str, page: str = "README.md") -> str:
    """Replace each region of a page between its two marks (`<!-- chapters:start -->` …) by the table of now.

    Raises:
        FlowError: a mark is missing, doubled, or the end stands before the start.
    """
    for name, table in PAGES[page].items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
            raise FlowError(f"{page}: it needs one {start} and, after it, one {end}")
        head, _, rest = text.partition(start)
        text = f"{head}{start}\n{table()}\n{end}{rest.partition(end)[2]}"
    return text
