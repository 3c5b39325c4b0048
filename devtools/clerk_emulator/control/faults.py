"""Faults of deliveries and of the API by HTTP: put one in force, list them, lift one or all."""

from dataclasses import fields

from aiohttp import web

from devtools.clerk_emulator.api.faults import API_FAULT_KINDS, ApiFault
from devtools.clerk_emulator.control.commands import answer, command, known, refuse
from devtools.clerk_emulator.control.parts import Parts
from devtools.clerk_emulator.delivery.faults import FAULT_KINDS, Fault
from devtools.clerk_emulator.events import check_types

_OF_DELIVERY = frozenset(one.name for one in fields(Fault)) - {"id"}
_OF_API = frozenset(one.name for one in fields(ApiFault)) - {"id"}


def add_routes(app: web.Application, parts: Parts) -> None:
    """Add the routes."""
    faults, api_faults = parts.dispatcher.faults, parts.api_faults

    async def index(_: web.Request) -> web.Response:
        shown = [fault.as_json() for fault in (*faults, *api_faults)]
        return answer({"data": shown, "kinds": [*FAULT_KINDS, *API_FAULT_KINDS]})

    async def create(request: web.Request) -> web.Response:
        wanted = await command(request, allowed=_OF_DELIVERY | _OF_API)
        if wanted.get("kind") in API_FAULT_KINDS:
            return answer(api_faults.add(ApiFault(**known(wanted, allowed=_OF_API))).as_json(), status=201)
        check_types(str(wanted.get("types", "*")))
        return answer(faults.add(Fault(**known(wanted, allowed=_OF_DELIVERY))).as_json(), status=201)

    async def clear(_: web.Request) -> web.Response:
        faults.clear()
        api_faults.clear()
        return answer({"deleted": True})

    async def delete(request: web.Request) -> web.Response:
        identifier = request.match_info["fault_id"]
        if not faults.remove(identifier) and not api_faults.remove(identifier):
            raise refuse(404, "no such fault")
        return answer({"deleted": True})

    app.router.add_get("/faults", index)
    app.router.add_post("/faults", create)
    app.router.add_delete("/faults", clear)
    app.router.add_delete("/faults/{fault_id}", delete)
