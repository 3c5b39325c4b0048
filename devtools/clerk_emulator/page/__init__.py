"""The page at ``/``: users, organizations, events and their fate, a form for each change and each fault.

A small script keeps the lists up to date; without JavaScript the page works as well, and is refreshed by hand.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import jinja2
from aiohttp import web
from aiohttp.typedefs import Handler

from devtools.clerk_emulator.clerk_errors import ClerkError
from devtools.clerk_emulator.control.loopback import loopback_only
from devtools.clerk_emulator.control.parts import Parts
from devtools.clerk_emulator.delivery.messages import now_ms
from devtools.clerk_emulator.page.forms import BY_NAME, CHANGES, FAULTS, Form
from devtools.clerk_emulator.page.search import found_organizations, found_users
from devtools.clerk_emulator.state.instance import InstanceState

USERS_SHOWN = 15
ORGANIZATIONS_SHOWN = 10
EVENTS_SHOWN = 25
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Refused:
    """A form that could not be followed."""

    form: Form
    typed: Mapping[str, str]
    why: str


@dataclass(frozen=True)
class Part:
    """One page of a list."""

    name: str
    """Of the query's parameter that says where it begins."""
    rows: list[Any]
    """What is shown, and one more where there is a next page."""
    start: int
    size: int

    @property
    def shown(self) -> list[Any]:
        """The rows of this page."""
        return self.rows[: self.size]

    @property
    def next(self) -> int | None:
        """Where the next page begins, None where this is the last."""
        return self.start + self.size if len(self.rows) > self.size else None

    @property
    def previous(self) -> int | None:
        """Where the page before begins, None where this is the first."""
        return max(0, self.start - self.size) if self.start else None


def add_page(app: web.Application, parts: Parts) -> None:
    """Add the page and its forms."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("devtools.clerk_emulator.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["clock"] = _clock
    template = templates.get_template("page.html")

    def page(request: web.Request, *, refused: Refused | None = None) -> web.Response:
        query = request.query
        searched, wanted = query.get("q", "").strip(), query.get("qo", "").strip()
        users, organizations, events = (_start(request, name) for name in ("users", "organizations", "events"))

        def link(**changed: Any) -> str:
            kept = {name: value for name, value in query.items() if name not in ("note", "problem")}
            given = {name: value for name, value in {**kept, **changed}.items() if value not in (None, "", 0)}
            return "/?" + urlencode(given)

        log = parts.dispatcher.log
        newest = [message for _, message in zip(range(events + EVENTS_SHOWN + 1), log.newest_first(), strict=False)]
        nonce = secrets.token_urlsafe(16)
        text = template.render(
            parts=parts,
            nonce=nonce,
            link=link,
            query=searched,
            organization_query=wanted,
            users=Part(
                "users", found_users(parts.state, searched, start=users, limit=USERS_SHOWN + 1), users, USERS_SHOWN
            ),
            organizations=Part(
                "organizations",
                found_organizations(parts.state, wanted, start=organizations, limit=ORGANIZATIONS_SHOWN + 1),
                organizations,
                ORGANIZATIONS_SHOWN,
            ),
            messages=Part("events", newest[events:], events, EVENTS_SHOWN),
            endpoints=[endpoint.as_json(now_ms=now_ms()) for endpoint in parts.dispatcher.endpoints],
            faults=list(parts.dispatcher.faults),
            changes=CHANGES,
            fault_forms=FAULTS,
            chosen=_chosen(parts.state, user=query.get("user", ""), organization=query.get("organization", "")),
            refused=refused,
            note="" if refused else query.get("note", ""),
            problem=refused.why if refused and not refused.form.title else "",  # else the form itself says it
        )
        headers = {"Content-Security-Policy": _POLICY.format(nonce=nonce), "Cache-Control": "no-store"}
        status = 422 if refused else 200
        return web.Response(text=text, content_type="text/html", headers=headers, status=status)

    async def show(request: web.Request) -> web.StreamResponse:
        return page(request)

    async def submit(request: web.Request) -> web.StreamResponse:
        form = BY_NAME.get(request.match_info["form"])
        if form is None:
            raise web.HTTPNotFound
        posted = await request.post()
        values = {name: value.strip() for name, value in posted.items() if isinstance(value, str)}
        try:
            note = form.run(parts, values)
        except ClerkError as error:
            return page(request, refused=Refused(form, values, error.long_message))
        except (KeyError, TypeError, ValueError) as error:
            why = f"{form.title or form.button}: {_sentence(error)}"
            return page(request, refused=Refused(form, values, why))
        raise web.HTTPSeeOther("/?" + urlencode({"note": note}))

    app.router.add_get("/", _guarded(show))
    app.router.add_post("/forms/{form}", _guarded(submit))


def _start(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _chosen(state: InstanceState, *, user: str, organization: str) -> dict[str, str]:
    """Values that the forms begin with, after "edit" of a user or an organization."""
    chosen: dict[str, str] = {}
    if (found := state.users.get(user)) is not None:
        names = ("first_name", "last_name", "username", "external_id")
        chosen |= {"user_id": found.id, **{name: getattr(found, name) or "" for name in names}}
    if (of := state.organizations.get(organization)) is not None:
        chosen |= {"organization_id": of.id, "name": of.name, "slug": of.slug}
    return chosen


def _sentence(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) and error.args else str(error)


def _guarded(handler: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        return await loopback_only(request, handler)

    return guarded


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%H:%M:%S.%f")[:-3]
