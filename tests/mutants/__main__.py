"""`flow360 mutants` by its own name: `python -m tests.mutants 02 --exercise safe_group --sample 20 --seed 1`."""

from __future__ import annotations

from typing import Annotated

import typer

from flow360.course import scores
from flow360.course.registry import course
from flow360.errors import Exit
from tests.mutants import trial
from tests.mutants.lab import exercises


def main(
    chapter: str,
    exercise: Annotated[list[str] | None, typer.Option(help="all by default")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="so many of each; all by default")] = None,
    seed: Annotated[int, typer.Option(help="which ones")] = 1,
    every: Annotated[bool, typer.Option("--list", help="print the mutants and try none")] = False,
    record: Annotated[bool, typer.Option("--record", help="write the scores down for README's table")] = False,
) -> None:
    """Try the mutants of a chapter's solved exercises; the exit code is 1 where a score is below the goal."""
    found, poor = course().chapter(chapter), False
    for name in exercise or [one.name for one in found.exercises]:
        found.exercise(name)
        if every:
            for mutant in exercises(found)[name].mutants():
                print(f"{name} ({mutant.edit.operator})", trial.diff(mutant.cell.source, mutant.source), sep="\n")
            continue
        account = trial.run(found, name, sample, seed)
        print(*trial.lines(account), sep="\n", flush=True)
        poor = poor or account.score < trial.GOAL
        if record:
            scores.record(found.number, {name: account.summed})
    if poor:
        raise typer.Exit(int(Exit.FAILED))


if __name__ == "__main__":
    typer.run(main)
