"""How home answers a browser: to whoever has JupyterLab's token, to pages of its own alone, and never with a secret
that nobody has clicked for."""

from __future__ import annotations

from collections.abc import Mapping
from logging import Logger
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jupyter_server.base.handlers import AuthenticatedFileHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

from flow360.course.desk import own
from flow360.course.registry import course
from flow360.course.timetable import duration
from flow360.errors import FlowError
from flow360.home.facts import Facts, notebooks
from flow360.home.picture import HEIGHT, WIDTH, picture
from flow360.home.work import Work
from flow360.settings import settings
from flow360.stack.model import model

FOLDER = Path(__file__).parent
ADDRESS = "/flow360/home"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)


def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"duration": duration}
    found.globals |= {"notebooks": notebooks, "own": own, "picture": picture, "size": (WIDTH, HEIGHT)}
    return found


def drawn(template: str, shown: Mapping[str, Any], work: Work, base_url: str = "/") -> str:
    """Draw the HTML of `page.html`, or of `now.html`, its part that changes."""
    addresses = {"address": url_path_join(base_url, ADDRESS), "lab": url_path_join(base_url, "lab")}
    return TEMPLATES.get_template(template).render(shown, work=work, **addresses)


TEMPLATES = _templates()


def prepare() -> None:
    """Do once, beside the start of the server, what the first answer would wait for: it takes half a second."""
    model()
    for name in ("page.html", "now.html"):
        TEMPLATES.get_template(name)


class _Handler(JupyterHandler):
    """What all of home's answers have in common."""

    def initialize(self, facts: Facts, work: Work) -> None:
        self.facts, self.work = facts, work

    @property
    def content_security_policy(self) -> str:
        return POLICY

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("X-Content-Type-Options", "nosniff")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with one line."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        said = error.log_message % error.args if isinstance(error, web.HTTPError) and error.log_message else ""
        self.finish(said or self._reason)

    async def draw(self, template: str) -> None:
        await self.facts.settle()
        try:
            shown = self.facts.shown(self.get_query_argument("chapter", ""))
        except FlowError as error:
            raise web.HTTPError(404, error.message) from None
        self.finish(drawn(template, shown, self.work, self.base_url))


class _Answer(_Handler):
    """What a script asks for: to one without the token the answer is 403, and not a page to log in."""

    async def prepare(self) -> None:
        await super().prepare(_redirect_to_login=False)

    def asked(self, *names: str) -> list[str]:
        """Take the texts of these names that the browser sent.

        Raises:
            HTTPError: one is missing.
        """
        found = self.get_json_body()
        if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in names):
            raise web.HTTPError(400, f"send {' and '.join(names)} as JSON")
        return [found[name] for name in names]


class Home(_Handler):
    @web.authenticated
    async def get(self) -> None:
        """Answer with the whole page."""
        self.xsrf_token  # noqa: B018 - sets the cookie that the page's own script sends back
        await self.draw("page.html")


class Now(_Answer):
    _track_activity = False  # a page that asks by itself is not somebody at work

    @web.authenticated
    async def get(self) -> None:
        """Answer with what of the page may have changed."""
        await self.draw("now.html")


class Run(_Answer):
    @web.authenticated
    async def post(self) -> None:
        """Begin `flow360 up NAME` or `down NAME`."""
        verb, name = self.asked("verb", "name")
        try:
            self.work.begin(verb, name)
        except FlowError as error:
            raise web.HTTPError(409, error.message) from None
        self.set_status(204)


class Password(_Answer):
    @web.authenticated
    async def post(self) -> None:
        """Answer with the password of one service's page, for the clipboard."""
        (name,) = self.asked("name")
        service = model().services.get(name)
        if service is None or service.login is None:
            raise web.HTTPError(404, "that service has no page with a login")
        self.finish({"password": getattr(settings(), service.login.variable.lower())})


def handlers(base_url: str, log: Logger) -> list[tuple[Any, ...]]:
    """List home's addresses below JupyterLab's own."""
    facts = Facts(log, prepare)
    common = {"facts": facts, "work": Work(facts.running.forget)}
    course()  # a registry that cannot be read is said at the start
    parts = {"": Home, "/now": Now, "/run": Run, "/password": Password}
    static = (
        url_path_join(base_url, ADDRESS, "static/(.*)"),
        AuthenticatedFileHandler,
        {"path": str(FOLDER / "static")},
    )
    return [*((url_path_join(base_url, ADDRESS + end), one, common) for end, one in parts.items()), static]
