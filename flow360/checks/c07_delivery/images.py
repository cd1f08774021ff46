"""Exercise 4: an image."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from flow360.checks.verdict import NotYet, exercise, expect, expect_type
from flow360.delivery import image_layers, linters

PROGRAM, LIST = "report/main.py", "report/requirements.txt"


@exercise
def safe_dockerfile(dockerfile: Any) -> None:
    """Check that the linter is content, the user not root, and that a changed program installs no package again."""
    expect_type("dockerfile", dockerfile, str)
    expect(
        not re.search(r"hadolint\s+(global\s+)?ignore", dockerfile),
        "dockerfile: a comment tells the linter to ignore a rule: mend what it objects to",
    )
    if found := linters.dockerfile(dockerfile):
        raise NotYet(f"dockerfile: {found[0]}")
    steps = image_layers.steps(dockerfile)
    bases = {step.stage: step.words[0] for step in steps if step.word == "FROM"}
    expect(bases, "dockerfile: expected FROM first")
    image = [steps[-1].stage]  # the last stage, and the stages that it stands on
    while bases[image[-1]] in bases and bases[image[-1]] not in image:
        image.append(bases[image[-1]])
    base = bases[image[-1]]
    expect(re.search(r":\d+\.\d+|@sha256:", base), f"dockerfile: {base} is not pinned to a version")
    expect(
        re.match(r"(\S+/library/|library/|docker\.io/)?python[:@]", base),
        f"dockerfile: expected the official image of Python to start from, found {base}",
    )
    # From the lowest stage to the last one, as the image is made.
    mine = [step for stage in reversed(image) for step in steps if step.stage == stage]
    _not_root(mine)
    _installs_once(dockerfile)
    _starts(mine)
    _finds(dockerfile)


def _not_root(steps: list[image_layers.Step]) -> None:
    users = [step.words[0] for step in steps if step.word == "USER"]
    user = users[-1].partition(":")[0] if users else "root"
    expect(
        user != "root" and user.strip("0"),
        "dockerfile: the program runs as root: which instruction makes it another user?",
    )


def _installs_once(dockerfile: str) -> None:
    after = image_layers.rebuilt(dockerfile, [PROGRAM])
    installs = [again for step, again in after if _installs(step)]
    expect(installs, f"dockerfile: nothing installs the packages of {LIST}")
    copied = [again for step, again in after if step.word in ("COPY", "ADD")]
    expect(any(copied), f"dockerfile: {PROGRAM} is not copied into the image")
    expect(
        not any(installs),
        f"dockerfile: a change in {PROGRAM} installs the packages again: what changes rarely stands above",
    )
    expect(
        any(again for step, again in image_layers.rebuilt(dockerfile, [LIST]) if _installs(step)),
        f"dockerfile: a changed {LIST} would not be installed: is it copied before?",
    )


def _finds(dockerfile: str) -> None:
    """Check that each command looks for the list and the program where COPY has put them."""
    steps = image_layers.steps(dockerfile)
    if any(re.search(r"\b(cp|mv|ln|cd)\b", f"{step.text} {step.body}") for step in steps if step.word == "RUN"):
        return  # what a command moves is not known
    for path, words in ((LIST, ("RUN",)), (PROGRAM, ("CMD", "ENTRYPOINT"))):
        name = path.rpartition("/")[2]
        for step, folder, where in image_layers.places(dockerfile, path):
            if step.word not in words or "--mount" in step.text:
                continue
            for word in (word for word in [*step.words, *step.body.split()] if word.rpartition("/")[2] == name):
                at = posixpath.normpath(posixpath.join(folder, word))
                lies = ", ".join(sorted(where)) or "nowhere"
                expect(at in where, f"dockerfile: `{step.text}` looks for {at}, and {path} lies {lies}")


def _installs(step: image_layers.Step) -> bool:
    return re.search(r"\bpip[\d.]*( -\S+)* install\b", f"{' '.join(step.words)}\n{step.body}") is not None


def _starts(steps: list[image_layers.Step]) -> None:
    """Check that the last CMD and ENTRYPOINT start the program."""
    last = {step.word: step.words for step in steps if step.word in ("CMD", "ENTRYPOINT")}
    said = " ".join(word for words in last.values() for word in words)
    expect(
        re.search(r"\bmain\b", said),
        f"dockerfile: the container would not start {PROGRAM}: which instruction says what it runs?",
    )
