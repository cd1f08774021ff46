"""How many mistakes made by machine each check refuses, as recorded (`flow360 mutants NN --record`); for README."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from flow360 import files

RECORDED = Path(__file__).with_name("scores.json")


@dataclass(frozen=True)
class Score:
    """What became of the mutants of an exercise.

    Attributes:
        mutants: solutions with one small mistake in each, all that there are.
        tried: how many of them were tried: a sample where the check takes long.
        equivalent: those of them that mean the same as the solution.
        refused: those of the others that the check refused.
    """

    mutants: int
    tried: int
    equivalent: int
    refused: int

    @property
    def share(self) -> float:
        """Of those with another meaning the share that was refused, 0 to 1."""
        others = self.tried - self.equivalent
        return self.refused / others if others else 1.0


def recorded() -> dict[str, dict[str, Score]]:
    """Read the scores: chapter's number -> exercise -> score."""
    found = json.loads(RECORDED.read_text("utf-8"))
    return {number: {name: Score(**one) for name, one in scores.items()} for number, scores in found.items()}


def record(number: str, scores: Mapping[str, Score]) -> None:
    """Write down the scores of a chapter's exercises; those of others stay as they are."""
    found = recorded()
    found[number] = {**found.get(number, {}), **scores}
    plain = {of: {name: asdict(one) for name, one in sorted(found[of].items())} for of in sorted(found)}
    files.write(RECORDED, json.dumps(plain, indent=1) + "\n")
