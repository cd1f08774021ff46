"""Exercise 4: unit tests that pass for a rule, and fail for each way of getting it wrong."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from flow360.checks.c04c_sql_transformations.setting import REFUNDS, RULE, prepare_rule
from flow360.checks.verdict import NotYet, exercise, expect, expect_type
from flow360.errors import FlowError, ServiceError
from flow360.processing import dbt

MODEL = "lab_refunds"
_WARM = "delivery_status = 'delivered' and celsius_at_door > 8"
WRONG = {
    "exactly 8 °C is allowed": f"coalesce({_WARM.replace('> 8', '>= 8')}, false)",
    "half a degree above 8 °C is too warm": f"coalesce({_WARM.replace('8', '8.5')}, false)",
    "8 °C is the limit, and not less": f"coalesce({_WARM.replace('8', '7.5')}, false)",
    "a refused delivery was never handed over": "coalesce(celsius_at_door > 8, false)",
    "it is about those that were delivered": f"coalesce({_WARM.replace('=', '<>')}, false)",
    "being delivered alone is not a reason": f"coalesce({_WARM.replace('and', 'or')}, false)",
    "cold goods are not paid back": f"coalesce({_WARM.replace('> 8', '<> 8')}, false)",
    "without a temperature nothing is paid back": f"coalesce({_WARM}, true)",
    "without a temperature the answer is false, and not unknown": _WARM,
    "warm goods that were delivered are paid back": "false",
}
"""What a rule forgets, and the condition that does."""


@exercise
def unit_test(refund_tests: Any) -> None:
    """Check that unit tests of lab_refunds pass for the rule and fail for each way of getting it wrong."""
    expect_type("refund_tests", refund_tests, pd.DataFrame)
    expect("node" in refund_tests, f"refund_tests: expected what dbt.build({MODEL!r}, lab=True) returns")
    prepare_rule()
    mine = _mine()
    done = _tried(mine, [RULE, *WRONG.values()])
    for row in done[0]:
        called = row.node.removeprefix(f"{MODEL}_0_")
        expect(row.status == "pass", f"refund_tests: {called} fails for the rule as it should be: {row.message}")
    for sentence, found in zip(WRONG, done[1:], strict=True):
        if all(row.status == "pass" for row in found):
            raise NotYet(f"refund_tests: they pass for a rule that forgets this: {sentence}")


def _mine() -> list[dict[str, Any]]:
    """Read the learner's unit tests of the rule."""
    path = dbt.lab_dir() / f"{MODEL}.yml"
    expect(path.is_file(), f"refund_tests: there is no {MODEL}.yml: write it with dbt.write")
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
        tests = [test for test in document.get("unit_tests") or () if test.get("model") == MODEL]
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        said = " ".join(str(error).split())
        raise NotYet(f"refund_tests: {MODEL}.yml cannot be read: {said}") from None
    expect(tests, f"refund_tests: expected a unit test of model {MODEL} in {MODEL}.yml, found none")
    return tests


def _tried(tests: list[dict[str, Any]], rules: list[str]) -> list[list[Any]]:
    """Run the tests for each rule: all of them in one run of dbt, each rule as a model of its own."""
    with tempfile.TemporaryDirectory() as folder:
        for number, rule in enumerate(rules):
            name = f"{MODEL}_{number}"
            Path(folder, f"{name}.sql").write_text(REFUNDS.replace(RULE, rule), "utf-8")
            copies = [{**test, "name": f"{name}_{test.get('name')}", "model": name} for test in tests]
            Path(folder, f"{name}.yml").write_text(
                yaml.safe_dump({"unit_tests": copies}, allow_unicode=True, sort_keys=False), "utf-8"
            )
        names = [f"{MODEL}_{number}" for number in range(len(rules))]
        try:
            done = list(dbt.test(names, lab=Path(folder)).itertuples())
        except ServiceError:
            raise
        except FlowError as error:
            raise NotYet(f"refund_tests: {error}") from None
    return [[row for row in done if row.node.startswith(f"{name}_")] for name in names]
