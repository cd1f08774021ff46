"""The HTTP session for this machine's own services; everything that asks them over HTTP is made of it."""

from __future__ import annotations

import requests


class Session(requests.Session):
    """A requests session that goes straight to the service: a proxy in the environment must not be asked for 127.0.0.1.

    Nor does a `.netrc` of the user's add a password.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
