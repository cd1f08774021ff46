"""The catalogue's database: what it holds, what a kill costs, who may come in."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pymongo
import pytest
from pymongo import MongoClient, errors

from flow360 import clients
from flow360.errors import FlowError, ServiceError
from flow360.primeur import catalogue_load
from flow360.primeur.snapshot import seed_documents
from flow360.settings import settings
from tests.faults.support import kill, recovered, report, until
from tests.live.listeners import watched

SERVICES = ("catalogue-load",)
ROWS = 100
KILLS = 3
NAMES = catalogue_load.COLLECTIONS


@pytest.fixture(scope="module", autouse=True)
def beyond(stack) -> set[str]:
    """The catalogue, loaded; what could be reached from another machine meanwhile, its accounts' making included."""
    with watched(stack.host.supervisor.service_of) as found:
        stack.reset(["mongodb"])
        stack.up(["catalogue-load"])
    catalogue_load.load()
    return found


@pytest.fixture
def trial():
    """A collection of ours, gone afterwards."""
    with clients.mongodb() as client:
        client.workshop.trial.drop()
        yield client.workshop.trial
    with clients.mongodb() as client:
        client.workshop.trial.drop()


def held(name: str) -> dict:
    with clients.mongodb() as client:
        return {str(one["_id"]): one for one in client.catalogue[name].find()}


def truth(name: str) -> dict:
    return {str(one["_id"]): one for one in seed_documents(name)}


def test_the_seed_is_there_and_a_load_that_was_cut_off_leaves_what_was_there(monkeypatch):
    assert {name: held(name) for name in NAMES} == {name: truth(name) for name in NAMES}
    assert catalogue_load.load() == 0
    with clients.mongodb() as client:
        client.catalogue.sheets.update_one({"_id": 101}, {"$set": {"name": "Pommes"}})
    assert catalogue_load.load() == 0, "changes stay"
    before = held("sheets")
    put = catalogue_load._replace

    def cut(*args):
        put(*args)
        raise errors.AutoReconnect("connection closed")

    with monkeypatch.context() as broken:
        broken.setattr(catalogue_load, "_replace", cut)
        with pytest.raises(ServiceError, match="mongodb could not be loaded: connection closed"):
            catalogue_load.load(force=True)
    assert held("sheets") == before, "all of before"
    assert catalogue_load.load(force=True) == sum(len(truth(name)) for name in NAMES)
    assert {name: held(name) for name in NAMES} == {name: truth(name) for name in NAMES}


@pytest.mark.timeout(200)
def test_two_loads_at_a_time_leave_each_document_once():
    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(lambda _: catalogue_load.load(force=True), range(2)))) == 1
    assert {name: held(name) for name in NAMES} == {name: truth(name) for name in NAMES}


def _killed_among_writes(stack, **concern) -> tuple[list[int], list[int], str]:
    """Kill the server while one document after the other is written: numbers told, numbers found, the recovery."""
    told: list[int] = []
    over = threading.Event()

    def write() -> None:
        with contextlib.suppress(errors.PyMongoError), clients.mongodb(retryWrites=False, **concern) as client:
            while not over.is_set():
                client.workshop.trial.insert_one({"_id": len(told)})
                told.append(len(told))

    writer = threading.Thread(target=write)
    writer.start()
    until(lambda: len(told) >= ROWS, "some documents")
    began = kill(stack, "mongodb")
    over.set()  # between two writes the driver only waits for the server, and would go on
    back = recovered(stack, "mongodb", began)
    writer.join(60)
    assert not writer.is_alive()
    with clients.mongodb() as client:
        return told, sorted(one["_id"] for one in client.workshop.trial.find()), back


@pytest.mark.timeout(200)
def test_a_kill_loses_no_write_that_waited_for_the_disk(stack, trial, beyond):
    told, found, back = _killed_among_writes(stack)
    lost = len(set(told) - set(found))
    report("MongoDB killed among writes", told=len(told), held=len(found), lost=lost, beyond=len(beyond), recovery=back)
    # The last one may have been written without our hearing of it.
    assert found in (told, [*told, len(told)])
    with watched(stack.host.supervisor.service_of) as after_a_kill:
        psutil.Process(stack.host.pids()["mongodb"]).kill()
        stack.up(["mongodb"])
    assert not beyond | after_a_kill
    assert held("sheets") == truth("sheets")


