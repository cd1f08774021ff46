"""The secrets' server: unsealed after a crash with nothing lost, shut for everybody else, plain in what it refuses."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psutil
import psycopg
import pytest
import requests

from flow360 import clients
from flow360.clients.secrets import Denied, Expired, Missing, Sealed
from flow360.delivery import vaults
from flow360.errors import FlowError
from flow360.settings import ROOT, VAULTED, env_values, in_force, settings
from flow360.stack.model import read_model
from flow360.stack.native.programs import Programs
from flow360.waiting import wait_for
from tests.faults.support import kill, line, recovered, report
from tests.live.listeners import watched

SERVICES = ("vault", "postgres-dwh", "postgres-databases")
KV = "lab/test"


@pytest.fixture
def vault(started) -> Iterator:
    """The learner's client, with one secret of ours."""
    started("vault")
    client = clients.vault()
    client.secrets.kv.v2.create_or_update_secret(KV, {"word": "crème"})
    yield client
    started("vault")
    clients.vault().secrets.kv.v2.delete_metadata_and_all_versions(KV)


def word() -> str:
    return clients.vault().secrets.kv.v2.read_secret(KV)["data"]["data"]["word"]


@pytest.fixture
def data(stack, vault):
    return stack.host.programs.data(stack.model["vault"])


def test_killed_it_comes_back_unsealed_with_all_that_it_held(stack, vault):
    """Fault 33: a write that was acknowledged, then kill -9, twice."""
    seconds = []
    for number in range(2):
        vault.secrets.kv.v2.create_or_update_secret(f"{KV}/{number}", {"n": number})
        seconds.append(recovered(stack, "vault", kill(stack, "vault")))
    lost = [n for n in range(2) if vault.secrets.kv.v2.read_secret(f"{KV}/{n}")["data"]["data"] != {"n": n}]
    for number in range(2):
        vault.secrets.kv.v2.delete_metadata_and_all_versions(f"{KV}/{number}")
    report("33 vault killed -9", kills=2, lost=len(lost), slowest=max(seconds))
    assert lost == []
    assert word() == "crème"


def test_sealed_expired_denied_absent_and_unknown_are_one_line_each(stack, vault):
    """Fault 33: each with its own name, none with a secret in it, and no password from elsewhere in its place."""
    airflow = clients.vault_at(settings().vault_url, "airflow", settings().vault_airflow_secret)
    said: dict[str, FlowError] = {}

    def refused(kind: type[FlowError], call: Callable[[], object]) -> None:
        with pytest.raises(kind) as caught:
            call()
        said[kind.__name__] = caught.value

    refused(Denied, lambda: airflow.secrets.kv.v2.read_secret(KV))
    refused(Missing, lambda: vault.secrets.kv.v2.read_secret("lab/none"))
    airflow.auth.token.revoke_self()
    refused(Expired, lambda: airflow.secrets.kv.v2.read_secret("airflow/connections/warehouse"))
    with pytest.raises(Denied, match="vault does not know notebook with this secret"):
        clients.vault_at(settings().vault_url, "notebook", "wrong")
    vault.sys.seal()
    refused(Sealed, word)
    start = time.monotonic()
    stack.up(["vault"])  # lets the brake go
    unsealed = time.monotonic() - start
    assert word() == "crème"
    held = [name for name, error in said.items() for secret in secrets() if secret in error.message]
    report("33 vault refuses", kinds=len(said), secrets_said=len(held), unsealed=unsealed)
    assert all(len(error.message.splitlines()) == 1 for error in said.values())
    assert held == []


