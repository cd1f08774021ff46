"""Answers of 07_delivery."""

from __future__ import annotations

from datetime import date

import numpy as np

from flow360 import lesson
from flow360.clients import postgres
from flow360.processing import dbt, feed
from tests.answers import delivered, last_hint, near_miss, right

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
def green_said_in_words():
    return WORKFLOW.replace("    needs: test\n", "    needs: test\n    if: ${{ needs.test.result == 'success' }}\n")


@right("broken_workflow")
def needs_as_a_list():
    return WORKFLOW.replace("needs: test", "needs: [test]")


@right("broken_workflow")
def another_hand():
    """Blocks for flow style, names, a list for the event, and another argument."""
    return """
name: test, then publish
on: [push]
permissions:
  contents: read
jobs:
  publish:
    name: Publish
    runs-on: [ubuntu-24.04]
    needs:
      - test
    timeout-minutes: 30
    steps:
      - name: The code
        uses: "actions/checkout@v5.0.1"
      - run: |
          ./publish.sh "$GITHUB_SHA"
  test:
    timeout-minutes: 5
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v6
      - run: >-
          ./scripts/test
          --only lint --only unit
"""


@right("broken_workflow")
def with_a_matrix_of_its_own():
    return WORKFLOW.replace("github.ref_name", "matrix.version").replace(
        "    needs: test\n", "    needs: test\n    strategy: {matrix: {version: ['1.0']}}\n"
    )


@near_miss("broken_workflow", says="on was not to change")
def by_hand_only():
    return WORKFLOW.replace("on: push", "on: workflow_dispatch")


@near_miss("broken_workflow", says="on was not to change")
def pushes_of_one_branch():
    return WORKFLOW.replace("on: push", "on: {push: {branches: [main]}}")


@near_miss("broken_workflow", says="runs-on of test was not to change")
def on_another_runner():
    return WORKFLOW.replace("ubuntu-24.04", "ubuntu-latest", 1)


@near_miss("broken_workflow", says="steps of test was not to change")
def tests_that_cannot_fail():
    return WORKFLOW.replace("--only unit", "--only unit || true")


@near_miss("broken_workflow", says="steps of test was not to change")
def half_of_the_tests():
    return WORKFLOW.replace(" --only unit", "")


@near_miss("broken_workflow", says="continue-on-error")
def red_counts_as_green():
    return WORKFLOW.replace("    timeout-minutes: 10\n", "    timeout-minutes: 10\n    continue-on-error: true\n", 1)


@near_miss("broken_workflow", says="publish has if")
def published_whatever_the_tests_say():
    return WORKFLOW.replace("    needs: test\n", "    needs: test\n    if: ${{ always() }}\n")


@near_miss("broken_workflow", says="permissions was not to change")
def may_write():
    return WORKFLOW.replace("contents: read", "contents: write")


@near_miss("broken_workflow", says="30 are allowed")
def an_hour():
    return WORKFLOW.replace("timeout-minutes: 10", "timeout-minutes: 60", 1)


@near_miss("broken_workflow", says="must run ./publish.sh")
def published_in_words():
    return WORKFLOW.replace("./publish.sh", "echo ./publish.sh")


@near_miss("broken_workflow", says="must wait for test")
def the_dependency_taken_away():
    return WORKFLOW.replace("    needs: test\n", "")


@near_miss("broken_workflow", says="six hours")
def the_wrong_key_taken_away():
    return WORKFLOW.replace("    timeout-minutes: 10\n", "", 1)


@near_miss("broken_workflow", says="Node 20")
def a_version_that_the_linter_still_accepts():
    return WORKFLOW.replace("checkout@v6", "checkout@v4", 1)


@near_miss("broken_workflow", says="take none away")
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
    strategy = last_hint("07", "version_matrix")[0].partition(", and ")[0]
    begin, end = MATRIX.index("strategy:"), MATRIX.index("    steps:")
    return f"{MATRIX[:begin]}{strategy}\n{MATRIX[end:]}"