@pytest.mark.timeout(200)
def test_natively_every_write_waits_for_the_disk(stack, trial):
    told, found, back = _killed_among_writes(stack, w=1, journal=False)
    lost = len(set(told) - set(found))
    report("MongoDB killed among writes of w=1", told=len(told), held=len(found), lost=lost, recovery=back)
    assert found in (told, [*told, len(told)])


@pytest.mark.timeout(200)
def test_a_stream_never_hears_of_what_a_crash_takes_back(stack, trial):
    """A place in the log that a reader has seen must not be given to another change after a crash."""
    heard: list[int] = []
    told: list[int] = []
    with clients.mongodb() as client:

        def listen() -> None:
            with client.workshop.trial.watch(max_await_time_ms=200) as stream:
                while -1 not in heard:
                    if (event := stream.try_next()) is not None:
                        heard.append(event["documentKey"]["_id"])

        reader = threading.Thread(target=listen, daemon=True)
        reader.start()
        until(lambda: _heard(trial, heard), "the stream to be open")
        careless = trial.with_options(write_concern=pymongo.WriteConcern(1, j=False))
        for number in range(0, KILLS * 10, 10):
            careless.insert_one({"_id": number})
            until(lambda number=number: number in heard, "the stream to hear of it")
            recovered(stack, "mongodb", kill(stack, "mongodb"))
            trial.insert_many([{"_id": one} for one in range(number + 1, number + 6)])
            told += range(number, number + 6)
        trial.insert_one({"_id": -1})
        reader.join(60)
    missed, there = sorted(set(told) - set(heard)), {one["_id"] for one in trial.find()}
    taken = sorted(set(told) - there)
    report(
        "MongoDB killed under an open stream", kills=KILLS, told=len(told), missed=len(missed), taken_back=len(taken)
    )
    assert not missed
    assert not taken


def _heard(trial, heard: list[int]) -> bool:
    trial.update_one({"_id": -2}, {"$inc": {"n": 1}}, upsert=True)
    return -2 in heard


@pytest.mark.timeout(200)
def test_a_stream_goes_on_behind_its_token_after_a_kill(stack, trial):
    with trial.watch() as stream:
        for number in range(50):
            trial.insert_one({"_id": number})
        heard = [stream.next()["documentKey"]["_id"] for _ in range(20)]
        token = stream.resume_token
    trial.update_one({"_id": 3}, {"$set": {"a": 1}})
    trial.delete_one({"_id": 4})
    recovered(stack, "mongodb", kill(stack, "mongodb"))
    with clients.mongodb() as client, client.workshop.trial.watch(resume_after=token) as stream:
        client.workshop.trial.insert_one({"_id": 50})
        events = [stream.next() for _ in range(33)]
    rest = [one["documentKey"]["_id"] for one in events if one["operationType"] == "insert"]
    report("MongoDB killed under a change stream", sent=51, heard=len(heard), resumed=len(rest))
    assert heard + rest == list(range(51))
    assert [(one["operationType"], one["documentKey"]["_id"]) for one in events[30:32]] == [
        ("update", 3),
        ("delete", 4),
    ]


# --- who may come in --------------------------------------------------------------------------------------------------

ASKED = (
    {"find": "sheets"},
    {"insert": "sheets", "documents": [{"_id": 1}]},
    {"aggregate": "sheets", "pipeline": [{"$changeStream": {}}], "cursor": {}},
    {"drop": "sheets"},
    {"dropDatabase": 1},
    {"listCollections": 1},
    {"createUser": "x", "pwd": "y", "roles": ["root"]},
    {"getMore": 1, "collection": "sheets"},
    {"serverStatus": 1},
    {"getLog": "global"},
    {"shutdown": 1},
    {"replSetStepDown": 1},
    {"configureFailPoint": "failCommand", "mode": "off"},
)


