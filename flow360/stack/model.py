"""The stack as data: the files of `stack/layers`, read into dataclasses.

A layer's .yaml, which compose.yaml includes, is the home of names, dependencies, profiles, ports, heaps and images; its
.toml of what only plain processes need. Nothing here starts anything.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from flow360.errors import Exit, FlowError
from flow360.settings import ROOT, env_file, in_force, overlays, settings

STACK = ROOT / "stack"
LAYERS = STACK / "layers"
COMPOSE = ROOT / "compose.yaml"
RUNS = ("real", "stand-in", "compose only")
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?:(:?[-?])([^}]*))?\}|(\w+))")


@dataclass(frozen=True)
class Java:
    """How a JVM service starts: main class, heap (-Xmx, of the .yaml), options, what stands in front of its jars.

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
    container_environment: bool = False
    config: tuple[Config, ...] = ()
    prepare: str | None = None
    database: str | None = None
    ready: Mapping[str, Any] | None = None
    ordinary_user: bool = False
    machines: tuple[str, ...] = ()
    stop_seconds: int = 20
    stop_signal: str = "TERM"
    root_args: tuple[str, ...] = ()
    reset_with: tuple[str, ...] = ()
    tools: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def jar_groups(self) -> tuple[str, ...]:
        """The groups of jars.lock that it needs: for its class path, its agents, and to be unpacked."""
        return (*([self.jars] if self.jars else []), *(self.java.agents if self.java else []), *self.archives)


@dataclass(frozen=True)
class Login:
    """Who signs in to a page: a user ("" where it asks for a token alone), by the password in a variable of .env."""

    user: str
    variable: str


@dataclass(frozen=True)
class Service:
    """One service of the stack, or (with `job`) a program that runs once and ends."""

    name: str
    layer: int
    title: str
    native: Native
    image: str | None = None
    built: bool = False  # by this service, from our Dockerfile
    profiles: tuple[str, ...] = ()
    depends_on: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    published: Mapping[int, int] = field(default_factory=dict)  # the port inside the container -> ours
    environment: Mapping[str, str] = field(default_factory=dict)  # in a container, its variables not replaced
    link: str | None = None
    login: Login | None = None
    host: bool = False
    forget: str | None = None  # the module that removes what it keeps in other services (`--forget`)

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
        """List the services of a profile; none when there is no such profile."""
        return [s.name for s in self.services.values() if name in s.profiles]

    def closure(self, names: Iterable[str]) -> list[str]:
        """List the named services and all they depend on, dependencies first."""
        order: list[str] = []
        path: list[str] = []

        def visit(name: str) -> None:
            if name in path:
                raise FlowError(f"stack/layers: {' -> '.join([*path, name])} depends on itself")
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

    def memory_mb(self, names: Iterable[str]) -> int:
        """Add up what the services take together with what they need; a job's is given back."""
        return sum(s.native.memory_mb for name in self.closure(names) if not (s := self[name]).job)

    def dependants(self, names: Iterable[str]) -> list[str]:
        """List the named services and all that depend on them, dependants first."""
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
    """Read the published ports, in the order of the file: inside the container -> on 127.0.0.1."""
    ports = {}
    for spec in specs:
        # Anything else (another address, no address, the long form) could be reached from outside this machine.
        match = re.fullmatch(r"127\.0\.0\.1:([^:]*):(\d+)", str(spec))
        if not match:
            raise FlowError(f"stack/layers: {name}: port {spec!r} must start with 127.0.0.1:")
        published = match[1]
        if not published.isdigit() or not 0 < int(published) < 65536:
            raise FlowError(f"{env_file().name}: {name}: {published!r} is not a port number")
        ports[int(match[2])] = int(published)
    return ports


