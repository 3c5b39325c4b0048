"""The page at ``/``: users, events and their fate, a form for each change and each fault. No JavaScript."""

from datetime import UTC, datetime
from urllib.parse import urlencode

import jinja2
from aiohttp import web
from aiohttp.typedefs import Handler

from devtools.clerk_emulator.clerk_errors import ClerkError
from devtools.clerk_emulator.control.loopback import loopback_only
from devtools.clerk_emulator.control.parts import Parts
from devtools.clerk_emulator.delivery.messages import now_ms
from devtools.clerk_emulator.page.forms import BY_NAME, CHANGES, FAULTS
from devtools.clerk_emulator.page.search import found_users

USERS_SHOWN = 15
EVENTS_SHOWN = 25
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


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

    async def show(request: web.Request) -> web.StreamResponse:
        query = request.query.get("q", "").strip()
        chosen = parts.state.users.get(request.query.get("user", ""))
        log = parts.dispatcher.log
        text = template.render(
            parts=parts,
            query=query,
            users=found_users(parts.state, query, limit=USERS_SHOWN),
            messages=[message for _, message in zip(range(EVENTS_SHOWN), log.newest_first(), strict=False)],
            endpoints=[endpoint.as_json(now_ms=now_ms()) for endpoint in parts.dispatcher.endpoints],
            faults=list(parts.dispatcher.faults),
            changes=CHANGES,
            fault_forms=FAULTS,
            chosen={
                "user_id": chosen.id,
                "first_name": chosen.first_name or "",
                "last_name": chosen.last_name or "",
                "username": chosen.username or "",
                "external_id": chosen.external_id or "",
            }
            if chosen
            else {},
            note=request.query.get("note", ""),
            problem=request.query.get("problem", ""),
        )
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def submit(request: web.Request) -> web.StreamResponse:
        form = BY_NAME.get(request.match_info["form"])
        if form is None:
            raise web.HTTPNotFound
        posted = await request.post()
        values = {name: value.strip() for name, value in posted.items() if isinstance(value, str)}
        try:
            outcome = {"note": form.run(parts, values)}
        except ClerkError as error:
            outcome = {"problem": error.long_message}
        except (KeyError, TypeError, ValueError) as error:
            outcome = {"problem": f"{form.title or form.button}: {error}"}
        raise web.HTTPSeeOther("/?" + urlencode(outcome))

    app.router.add_get("/", _guarded(show))
    app.router.add_post("/forms/{form}", _guarded(submit))


def _guarded(handler: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        return await loopback_only(request, handler)

    return guarded


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%H:%M:%S.%f")[:-3]