def test_without_a_login_nothing_is_read_written_or_stopped():
    with MongoClient("127.0.0.1", settings().catalogue_port, directConnection=True) as stranger:
        for command, where in itertools.product(ASKED, ("catalogue", "admin")):
            with pytest.raises(errors.OperationFailure, match="requires authentication|no such command"):
                stranger[where].command(command)
        assert stranger.admin.command("ping")["ok"], "it still runs"


def test_a_wrong_name_or_password_is_refused_and_there_are_no_other_accounts():
    s = settings()
    for user, password in (("root", "x"), ("root", s.catalogue_password), ("catalogue", "x"), ("admin", "admin")):
        with pytest.raises(FlowError, match="mongodb refused the password"):
            clients.mongodb(username=user, password=password)
    with clients.mongodb(username="root", password=s.catalogue_root_password) as client:
        found = {one["user"] for one in client.admin.command("usersInfo", 1)["users"]}
    assert found == {"root", "catalogue"}, "that of whoever captures is made with its connector"


def test_the_courses_own_user_has_its_databases_and_nothing_else():
    with clients.mongodb() as client:
        for call in (
            lambda: client.other.trial.insert_one({}),
            lambda: client.local["oplog.rs"].find_one(),
            lambda: client.admin["system.users"].find_one(),
            lambda: client.catalogue.command("createUser", "x", pwd="y", roles=[{"role": "root", "db": "admin"}]),
            lambda: client.admin.command("serverStatus"),
        ):
            with pytest.raises(errors.OperationFailure, match="not authorized") as said:
                call()
            assert said.value.code == 13


def test_another_user_of_this_machine_gets_neither_its_files_nor_its_documents(stack):
    service = stack.model["mongodb"]
    data = stack.host.programs.data(service)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    if os.geteuid() != 0:
        return
    other = {"user": 65533, "group": 65533, "extra_groups": []}
    file = next(path for path in data.iterdir() if path.suffix == ".wt")
    for path in (data, file):
        done = subprocess.run(["cat", path], capture_output=True, text=True, timeout=20, **other)
        assert "Permission denied" in done.stderr
    # Its own bytes on the wire, since it can read no library of ours: `find` on catalogue.sheets, without a login.
    body = b"\0\0\0\0\0" + _document((("find", "sheets"), ("$db", "catalogue")))
    message = (16 + len(body)).to_bytes(4, "little") + bytes(8) + (2013).to_bytes(4, "little") + body
    program = (
        "import socket, sys\n"
        f"s = socket.create_connection(('127.0.0.1', {settings().catalogue_port}), 10)\n"
        f"s.settimeout(10); s.sendall({message!r})\n"
        "sys.stdout.write(s.recv(65536).decode('latin-1'))"
    )
    done = subprocess.run(["/usr/bin/python3", "-c", program], capture_output=True, text=True, timeout=20, **other)
    if done.returncode and not os.access("/usr/bin/python3", os.X_OK):
        pytest.skip("the system has no Python that another user can run")
    assert "requires authentication" in done.stdout, done.stderr


def _document(pairs) -> bytes:
    from bson import SON, encode

    return encode(SON(pairs))


def test_no_password_stands_in_its_command_line_its_files_or_its_log(stack):
    service, s = stack.model["mongodb"], settings()
    process = psutil.Process(stack.host.pids()["mongodb"])
    told = [" ".join(process.cmdline()), *(f"{k}={v}" for k, v in process.environ().items())]
    texts = [*told, stack.host.programs.log(service).read_text("utf-8", "replace")]
    for secret in (s.catalogue_password, s.catalogue_root_password, s.catalogue_key):
        assert len(secret) > 20
        assert not [text for text in texts if secret in text]
        for path in stack.host.programs.data(service).iterdir():
            assert secret.encode() not in path.read_bytes(), "a password is kept as what it can be checked by"


def test_the_client_waits_for_the_disk_unless_it_is_told_not_to():
    with clients.mongodb() as client:
        assert client.write_concern == pymongo.WriteConcern("majority", j=True)
        assert client.options.codec_options.tz_aware
