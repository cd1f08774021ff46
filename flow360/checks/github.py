"""GitHub's own rules, applied to a text: how it reads YAML, the runs of a matrix, the key of a cache."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping
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
    matrix = _from_json(matrix)
    expect(isinstance(matrix, dict), f"{name}: write the matrix itself, and not an expression")
    matrix = {axis: _from_json(values) for axis, values in matrix.items()}
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


def _from_json(value: Any) -> Any:
    """Read a value that is written as `${{ fromJSON('…') }}`; any other one is what it is."""
    said = isinstance(value, str) and re.fullmatch(
        r"\s*\$\{\{\s*fromJSON\(\s*'(.*)'\s*\)\s*\}\}\s*", value, re.I | re.S
    )
    try:
        return json.loads(said[1].replace("''", "'")) if said else value
    except ValueError:
        return value


def _fits(more: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    """Say whether an entry of `include` leaves each value of a run as it is."""
    return all(run.get(axis, value) == value for axis, value in more.items())


def given(name: str, text: str, run: Mapping[str, Any]) -> str:
    """Fill an input of a step in one run: the values of the matrix in the place of their expressions."""
    # As GitHub writes a number: 3.10 in YAML is 3.1.
    known = {f"matrix.{axis}": str(value) for axis, value in run.items()}
    plain = re.sub(r"matrix\[\s*'([\w-]+)'\s*\]", r"matrix.\1", text)
    return _filled(name, plain, known, "setup-python gets {}, which is not a value of the matrix")


def computed(name: str, key: str, system: str, files: Mapping[str, str]) -> str:
    """Compute the key as a runner does: `runner.os`, and hashFiles over the files that match any of the patterns."""

    def hash_files(*patterns: str) -> str:
        wanted: set[str] = set()
        for pattern in patterns:
            met = {path for path in files if image_layers.matches(path, pattern.removeprefix("!").removeprefix("./"))}
            wanted = wanted - met if pattern.startswith("!") else wanted | met
        # As GitHub has it: no file matches, and the hash is empty.
        content = "".join(files[path] for path in sorted(wanted))
        return hashlib.sha256(content.encode()).hexdigest() if wanted else ""

    known = {"runner.os": system, "runner.arch": "X64", "hashfiles": hash_files}
    return _filled(name, key, known, "{} is more than this needs: runner.os and hashFiles(…) will do")


def _filled(name: str, text: str, known: Mapping[str, str | Callable[..., str]], otherwise: str) -> str:
    """Put what expressions come to into their places; besides what is known there are texts and `format`.

    Args:
        known: values and functions by name; GitHub's names have no case.
        otherwise: what to say of another expression, which is put in the place of {}.
    """
    by_name = {each.lower(): one for each, one in known.items()} | {"format": _format}

    def value(expression: str) -> str:
        if literal := re.fullmatch(r"'((?:[^']|'')*)'", expression):
            return literal[1].replace("''", "'")
        call = re.fullmatch(r"(\w+)\s*\((.*)\)", expression, re.S)
        found = by_name.get((call[1] if call else expression).lower())
        if found is None or callable(found) != bool(call):
            raise NotYet(f"{name}: {otherwise.format(f'${{{{ {expression} }}}}')}")
        return found(*map(value, _arguments(name, call[2]))) if call else found

    return re.sub(r"\$\{\{(.+?)\}\}", lambda match: value(match[1].strip()), text)


def _arguments(name: str, text: str) -> list[str]:
    """Take a call's arguments apart, at the commas that are in no text and in no other call."""
    pieces = re.findall(r"((?:'(?:[^']|'')*'|\((?:[^()']|'(?:[^']|'')*')*\)|[^,'()])+)(?:,|$)", text)
    found = [piece.strip() for piece in pieces]
    if not all(re.fullmatch(r"'.*'|[\w.-]+|\w+\s*\(.*\)", one, re.S) for one in found):
        raise NotYet(f"{name}: ({text}): its texts want single quotes, and commas between them")
    return found


def _format(text: str, *values: str) -> str:
    """Fill {0}, {1} and so on, as GitHub's function format does; {{ and }} are braces."""
    return text.format(*values)
