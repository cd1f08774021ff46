"""For the Python that the Connect server starts, which imports this module by its name before anything else.

A worker of foreachBatch prints the address that it calls, token and all, into the server's log.
"""

import os
import sys

_token, _write = os.environ.get("SPARK_CONNECT_AUTHENTICATE_TOKEN"), sys.stdout.write
if _token:
    sys.stdout.write = lambda text: _write(text.replace(_token, "…"))
