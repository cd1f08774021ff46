"""One change of a text: the unit that every operator makes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Edit:
    """Replace text[start:end] by `new`; `operator` names the rule that found it."""

    start: int
    end: int
    new: str
    operator: str

    def apply(self, text: str) -> str:
        return text[: self.start] + self.new + text[self.end :]

    def moved(self, by: int) -> Edit:
        """Move the same change to a text that has `by` more characters in front."""
        return Edit(self.start + by, self.end + by, self.new, self.operator)


def distinct(edits: Iterable[Edit], text: str) -> list[Edit]:
    """Keep those that change something, each change once, in the order of the text."""
    seen, found = {text}, []
    for edit in sorted(edits):
        if (mutated := edit.apply(text)) not in seen:
            seen.add(mutated)
            found.append(edit)
    return found


def diff(before: str, after: str) -> str:
    """Return the lines that differ, `- old` and `+ new`."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))