@right("version_matrix")
def another_name_for_the_axis():
    return MATRIX.replace("python: [", "version: [").replace("matrix.python", "matrix.version")


@right("version_matrix")
def newest_first():
    return MATRIX.replace('["3.9", "3.10", "3.11"]', '["3.11", "3.10", "3.9"]')


@right("version_matrix")
def one_system_and_three_minors():
    return (
        MATRIX.replace('python: ["3.9", "3.10", "3.11"]', "os: [ubuntu-24.04]\n        minor: [9, 10, 11]")
        .replace("${{ matrix.python }}", "3.${{ matrix['minor'] }}")
        .replace("runs-on: ubuntu-24.04", "runs-on: ${{ matrix.os }}")
    )


@right("version_matrix")
def each_run_by_itself():
    return MATRIX.replace(
        'python: ["3.9", "3.10", "3.11"]', 'include: [{python: "3.9"}, {python: "3.10"}, {python: "3.11"}]'
    )


@right("version_matrix")
def one_left_out_again():
    return MATRIX.replace(
        '["3.9", "3.10", "3.11"]', '["3.8", "3.9", "3.10", "3.11"]\n        exclude: [{python: "3.8"}]'
    ).replace("- run: python -m pytest", "- run: pip install -r requirements.lock\n      - run: python -m pytest")


@right("version_matrix")
def something_said_after_green_tests():
    """A step's shell ends at the first command that fails, so the line is not green whatever the tests say."""
    return MATRIX.replace("python -m pytest", "python -m pytest; echo tested")


@right("version_matrix")
def versions_from_json_and_the_name_by_format():
    from_json = """${{ fromJSON('["9", "10", "11"]') }}"""
    return MATRIX.replace('["3.9", "3.10", "3.11"]', from_json).replace(
        "${{ matrix.python }}", "${{ format('3.{0}', matrix.python) }}"
    )


@near_miss("version_matrix", says="whatever the tests say")
def red_that_nobody_hears():
    return MATRIX.replace("python -m pytest", "python -m pytest || true")


@near_miss("version_matrix", says="red tests count as green")
def a_step_that_may_be_red():
    return MATRIX + "        continue-on-error: true\n"


@near_miss("version_matrix", says="left out in a run")
def tests_on_the_oldest_only():
    return MATRIX + "        if: matrix.python == '3.9'\n"


@near_miss("version_matrix", says="before the tests fetches the code")
def the_code_comes_last():
    return MATRIX.replace("      - uses: actions/checkout@v6\n", "") + "      - uses: actions/checkout@v6\n"


@near_miss("version_matrix", says="found ['3.10', '3.10'")
def six_runs():
    return MATRIX.replace("      matrix:\n", "      matrix:\n        shard: [1, 2]\n")


@near_miss("version_matrix", says="3.12")
def one_more_by_include():
    return MATRIX.replace("    steps:", "        include: [{python: '3.12'}]\n    steps:", 1)


@near_miss("version_matrix", says="3.9")
def one_less_by_exclude():
    return MATRIX.replace("    steps:", "        exclude: [{python: '3.9'}]\n    steps:", 1)


@near_miss("version_matrix", says="continue-on-error")
def no_run_is_ever_red():
    return MATRIX.replace("    strategy:", "    continue-on-error: true\n    strategy:")


@near_miss("version_matrix", says="fetches the code")
def nothing_to_test():
    return MATRIX.replace("      - uses: actions/checkout@v6\n", "")


@near_miss("version_matrix", says="no step after setup-python")
def tested_before_the_version_is_there():
    test = "      - run: python -m pytest\n"
    return MATRIX.replace(test, "").replace(
        "      - uses: actions/setup-python", test + "      - uses: actions/setup-python"
    )


@near_miss("version_matrix", says="setup-python@v6, found")
def an_older_action():
    return MATRIX.replace("setup-python@v6", "setup-python@v5")


@near_miss("version_matrix", says="matrix_workflow: ")
def another_word_for_the_axis():
    return MATRIX.replace("${{ matrix.python }}", "${{ matrix.python || matrix.version }}")


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
    return last_hint("07", "cache_key")[0]


