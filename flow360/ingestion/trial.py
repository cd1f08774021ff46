"""What is lost and what is doubled: a consumer killed between its work and its commit, an answer lost on the way.

`delivery_trial` kills a real process with SIGKILL; `losing_cable` cuts a real connection. The numbers that they lead to
are the broker's and the database's own. `python -m flow360.ingestion.trial …` is the process that gets killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from flow360 import clients
from flow360.clients.query import sql
from flow360.errors import Exit, FlowError
from flow360.ingestion import topics
from flow360.process import run
from flow360.settings import ROOT, settings

if TYPE_CHECKING:
    import pandas as pd

GAP = "in the gap"
READER_SECONDS = 60.0
"""How long a reader may take from its start to the gap, or to its end."""


# --- The reader that is killed ----------------------------------------------------------------------------------------


# [START read_orders]
def read_orders(topic: str, table: str, commit: str, on_conflict: str, at: int, in_the_gap: Callable[[], None]) -> int:
    """Write every order of a topic into a table; `in_the_gap` is called when `at` of them are written."""
    consumer = clients.consumer(
        topic, group_id=f"{topic}-readers", enable_auto_commit=False, max_poll_records=50, session_timeout_ms=6000
    )
    insert = f"insert into {table} (order_id, total_eur) values (%(order_id)s, %(total_eur)s) {on_conflict}"
    done, patience = 0, 15_000  # a group first waits until the session of a dead member has ended
    with clients.postgres(autocommit=True) as db:
        while batches := consumer.poll(timeout_ms=patience):
            patience = 3000
            if commit == "before":
                consumer.commit()
            for record in (record for batch in batches.values() for record in batch):
                db.execute(insert, json.loads(record.value))
                done += 1
                if done == at:
                    in_the_gap()
            if commit == "after":
                consumer.commit()
    consumer.close()
    return done


# [END read_orders]


# --- The experiment ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Delivery:
    """What a trial came to.

    Attributes:
        sent: records that the broker holds.
        written: inserts that the two readers made, refused ones included.
        rows: rows in the table. lost: orders without a row. doubled: rows beyond the first of their order.
    """

    sent: int
    written: int
    rows: int
    lost: int
    doubled: int

    def table(self) -> pd.DataFrame:
        """Make one row of it."""
        import pandas as pd

        return pd.DataFrame([vars(self)], index=[""])


# [START delivery_trial]
def delivery_trial(
    n: int = 1000,
    commit: Literal["before", "after"] = "after",
    kill_at: int = 520,
    on_conflict: str = "",
    table: str = "staging.delivery_trial",
) -> Delivery:
    """Send n orders, kill their reader in the gap, let a second one of the same group do the rest, and count.

    Args:
        n: orders to send, 2,000 at most: the first ones of the shop.
        commit: the offset is committed before a batch of 50 is written, or after it.
        kill_at: rows that the first reader has written when SIGKILL finds it.
        on_conflict: the end of the insert: "on conflict do nothing".
        table: with the columns order_id and total_eur; it is emptied first, its keys stay.

    Raises:
        FlowError: a reader failed, or did not come to its end in time.
    """
    orders = sql("select order_id, total_eur from orders order by order_id limit %s", [n], db="source")
    topic = topics.fresh_topic(f"delivery-trial-{uuid.uuid4().hex[:8]}")
    sql(f"truncate {table}")
    try:
        with clients.producer(acks="all") as producer:
            for order in orders.to_dict("records"):
                producer.send(topic, key=str(order["order_id"]).encode(), value=json.dumps(order).encode())
        job = ["python", "-u", "-m", "flow360.ingestion.trial", topic, table, commit, on_conflict]
        kill_in_the_gap([*job, str(kill_at)])
        rest = int(run([*job, "0"], seconds=READER_SECONDS))
        first, end = topics.ends(topic)[0]
    finally:
        topics.drop_topics(topic)
    rows, orders = sql(f"select count(*), count(distinct order_id) from {table}").iloc[0]
    return Delivery(end - first, kill_at + rest, int(rows), int(end - first - orders), int(rows - orders))


# [END delivery_trial]


def kill_in_the_gap(command: list[str]) -> None:
    """Start a reader, wait until it says that it stands in the gap, and end it with SIGKILL.

    Raises:
        FlowError: it ended by itself, or did not get there in time.
    """
    words = [sys.executable, *command[1:]]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        start_new_session=True,
    )  # fmt: skip
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            said = process.stdout.readline().strip() if selector.select(READER_SECONDS) else ""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _, trouble = process.communicate()
    if said != GAP:
        last = (trouble.strip().splitlines() or ["it ended before"])[-1]
        raise FlowError(f"the reader did not come to the gap within {READER_SECONDS:g} s: {last}")


def _stand_in_the_gap() -> None:
    print(GAP, flush=True)
    sys.stdin.read()  # here the SIGKILL finds us


# --- The cable that loses an answer -----------------------------------------------------------------------------------

_PRODUCE = 0  # the number of the produce request in Kafka's protocol


@contextmanager
def losing_cable(answers: int = 1) -> Iterator[str]:
    """Open a way to the broker on which the answers to the first produce requests get lost.

    It is an HTTP proxy (CONNECT) on 127.0.0.1. The broker gets the request and does what it says; when its answer
    comes, the line is cut. Every later connection works as it should.

    Args:
        answers: how many answers get lost.

    Yields:
        Its address: `producer(proxy_url=address)`.
    """
    cable = _Cable(answers)
    try:
        yield cable.address
    finally:
        cable.close()


class _Cable:
    def __init__(self, answers: int) -> None:
        self._left = answers
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        threading.Thread(target=self._accept, name="cable", daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for line in self._open:
            _cut(line)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._connect, args=(client,), name="cable", daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        broker = None
        try:
            asked = b""
            while not asked.endswith(b"\r\n\r\n"):
                if not (byte := client.recv(1)):
                    return
                asked += byte
            broker = socket.create_connection(("127.0.0.1", settings().kafka_port), timeout=5)
            broker.settimeout(None)
            self._open += [client, broker]
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            producing = threading.Event()
            threading.Thread(target=self._answers, args=(broker, client, producing), name="cable", daemon=True).start()
            while request := _frame(client):
                if struct.unpack_from(">h", request, 4)[0] == _PRODUCE:
                    producing.set()
                broker.sendall(request)
        except OSError:
            return  # one side went away: the line is gone, which is what cables do
        finally:
            for line in filter(None, (client, broker)):
                _cut(line)

    def _answers(self, broker: socket.socket, client: socket.socket, producing: threading.Event) -> None:
        try:
            while answer := _frame(broker):
                if producing.is_set() and self._loses():
                    return
                producing.clear()
                client.sendall(answer)
        except OSError:
            return
        finally:
            _cut(client)
            _cut(broker)

    def _loses(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0


def _frame(line: socket.socket) -> bytes:
    """Read one message of Kafka's protocol with its four bytes of length; b"" at the end."""
    head = _exactly(line, 4)
    return head + _exactly(line, struct.unpack(">i", head)[0]) if head else b""


def _exactly(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (part := line.recv(size - len(data))):
            return b""
        data += part
    return data


def _cut(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


if __name__ == "__main__":
    if len(sys.argv) != 6:
        print("usage: python -m flow360.ingestion.trial TOPIC TABLE before|after ON_CONFLICT KILL_AT", file=sys.stderr)
        raise SystemExit(Exit.USAGE)
    print(read_orders(*sys.argv[1:5], int(sys.argv[5]), _stand_in_the_gap))
