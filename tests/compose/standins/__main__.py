"""`python -m tests.compose.standins`: build the stand-in images on the daemon that DOCKER_HOST names."""

import sys

from tests.compose.standins import build

try:
    build()
except RuntimeError as error:
    sys.exit(f"no stand-ins: {error}")
