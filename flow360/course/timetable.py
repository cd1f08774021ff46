"""How long the chapters take and what a machine needs for them: the tables of the page for teachers."""

from __future__ import annotations

from flow360.course.registry import Chapter, Course, course
from flow360.settings import PORTS
from flow360.stack.doctor import NOTEBOOK_MB
from flow360.stack.model import model


def duration(minutes: int) -> str:
    """Say minutes as people do: `45 min`, `3 h 40`."""
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02d}" if hours else f"{rest} min"


def chapter_table(registry: Course | None = None) -> str:
    """Write for each chapter its time, lesson and lab together, and the memory that it needs, as a Markdown table."""
    rows = ["| | Chapter | Time | Exercises | Memory |", "|---|---|---:|---:|---:|"]
    chapters = _written(registry)
    for one in chapters:
        rows.append(
            f"| {one.number} | {one.title} | {duration(one.minutes)} | {len(one.exercises)} | {_memory(one):,} MB |"
        )
    total, exercises = sum(one.minutes for one in chapters), sum(len(one.exercises) for one in chapters)
    rows.append(f"| | all | {duration(total)} | {exercises} | {max(map(_memory, chapters)):,} MB at most |")
    return "\n".join(rows)


def needs() -> str:
    """Write what one learner's stack takes at most, for whoever puts several on one machine."""
    largest = max(_written(), key=_memory)
    return (
        f"| for one learner | |\n|---|---:|\n| ports on 127.0.0.1 | {len(PORTS)} |\n"
        f"| memory, the largest chapter ({largest.number}) | {_memory(largest):,} MB |"
    )


def _written(registry: Course | None = None) -> list[Chapter]:
    return [one for one in (registry or course()).chapters if one.written]


def _memory(chapter: Chapter) -> int:
    """Add up the megabytes of its services, as the doctor counts them, and of JupyterLab with a kernel."""
    return model().memory_mb(chapter.services) + NOTEBOOK_MB
