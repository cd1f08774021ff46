"""Who may ask our own HTTP services: this machine, and the other containers. No web page of somebody else."""

from __future__ import annotations

from urllib.parse import urlsplit

LOCAL = ("127.0.0.1", "localhost", "::1")


def is_foreign(host: str | None, origin: str | None, *names: str) -> bool:
    """Say whether a request was made by a page of another site.

    A page names its site as `Origin`; and a page whose name was made to point to this machine (DNS rebinding) asks for
    that name as `Host`.

    Args:
        host: the header `Host`.
        origin: the header `Origin`, None without one.
        names: the service's names in the containers' network.
    """
    asked = [f"//{host or ''}", *([] if origin is None else [origin])]
    try:
        return not all(urlsplit(one).hostname in (*LOCAL, *names) for one in asked)
    except ValueError:  # half an IPv6 address
        return True
