"""The learner's home, a page that JupyterLab's own server delivers: where one stands, what runs, what is next.

It computes nothing of its own: what it shows is what `flow360 next`, `labs`, `status`, `lineage` and `doctor` say.
`facts` asks, `work` starts and stops, `handlers` answer the browser. `labextensions/` puts the page into a tab of
JupyterLab; without it the page is still at /flow360/home.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "flow360.home"}]


def _load_jupyter_server_extension(server: Any) -> None:
    from flow360.home.handlers import handlers

    server.web_app.add_handlers(".*$", handlers(server.web_app.settings["base_url"], server.log))
