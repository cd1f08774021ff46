"""The logs: from a line that any service writes to a document that can be found.

`stack/logs/` says what lines look like and what a document is; `grammar` makes of it what parses, `setup` tells the
search engine, `writing` is how our own programs log.
"""

LOGS = "primeur-logs"
"""The name under which all lines are written and found; behind it are indexes, `primeur-logs-000001` and on."""
REJECTED = "primeur-rejected"
"""Documents that the index refused, with the reason: kept, and counted."""
SHIPPER = "primeur-shipper"
"""What the shipper counts of itself; a document of the same id each time, so it does not grow."""
