"""Endpoints by HTTP: add, list, enable, disable, rotate the secret, remove."""

from aiohttp import web

from devtools.clerk_emulator.control.commands import answer, command, refuse
from devtools.clerk_emulator.control.parts import Parts
from devtools.clerk_emulator.delivery.endpoints import OLD_SECRET_SECONDS, Endpoint, checked_url
from devtools.clerk_emulator.delivery.messages import now_ms


def add_routes(app: web.Application, parts: Parts) -> None:
    """Add the routes."""
    dispatcher = parts.dispatcher

    def named(request: web.Request) -> Endpoint:
        endpoint = dispatcher.endpoint(request.match_info["endpoint_id"])
        if endpoint is None:
            raise refuse(404, "no such endpoint")
        return endpoint

    def shown(endpoint: Endpoint, *, status: int = 200) -> web.Response:
        return answer(endpoint.as_json(now_ms=now_ms()), status=status)

    async def index(_: web.Request) -> web.Response:
        return answer({"data": [endpoint.as_json(now_ms=now_ms()) for endpoint in dispatcher.endpoints]})

    async def create(request: web.Request) -> web.Response:
        wanted = await command(request, allowed={"url", "secret", "types", "enabled"})
        endpoint = dispatcher.add_endpoint(
            wanted.get("url", ""), secret=wanted.get("secret"), types=wanted.get("types", ())
        )
        endpoint.enabled = bool(wanted.get("enabled", True))
        return shown(endpoint, status=201)

    async def show(request: web.Request) -> web.Response:
        return shown(named(request))

    async def update(request: web.Request) -> web.Response:
        endpoint = named(request)
        wanted = await command(request, allowed={"url", "enabled", "types"})
        endpoint.url = checked_url(wanted.get("url", endpoint.url))
        endpoint.types = frozenset(wanted.get("types", endpoint.types))
        if "enabled" in wanted:
            dispatcher.enable(endpoint, enabled=bool(wanted["enabled"]))
        return shown(endpoint)

    async def rotate(request: web.Request) -> web.Response:
        endpoint = named(request)
        wanted = await command(request, allowed={"secret", "keep_old_seconds"})
        keep = float(wanted.get("keep_old_seconds", OLD_SECRET_SECONDS))
        endpoint.rotate(wanted.get("secret") or dispatcher.new_secret(), now_ms=now_ms(), keep_old_seconds=keep)
        return shown(endpoint)

    async def delete(request: web.Request) -> web.Response:
        await dispatcher.remove_endpoint(named(request))
        return answer({"deleted": True})

    app.router.add_get("/endpoints", index)
    app.router.add_post("/endpoints", create)
    app.router.add_get("/endpoints/{endpoint_id}", show)
    app.router.add_patch("/endpoints/{endpoint_id}", update)
    app.router.add_post("/endpoints/{endpoint_id}/rotate", rotate)
    app.router.add_delete("/endpoints/{endpoint_id}", delete)
