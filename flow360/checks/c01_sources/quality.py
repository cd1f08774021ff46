"""Exercise 4: a profile of the branches' files."""

from __future__ import annotations

from typing import Any

from flow360.checks.verdict import NotYet, exercise, expect_equal, expect_type, limited

RULES = ("encoding", "bad_row", "missing_key", "orphan", "not_a_number", "wrong_unit", "duplicate", "late")


@exercise
def quality_profile(profile: Any) -> None:
    """Every planted defect of the seven order files, under the rule that it breaks, and no sound order."""
    from flow360.primeur.manifest import manifest
    from flow360.primeur.snapshot import FILES

    if not callable(profile):
        raise NotYet(f"profile: expected a function, found {type(profile).__name__}")
    files = sorted(FILES.glob("orders_*.csv"), key=lambda path: manifest().day not in path.name)
    for path in files:  # the day that the learner knows comes first
        found = limited(profile, 60)(path)
        expect_type(f"profile({path.name})", found, dict)
        expect_equal(f"the rules of profile({path.name})", found=sorted(map(str, found)), expected=sorted(RULES))
        for rule in RULES:
            _compare_rule(rule, found[rule], path.name, manifest().keys("order_id", where=path.name, kind=rule))


def _compare_rule(rule: str, found: Any, name: str, planted: set[int]) -> None:
    called = f'profile("{name}")["{rule}"]'
    expect_type(called, found, (set, frozenset, list))
    try:
        mine = {int(number) for number in found}
    except (TypeError, ValueError):
        raise NotYet(f"{called}: expected a set of order numbers, found {found!r}") from None
    if mine == planted:
        return
    missed, wrong = len(planted - mine), sorted(mine - planted)
    text = f"{called}: expected {len(planted)} orders, found {len(mine)}"
    text += f", {missed} were missed" if missed else ""
    text += f", {len(wrong)} do not belong there, such as {wrong[0]}" if wrong else ""
    raise NotYet(text)