def _like(name: str, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a service's table; with `like`, on top of that of another service (their environments are merged)."""
    table = dict(tables[name])
    other = table.pop("like", None)
    if other is None:
        return table
    if other not in tables or "like" in tables[other]:
        raise FlowError(f"stack/layers: [{name}]: like = {other!r} must name a service that is like no other")
    environment = {**tables[other].get("environment", {}), **table.get("environment", {})}
    return {**tables[other], **table, "environment": environment}


def _heap(name: str, spec: Mapping[str, Any]) -> str:
    """Find the heap of a service's JVM (`384m`), written in the way that the image's start script wants to hear it."""
    environment = (f"{key}={value}" for key, value in spec.get("environment", {}).items())
    told = " ".join([*spec.get("command", ()), *environment])
    found = re.search(r"(?:-Xmx|--driver-memory |SPARK_DAEMON_MEMORY=)(\d+[kmg])\b", told)
    if not found:
        raise FlowError(f"stack/layers: {name}: its heap (-Xmx) must stand in its environment or command")
    return found[1]


def _native(name: str, table: Mapping[str, Any], spec: Mapping[str, Any], versions: Mapping[str, str]) -> Native:
    known = set(Native.__dataclass_fields__)
    extra = set(table) - known
    if extra:
        raise FlowError(f"stack/layers: [{name}]: unknown key {', '.join(sorted(extra))}")
    values = dict(table)
    if values.get("runs") not in RUNS:
        raise FlowError(f"stack/layers: [{name}]: runs must be one of {', '.join(RUNS)}")
    if "java" in values:
        java = dict(values["java"])
        if extra := set(java) - (set(Java.__dataclass_fields__) - {"heap"}):
            raise FlowError(f"stack/layers: [{name}.java]: unknown key {', '.join(sorted(extra))}")
        lists = {key: tuple(java.pop(key, ())) for key in ("options", "classpath")}
        values["java"] = Java(**java, **lists, heap=_heap(name, spec))
    if "config" in values:
        given = values["config"]
        values["config"] = tuple(Config(**one) for one in ([given] if isinstance(given, dict) else given))
    for key in ("command", "args", "debian", "archives", "reset_with", "root_args", "machines"):
        if key in values:
            values[key] = tuple(values[key])
    values["what"] = _at(values["what"], versions)
    return Native(**values)


def _at(text: str, versions: Mapping[str, str]) -> str:
    """Replace `{version[kafka]}` in a text, as the tables called `versions` have it."""
    return re.sub(r"\{version\[([\w-]+)\]\}", lambda match: versions[match[1]], text)


def _group(name: str, table: Mapping[str, Any], versions: Mapping[str, str]) -> JarGroup:
    extra = set(table) - set(JarGroup.__dataclass_fields__)
    if extra:
        raise FlowError(f"stack/layers: [jars.{name}]: unknown key {', '.join(sorted(extra))}")
    return JarGroup(**{key: tuple(_at(one, versions) for one in value) for key, value in table.items()})


class _Override(list):
    """A list that Compose's tag `!override` puts in the place of another one."""


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):
    """YAML with Compose's `!override`."""


_Loader.add_constructor("!override", lambda loader, node: _Override(loader.construct_sequence(node, deep=True)))
_REPLACED = {"command", "entrypoint", "test"}  # the lists that Compose does not join


