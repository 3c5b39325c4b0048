"""Events by HTTP: emit any, see what became of them, send one again."""

import base64
from typing import Any

from aiohttp import web

from devtools.clerk_emulator import samples
from devtools.clerk_emulator.control.commands import answer, json_body, known, number, refuse
from devtools.clerk_emulator.control.parts import Parts
from devtools.clerk_emulator.delivery.messages import Message

_MEMBERS = frozenset({"type", "data", "sample", "envelope", "message_id", "raw", "raw_base64"})


def emit(parts: Parts, wanted: dict[str, Any]) -> Message:
    """Send one event as commanded; raise ValueError where the command cannot be understood."""
    event_type, message_id = str(wanted.get("type", "")), wanted.get("message_id")
    if "raw" in wanted or "raw_base64" in wanted:
        body = base64.b64decode(wanted["raw_base64"]) if "raw_base64" in wanted else str(wanted["raw"]).encode()
        return parts.events.emit_raw(body, event_type=event_type or "raw", message_id=message_id)
    if not event_type:
        raise ValueError("type is missing")
    data = wanted.get("data")
    if wanted.get("sample"):
        data = samples.sample(event_type, state=parts.state) | (data or {})
    return parts.events.emit(event_type, data, envelope=wanted.get("envelope"), message_id=message_id)


def add_routes(app: web.Application, parts: Parts) -> None:
    """Add the routes."""
    dispatcher = parts.dispatcher

    async def create(request: web.Request) -> web.Response:
        wanted = await json_body(request)
        commands = wanted if isinstance(wanted, list) else [wanted]
        sent = []
        for one in commands:
            if not isinstance(one, dict):
                raise refuse(400, "an event is a JSON object")
            sent.append(emit(parts, known(one, allowed=_MEMBERS)))
        return answer({"data": [{"id": message.id, "type": message.type} for message in sent]}, status=202)

    async def index(request: web.Request) -> web.Response:
        wanted_type, wanted_fate = request.query.get("type"), request.query.get("fate")
        limit = int(number(request, "limit", 100))
        with_body = request.query.get("body") == "1"
        found: list[Message] = []
        for message in dispatcher.log.newest_first():
            if len(found) >= limit:
                break
            if wanted_type in (None, message.type) and wanted_fate in (None, message.fate):
                found.append(message)
        return answer({"data": [one.as_json(with_body=with_body) for one in found], "total": dispatcher.log.total})

    def named(request: web.Request) -> Message:
        message = dispatcher.log.get(request.match_info["message_id"])
        if message is None:
            raise refuse(404, "no such message")
        return message

    async def show(request: web.Request) -> web.Response:
        return answer(named(request).as_json(with_body=True))

    async def resend(request: web.Request) -> web.Response:
        message = named(request)
        dispatcher.resend(message, endpoint_id=request.query.get("endpoint_id"))
        return answer({"id": message.id}, status=202)

    async def catalogue(_: web.Request) -> web.Response:
        return answer({"data": list(samples.SAMPLED)})

    app.router.add_post("/events", create)
    app.router.add_get("/events/samples", catalogue)
    app.router.add_get("/messages", index)
    app.router.add_get("/messages/{message_id}", show)
    app.router.add_post("/messages/{message_id}/resend", resend)
