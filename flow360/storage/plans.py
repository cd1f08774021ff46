"""PostgreSQL's plans: `plan.explain(query)` as a small object, `plan.tree(query)` as a Mermaid drawing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flow360 import clients
from flow360.errors import FlowError

Node = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A plan that was carried out.

    Attributes:
        root: PostgreSQL's own JSON; each node has "Node Type", "Plan Rows" (estimated), "Actual Rows", "Plans" …
        ms: milliseconds of the execution.
    """

    root: Node
    ms: float

    def nodes(self) -> Iterator[Node]:
        """Yield all nodes, the root first."""
        left = [self.root]
        while left:
            node = left.pop(0)
            yield node
            left += node.get("Plans", [])

    @property
    def kinds(self) -> list[str]:
        """The nodes' types, the root first: ["Limit", "Index Scan"]."""
        return [node["Node Type"] for node in self.nodes()]

    @property
    def pages(self) -> int:
        """Pages of 8 kB that were looked at, in memory or on disk."""
        return self.root["Shared Hit Blocks"] + self.root["Shared Read Blocks"]

    @property
    def tables(self) -> list[str]:
        """The tables (or partitions) that were read, each once."""
        return list(dict.fromkeys(n["Relation Name"] for n in self.nodes() if "Relation Name" in n))

    @property
    def cost(self) -> float:
        """What the planner expected it to cost; 1 is about one page read in order."""
        return self.root["Total Cost"]


def explain(
    query: str, params: Sequence[Any] | Mapping[str, Any] | None = None, *settings: str, db: Any = None
) -> Plan:
    """Run EXPLAIN (ANALYZE, BUFFERS) of a query, which is carried out and rolled back.

    Args:
        query: the SQL. params: its values.
        settings: for this query only, such as "enable_seqscan = off".
        db: a connection to use; by default a new one to the warehouse.

    Raises:
        FlowError: PostgreSQL refused the query.
    """
    import psycopg

    connection = db or clients.postgres()
    try:
        with connection.transaction(force_rollback=True):
            for setting in ("max_parallel_workers_per_gather = 0", *settings):
                connection.execute(f"set local {setting}")
            row = connection.execute(f"explain (analyze, buffers, format json) {query}", params).fetchone()
    except psycopg.Error as error:
        raise FlowError(f"warehouse: {error.diag.message_primary or error}") from None
    finally:
        if db is None:
            connection.close()
    document = row[0][0]
    return Plan(document["Plan"], document["Execution Time"])


def tree(plan: Plan) -> str:
    """Draw the plan as a Mermaid flowchart: rows flow upwards, each node says what was expected and what came."""
    lines = ["flowchart BT"]
    left = [(plan.root, "n")]
    while left:
        node, name = left.pop(0)
        rows = node["Actual Rows"] * node["Actual Loops"]
        where = node.get("Relation Name") or node.get("Index Name") or ""
        by = f" by {node['Index Name']}" if "Relation Name" in node and "Index Name" in node else ""
        pages = node["Shared Hit Blocks"] + node["Shared Read Blocks"]
        expected = node["Plan Rows"] * node["Actual Loops"]
        title = f"{node['Node Type']} {where}{by}".strip()
        text = f"{title}<br/>rows: {expected:,.0f} expected, {rows:,.0f} came<br/>pages: {pages:,}"
        lines.append(f'    {name}["{text}"]')
        for number, child in enumerate(node.get("Plans", [])):
            lines.append(f"    {name}{number} --> {name}")
            left.append((child, f"{name}{number}"))
    return "\n".join(lines)
