"""GitHub's own rules, applied to a text: how it reads YAML, the runs of a matrix, the key of a cache."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping
from typing import Any

import yaml

from flow360.checks.verdict import NotYet, expect
from flow360.delivery import image_layers

SYSTEMS = ("Linux", "macOS", "Windows")
"""What `runner.os` may be."""


class _Loader(yaml.SafeLoader):
    """YAML as GitHub reads it: `on` is a word, and not a truth."""


_Loader.yaml_implicit_resolvers = {
    sign: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:bool"]
    for sign, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"true|false|True|False|TRUE|FALSE"), list("tTfF"))


def load(text: str) -> Any:
    """Read a workflow as GitHub does."""
    return yaml.load(text, _Loader)


def runs(name: str, matrix: Any) -> list[dict[str, Any]]:
    """List the runs that GitHub makes of a matrix: the product of its axes, less `exclude`, with `include`."""
    expect(isinstance(matrix, dict), f"{name}: write the matrix itself, and not an expression")
    axes = {axis: values for axis, values in matrix.items() if axis not in ("include", "exclude")}
    for axis, values in axes.items():
        expect(isinstance(values, list), f"{name}: expected a list of values for {axis}, found {values!r}")
    found = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())] if axes else []
    for one in matrix.get("exclude") or []:
        found = [run for run in found if not one.items() <= run.items()]
    plain = [dict(run) for run in found]
    for more in matrix.get("include") or []:
        fitting = [run for run, before in zip(found, plain, strict=False) if _fits(more, before)]
        for run in fitting:
            run |= more
        if not fitting:
            found.append(dict(more))
    return found


def _fits(more: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    """Say whether an entry of `include` leaves each value of a run as it is."""
    return all(run.get(axis, value) == value for axis, value in more.items())


def given(name: str, text: str, run: Mapping[str, Any]) -> str:
    """Fill an input of a step in one run: the values of the matrix in the place of their expressions."""

    def one(match: re.Match[str]) -> str:
        found = re.fullmatch(r"matrix(?:\.([\w-]+)|\[\s*'([\w-]+)'\s*\])", match[1].strip())
        axis = found and (found[1] or found[2])
        if not found or axis not in run:
            raise NotYet(f"{name}: setup-python gets {match[0]}, which is not a value of the matrix")
        # As GitHub writes a number: 3.10 in YAML is 3.1.
        return str(run[axis])

    return re.sub(r"\$\{\{(.+?)\}\}", one, text)


def computed(name: str, key: str, system: str, files: Mapping[str, str]) -> str:
    """Compute the key as a runner does: `runner.os`, and hashFiles over the files that match any of the patterns."""

    def one(match: re.Match[str]) -> str:
        expression = match[1].strip()
        if expression.lower() == "runner.os":
            return system
        if expression.lower() == "runner.arch":
            return "X64"
        call = re.fullmatch(r"hashFiles\((.*)\)", expression, re.I)
        if not call:
            raise NotYet(f"{name}: ${{{{ {expression} }}}} is more than this needs: runner.os and hashFiles(…) will do")
        arguments = [argument.strip() for argument in call[1].split(",")]
        if not all(re.fullmatch(r"'[^']+'", argument) for argument in arguments):
            raise NotYet(f"{name}: hashFiles({call[1]}): its patterns want single quotes, and commas between them")
        wanted: set[str] = set()
        for pattern in (argument[1:-1] for argument in arguments):
            met = {path for path in files if image_layers.matches(path, pattern.removeprefix("!").removeprefix("./"))}
            wanted = wanted - met if pattern.startswith("!") else wanted | met
        # As GitHub has it: no file matches, and the hash is empty.
        content = "".join(files[path] for path in sorted(wanted))
        return hashlib.sha256(content.encode()).hexdigest() if wanted else ""

    return re.sub(r"\$\{\{(.+?)\}\}", one, key)
