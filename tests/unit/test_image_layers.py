"""Dockerfiles as Docker reads them, and which of their layers a change builds again."""

from __future__ import annotations

import pytest

from flow360.delivery import linters
from flow360.delivery.image_layers import matches, places, rebuilt, steps


def again(dockerfile: str, *changed: str) -> list[str]:
    """The instructions that are built again, by their first line's number and word."""
    return [f"{step.line} {step.word}" for step, stale in rebuilt(dockerfile, changed) if stale]


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("*.txt", ["a.txt", ".txt"], ["report/a.txt", "a.txt/b", "atxt"]),
        ("report/*", ["report/main.py"], ["report/sub/main.py", "report"]),
        ("hom?.txt", ["home.txt"], ["hom.txt", "hom/.txt"]),
        ("[a-c].py", ["b.py"], ["d.py", "ab.py"]),
        ("[^a].py", ["b.py"], ["a.py", "/.py"]),
        ("a[[]b", ["a[b"], ["ab"]),
        (r"a\*b", ["a*b"], ["axb"]),
        ("**/main.py", ["main.py", "a/main.py", "a/b/main.py"], ["a/xmain.py"]),
        ("a/**", ["a/b", "a/b/c"], ["b/a"]),
        ("a.b", ["a.b"], ["axb"]),
        ("a[b", ["a[b"], ["ab"]),
    ],
)
def test_a_star_stays_within_its_folder_and_two_do_not(pattern: str, inside: list[str], outside: list[str]) -> None:
    assert [path for path in inside + outside if matches(path, pattern)] == inside


@pytest.mark.parametrize(
    ("copy", "path", "sees"),
    [
        ('COPY ["report/main.py", "/app/"]', "report/main.py", True),
        ('COPY ["a folder/main.py", "/app/"]', "a folder/main.py", True),
        ('COPY --chown=app:app ["report", "/app/"]', "report/main.py", True),
        ("COPY [report] /app/", "report/main.py", False),
        ("COPY ./report/ /app/", "report/main.py", True),
        ("COPY /report /app/", "report/main.py", True),
        ("COPY ../report /app/", "report/main.py", True),
        ("COPY . .", "any/thing", True),
        ("COPY rep* /app/", "report/sub/main.py", True),
        ("COPY *.py /app/", "report/main.py", False),
        ("COPY report /app/", "reports/main.py", False),
        ("COPY a b report /app/", "b", True),
        ("COPY a report", "report", False),
        ("COPY --exclude=*.md report /app/", "report/notes.md", False),
        ("COPY --exclude=*.md report /app/", "report/sub/notes.md", True),
        ("COPY --exclude=**/*.md report /app/", "report/sub/notes.md", False),
        ("COPY --link --chmod=644 report/main.py /app/", "report/main.py", True),
        ("COPY --from=python:3.11 report /app/", "report/main.py", False),
        ("ADD --checksum=sha256:0 https://example.org/report /app/", "report", False),
        ("ADD report.tar.gz /app/", "report.tar.gz", True),
        ("COPY ${FOLDER}/main.py ${NEVER_SET} /app/", "report/main.py", True),
        ("RUN --mount=type=bind,source=report,target=/r make", "report/main.py", True),
        ("RUN --mount=target=/r make", "report/main.py", True),
        ("RUN --mount=type=cache,target=/root/.cache make report/main.py", "report/main.py", False),
    ],
)
def test_what_an_instruction_sees(copy: str, path: str, sees: bool) -> None:
    assert again(f"FROM x:1\nARG FOLDER=report\n{copy}\n", path) == [f"3 {copy.split()[0]}"] * sees


def test_continued_lines_are_one_instruction_without_the_comments_between() -> None:
    found = steps("FROM x:1\n\nRUN pip inst\\\nall \\\n  # a comment\n\n  -r a.txt  \\  \n && true\nUSER 1\n")
    assert [(step.line, step.text) for step in found] == [
        (1, "FROM x:1"),
        (3, "RUN pip install -r a.txt && true"),
        (9, "USER 1"),
    ]
    assert steps("FROM x:1\nRUN a \\\\\nUSER 1")[1].text == "RUN a \\\\", "two signs are one that is meant"
    assert steps("FROM x:1\r\nRUN a \\\r\n b\r\n")[1].text == "RUN a b"


