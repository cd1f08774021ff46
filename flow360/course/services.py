"""The services behind a name: that of a service, of a profile (`minimal`), or of a chapter (`02_ingestion`, `02`)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from flow360.course.registry import course
from flow360.errors import Exit, FlowError
from flow360.stack.model import model


def resolve(names: Iterable[str]) -> list[str]:
    """Resolve services, profiles and chapters to service names, in order, each once.

    Raises:
        FlowError: a name that is none of these.
    """
    found: list[str] = []
    for name in names:
        if name.lower() in model().services:
            found.append(name.lower())
        elif chapter := course().find(name):
            found += chapter.services
        elif profile := model().profile(name.lower()):
            found += profile
        else:
            raise FlowError(f"{name!r} is not a service, a profile or a chapter: {_near(name)}", Exit.USAGE)
    return list(dict.fromkeys(found))


def together() -> dict[str, tuple[str, ...]]:
    """List what each chapter starts at once, by `chapter 02`: what the doctor wants to know of a course."""
    return {f"chapter {chapter.number}": chapter.services for chapter in course().chapters}


def _near(name: str) -> str:
    """Say what may have been meant, or where the names stand."""
    profiles = {profile for service in model().services.values() for profile in service.profiles}
    chapters = [known for chapter in course().chapters for known in (chapter.number, chapter.stem)]
    near = difflib.get_close_matches(name.lower(), [*model().services, *sorted(profiles), *chapters], n=3, cutoff=0.6)
    return f"did you mean {', '.join(near)}?" if near else "`flow360 status --all` lists the services"
