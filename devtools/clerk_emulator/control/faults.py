"""Faults by HTTP: put one in force, list them, lift one or all."""

from dataclasses import fields

from aiohttp import web

from devtools.clerk_emulator.control.commands import answer, command, refuse
from devtools.clerk_emulator.control.parts import Parts
from devtools.clerk_emulator.delivery.faults import FAULT_KINDS, Fault

_MEMBERS = frozenset(one.name for one in fields(Fault)) - {"id"}


def add_routes(app: web.Application, parts: Parts) -> None:
    """Add the routes."""
    faults = parts.dispatcher.faults

    async def index(_: web.Request) -> web.Response:
        return answer({"data": [fault.as_json() for fault in faults], "kinds": list(FAULT_KINDS)})

    async def create(request: web.Request) -> web.Response:
        wanted = await command(request, allowed=_MEMBERS)
        return answer(faults.add(Fault(**wanted)).as_json(), status=201)

    async def clear(_: web.Request) -> web.Response:
        faults.clear()
        return answer({"deleted": True})

    async def delete(request: web.Request) -> web.Response:
        if not faults.remove(request.match_info["fault_id"]):
            raise refuse(404, "no such fault")
        return answer({"deleted": True})

    app.router.add_get("/faults", index)
    app.router.add_post("/faults", create)
    app.router.add_delete("/faults", clear)
    app.router.add_delete("/faults/{fault_id}", delete)
