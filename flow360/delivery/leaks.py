"""A look for secrets before they are committed: what looks like one, and this checkout's own, wherever they stand.

`python -m flow360.delivery.leaks FILE…` is the hook of .pre-commit-config.yaml; tests/leaks asks the whole tree, the
executed notebooks and the logs. What neither finds: a secret that looks like a word, or that was cut into pieces.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from flow360.settings import SECRETS, env_values

INNOCENT = {
    ("Hex High Entropy String", r"[0-9a-f]{16}"): "half a SHA-256 of a generated file or a golden table",
    ("Hex High Entropy String", r"[0-9a-f]{20}"): "an ETag of market-api",
    ("Basic Auth Credentials", "PASSWORD_REMOVED"): "what postgres-exporter writes in a password's place",
    ("Secret Keyword", r"flow360\.orchestration\.secrets\.VaultConnections"): "a class of ours, in vaulted.yaml",
    ("Base64 High Entropy String", r"v-approle-[a-z-]+-\w{20}-\d{10}"): "a user that Vault made, without its password",
    ("Secret Keyword", "scram-sha-256"): "the name of a method in postgresql.conf",
}
"""What looks like a secret and is not one: (kind, value) with the reason."""
DIGESTS = (".lock", ".gz", ".parquet", ".png")
"""Pinned hashes, and what is not text."""


def scan(paths: Iterable[Path]) -> list[str]:
    """Find what looks like a secret, as `file:line: kind` and without its value; all cores look."""
    from detect_secrets import SecretsCollection
    from detect_secrets.settings import default_settings

    found = SecretsCollection(root="/")
    with default_settings():
        found.scan_files(*(str(path.absolute()) for path in paths))
    return [
        f"{Path('/', name)}:{secret.line_number}: {secret.type}"
        for name, secret in found
        if not any(secret.type == kind and re.fullmatch(value, secret.secret_value or "") for kind, value in INNOCENT)
    ]


def holding(paths: Iterable[Path], secrets: Mapping[str, str]) -> list[str]:
    """Find the files in which one of these stands, as `file: its name`."""
    values = {name: value.encode() for name, value in secrets.items() if value}
    found = []
    for path in paths:
        content = path.read_bytes()
        found += [f"{path}: {name}" for name, value in values.items() if value in content]
    return found


def main(names: Iterable[str]) -> int:
    """Look through the files that are to be committed; 1 when there is something in them."""
    paths = [path for path in map(Path, names) if path.is_file()]
    ours = {name: value for name, value in env_values().items() if name in SECRETS and value}
    found = [*scan(path for path in paths if path.suffix not in DIGESTS), *holding(paths, ours)]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
