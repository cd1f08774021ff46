"""Exercise 5: a service beside the course's own."""

from __future__ import annotations

import re
from typing import Any

import yaml

from flow360.checks.c07_delivery.commands import always_content
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type
from flow360.delivery import linters
from flow360.stack.model import read_compose

IMAGE, PORT = "primeur/report:1.0", "127.0.0.1:18777:8000"
LEAST, MOST = 6 * 1024**2, 128 * 1024**2
"""Bytes that Docker wants at least for a container, and that this one may have."""
SECONDS = {"interval": 10, "timeout": 5}
"""At most, of its healthcheck; without a word Docker takes 30 for both."""
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}


@exercise
def compose_service(service: Any) -> None:
    """Check `report` beside the course's services: valid, patient, bounded, on this machine only."""
    expect_type("service", service, str)
    try:
        services = yaml.safe_load(service)["services"]
        mine = services["report"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())
        raise NotYet(
            f"service: expected a compose file with services: report: ({type(error).__name__}: {said})"
        ) from None
    expect_equal(
        "service", found=sorted(services), expected=["report"], why="one service, the others are there already"
    )
    whole = read_compose()
    whole["services"]["report"] = mine
    if found := linters.compose(yaml.safe_dump(whole)):
        raise NotYet(f"service: {found[0]}")
    expect_equal("service: image", found=mine.get("image"), expected=IMAGE)
    depends = mine.get("depends_on", {})
    rule = depends.get("postgres-dwh", {}).get("condition") if isinstance(depends, dict) else "service_started"
    expect_equal(
        "service: condition of postgres-dwh", found=rule, expected="service_healthy", why="started is not yet answering"
    )
    expect(
        depends["postgres-dwh"].get("required", True),
        "service: required: false: without postgres-dwh it would start all the same",
    )
    _healthy(mine.get("healthcheck") or {})
    limits = ((mine.get("deploy") or {}).get("resources") or {}).get("limits") or {}
    limit = mine.get("mem_limit") or limits.get("memory")
    expect(limit, "service: no memory limit: it may take the whole machine")
    expect(_bytes(limit) >= LEAST, f"service: a memory limit of {limit!r} is less than the 6 MB that Docker wants")
    expect(_bytes(limit) <= MOST, f"service: a memory limit of {limit!r} is more than the 128 MB that it may have")
    expect(
        mine.get("network_mode") != "host", "service: network_mode: host publishes each port of it on the whole network"
    )
    ports = [_port(entry) for entry in mine.get("ports", [])]
    expect(
        ports == [PORT],
        f"service: ports: found {ports}: one is wanted, and of this machine only: without an address it is the whole "
        "network's",
    )


def _healthy(check: dict[str, Any]) -> None:
    test = check.get("test")
    expect(test and not check.get("disable"), "service: no healthcheck with a test: nothing can wait for it")
    said = test if isinstance(test, str) else " ".join(map(str, test))
    expect(said.split()[0] != "NONE", "service: no healthcheck with a test: nothing can wait for it")
    command = re.sub(r"^(CMD-SHELL|CMD)\s", "", said)
    expect(not always_content(command), f"service: the healthcheck `{said}` is always content: what does it ask?")
    for name, most in SECONDS.items():
        given = check.get(name, "30s, Docker's own")
        expect(
            _seconds(given) <= most, f"service: the healthcheck's {name} is {given}, and it should be {most} s at most"
        )


def _seconds(duration: Any) -> float:
    """Count the seconds of a duration such as 1m30s."""
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)(us|ms|s|m|h)", str(duration)))


def _bytes(limit: Any) -> float:
    """Count the bytes of a limit such as 128m; 0 for one that cannot be read."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([bkmg]?)i?b?", str(limit).strip().lower())
    return float(found[1]) * 1024 ** "bkmg".index(found[2] or "b") if found else 0


def _port(entry: Any) -> str:
    """Write a published port in the short form, whichever form it was written in."""
    if isinstance(entry, dict):
        entry = ":".join(str(entry[key]) for key in ("host_ip", "published", "target") if key in entry)
    return str(entry).removesuffix("/tcp")
