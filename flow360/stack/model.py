"""The stack as data: `stack/compose.yaml` and `stack/native.toml`, read into dataclasses.

compose.yaml is the home of names, layers, dependencies, profiles, ports, heaps and images; native.toml of what only
plain processes need. Nothing here starts anything.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

from flow360.errors import Exit, FlowError
from flow360.settings import PORTS, ROOT, SPLIT, env_file, is_split

STACK = ROOT / "stack"
COMPOSE = STACK / "compose.yaml"
NATIVE = STACK / "native.toml"
RUNS = ("real", "stand-in", "compose only")
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?:(:?[-?])([^}]*))?\}|(\w+))")


@dataclass(frozen=True)
class Java:
    """How a JVM service starts: main class, heap (-Xmx, from compose.yaml), options, what stands in front of its jars.

    That is folders, or `FOLDER/*` for the jars in one. `agents` are jars that the JVM loads beside the program: a group
    of jars.lock, and what the agent is told.
    """

    main: str
    heap: str
    options: tuple[str, ...] = ()
    agents: Mapping[str, str] = field(default_factory=dict)
    classpath: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """A config file below stack/ and the keys that the native engine sets in its copy.

    In a `.xml` file the keys are Hadoop's properties; elsewhere a key stands before the separator. With `addresses`,
    `kafka:9092` becomes 127.0.0.1 and the published port.
    """

    file: str
    set: Mapping[str, str] = field(default_factory=dict)
    separator: str = "="
    addresses: bool = False


@dataclass(frozen=True)
class JarGroup:
    """Jars that go together: Maven resolves the roots without the excluded (`group:artifact`, `*` for all), and what
    stands in `also` is added after them, one by one (`group:artifact:version[:classifier][@packaging]`)."""

    roots: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Native:
    """How a service runs without a container. Strings may hold `{port[NAME]}`, `{data}` and the like."""

    runs: str
    what: str
    memory_mb: int = 0
    why: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    java: Java | None = None
    jars: str | None = None
    archives: tuple[str, ...] = ()
    debian: tuple[str, ...] = ()
    relocate: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    config: tuple[Config, ...] = ()
    prepare: str | None = None
    database: str | None = None
    ready: Mapping[str, Any] | None = None
    ordinary_user: bool = False
    stop_seconds: int = 20
    tools: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def jar_groups(self) -> tuple[str, ...]:
        """The groups of jars.lock that it needs: for its class path, its agents, and to be unpacked."""
        return (*([self.jars] if self.jars else []), *(self.java.agents if self.java else []), *self.archives)


@dataclass(frozen=True)
class Service:
    """One service of the stack, or (with `job`) a program that runs once and ends."""

    name: str
    layer: int
    title: str
    native: Native
    image: str | None = None
    profiles: tuple[str, ...] = ()
    depends_on: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    published: Mapping[int, int] = field(default_factory=dict)  # the port inside the container -> ours
    link: str | None = None
    host: bool = False

    @property
    def job(self) -> bool:
        return self.native.ready is None

    @property
    def port(self) -> int | None:
        """Its first port; None when it has none."""
        return self.ports[0] if self.ports else None


@dataclass(frozen=True)
class Model:
    """All services by name, in the order of the file."""

    services: Mapping[str, Service]
    jar_groups: Mapping[str, JarGroup]
    aliases: Mapping[str, str] = field(default_factory=dict)  # another name in the network of containers -> service

    def __getitem__(self, name: str) -> Service:
        try:
            return self.services[self.aliases.get(name, name)]
        except KeyError:
            known = ", ".join(self.services)
            raise FlowError(f"there is no service {name!r}. There are: {known}", Exit.USAGE) from None

    def profile(self, name: str) -> list[str]:
        """The services of a profile; empty when there is no such profile."""
        return [s.name for s in self.services.values() if name in s.profiles]

    def closure(self, names: Iterable[str]) -> list[str]:
        """The named services and all they depend on, dependencies first."""
        order: list[str] = []
        path: list[str] = []

        def visit(name: str) -> None:
            if name in path:
                raise FlowError(f"stack/compose.yaml: {' -> '.join([*path, name])} depends on itself")
            if name in order:
                return
            path.append(name)
            for dependency in self[name].depends_on:
                visit(dependency)
            path.pop()
            order.append(name)

        for name in names:
            visit(name)
        return order

    def dependants(self, names: Iterable[str]) -> list[str]:
        """The named services and all that depend on them, dependants first."""
        wanted = set(names)
        order = self.closure(self.services)
        for name in order:
            if wanted & set(self[name].depends_on):
                wanted.add(name)
        return [name for name in reversed(order) if name in wanted]


def interpolate(text: str, values: Mapping[str, str | None]) -> str:
    """Replace `$VAR`, `${VAR}`, `${VAR:-default}` and `${VAR:?message}` as Compose does; `$$` is a dollar."""

    def one(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        name = match.group(1) or match.group(4)
        value = values.get(name)
        operator, word = match.group(2) or "", match.group(3) or ""
        if value is None or (value == "" and operator.startswith(":")):
            # What is required is compose's to demand; here a missing secret only means "not written yet".
            return word if operator.endswith("-") else ""
        return value

    return _VARIABLE.sub(one, text)


def _deep(value: Any, values: Mapping[str, str | None]) -> Any:
    if isinstance(value, str):
        return interpolate(value, values)
    if isinstance(value, list):
        return [_deep(item, values) for item in value]
    if isinstance(value, dict):
        return {key: _deep(item, values) for key, item in value.items()}
    return value


def _ports(name: str, specs: Iterable[str]) -> dict[int, int]:
    """The published ports, in the order of the file: inside the container -> on 127.0.0.1."""
    ports = {}
    for spec in specs:
        # Anything else (another address, no address, the long form) could be reached from outside this machine.
        match = re.fullmatch(r"127\.0\.0\.1:([^:]*):(\d+)", str(spec))
        if not match:
            raise FlowError(f"stack/compose.yaml: {name}: port {spec!r} must start with 127.0.0.1:")
        published = match[1]
        if not published.isdigit() or not 0 < int(published) < 65536:
            raise FlowError(f"{env_file().name}: {name}: {published!r} is not a port number")
        ports[int(match[2])] = int(published)
    return ports


def _like(name: str, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A service's table; with `like`, on top of that of another service (their environments are merged)."""
    table = dict(tables[name])
    other = table.pop("like", None)
    if other is None:
        return table
    if other not in tables or "like" in tables[other]:
        raise FlowError(f"stack/native.toml: [{name}]: like = {other!r} must name a service that is like no other")
    environment = {**tables[other].get("environment", {}), **table.get("environment", {})}
    return {**tables[other], **table, "environment": environment}