@right("cache_key")
def a_pattern():
    return "cache-${{ runner.os }}-${{ hashFiles('**/*.lock') }}"


@right("cache_key")
def one_hash_for_each():
    lines = ("hashfiles('requirements.lock')", "hashFiles('stack/jars.lock')", "runner.os")
    return "-".join("${{" + line + "}}" for line in lines)


@right("cache_key")
def with_the_processor():
    return "v3-${{ runner.os }}-${{ runner.arch }}-${{ hashFiles('./stack/jars.lock', 'requirements.lock') }}"


@right("cache_key")
def put_together_by_format():
    return "${{ format('{0}-{1}', runner.os, hashFiles('requirements.lock', 'stack/jars.lock')) }}"


@near_miss("cache_key", says="no comma in a key")
def a_comma_by_format():
    return "${{ format('{0}, {1}', runner.os, hashFiles('requirements.lock', 'stack/jars.lock')) }}"


@near_miss("cache_key", says="old packages")
def a_format_that_leaves_one_out():
    return "${{ format('{0}-{2}', runner.os, hashFiles('stack/jars.lock'), hashFiles('requirements.lock')) }}"


@near_miss("cache_key", says="fetched for nothing")
def whatever_begins_so():
    return "${{ runner.os }}-${{ hashFiles('requirements*', 'stack/jars.lock') }}"


@near_miss("cache_key", says="fetched for nothing")
def all_of_the_stack():
    return "${{ runner.os }}-${{ hashFiles('requirements.lock', 'stack/**') }}"


@near_miss("cache_key", says="single quotes")
def double_quotes():
    return '${{ runner.os }}-${{ hashFiles("requirements.lock", "stack/jars.lock") }}'


@near_miss("cache_key", says="more than this needs")
def each_push_has_its_own():
    return "${{ runner.os }}-${{ github.sha }}-${{ hashFiles('requirements.lock', 'stack/jars.lock') }}"


@near_miss("cache_key", says="comma")
def a_comma_between():
    return "${{ runner.os }}, ${{ hashFiles('requirements.lock', 'stack/jars.lock') }}"


@near_miss("cache_key", says="not closed")
def a_brace_too_few():
    return "${{ hashFiles('requirements.lock', 'stack/jars.lock') }}-${{ runner.os }"


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


@right("safe_dockerfile")
def started_as_a_module():
    return DOCKERFILE.replace("USER 10001", "USER 10001:10001").replace(
        'CMD ["python", "main.py"]', 'ENTRYPOINT ["python", "-m", "main"]'
    )


@near_miss("safe_dockerfile", says="runs as root")
def root_by_another_number():
    return DOCKERFILE.replace("USER 10001", "USER 00")


@near_miss("safe_dockerfile", says="the official image of Python")
def somebodys_python():
    return DOCKERFILE.replace("FROM python", "FROM somebody/python")


@near_miss("safe_dockerfile", says="looks for /app/requirements.txt")
def the_list_lies_elsewhere():
    return DOCKERFILE.replace("requirements.txt requirements.txt", "requirements.txt /tmp/")


@near_miss("safe_dockerfile", says="looks for /app/report/main.py")
def the_program_has_lost_its_folder():
    return DOCKERFILE.replace('"main.py"', '"report/main.py"')


@near_miss("safe_dockerfile", says="user")
def a_user_whom_nobody_has_made():
    return DOCKERFILE.replace("USER 10001", "USER app")


@near_miss("safe_dockerfile", says="root")
def root_by_its_number():
    return DOCKERFILE.replace("USER 10001", "USER 10001\nUSER 0:0")


@near_miss("safe_dockerfile", says="would not start")
def nothing_is_started():
    return DOCKERFILE.replace('CMD ["python", "main.py"]\n', "")


@near_miss("safe_dockerfile", says="official image of Python")
def another_image():
    return DOCKERFILE.replace("python:3.11-slim-bookworm", "debian:12.5")


