"""Kafka Connect, its three kinds of source, Vault and the logins with real containers.

Who may do what is asked by the very tests that ask it of the plain processes: one rule, two engines.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from flow360 import clients
from flow360.clients.secrets import Denied
from flow360.settings import settings
from flow360.stack import open_stack
from flow360.stack.facade import Stack
from flow360.stack.status import Event
from tests.compose.asking import check_containers
from tests.compose.conftest import reason_to_skip, remove_all
from tests.live.test_broker import (  # noqa: F401 - collected here, too
    captured,
    kept,
    test_the_brokers_third_door_wants_the_password,
    test_without_a_login_nobody_changes_what_connect_keeps_or_what_steers_the_broker,
    test_without_a_login_nobody_changes_what_was_captured_of_the_shop,
    test_without_a_login_nobody_invents_a_change_of_the_shop_and_everybody_reads_those_there_are,
    test_without_a_login_nobody_reads_it_not_even_as_another_broker_would,
    test_without_a_login_nobody_writes_or_sees_what_connect_keeps,
    test_zookeeper_lets_nobody_in_without_the_password,
)
from tests.live.test_connect import (  # noqa: F401
    fleet,
    shop,
    test_a_connector_logs_in_as_nobody_else,
    test_a_connector_reaches_no_variable_and_no_file_that_is_not_meant_for_it,
    test_a_wrong_password_and_an_unknown_connector_are_one_line_each,
    test_insert_update_delete_and_a_rollback,
    test_the_catalogues_account_reads_the_captured_database_and_nothing_else,
    test_the_fleets_rows_are_the_databases_after_the_copy_and_after_changes,
    test_the_fleets_user_reads_the_captured_tables_and_nothing_else,
    test_the_role_reads_the_captured_tables_and_nothing_else,
    test_without_a_login_nobody_invents_a_change_of_fleet_or_catalogue_or_sees_the_history_of_tables,
    test_without_the_password_it_answers_nothing_and_to_a_page_nothing_either,
    until_it_streams,
)
from tests.live.test_documents import (  # noqa: F401
    test_a_wrong_name_or_password_is_refused_and_there_are_no_other_accounts,
    test_the_courses_own_user_has_its_databases_and_nothing_else,
    test_without_a_login_nothing_is_read_written_or_stopped,
)
from tests.live.test_fleet import (  # noqa: F401
    test_what_does_not_fit_is_refused_not_changed,
    trial,
)

if reason := reason_to_skip():
    pytest.skip(reason, allow_module_level=True)
pytestmark = pytest.mark.timeout(900)
SERVICES = ("kafka-connectors", "kafka-connectors-fleet", "kafka-connectors-catalogue", "postgres-databases", "vault")


@dataclass
class Began:
    """How the stack came up: seconds, and the last that each service said."""

    fetched: float
    up: float
    last: dict[str, Event]


@pytest.fixture(scope="module")
def stack(course) -> Iterator[Stack]:
    """In the place of the native one."""
    yield open_stack("docker")
    remove_all(course.engine)


@pytest.fixture(scope="module", autouse=True)
def began(course, stack) -> Began:
    """All of it runs, and the shop's connector has read the tables."""
    start = time.monotonic()
    stack.fetch(SERVICES, course.say)
    fetched = time.monotonic()
    course.told()
    stack.up(SERVICES, course.say)
    up = time.monotonic()
    until_it_streams()
    return Began(fetched - start, up - fetched, course.told())


def test_everything_is_up_healthy_bounded_and_named_by_status(course, stack, began):
    names = stack.model.closure(SERVICES)
    print(f"\n{course.images}: fetched in {began.fetched:.1f} s, up in {began.up:.1f} s: ", end="")
    print(", ".join(f"{name} {event.seconds:.1f}" for name, event in began.last.items()), end="")
    assert {name: event.state for name, event in began.last.items()} == {
        name: "done" if stack.model[name].job else "running" for name in names
    }
    check_containers(course.engine, names)
    rows = {row.name: row for row in course.engine.status()}
    for name in names:
        row = rows[name]
        print(f"\n{name:21} {row.state:8} {row.runs:9} {row.what} {row.pss_mb} MB", end="")
        assert row.runs == ("stand-in" if course.images == "standins" else "real")


def test_nobody_gets_into_vault_with_a_wrong_secret_and_what_it_lends_opens_the_warehouse(stack):
    with pytest.raises(Denied, match="does not know notebook with this secret"):
        clients.vault_at(settings().vault_url, "notebook", "wrong")
    lent = clients.vault().secrets.database.generate_credentials("pipeline")["data"]
    with psycopg.connect(
        host="127.0.0.1",
        port=settings().postgres_dwh_port,
        dbname="datawarehouse",
        user=lent["username"],
        password=lent["password"],
        connect_timeout=10,
    ) as db:
        assert db.execute("select session_user, current_user").fetchone() == (lent["username"], "pipeline")