def _heap(name: str, spec: Mapping[str, Any]) -> str:
    """The heap of a service's JVM (`384m`), told in the way that the image's start script wants to hear it."""
    environment = (f"{key}={value}" for key, value in spec.get("environment", {}).items())
    told = " ".join([*spec.get("command", ()), *environment])
    found = re.search(r"(?:-Xmx|--driver-memory |SPARK_DAEMON_MEMORY=)(\d+[kmg])\b", told)
    if not found:
        raise FlowError(f"stack/compose.yaml: {name}: its heap (-Xmx) must stand in its environment or command")
    return found[1]


def _native(name: str, table: Mapping[str, Any], spec: Mapping[str, Any]) -> Native:
    known = set(Native.__dataclass_fields__)
    extra = set(table) - known
    if extra:
        raise FlowError(f"stack/native.toml: [{name}]: unknown key {', '.join(sorted(extra))}")
    values = dict(table)
    if values.get("runs") not in RUNS:
        raise FlowError(f"stack/native.toml: [{name}]: runs must be one of {', '.join(RUNS)}")
    if "java" in values:
        java = dict(values["java"])
        if extra := set(java) - (set(Java.__dataclass_fields__) - {"heap"}):
            raise FlowError(f"stack/native.toml: [{name}.java]: unknown key {', '.join(sorted(extra))}")
        lists = {key: tuple(java.pop(key, ())) for key in ("options", "classpath")}
        values["java"] = Java(**java, **lists, heap=_heap(name, spec))
    if "config" in values:
        given = values["config"]
        values["config"] = tuple(Config(**one) for one in ([given] if isinstance(given, dict) else given))
    for key in ("command", "args", "debian", "archives"):
        if key in values:
            values[key] = tuple(values[key])
    return Native(**values)


