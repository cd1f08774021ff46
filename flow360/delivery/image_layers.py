"""Which layers of an image does a change build again? The rule of Docker's cache, applied to a Dockerfile's text.

A layer is taken from the cache when its instruction, what it copies, and the layer below are what they were. So the
first instruction that sees the change is built again, and everything after it in its stage, and every stage that
copies from there.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_MAKES_A_LAYER = ("RUN", "COPY", "ADD")
_HEREDOC = re.compile(r"""(?:^|\s)\d*<<(-?)(["']?)([^\s<"']+)\2(?=\s|$)""")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))")


@dataclass(frozen=True)
class Step:
    """One instruction.

    Args:
        line: the line it begins on.
        last: the line it ends on.
        stage: the name or number of its stage.
        text: as it is written, on one line.
        flags: what precedes its arguments, such as "--from=packages".
        words: its arguments, of the shell's form or JSON's, with the variables that the file itself gives a value.
        body: the lines of its heredocs.
    """

    line: int
    last: int
    stage: str
    text: str
    flags: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    body: str = ""

    @property
    def word(self) -> str:
        return self.text.split(None, 1)[0].upper()


def steps(dockerfile: str) -> list[Step]:
    """List the instructions of a Dockerfile: comments left out, continued lines joined, heredocs taken along."""
    lines = re.split(r"\r?\n", dockerfile)
    sign = re.escape(_escape(lines))
    continued = re.compile(rf"(?<!{sign}){sign}[ \t]*$")
    left = deque(lines)
    found: list[Step] = []
    stage, number = "", -1
    before: dict[str, str] = {}  # ARGs above the first FROM, which count in each FROM
    values: dict[str, str] = before
    while left:
        begin, text = len(lines) - len(left) + 1, left.popleft()
        if _is_nothing(text):
            continue
        while continued.search(text):
            while left and _is_nothing(left[0]):
                left.popleft()
            text = continued.sub("", text) + (left.popleft() if left else "")
        word, flags, rest = re.match(r"\s*(\S+)\s*((?:--\S+\s+)*)(.*)", text).groups()
        word, items = word.upper(), _json(rest)
        body = list(_heredocs(rest, left)) if items is None and word in _MAKES_A_LAYER else []
        known = before if word == "FROM" else values
        words = [_filled(item, known) for item in (items or re.sub(r"[\"']", "", rest).split() or [""])]
        match word:
            case "FROM":
                number, values = number + 1, {}
                stage = words[2] if len(words) == 3 else str(number)
            case "ARG":
                values |= {item.partition("=")[0]: item.partition("=")[2] for item in words if "=" in item}
                values |= {item: before[item] for item in words if item in before}
            case "ENV":
                pairs = words if "=" in words[0] else [f"{words[0]}={' '.join(words[1:])}"]
                values |= {item.partition("=")[0]: item.partition("=")[2] for item in pairs}
        options = tuple(_filled(flag, values) for flag in flags.split())
        last = len(lines) - len(left)
        found.append(Step(begin, last, stage, " ".join(text.split()), options, tuple(words), "\n".join(body)))
    return found


def rebuilt(dockerfile: str, changed: Iterable[str]) -> list[tuple[Step, bool]]:
    """List the instructions that make layers, each with: is it built again when these files change?

    Args:
        dockerfile: its text.
        changed: paths below the build context, such as "flow360/settings.py".
    """
    changed = list(changed)
    names: list[str] = []  # of the stages, by number: another one may call a stage by either
    stale: set[str] = set()  # stages in which something was built again
    rows: list[tuple[Step, bool]] = []
    for step in steps(dockerfile):
        if step.word == "FROM":
            names.append(step.stage)
            if _stage(step.words[0], names) in stale:
                stale.add(step.stage)
        elif step.word in _MAKES_A_LAYER:
            for origin, sources, excluded in _reads(step):
                if origin is not None:
                    again = _stage(origin, names) in stale
                else:
                    again = any(_takes(source, path, excluded) for source in sources for path in changed)
                if again:
                    stale.add(step.stage)
            rows.append((step, step.stage in stale))
    return rows


def places(dockerfile: str, path: str) -> list[tuple[Step, str, set[str]]]:
    """List each instruction with the folder that it works in, and where a file of the build context lies by then.

    What a command of RUN moves is not known.
    """
    folders: dict[str, str] = {}
    where: dict[str, set[str]] = {}
    names: list[str] = []
    rows = []
    for step in steps(dockerfile):
        if step.word == "FROM":
            names.append(step.stage)
            base = _stage(step.words[0], names)
            folders[step.stage], where[step.stage] = folders.get(base, "/"), set(where.get(base, ()))
        elif step.word == "WORKDIR":
            folders[step.stage] = posixpath.join(folders[step.stage], step.words[0])
        elif step.word in ("COPY", "ADD"):
            for origin, sources, excluded in _reads(step):
                there = {path} if origin is None else where.get(_stage(origin, names), set())
                where[step.stage] |= {
                    _put(step.words[-1], folders[step.stage], *found)
                    for source in sources
                    for one in there
                    if (found := _within(source, one.lstrip("/"), excluded))
                }
        if step.stage in folders:
            rows.append((step, posixpath.normpath(folders[step.stage]), set(where[step.stage])))
    return rows


def _within(source: str, path: str, excluded: list[str]) -> tuple[str, bool] | None:
    """Find the path of a file below what a source means, and whether the source is the file itself; None: not there."""
    if not _takes(source, path, excluded):
        return None
    parts = path.split("/")
    plain = posixpath.normpath("/" + source.lstrip("/"))[1:]
    for deep in range(len(parts)):
        head = "/".join(parts[:deep])
        if head == plain or (plain and head and matches(head, plain)):
            return "/".join(parts[deep:]), False
    return parts[-1], True


def _put(target: str, folder: str, path: str, is_file: bool) -> str:
    """Find where COPY puts it: below a folder, or, where one file has one name to get, under that name."""
    whole = posixpath.normpath(posixpath.join(folder, target))
    named = is_file and not target.endswith("/") and whole != posixpath.normpath(folder)
    return whole if named else posixpath.join(whole, path)


def matches(path: str, pattern: str) -> bool:
    """Say whether a path fits a pattern. As in Go and at GitHub, `*`, `?`, `[a-z]` stay in a folder; `**` does not."""
    parts = re.split(r"(\\.|\[\^?[^\]]+\]|\*\*/|\*\*|\*|\?)", pattern)
    kinds = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    whole = "".join(kinds.get(part) or _one(part) for part in parts)
    return re.fullmatch(whole, path) is not None


def _one(part: str) -> str:
    """Write the regular expression of a class such as [a-z], or of plain text."""
    if len(part) > 2 and part.startswith("["):
        return "(?!/)[" + part[1:].replace("[", r"\[")
    return re.escape(re.sub(r"\\(.)", r"\1", part))


def _escape(lines: list[str]) -> str:
    """Find the sign that continues a line: a directive in the first lines may choose another one."""
    for line in lines:
        directive = re.fullmatch(r"\s*#\s*(\w+)\s*=\s*(\S+)\s*", line)
        if directive is None:
            break
        if directive[1].lower() == "escape":
            return directive[2]
    return "\\"


def _is_nothing(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _heredocs(rest: str, left: deque[str]) -> Iterator[str]:
    """Yield the lines of the heredocs that an instruction begins; they are taken from those that are left."""
    for dash, _, name in _HEREDOC.findall(rest):
        while left:
            line = left.popleft()
            if (line.lstrip("\t") if dash else line) == name:
                break
            yield line


def _json(rest: str) -> list[str] | None:
    """Read the arguments in JSON's form; None for the shell's, and, as in Docker, for what only looks like JSON."""
    try:
        items = json.loads(rest) if rest.startswith("[") else None
    except ValueError:
        return None
    return items and [str(item) for item in items]


def _filled(word: str, values: dict[str, str]) -> str:
    """Fill the word's variables in; one that only the build knows stays as it is written."""

    def one(match: re.Match[str]) -> str:
        value = values.get(match[1] or match[3]) or match[2]
        return match[0] if value is None else value

    return _VARIABLE.sub(one, word)


def _stage(reference: str, names: list[str]) -> str:
    """Find the stage that a name or a number means; an image's name means none."""
    if reference.isdigit() and int(reference) < len(names):
        return names[int(reference)]
    return next((name for name in names if name.lower() == reference.lower()), reference)


def _reads(step: Step) -> Iterator[tuple[str | None, list[str], list[str]]]:
    """Yield what an instruction reads: from which stage (None: the build context), which files, and which not."""
    if step.word == "RUN":  # the cache compares the command, not what it would do today; and what is mounted for it
        for flag in step.flags:
            name, _, value = flag.partition("=")
            mount = dict(part.partition("=")[::2] for part in value.split(","))
            if name == "--mount" and mount.get("type", "bind") == "bind":
                yield mount.get("from"), [mount.get("source", mount.get("src", "."))], []
        return
    flags = [flag.removeprefix("--").partition("=")[::2] for flag in step.flags]
    excluded = [value for name, value in flags if name == "exclude"]
    yield dict(flags).get("from"), [word for word in step.words[:-1] if not word.startswith("<<")], excluded


def _takes(source: str, path: str, excluded: list[str]) -> bool:
    """Say whether a file of the context is among what a source means: a file, a folder, or a pattern for either."""
    source, parts = posixpath.normpath("/" + source.lstrip("/"))[1:], path.split("/")
    for deep in range(len(parts) + 1):
        head, tail = "/".join(parts[:deep]), parts[deep:] or parts[-1:]
        if head == source or (source and head and matches(head, source)):
            folders = ["/".join(tail[: n + 1]) for n in range(len(tail))]
            return not any(matches(folder, pattern.strip("/")) for folder in folders for pattern in excluded)
    return False
