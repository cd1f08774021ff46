"""Tell the search engine what a line is and what may be done with it: `python -m flow360.monitoring.logs.setup`.

It can be run again at any time. Pipeline and templates are the same for both engines. Of Elasticsearch it makes the
users and the lifecycle, too; OpenSearch has its users from stack/elasticsearch/security, and no lifecycle without one
more plugin: there an index is rolled over by whoever asks for it (`POST /primeur-logs/_rollover`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flow360.clients.search import search
from flow360.errors import FlowError
from flow360.monitoring.logs import LOGS, REJECTED, SHIPPER
from flow360.monitoring.logs.grammar import pipeline, rejected
from flow360.settings import ROOT, settings

if TYPE_CHECKING:
    import requests

TEMPLATES = ROOT / "stack" / "logs" / "templates"
LIFECYCLE = {
    "policy": {
        "phases": {
            "hot": {"actions": {"rollover": {"max_age": "1d", "max_primary_shard_size": "200mb"}}},
            "delete": {"min_age": "7d", "actions": {"delete": {}}},
        }
    }
}
MAY = {
    "cluster": ["monitor"],
    "indices": [{"names": ["primeur-*"], "privileges": ["create", "index", "auto_configure"]}],
}
"""What `shipper` may do in Elasticsearch; for OpenSearch it stands in stack/elasticsearch/security/roles.yml."""


def put_all(engine: requests.Session) -> None:
    """Put pipeline, templates and the first index where they are not yet, as the files have them.

    Raises:
        FlowError: the engine is down, or refuses one of them.
    """
    elastic = engine.get("/").json()["version"].get("distribution") != "opensearch"
    engine.put(f"/_ingest/pipeline/{LOGS}", json=pipeline())
    engine.put(f"/_ingest/pipeline/{REJECTED}", json=rejected())
    if elastic:
        engine.put(f"/_ilm/policy/{LOGS}", json=LIFECYCLE)
    for file in sorted(TEMPLATES.glob("*.json")):
        engine.put(
            f"/_index_template/{file.stem}", json=_template(file.stem, json.loads(file.read_text("utf-8")), elastic)
        )
    if engine.head(f"/_alias/{LOGS}").status_code == 404:
        engine.put(f"/{LOGS}-000001", json={"aliases": {LOGS: {"is_write_index": True}}})
    for name in (REJECTED, SHIPPER):  # whoever may only write makes no index
        if engine.head(f"/{name}").status_code == 404:
            engine.put(f"/{name}")
    if elastic:
        s = settings()
        engine.put("/_security/role/shipper", json=MAY)
        engine.put("/_security/user/shipper", json={"password": s.shipper_password, "roles": ["shipper"]})
        engine.post("/_security/user/kibana_system/_password", json={"password": s.kibana_password})


def _template(name: str, template: dict[str, Any], elastic: bool) -> dict[str, Any]:
    if elastic and name == LOGS:
        template["template"]["settings"] |= {"index.lifecycle.name": LOGS, "index.lifecycle.rollover_alias": LOGS}
    return template


def main(
    url: Annotated[str, typer.Option(help="The search engine's address, if it is not the published one.")] = "",
) -> None:
    """Put pipeline, templates, users and the first index into the search engine."""
    try:
        put_all(search(url or None))
    except FlowError as error:
        typer.echo(error.message, err=True)
        raise typer.Exit(error.code) from None
    print("pipeline, templates and index are there")


if __name__ == "__main__":
    typer.run(main)
