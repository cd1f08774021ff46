"""Answers of 07_delivery."""

from __future__ import annotations

from flow360.clients import postgres
from tests.answers import delivered, near_miss, right

WORKFLOW = """
name: delivery
on: push
permissions: {contents: read}
jobs:
  test:
    runs-on: ubuntu-24.04
    timeout-minutes: 10
    steps:
      - uses: actions/checkout@v6
      - run: ./scripts/test --only lint --only unit
  publish:
    needs: test
    runs-on: ubuntu-24.04
    timeout-minutes: 10
    steps:
      - uses: actions/checkout@v6
      - run: ./publish.sh "${{ github.ref_name }}"
"""


@right("broken_workflow")
def mended():
    return WORKFLOW


@right("broken_workflow")
def needs_as_a_list():
    return WORKFLOW.replace("needs: test", "needs: [test]")


@near_miss("broken_workflow", says="must wait for test")
def the_dependency_taken_away():
    return WORKFLOW.replace("    needs: test\n", "")


@near_miss("broken_workflow", says="six hours")
def the_wrong_key_taken_away():
    return WORKFLOW.replace("    timeout-minutes: 10\n", "", 1)


@near_miss("broken_workflow", says="Node 20")
def a_version_that_the_linter_still_accepts():
    return WORKFLOW.replace("checkout@v6", "checkout@v4", 1)


@near_miss("broken_workflow", says="do not take one away")
def the_bad_step_taken_away():
    return WORKFLOW.replace('      - run: ./publish.sh "${{ github.ref_name }}"\n', "")


MATRIX = """
name: loader
on: [push, pull_request]
jobs:
  test:
    runs-on: ubuntu-24.04
    strategy:
      fail-fast: false
      matrix:
        python: ["3.9", "3.10", "3.11"]
    steps:
      - uses: actions/checkout@v6
      - uses: actions/setup-python@v6
        with:
          python-version: ${{ matrix.python }}
      - run: python -m pytest
"""


@right("version_matrix")
def quoted_versions():
    return MATRIX


@right("version_matrix")
def another_name_for_the_axis():
    return MATRIX.replace("python: [", "version: [").replace("matrix.python", "matrix.version")


@right("version_matrix")
def newest_first():
    return MATRIX.replace('["3.9", "3.10", "3.11"]', '["3.11", "3.10", "3.9"]')


@near_miss("version_matrix", says="3.1")
def versions_as_numbers():
    return MATRIX.replace('["3.9", "3.10", "3.11"]', "[3.9, 3.10, 3.11]")


@near_miss("version_matrix", says="cancels the other two")
def fails_fast():
    return MATRIX.replace("      fail-fast: false\n", "")


@near_miss("version_matrix", says="not the version of the matrix")
def the_matrix_is_not_used():
    return MATRIX.replace("${{ matrix.python }}", '"3.11"')


@right("cache_key")
def both_locks():
    return "${{ runner.os }}-${{ hashFiles('requirements.lock', 'stack/jars.lock') }}"


@right("cache_key")
def a_pattern():
    return "cache-${{ runner.os }}-${{ hashFiles('**/*.lock') }}"


@near_miss("cache_key", says="old packages")
def one_lock_only():
    return "${{ runner.os }}-${{ hashFiles('requirements.lock') }}"


@near_miss("cache_key", says="stack/jars.lock has changed, the key has not")
def a_star_that_stays_in_its_folder():
    return "${{ runner.os }}-${{ hashFiles('*.lock') }}"


@near_miss("cache_key", says="fetched for nothing")
def every_file():
    return "${{ runner.os }}-${{ hashFiles('**') }}"


@near_miss("cache_key", says="macOS")
def no_system():
    return "${{ hashFiles('requirements.lock', 'stack/jars.lock') }}"


@near_miss("cache_key", says="old packages")
def a_file_that_is_not_there():
    return "${{ runner.os }}-${{ hashFiles('requirements.txt') }}"


DOCKERFILE = """
FROM python:3.11-slim-bookworm
WORKDIR /app
COPY report/requirements.txt requirements.txt
RUN pip install --no-cache-dir -r requirements.txt
COPY report .
USER 10001
CMD ["python", "main.py"]
"""
JSON_COPY = 'COPY ["report/requirements.txt", "requirements.txt"]'


@right("safe_dockerfile")
def packages_first():
    return DOCKERFILE


@right("safe_dockerfile")
def two_stages():
    return """
FROM python:3.11-slim-bookworm AS packages
COPY report/requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --target /packages -r /tmp/requirements.txt
FROM python:3.11-slim-bookworm
ENV PYTHONPATH=/packages
COPY --from=packages /packages /packages
COPY report /app
USER 65534
CMD ["python", "/app/main.py"]
"""


@right("safe_dockerfile")
def one_stage_on_another():
    named = DOCKERFILE.replace("bookworm", "bookworm AS packages").replace("pip install", "pip3 install")
    return named.replace("COPY report .", "FROM packages\nCOPY report .")


@right("safe_dockerfile")
def json_form():
    return DOCKERFILE.replace("COPY report/requirements.txt requirements.txt", JSON_COPY).replace(
        "COPY report .", 'COPY ["report", "."]'
    )


