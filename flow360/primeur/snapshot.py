"""The committed week, read back: the clean tables of data/seed/ with their right types, with no network and no draw.

And the documents as they are in MongoDB, which nobody has cleaned.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from flow360.errors import FlowError
from flow360.primeur.schema import FLEET, TABLES
from flow360.settings import GENERATED, ROOT

SEED = ROOT / "data" / "seed"
FILES = SEED / "files"
"""The drop zone: the untidy files of the week."""
PLAYED = GENERATED / "files"
"""The drop zone's files of later days, which market-day leaves there."""
DROP_ZONE = (FILES, PLAYED)


def dropped(pattern: str, folders: Sequence[Path] = DROP_ZONE) -> list[Path]:
    """List the files of the drop zone whose names match, in order of their names; of two alike the first folder's."""
    found = {path.name: path for folder in reversed(folders) for path in folder.glob(pattern)}
    return [found[name] for name in sorted(found)]


def read_table(name: str, folder: Path = SEED) -> pa.Table:
    """Read a clean table of a seed folder.

    Raises:
        FlowError: the file is missing or is not what the schema says.
    """
    path, table = folder / "tables" / f"{name}.csv.gz", (TABLES | FLEET)[name]
    convert = pacsv.ConvertOptions(
        column_types={c.name: c.type for c in table.columns},
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    try:
        return pacsv.read_csv(path, convert_options=convert).cast(table.arrow)
    except FileNotFoundError:
        raise FlowError(f"{path} is missing: git checkout -- data/seed") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise FlowError(f"{path} cannot be read: git checkout -- data/seed ({error})") from None


@cache
def seed_table(name: str) -> pa.Table:
    """Read a clean table of the committed week, once a process."""
    return read_table(name)


def document_line(document: dict[str, Any]) -> str:
    """Write a document as a line of MongoDB's Extended JSON."""
    from bson import json_util

    return json_util.dumps(document, json_options=json_util.RELAXED_JSON_OPTIONS, ensure_ascii=False) + "\n"


def seed_documents(name: str, folder: Path = SEED) -> list[dict[str, Any]]:
    """Read a collection of the committed week, "sheets" or "reviews", with its planted defects; moments are in UTC.

    Raises:
        FlowError: the file is missing or is not what it was.
    """
    from bson import json_util

    path = folder / "documents" / f"{name}.jsonl.gz"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            options = json_util.JSONOptions(tz_aware=True)
            return [json_util.loads(line, json_options=options) for line in file]
    except FileNotFoundError:
        raise FlowError(f"{path} is missing: git checkout -- data/seed") from None
    except (ValueError, OSError, EOFError) as error:
        raise FlowError(f"{path} cannot be read: git checkout -- data/seed ({error})") from None
