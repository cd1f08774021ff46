"""Who carries what from where to where, as OpenLineage events: one JSON a line, in a file of this stack's own.

    with lineage.run("clean", lineage.raw("shop"), to=lineage.clean("orders")) as job:   # a program that ends
        job.wrote(lineage.clean("orders"), rows=412)

    carrier = lineage.Carrier("vans-bridge", lineage.VANS, to=lineage.topic("vans.readings"))   # one that stays
    carrier.wrote(lineage.topic("vans.readings"), rows=1)       # says so once in a while, not once a record

    graph.edges(journal.read().events)                          # the arrows, and when each last moved something

`names` is the one home of how a dataset is called, `journal` of the file, `graph` of the arrows and their picture.
"""

from flow360.monitoring.lineage.events import Carrier, Run, run
from flow360.monitoring.lineage.names import (
    DEPOT,
    MARKET,
    VANS,
    Dataset,
    clean,
    raw,
    shop,
    topic,
    warehouse,
)

__all__ = [
    "DEPOT",
    "MARKET",
    "VANS",
    "Carrier",
    "Dataset",
    "Run",
    "clean",
    "raw",
    "run",
    "shop",
    "topic",
    "warehouse",
]