def test_another_sign_continues_a_line_where_the_directive_says_so() -> None:
    text = "# syntax=docker/dockerfile:1\n# ESCAPE = `\nFROM x:1\nRUN dir c:\\\nRUN a `\n b\n"
    assert [step.text for step in steps(text)] == ["FROM x:1", "RUN dir c:\\", "RUN a b"]
    late = "FROM x:1\n# escape=`\nRUN a \\\n b\n"
    assert [step.text for step in steps(late)] == ["FROM x:1", "RUN a b"], "below an instruction it is a comment"


def test_the_lines_of_a_heredoc_are_no_instructions() -> None:
    text = (
        "FROM x:1\nRUN <<EOF\n# no comment\nCOPY report /x\nEOF\n"
        'COPY <<-"one" <<two.txt report /app/\nRUN this\n\tone\n\ntwo\ntwo.txt\nRUN echo $((1 << 2)) <<<x\nUSER 1\n'
    )
    found = steps(text)
    assert [step.word for step in found] == ["FROM", "RUN", "COPY", "RUN", "USER"]
    assert [step.body for step in found[1:3]] == ["# no comment\nCOPY report /x", "RUN this\n\ntwo"]
    assert again(text, "report/a") == ["6 COPY", "12 RUN"]
    assert again(text, "one") == []


def test_a_stage_is_called_by_its_name_or_number_and_what_stands_on_it_follows() -> None:
    text = (
        "ARG BASE=python:3.11\nFROM --platform=$BUILDPLATFORM ${BASE} AS Packages\nCOPY a a\n"
        "FROM x:1\nCOPY --from=packages /a /a\nFROM x:1\nCOPY --from=0 /a /a\nFROM x:1\nCOPY --from=1 /a /a\n"
        "FROM packages\nRUN b\nFROM x:1\nRUN --mount=from=packages,target=/a b\nFROM x:1\nCOPY c c\n"
    )
    assert again(text, "a") == ["3 COPY", "5 COPY", "7 COPY", "9 COPY", "11 RUN", "13 RUN"]
    assert steps(text)[1].words[0] == "python:3.11"
    assert steps(text)[1].flags == ("--platform=$BUILDPLATFORM",)


def test_variables_are_known_from_where_they_are_set() -> None:
    text = "ARG A=1\nFROM x:${A}-${B:-2}\nARG A\nENV C=$A D=4\nENV E 5 6\nUSER $A-$C-${D}-$E-$F\nFROM y\nUSER $C\n"
    users = [step.words[0] for step in steps(text) if step.word in ("USER", "FROM")]
    assert users == ["x:1-2", "1-1-4-5 6-$F", "y", "$C"]


def test_the_linter_takes_what_follows_a_heredoc_and_numbers_the_lines_as_they_were() -> None:
    text = "FROM python:3.11-slim\nRUN <<EOF\ntrue\nEOF\nCOPY <<EOF /x\n1\nEOF\nRUN a \\\n b\nRUN cd /x\nUSER 1\n"
    found = linters.dockerfile(text)
    assert "DL3003" in {one.rule for one in found}
    assert {one.line for one in found} == {10}
    assert linters.dockerfile("FROM")[0].rule == "DL1000"


@pytest.mark.parametrize(
    ("copy", "lies"),
    [
        ("COPY report .", ["/app/main.py"]),
        ("COPY . /srv", ["/srv/report/main.py"]),
        ("COPY report/main.py start.py", ["/app/start.py"]),
        ("COPY report/main.py .", ["/app/main.py"]),
        ("COPY rep*/*.py lib/", ["/app/lib/main.py"]),
        ("COPY report/requirements.txt ./", []),
        ('COPY ["report", "/app"]\nCOPY report/main.py /usr/bin/', ["/app/main.py", "/usr/bin/main.py"]),
    ],
)
def test_where_a_file_lies(copy: str, lies: list[str]) -> None:
    *_, (step, folder, found) = places(f"FROM a AS b\nWORKDIR /app\n{copy}\nFROM b\nWORKDIR x\nRUN y", "report/main.py")
    assert (step.word, folder, sorted(found)) == ("RUN", "/app/x", lies)


def test_a_file_of_another_stage_lies_where_it_is_copied_to() -> None:
    text = "FROM a AS b\nCOPY report /packages\nFROM c\nCOPY --from=b /packages /app\nCMD z"
    *_, (_, _, found) = places(text, "report/main.py")
    assert found == {"/app/main.py"}