def test_down_it_is_named_and_the_environment_is_not_asked_instead(stack, vault, monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", "s.of-somebody-else")
    stack.down(["vault"])
    with pytest.raises(FlowError, match="vault does not answer on .*: start it with `flow360 up vault`"):
        clients.vault()


def test_a_token_of_the_users_own_is_not_taken(vault, monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", "s.of-somebody-else")
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:9")
    assert word() == "crème"


def test_a_lease_that_is_revoked_ends_its_user_in_the_middle_of_a_statement(started, vault):
    """Fault 33: the session is ended, the role is gone, what it had not committed is not there."""
    started("postgres-databases")
    lease = vault.secrets.database.generate_credentials("pipeline")
    user, password = lease["data"]["username"], lease["data"]["password"]
    at = {"host": "127.0.0.1", "port": settings().postgres_dwh_port, "dbname": settings().postgres_dwh_db}
    table = f"staging.lease_{time.time_ns()}"
    with psycopg.connect(**at, user=user, password=password, autocommit=True) as session:
        session.execute(f"create table {table} (n int)")
        session.execute("begin")
        session.execute(f"insert into {table} values (1)")
        vault.sys.revoke_lease(lease["lease_id"])
        with pytest.raises(psycopg.OperationalError, match="terminating connection|closed"):
            session.execute("select pg_sleep(20)")
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(**at, user=user, password=password)
    with clients.postgres() as db:
        roles = db.execute("select count(*) from pg_roles where rolname = %s", [user]).fetchone()[0]
        rows = db.execute(f"select count(*) from {table}").fetchone()[0]
        db.execute(f"drop table {table}")
    report("33 lease revoked in a transaction", roles_left=roles, rows_left=rows)
    assert (roles, rows) == (0, 0)


def test_what_one_configures_by_hand_is_put_back_when_the_files_say_otherwise(stack, vault, data):
    """Applied as often as there is a change: a role's old secret opens nothing, and what people keep is kept."""
    (data / "store" / "applied").unlink()
    stack.down(["vault"])
    stack.up(["vault"])
    assert word() == "crème"
    assert clients.vault().secrets.kv.v2.read_secret("airflow/connections/market")["data"]["data"]["conn_uri"]


def test_the_key_that_is_gone_is_said_and_nothing_is_made_again_in_its_place(stack, vault, data):
    stack.down(["vault"])
    key, aside = data / "store" / "keys.json", data / "keys.json"
    key.rename(aside)
    try:
        with pytest.raises(FlowError, match="keys.json is gone, and without its key nobody can read this store"):
            stack.up(["vault"])
    finally:
        aside.rename(key)
        stack.down(["vault"])
    stack.up(["vault"])
    assert word() == "crème"


def test_the_audit_log_is_read_from_a_moment_on_and_names_who_had_a_value(vault):
    word()
    began = datetime.now(UTC)
    assert word() == "crème"
    airflow = clients.vault_at(settings().vault_url, "airflow", settings().vault_airflow_secret)
    with pytest.raises(Denied):
        airflow.secrets.kv.v2.read_secret(KV)
    log = vaults.audit(began)
    asked = log[log["path"] == f"secret/data/{KV}"]
    assert list(asked["who"]) == ["notebook", "airflow"]
    assert list(asked["error"] != "") == [False, True]
    hashed = vault.sys.calculate_hash("file", "crème")["data"]["hash"]
    had = [vaults.who(one) for one in vaults.records(began) if hashed in str(one.get("response"))]
    assert had == ["notebook"]


# --- Airflow's side ---------------------------------------------------------------------------------------------------

# What a task does, without the services of Airflow around it: three loads, each as a user of its own.
LOADS = """
import sys
from flow360.errors import FlowError
from include.connections import connect, database

def load(n):
    with connect("pipeline") as db:
        db.execute(f"insert into {sys.argv[1]} values (%s, session_user)", [n])

load(1)
print("first", flush=True)
sys.stdin.readline()
for call in (lambda: database("shop"), lambda: load(2)):
    try:
        call()
    except Exception as error:
        print("refused", type(error).__name__, str(error).splitlines(), flush=True)
sys.stdin.readline()
load(2)
print("second", database("shop")["user"], flush=True)
"""


@pytest.fixture
def task(stack, vault) -> Iterator[Callable[..., subprocess.Popen]]:
    """`task(code, argument)`: a process with the environment of Airflow's tasks, and an old password in it."""
    model = read_model(env={**env_values(), **in_force(), "COMPOSE_FILE": VAULTED})
    environment = Programs(model, stack.host.state).environment(model["airflow-scheduler"])
    old = {f"AIRFLOW_CONN_{name}": f"postgres://old:{'old'}@127.0.0.1:1/old" for name in ("PIPELINE", "SHOP")}
    with contextlib.ExitStack() as running:

        def start(code: str, argument: str) -> subprocess.Popen:
            path = {"PYTHONPATH": str(ROOT / "dags")}
            process = subprocess.Popen(
                [sys.executable, "-c", code, argument], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                cwd=ROOT, env={**os.environ, **environment, **old, **path},
            )  # fmt: skip
            running.callback(process.wait, 20)
            running.callback(process.kill)
            return process

        yield start


@pytest.mark.timeout(300)
def test_a_pipeline_meets_a_sealed_vault_says_so_and_goes_on_when_it_is_open_again(stack, started, vault, task):
    """Fault 33: no user of an older password, no row twice, no user left over."""
    started("postgres-databases")
    table = f"staging.vaulted_{time.time_ns()}"
    with clients.postgres() as db:
        db.execute(f"create table {table} (n int, who text)")
    process = task(LOADS, table)
    assert line(process, "first")
    vault.sys.seal()
    print("go", file=process.stdin, flush=True)
    refusals = [line(process, "refused"), line(process, "refused")]
    stack.up(["vault"])
    print("go", file=process.stdin, flush=True)
    assert line(process, "second") == "second shop"
    with clients.postgres() as db:
        rows = db.execute(f"select n, who from {table} order by n").fetchall()
        left = db.execute(
            "select count(*) from pg_roles where rolname = any(%s)", [[who for _, who in rows]]
        ).fetchone()
        db.execute(f"drop table {table}")
    report("33 pipeline and a sealed vault", refused=len(refusals), rows=len(rows), users_left=left[0])
    assert "AirflowSecretsBackendAccessDenied" in refusals[0]
    assert all("vault is sealed" in refusal for refusal in refusals), refusals
    assert [n for n, _ in rows] == [1, 2]
    assert all(who.startswith("v-approle-pipeline-") for _, who in rows)
    assert len({who for _, who in rows}) == 2
    assert left == (0,)


# --- another user of the machine --------------------------------------------------------------------------------------


def secrets() -> list[str]:
    s = settings()
    return [s.vault_notebook_secret, s.vault_airflow_secret, s.vault_db_password, s.postgres_dwh_password]


def test_another_user_reads_no_file_of_it_and_reaches_no_socket(as_another, data):
    files = list(data.rglob("*"))
    assert {"keys.json", "audit.log", "vault.sock", "vault.db"} <= {path.name for path in files}
    assert stat.S_IMODE((data / "store" / "keys.json").stat().st_mode) == 0o600
    for path in files:
        assert as_another("test", "-e", str(path)).returncode != 0, path


def test_another_user_without_a_token_can_do_nothing(vault):
    """What is asked here needs no user of its own: over the port, everybody is a stranger."""
    url, before = settings().vault_url, vault.secrets.kv.v2.read_secret(KV)["data"]
    for method, path, body in (
        ("GET", f"secret/data/{KV}", None),
        ("GET", "database/creds/pipeline", None),
        ("LIST", "auth/approle/role", None),
        ("GET", "sys/policies/acl/airflow", None),
        ("PUT", "sys/seal", {}),
        ("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}),
        ("PUT", "sys/rekey/init", {"secret_shares": 1, "secret_threshold": 1}),
        ("PUT", "sys/unseal", {"reset": True}),
        ("POST", "auth/approle/login", {"role_id": "notebook", "secret_id": ""}),
        ("POST", "auth/approle/login", {"role_id": "notebook", "secret_id": "notebook"}),
        ("PUT", "sys/generate-root/update", {"key": "AAAA", "nonce": "x"}),
    ):
        answer = requests.request(method, f"{url}/v1/{path}", json=body, timeout=10)
        told = json.dumps(answer.json() if answer.content else {})
        assert answer.status_code >= 400 or path == "sys/unseal", (path, answer.status_code)
        assert "root_token" not in told
        assert not [secret for secret in secrets() if secret in told]
    assert vault.secrets.kv.v2.read_secret(KV)["data"] == before


@pytest.mark.timeout(200)
def test_while_it_starts_for_the_first_time_nobody_else_can_have_it(stack, started):
    """No socket beyond this machine, no connection taken before it is ready, no secret in any command line."""
    started("vault")
    stack.reset(["vault"])
    mine, seen, looks = stack.host.supervisor.service_of, [], 0
    url = f"{settings().vault_url}/v1/sys/init"
    with watched(mine) as beyond, ThreadPoolExecutor(1) as pool:
        up = pool.submit(stack.up, ["vault"])
        ports: set[int] = set()
        while not up.done():
            looks += 1
            for process in psutil.process_iter():
                try:
                    if "vault" in " ".join(line := process.cmdline()):
                        seen += [secret for secret in secrets() if any(secret in word for word in line)]
                        if line[0].endswith("/bao"):
                            ports |= {c.laddr.port for c in process.net_connections("tcp") if c.status == "LISTEN"}
                except psutil.Error:
                    continue
            for port in ports | {settings().vault_port}:
                try:
                    answer = requests.get(f"http://127.0.0.1:{port}/v1/sys/init", timeout=1).json()
                except (requests.RequestException, ValueError):
                    continue  # nobody there, or nobody who speaks to us
                assert answer["initialized"], f"port {port} could have been initialised by anybody"
        up.result()
    report("33 vault's first start", looks=looks, ports=len(ports), beyond_loopback=len(beyond), secrets_seen=len(seen))
    assert looks > 3
    assert ports
    assert beyond == set()
    assert seen == []
    assert wait_for(lambda: requests.get(url, timeout=5).json()["initialized"], 20, "vault to be initialised")


def test_the_process_of_the_server_holds_no_password(stack, vault):
    environ = psutil.Process(stack.host.pids()["vault"]).environ()
    assert not [name for name, value in environ.items() if value and any(secret in value for secret in secrets())]


def test_no_secret_stands_in_its_logs(stack, vault, data):
    """The audit log names who asked for what, with the answers as keyed hashes."""
    vault.secrets.database.generate_credentials("pipeline")
    audit = (data / "store" / "audit.log").read_text("utf-8")
    log = stack.host.logs("vault", 10_000)
    keys = json.loads((data / "store" / "keys.json").read_text("utf-8"))
    planted = [*secrets(), *keys["unseal_keys_b64"], keys["root_token"], "crème"]
    assert '"path":"database/creds/pipeline"' in audit
    assert [secret for secret in planted if secret in audit or secret in log] == []