def merged(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping on top of another, as Compose does it: mappings key by key, lists joined, the rest replaced."""

    def both(key: str) -> Any:
        below, above = base[key], top[key]
        if isinstance(below, dict) and isinstance(above, dict):
            return merged(below, above)
        if isinstance(below, list) and isinstance(above, list) and key not in _REPLACED:
            kept = [] if isinstance(above, _Override) else below
            return [*kept, *(one for one in above if one not in kept)]
        return above

    return {**base, **top, **{key: both(key) for key in top if key in base}}


_Load = Callable[[Path], dict[str, Any]]


def _load(file: Path) -> dict[str, Any]:
    return yaml.load(file.read_text("utf-8"), _Loader)


def _extended(spec: Mapping[str, Any], siblings: Mapping[str, Any], folder: Path, load: _Load) -> dict[str, Any]:
    """Return a service with what it `extends`: one of its own file, or of another one, seen from `folder`."""
    own = dict(spec)
    other = own.pop("extends", None)
    if other is None:
        return own
    if "file" in other:
        file = folder / other["file"]
        siblings, folder = load(file)["services"], file.parent
    return merged(_extended(siblings[other["service"]], siblings, folder, load), own)


def _description(file: Path, load: _Load) -> dict[str, Any]:
    """Read one Compose file with what it includes and what its services extend."""
    raw = load(file)
    whole: dict[str, Any] = {"name": raw.get("name"), "services": {}, "volumes": raw.get("volumes", {})}
    for other in raw.get("include", ()):
        part = _description(file.parent / other, load)
        whole["services"] |= part["services"]
        whole["volumes"] |= part["volumes"]
    own = raw.get("services", {})
    whole["services"] |= {name: _extended(spec, own, file.parent, load) for name, spec in own.items()}
    return whole


def read_compose(file: Path = COMPOSE, on_top: Iterable[str] = ()) -> dict[str, Any]:
    """Read compose.yaml and what it includes, variables not replaced, with other files on top (`overlays`).

    Returns:
        name, services and volumes. Paths stand as in the files: seen from the folder of the file.
    """
    load = cache(_load)  # most services extend templates of one file, and every command of ours waits for this
    whole = _description(file, load)
    for name in on_top:
        top = dict(load(file.parent / name))
        top["services"] = {name: _extended(spec, {}, file.parent, load) for name, spec in top["services"].items()}
        whole = merged(whole, {key: top[key] for key in ("services", "volumes") if key in top})
    return whole


def read_native(folder: Path = LAYERS, on_top: Iterable[str] = ()) -> dict[str, Any]:
    """Read the native halves of all layers as one table, with those of the files on top that have one."""
    halves = [folder / Path(name).with_suffix(".toml").name for name in on_top]
    tables: dict[str, Any] = {}
    for file in (*sorted(folder.glob("[0-9]*.toml")), *(half for half in halves if half.exists())):
        tables = merged(tables, tomllib.loads(file.read_text("utf-8")))
    return tables


def read_model(compose: Path = COMPOSE, native: Path = LAYERS, env: Mapping[str, str | None] | None = None) -> Model:
    """Read the layers' files, and those on top of them that the variable COMPOSE_FILE names.

    Args:
        compose: the file that includes the others.
        native: the folder of the native halves.
        env: the variables of `.env`; by default the file in force, with the process's environment on top.
    """
    if env is None:
        settings()  # a port that is none is reported there, with its variable
        env = in_force()
    on_top = overlays(env.get("COMPOSE_FILE"))
    raw = read_compose(compose, on_top)["services"]
    tables = read_native(native, on_top)
    versions = tables.pop("versions", {})
    groups = {name: _group(name, group, versions) for name, group in tables.pop("jars", {}).items()}
    hosts = tables.pop("host", {})
    tables = {name: _like(name, tables) for name in tables}
    missing, orphans = set(raw) - set(tables), set(tables) - set(raw)
    if missing or orphans:
        only = ", ".join(sorted(missing)) or "none"
        raise FlowError(f"stack/layers: only in .yaml: {only}; only in .toml: {', '.join(sorted(orphans)) or 'none'}")
    services: dict[str, Service] = {}
    aliases: dict[str, str] = {}
    for name, table in hosts.items():
        about = {key: table[key] for key in ("layer", "title", "link", "login") if key in table}
        published = _ports(name, [interpolate(table["port"], env)])
        native_half = _native(name, {key: table[key] for key in table if key not in (*about, "port")}, {}, versions)
        services[name] = _service(name, about, native_half, published, host=True)
    for name, spec in raw.items():
        spec = _deep(spec, env)
        aliases |= dict.fromkeys(spec.get("networks", {}).get("default", {}).get("aliases", ()), name)
        services[name] = _service(
            name,
            spec.get("x-flow360", {}),
            _native(name, tables[name], spec, versions),
            _ports(name, spec.get("ports", ())),
            image=spec.get("image"),
            built="build" in spec,
            profiles=tuple(spec.get("profiles", ())),
            depends_on={key: value["condition"] for key, value in spec.get("depends_on", {}).items()},
            environment=raw[name].get("environment", {}),
        )
    return Model(services, groups, aliases)


def _service(name: str, about: Mapping[str, Any], native: Native, published: dict[int, int], **more: Any) -> Service:
    ports = tuple(published.values())
    link = about.get("link")
    return Service(
        name=name,
        layer=about["layer"],
        title=about["title"],
        native=native,
        ports=ports,
        published=published,
        link=link and link.format(port=next(iter(ports), None), ports=ports),
        login=Login(**about["login"]) if "login" in about else None,
        forget=about.get("forget"),
        **more,
    )


@cache
def model() -> Model:
    """Return the model of this checkout, read once a process."""
    return read_model()
