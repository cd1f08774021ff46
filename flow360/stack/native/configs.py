"""The native copies of config files: the text that containers get, with the keys that differ on this machine."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

from flow360 import files
from flow360.stack.model import STACK, Model, Service


def write(service: Service, folder: Path, values: Mapping[str, object], services: Model) -> None:
    """Write a service's config files to `folder`; `values` are what `{port[kafka]}` and the like stand for."""
    for config in service.native.config:
        changes = {key: value.format(**values) for key, value in config.set.items()}
        text = (STACK / config.file).read_text("utf-8")
        text = overlay_xml(text, changes) if config.file.endswith(".xml") else overlay(text, changes, config.separator)
        if config.addresses:
            text = local_addresses(text, services)
        target = folder / Path(config.file).name
        target.parent.mkdir(parents=True, exist_ok=True)
        # A killed service reads its files again while we may be writing them: with cut ones it would take defaults.
        files.write(target, text)


def overlay(text: str, changes: Mapping[str, str], separator: str) -> str:
    """Set keys in a line-oriented config file: a line that sets the key is replaced, a new key is appended."""
    lines, found = [], set()
    for line in text.splitlines():
        key = line.split(separator, 1)[0].strip()
        if key in changes and not line.startswith("#"):
            found.add(key)
            line = f"{key}{separator}{changes[key]}"
        lines.append(line)
    lines += [f"{key}{separator}{value}" for key, value in changes.items() if key not in found]
    return "\n".join(lines) + "\n"


def local_addresses(text: str, services: Model) -> str:
    """Replace `kafka:9092`, as containers say, by 127.0.0.1 and the port that the service publishes."""

    def one(match: re.Match[str]) -> str:
        service = services.services.get(services.aliases.get(match[1], match[1]))
        port = service.published.get(int(match[2])) if service else None
        return f"127.0.0.1:{port}" if port else match[0]

    return re.sub(r"(?<![\w.-])([a-z][a-z0-9-]*):(\d+)\b", one, text)


def overlay_xml(text: str, changes: Mapping[str, str]) -> str:
    """Set properties in a Hadoop configuration: `<property><name>KEY</name><value>VALUE</value></property>`."""
    root = ElementTree.fromstring(text)
    found = {prop.findtext("name", "").strip(): prop for prop in root.iter("property")}
    for key, value in changes.items():
        prop = found.get(key)
        if prop is None:
            prop = ElementTree.SubElement(root, "property")
            ElementTree.SubElement(prop, "name").text = key
        place = prop.find("value")
        if place is None:
            place = ElementTree.SubElement(prop, "value")
        place.text = value
    return ElementTree.tostring(root, encoding="unicode") + "\n"