@right("safe_dockerfile")
def heredocs_and_flags():
    return """# syntax=docker/dockerfile:1
ARG VERSION=3.11
FROM python:${VERSION}-slim-bookworm
WORKDIR /app
COPY --chown=10001:10001 report/requirements.txt ./
RUN <<EOF
pip install --no-cache-dir -r requirements.txt
EOF
COPY <<EOF /app/version.txt
1.0
EOF
COPY --link --chown=10001:10001 ./report/ \\
     # the program
     /app/
USER 10001
CMD ["python", "main.py"]
"""


@right("safe_dockerfile")
def the_list_is_mounted():
    return DOCKERFILE.replace("COPY report/requirements.txt requirements.txt\n", "").replace(
        "RUN pip", "RUN --mount=type=bind,source=report/requirements.txt,target=requirements.txt pip"
    )


@right("safe_dockerfile")
def a_pattern_for_the_list():
    return DOCKERFILE.replace("report/requirements.txt requirements.txt", "rep?rt/*.txt ./")


@near_miss("safe_dockerfile", says="installs the packages again")
def everything_first_in_json():
    return everything_first().replace("COPY report .", 'COPY ["report", "."]')


@near_miss("safe_dockerfile", says="would not be installed")
def a_star_does_not_cross_folders():
    return DOCKERFILE.replace("report/requirements.txt requirements.txt", "*.txt ./")


@near_miss("safe_dockerfile", says="report/main.py is not copied")
def only_a_heredoc_is_copied():
    return DOCKERFILE.replace("COPY report .", "COPY <<report /app/main.py\nprint('report')\nreport")


@near_miss("safe_dockerfile", says="runs as root")
def the_user_of_another_stage():
    return (
        two_stages()
        .replace("USER 65534\n", "")
        .replace("FROM python:3.11-slim-bookworm\n", "USER 65534\nFROM python:3.11-slim-bookworm\n")
    )


@near_miss("safe_dockerfile", says="runs as root")
def no_user():
    return DOCKERFILE.replace("USER 10001\n", "")


@near_miss("safe_dockerfile", says="installs the packages again")
def everything_first():
    return DOCKERFILE.replace("COPY report/requirements.txt requirements.txt", "COPY report .").replace(
        "COPY report .\nUSER", "USER"
    )


@near_miss("safe_dockerfile", says="DL3007")
def latest():
    return DOCKERFILE.replace("3.11-slim-bookworm", "latest")


SERVICE = """
services:
  report:
    image: primeur/report:1.0
    depends_on:
      postgres-dwh: {condition: service_healthy}
    healthcheck:
      test: [CMD, python, -c, "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
    mem_limit: 128m
    ports: ["127.0.0.1:18777:8000"]
"""


@right("compose_service")
def short_limit():
    return SERVICE


@right("compose_service")
def limit_under_deploy():
    return SERVICE.replace("mem_limit: 128m", "deploy: {resources: {limits: {memory: 128m}}}")


@right("compose_service")
def a_port_in_the_long_form():
    return SERVICE.replace('["127.0.0.1:18777:8000"]', "[{target: 8000, published: 18777, host_ip: 127.0.0.1}]")


@near_miss("compose_service", says="started is not yet answering")
def waits_for_the_start_only():
    return SERVICE.replace(
        "    depends_on:\n      postgres-dwh: {condition: service_healthy}\n", "    depends_on: [postgres-dwh]\n"
    )


@near_miss("compose_service", says="whole network")
def open_to_the_network():
    return SERVICE.replace("127.0.0.1:18777", "18777")


@near_miss("compose_service", says="warehouse")
def a_service_that_is_none():
    return SERVICE.replace("postgres-dwh", "warehouse")


@near_miss("compose_service", says="healtcheck")
def a_misspelt_key():
    return SERVICE.replace("healthcheck", "healtcheck")


SHARE = "(d.delivered_at > d.promised_to)::int"
FROM = "from lake.deliveries d join lake.van_routes r using (route_id)"


def reset(_exercise: str) -> None:
    delivered()
    with postgres() as db:
        db.execute("drop schema if exists app cascade")


def view(text: str) -> None:
    with postgres() as db:
        db.execute("create schema if not exists app")
        db.execute(f"create view app.late_by_store as {text}")


@right("green_again")
def refused_left_out():
    view(f"select r.store_id, avg({SHARE}) as late {FROM} where d.status <> 'refused' group by r.store_id")
    return "green"


@right("green_again")
def filtered_aggregate():
    view(f"select r.store_id, avg({SHARE}) filter (where d.status <> 'refused') as late {FROM} group by r.store_id")
    return "green"


@near_miss("green_again", says="have another share")
def refused_counted():
    view(f"select r.store_id, avg({SHARE}) as late {FROM} group by r.store_id")
    return "green"


@near_miss("green_again", says="there is no view")
def only_said():
    return "green"


@near_miss("green_again", says="one row for each store")
def for_each_route():
    view(f"select r.store_id, avg({SHARE}) as late {FROM} where d.status <> 'refused' group by r.route_id, r.store_id")
    return "green"