@near_miss("safe_dockerfile", says="tells the linter")
def the_linter_is_silenced():
    return "# hadolint global ignore=DL3042\n" + DOCKERFILE.replace("--no-cache-dir ", "")


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
      interval: 10s
      timeout: 5s
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


@right("compose_service")
def in_another_hand():
    return """
services:
  report:
    image: "primeur/report:1.0"
    restart: unless-stopped
    depends_on:
      postgres-dwh:
        condition: service_healthy
        restart: true
    healthcheck:
      test: curl -fs http://127.0.0.1:8000/health || exit 1
      interval: 0m5s
      timeout: 2500ms
      start_period: 5s
    mem_limit: 100mb
    ports:
      - 127.0.0.1:18777:8000/tcp
"""


@near_miss("compose_service", says="one service")
def another_beside_it():
    return SERVICE + "  mailer:\n    image: primeur/mailer:1.0\n"


@near_miss("compose_service", says="always content")
def healthy_whatever_happens():
    return SERVICE.replace(SERVICE[SERVICE.index("test: ") : SERVICE.index("    mem_limit")], "test: [CMD, 'true']\n")


@near_miss("compose_service", says="no healthcheck")
def a_healthcheck_that_is_off():
    return SERVICE.replace(SERVICE[SERVICE.index("test: ") : SERVICE.index("    mem_limit")], "disable: true\n")


@near_miss("compose_service", says="always content")
def asked_and_not_heard():
    test = 'test: [CMD-SHELL, "curl --fail http://127.0.0.1:8000/health || true"]\n'
    return SERVICE.replace(SERVICE[SERVICE.index("test: ") : SERVICE.index("      interval")], test)


@near_miss("compose_service", says="start all the same")
def a_warehouse_that_need_not_be_there():
    return SERVICE.replace("{condition: service_healthy}", "{condition: service_healthy, required: false}")


@near_miss("compose_service", says="less than the 6 MB")
def megabytes_forgotten():
    return SERVICE.replace("128m", "128")


@near_miss("compose_service", says="more than the 128 MB")
def half_a_gigabyte():
    return SERVICE.replace("128m", "0.5g")


@near_miss("compose_service", says="interval is 30s")
def asked_when_docker_likes():
    return SERVICE.replace("      interval: 10s\n", "")


@near_miss("compose_service", says="timeout is 1m")
def a_minute_for_an_answer():
    return SERVICE.replace("      timeout: 5s\n", "      timeout: 1m\n")


@near_miss("compose_service", says="no memory limit")
def without_a_limit():
    return SERVICE.replace("    mem_limit: 128m\n", "")


@near_miss("compose_service", says="image")
def the_newest_image():
    return SERVICE.replace("report:1.0", "report:latest")


@near_miss("compose_service", says="ports")
def another_port_as_well():
    return SERVICE.replace('8000"]', '8000", "127.0.0.1:18778:8001"]')


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


def reset(exercise: str) -> None:
    delivered()
    with postgres() as db:
        db.execute("drop schema if exists app cascade")
    if exercise in ("whole_way", ""):
        refunded(takes_back=True)
        for day in (7, 8, 9):
            brought(day)
        dbt.drop_sandbox()


def view(text: str) -> None:
    with postgres() as db:
        db.execute("create schema if not exists app")
        db.execute(f"create view app.late_by_store as {text}")


@right("green_again")
def refused_left_out():
    view(f"select r.store_id, avg({SHARE}) as late {FROM} {last_hint('07', 'green_again')[0]} group by r.store_id")
    return "green"


@right("green_again")
def filtered_aggregate():
    view(f"select r.store_id, avg({SHARE}) filter (where d.status <> 'refused') as late {FROM} group by r.store_id")
    return "green"


@right("green_again")
def by_a_cte_in_numeric():
    view(f"""with kept as (select r.store_id, {SHARE} as late, d.status {FROM})
             select store_id, sum(late)::numeric / count(*) as late, count(*) as deliveries
             from kept where status in ('delivered') group by store_id;""")
    return " green"


