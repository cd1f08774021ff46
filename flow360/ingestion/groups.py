"""Consumer groups: who reads what on paper (with the assignors' own code), who reads what alive, and how far behind."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import ipywidgets as widgets

from flow360 import clients
from flow360.clients import reach
from flow360.errors import FlowError
from flow360.process import run as run_program
from flow360.settings import settings
from flow360.waiting import patient, wait_for

if TYPE_CHECKING:
    import pandas as pd
    from kafka import KafkaAdminClient, TopicPartition
    from matplotlib.axes import Axes

T = TypeVar("T")

STRATEGIES = ("range", "roundrobin", "sticky")
VANS = tuple(f"VAN-{n:02d}" for n in range(1, 13))


# --- On paper ---------------------------------------------------------------------------------------------------------


def partition_of(key: bytes | str, partitions: int) -> int:
    """Compute the partition that kafka-python and the Java client give to a key."""
    from kafka.partitioner.default import murmur2

    return (murmur2(key.encode() if isinstance(key, str) else key) & 0x7FFFFFFF) % partitions


# [START assign]
def assign(partitions: int, consumers: int, strategy: str = "range", topics: int = 1) -> list[dict[str, int]]:
    """Assign partitions ("A-0") to consumers (from 0), before and after one more consumer joins the group.

    The answer comes from the code that a group's leader runs, not from a copy of its rules.

    Raises:
        FlowError: no such strategy, or a number below 1.
    """
    from kafka.coordinator.assignors.range import RangePartitionAssignor
    from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
    from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

    kinds = {a.name: a for a in (RangePartitionAssignor, RoundRobinPartitionAssignor, StickyPartitionAssignor)}
    if strategy not in kinds or min(partitions, consumers, topics) < 1:
        raise FlowError(f"strategy is one of {', '.join(STRATEGIES)}, and every number is 1 or more")
    names = [chr(ord("A") + n) for n in range(topics)]
    cluster = SimpleNamespace(topics=lambda: set(names), partitions_for_topic=lambda _: set(range(partitions)))
    minds = [kinds[strategy]() for _ in range(consumers + 1)]  # sticky remembers what it had; the other two do not
    found = []
    for count in (consumers, consumers + 1):
        members = [
            SimpleNamespace(member_id=f"{n:03d}", group_instance_id=None, metadata=mind.metadata(names))
            for n, mind in enumerate(minds[:count])
        ]
        plan = minds[0].assign(cluster, members)
        for member, mind in zip(members, minds[:count], strict=True):
            mind.on_assignment(plan[member.member_id], len(found) + 1)
        owner = {p: int(who) for who, part in plan.items() for p in part.partitions()}
        found.append({f"{p.topic}-{p.partition}": owner[p] for p in sorted(owner)})
    return found


# [END assign]


def who_reads_what(partitions: int, consumers: int, strategy: str = "range", topics: int = 1) -> pd.DataFrame:
    """List the consumers, one a row: its partitions, and the vans whose readings it gets from topic A (key = van)."""
    import pandas as pd

    now, _ = assign(partitions, consumers, strategy, topics)
    rows = []
    for consumer in range(consumers):
        mine = [name for name, owner in now.items() if owner == consumer]
        vans = [van for van in VANS if f"A-{partition_of(van, partitions)}" in mine]
        rows.append({"consumer": consumer, "partitions": " ".join(mine), "vans": " ".join(v[-2:] for v in vans)})
    return pd.DataFrame(rows)


def draw(partitions: int, consumers: int, strategy: str = "range", topics: int = 1) -> Axes:
    """Draw a grid: a row for each consumer, a column for each partition; a ring is where it goes when another joins."""
    import matplotlib.pyplot as plt

    now, then = assign(partitions, consumers, strategy, topics)
    names = list(now)
    vans = {name: sum(name == f"A-{partition_of(van, partitions)}" for van in VANS) for name in names}
    _, axes = plt.subplots(figsize=(min(12, 2 + 0.6 * len(names)), 1.2 + 0.4 * (consumers + 1)))
    for x, name in enumerate(names):
        axes.plot(x, now[name], "s", markersize=16, color=f"C{now[name] % 10}")
        if vans[name]:
            axes.text(x, now[name], vans[name], ha="center", va="center", color="white")
        if then[name] != now[name]:
            axes.plot(x, then[name], "o", markersize=14, markerfacecolor="none", color="0.3")
    moved = sum(then[name] != now[name] for name in names)
    axes.set(
        xticks=range(len(names)),
        xticklabels=names,
        yticks=range(consumers + 1),
        yticklabels=[*(f"consumer {n}" for n in range(consumers)), "one more"],
        xlim=(-0.6, len(names) - 0.4),
        ylim=(consumers + 0.6, -0.6),
        title=f"{strategy}: {consumers - len(set(now.values()))} idle; one more consumer moves {moved} of {len(names)}",
    )
    return axes


class Explorer(widgets.VBox):
    """`draw` with four knobs. A front end without widgets shows `who_reads_what` as text."""

    def __init__(self) -> None:
        whole = {"min": 1, "continuous_update": False}
        self.knobs = {
            "partitions": widgets.IntSlider(value=5, max=12, description="partitions", **whole),
            "consumers": widgets.IntSlider(value=2, max=8, description="consumers", **whole),
            "strategy": widgets.Dropdown(options=STRATEGIES, description="strategy"),
            "topics": widgets.IntSlider(value=1, max=3, description="topics", **whole),
        }
        self._picture = widgets.Image(format="png")
        super().__init__([*self.knobs.values(), self._picture])
        for knob in self.knobs.values():
            knob.observe(lambda _: self.redraw(), "value")
        self.redraw()

    def redraw(self) -> None:
        """Draw what the knobs say."""
        import matplotlib.pyplot as plt

        turned = {name: knob.value for name, knob in self.knobs.items()}
        figure, png = draw(**turned).figure, io.BytesIO()
        figure.savefig(png, format="png", bbox_inches="tight")
        plt.close(figure)
        self._picture.value = png.getvalue()
        self._text = who_reads_what(**turned).to_string(index=False)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {**(super()._repr_mimebundle_(**kwargs) or {}), "text/plain": self._text}


# --- Alive ------------------------------------------------------------------------------------------------------------


# [START member]
class Member(threading.Thread):
    """A consumer that joins a group and reads until `leave` is called; `seen` counts its records by partition."""

    def __init__(self, name: str, topic: str, group: str) -> None:
        super().__init__(name=name, daemon=True)
        self.seen: dict[int, int] = {}
        self._leaving = threading.Event()
        self._reader = clients.consumer(topic, group_id=group, client_id=name, heartbeat_interval_ms=1000)
        self.start()

    def run(self) -> None:
        while not self._leaving.is_set():
            for part, records in self._reader.poll(timeout_ms=200).items():
                self.seen[part.partition] = self.seen.get(part.partition, 0) + len(records)
        self._reader.close()  # says goodbye: the others need not wait until its session ends

    def leave(self) -> None:
        """Leave the group and wait until it is done."""
        self._leaving.set()
        self.join(20)


# [END member]


def ask_coordinator(question: Callable[[KafkaAdminClient], T], seconds: float = 30) -> T:
    """Ask about a group through an admin client; a broker that has just started has no coordinator for a moment.

    Args:
        question: `lambda admin: admin.describe_groups(["primeur"])`.
        seconds: how long to wait for a coordinator.

    Raises:
        FlowError: there was none in time, or the broker is down.
    """
    from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

    def answer() -> list[T]:
        try:
            return [question(admin)]
        except (CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError):
            return []

    with clients.kafka_admin() as admin:
        return wait_for(answer, seconds, "the group's coordinator")[0]


def commit(group: str, offsets: Mapping[TopicPartition, int]) -> None:
    """Set the offsets that a group without members has committed.

    Raises:
        kafka.errors.KafkaError: the coordinator refused one. (The admin client returns that and raises nothing.)
        FlowError: there was no coordinator in time, or the broker is down.
    """
    from kafka import OffsetAndMetadata

    def ask(admin: KafkaAdminClient) -> None:
        wanted = {part: OffsetAndMetadata(offset, "", -1) for part, offset in offsets.items()}
        for part, error in admin.alter_group_offsets(group, wanted).items():
            if error.errno:
                raise error(f"{group}: the offset of {part.topic} {part.partition}")

    ask_coordinator(ask)


def members_of(group: str) -> dict[str, list[int]]:
    """Ask who reads which partitions, as the broker's group coordinator reports it: member -> partitions.

    Empty while the group does not exist or is being balanced.
    """
    (described,) = ask_coordinator(lambda admin: admin.describe_groups([group])).values()
    if described["group_state"] != "Stable":
        return {}
    found = {}
    for member in described["members"]:
        assigned = member["member_assignment"]["assigned_partitions"]
        found[member["client_id"]] = sorted(p for topic in assigned for p in topic["partitions"])
    return dict(sorted(found.items()))


# --- Kafka's own tool -------------------------------------------------------------------------------------------------


def lag_tool(group: str) -> pd.DataFrame:
    """Ask `kafka-consumer-groups --describe`: one row for each partition that concerns the group.

    Columns: topic, partition, current_offset, log_end_offset, lag (the last three may be missing: the tool prints `-`).

    Raises:
        FlowError: the broker is down, or the tool failed.
    """
    import pandas as pd

    from flow360.stack import open_stack

    reach.require("kafka")
    stack = open_stack()
    wanted = ["--describe", "--group", group]
    if stack.engine is stack.host:
        from flow360.stack.native import jars, java

        classpath = ":".join(map(str, jars.paths("kafka")))
        tool = [java.jdk().java, "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", classpath]
        tool += ["org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"]
        text = run_program([*tool, "--bootstrap-server", settings().kafka_bootstrap, *wanted], seconds=patient(60))
    else:
        tool = ["exec", "-T", "kafka", "/opt/kafka/bin/kafka-consumer-groups.sh", "--bootstrap-server", "kafka:29092"]
        text = run_program(stack.engine.compose.command(*tool, *wanted), seconds=patient(60))
    rows = [line.split()[1:6] for line in text.splitlines() if line.startswith(f"{group} ")]
    table = pd.DataFrame(rows, columns=["topic", "partition", "current_offset", "log_end_offset", "lag"])
    numbers = table.columns[1:]
    table[numbers] = table[numbers].replace("-", None).astype("Int64")
    return table.sort_values(["topic", "partition"], ignore_index=True)