def _group(name: str, table: Mapping[str, Any]) -> JarGroup:
    extra = set(table) - set(JarGroup.__dataclass_fields__)
    if extra:
        raise FlowError(f"stack/native.toml: [jars.{name}]: unknown key {', '.join(sorted(extra))}")
    return JarGroup(**{key: tuple(value) for key, value in table.items()})


class _Loader(yaml.SafeLoader):
    """YAML with Compose's `!override`: this value, and not the two joined. `merged` joins only mappings anyway."""


_Loader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node, deep=True))


def merged(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with another one on top of it, key by key and all the way down; what is no mapping is replaced."""
    both = {key: merged(base[key], top[key]) for key in top if isinstance(base.get(key), dict)}
    return {**base, **top, **both}


def read_compose(file: Path = COMPOSE, split: bool = False) -> dict[str, Any]:
    """compose.yaml as it stands, its variables not replaced; with `split`, with its neighbour on top.

    Compose itself joins lists: what stands in compose.split.yaml and in compose.yaml must be a mapping or `!override`.
    """
    base = yaml.safe_load(file.read_text("utf-8"))
    return merged(base, yaml.load(file.with_name(SPLIT).read_text("utf-8"), _Loader)) if split else base


def read_model(compose: Path = COMPOSE, native: Path = NATIVE, env: Mapping[str, str | None] | None = None) -> Model:
    """Read both files, and those beside them where the variable COMPOSE_FILE names compose.split.yaml.

    Args:
        env: the variables of `.env`; by default the file in force, with the process's environment on top.
    """
    if env is None:
        env = {**dotenv_values(env_file()), **os.environ} if env_file().exists() else dict(os.environ)
    split = is_split(env.get("COMPOSE_FILE"))
    raw = read_compose(compose, split)["services"]
    tables = tomllib.loads(native.read_text("utf-8"))
    if split:
        tables = merged(tables, tomllib.loads(native.with_name("native.split.toml").read_text("utf-8")))
    groups = {name: _group(name, group) for name, group in tables.pop("jars", {}).items()}
    hosts = tables.pop("host", {})
    tables = {name: _like(name, tables) for name in tables}
    missing, orphans = set(raw) - set(tables), set(tables) - set(raw)
    if missing or orphans:
        only = ", ".join(sorted(missing)) or "none"
        raise FlowError(
            f"stack/: only in compose.yaml: {only}; only in native.toml: {', '.join(sorted(orphans)) or 'none'}"
        )
    services: dict[str, Service] = {}
    aliases: dict[str, str] = {}
    for name, table in hosts.items():
        about = {key: table[key] for key in ("layer", "title", "link") if key in table}
        variable = table["port"]
        (port,) = _ports(name, [f"127.0.0.1:{env.get(variable) or PORTS[variable]}:1"]).values()
        rest = {key: value for key, value in table.items() if key not in (*about, "port")}
        link = about.pop("link").replace("{port[" + name + "]}", str(port))
        alone = _native(name, rest, {})
        services[name] = Service(name=name, native=alone, ports=(port,), link=link, host=True, **about)
    for name, spec in raw.items():
        spec = _deep(spec, env)
        about = spec.get("x-flow360", {})
        depends = spec.get("depends_on", {})
        published = _ports(name, spec.get("ports", ()))
        aliases |= dict.fromkeys(spec.get("networks", {}).get("default", {}).get("aliases", ()), name)
        services[name] = Service(
            name=name,
            layer=about["layer"],
            title=about["title"],
            link=about.get("link"),
            native=_native(name, tables[name], spec),
            image=spec.get("image"),
            profiles=tuple(spec.get("profiles", ())),
            depends_on={key: value["condition"] for key, value in depends.items()},
            ports=tuple(published.values()),
            published=published,
        )
    return Model(services, groups, aliases)


@cache
def model() -> Model:
    """The model of this checkout, read once a process."""
    return read_model()
