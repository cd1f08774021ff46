"""The services behind a name: that of a service, of a profile (`minimal`), or of a chapter (`02_ingestion`, `02`)."""

from __future__ import annotations

from collections.abc import Iterable

from flow360.course.registry import course
from flow360.errors import Exit, FlowError
from flow360.stack.model import model


def resolve(names: Iterable[str]) -> list[str]:
    """Service names out of services, profiles and chapters, in order, each once.

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
            raise FlowError(
                f"{name!r} is not a service ({', '.join(model().services)}), "
                f"nor a profile, nor a chapter ({', '.join(c.stem for c in course().chapters)})",
                Exit.USAGE,
            )
    return list(dict.fromkeys(found))
