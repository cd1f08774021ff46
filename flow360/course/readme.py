"""What is generated in README: the chapters from the registry, the services from the stack's description, the picture
from the arrows that programs have really drawn.
"""

from __future__ import annotations

import os

from flow360.course.registry import Course, course
from flow360.errors import FlowError
from flow360.monitoring.lineage import graph
from flow360.stack.model import Model, Service, model


def chapter_table(registry: Course | None = None) -> str:
    """The chapters as a Markdown table: links to lesson and lab, layer, services, minutes, exercises."""
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
    """The services as a Markdown table, those of one program in a row; programs that run once are left out."""
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
    """The system as a Mermaid drawing: each arrow is a program, and a test sees it move something."""
    return f"```mermaid\n{graph.mermaid(graph.recorded())}\n```"


TABLES = {"picture": picture, "chapters": chapter_table, "services": service_table}


def render(text: str) -> str:
    """`text` with each region between its two marks (`<!-- chapters:start -->` …) replaced by the table of now.

    Raises:
        FlowError: a mark is missing, doubled, or the end stands before the start.
    """
    for name, table in TABLES.items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
            raise FlowError(f"README.md: it needs one {start} and, after it, one {end}")
        head, _, rest = text.partition(start)
        text = f"{head}{start}\n{table()}\n{end}{rest.partition(end)[2]}"
    return text