@near_miss("green_again", says="in one with other deliveries")
def without_those_that_were_refused_this_week():
    ids = lesson.sql("select delivery_id from lake.deliveries where status = 'refused'")["delivery_id"]
    view(f"""select r.store_id, avg({SHARE}) as late {FROM}
             where d.delivery_id not in ({", ".join(map(str, ids))}) group by r.store_id""")
    return "green"


@near_miss("green_again", says="in one with other deliveries")
def the_numbers_of_this_week():
    view(f"select r.store_id, avg({SHARE}) as late {FROM} where d.status <> 'refused' group by r.store_id")
    with postgres() as db:
        db.execute("create table app.of_this_week as select * from app.late_by_store")
        db.execute("create or replace view app.late_by_store as select * from app.of_this_week")
    return "green"


@near_miss("green_again", says="in one with other deliveries")
def late_from_the_promised_minute_on():
    late = SHARE.replace(">", ">=")
    view(f"select r.store_id, avg({late}) as late {FROM} where d.status <> 'refused' group by r.store_id")
    return "green"


@near_miss("green_again", says="expected 'green'")
def the_view_and_not_its_verdict():
    refused_left_out()
    return "red"


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


KEPT = 0.0


def refunded(*, takes_back: bool = False) -> None:
    """What the lab's cell does in the shop, and what its last cell takes back."""
    with postgres("source") as shop:
        shop.execute("delete from payments where payment_id = 1008392")
        shop.execute(
            "update orders set status = %s where order_id = 100839", ["delivered" if takes_back else "refunded"]
        )
        if not takes_back:
            shop.execute(
                """insert into payments select 1008392, order_id, 'refund', method, amount_eur, '2026-05-09 09:30+02'
                   from payments where order_id = 100839 and kind = 'charge'"""
            )


def brought(day: int) -> None:
    with postgres("source") as shop, postgres() as warehouse:
        feed.from_shop(warehouse, shop, date(2026, 5, day))


@right("whole_way", solved=True)
def the_night_of_the_refund():
    refunded()
    brought(9)
    dbt.build("+fct_orders", target="sandbox")
    return KEPT


@right("whole_way")
def built_too_early_and_once_more():
    refunded()
    dbt.build("+fct_orders", target="sandbox")
    brought(9)
    dbt.build("fct_orders", target="sandbox")
    return np.float64(KEPT)


@right("whole_way")
def every_night_again():
    refunded()
    feed.fill()
    dbt.build("+fct_orders", target="sandbox")
    return lesson.sql("select sum(net_eur) from sandbox_marts.fct_orders where order_id = 100839").iat[0, 0]


@near_miss("whole_way", says="written 2 times")
def a_night_by_hand():
    refunded()
    with postgres() as warehouse:
        night = "lake.orders_by_day where order_id = 100839 and _day = '2026-05-08'"
        warehouse.execute(f"create temp table night as select * from {night}")
        warehouse.execute("update night set status = 'refunded', _day = '2026-05-09'")
        warehouse.execute("insert into lake.orders_by_day select * from night")
    return KEPT


@near_miss("whole_way", says="the mart holds the other orders, too")
def a_mart_of_one_order():
    refunded()
    brought(9)
    with postgres() as warehouse:
        warehouse.execute("create schema sandbox_marts")
        warehouse.execute(
            """create table sandbox_marts.fct_orders as
               select 100839 as order_id, 'refunded' as order_status, 0.00 as net_eur"""
        )
    return KEPT


@near_miss("whole_way", says="the latest has the last word")
def the_night_of_the_order():
    refunded()
    brought(7)
    return KEPT


@near_miss("whole_way", says="there is no such table")
def brought_and_not_built():
    refunded()
    brought(9)
    return KEPT


@near_miss("whole_way", says="written it by hand")
def written_by_hand():
    refunded()
    with postgres() as warehouse:
        warehouse.execute("update lake.orders_by_day set status = 'refunded' where order_id = 100839")
    return KEPT


@near_miss("whole_way", says="run the cell above")
def nothing_happened():
    return KEPT
