"""Clerk's Backend API as far as organizations and the made-up badges need it: lists by offset, reads by name."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.events import INSTANCE, T0

Object = dict[str, Any]


class Clerk:
    """What Clerk has. A test changes the dictionaries, which have objects by id."""

    def __init__(self) -> None:
        self.organizations: dict[str, Object] = {}
        self.badges: dict[str, Object] = {}
        self.url = ""

    def badge(self, badge_id: str, *, organization_id: str, updated_at: int = T0, name: str = "Founder") -> Object:
        """Makes a badge, or changes it."""
        made = {
            **{"object": "badge", "id": badge_id, "organization_id": organization_id, "name": name},
            **{"created_at": T0 + int(badge_id.rpartition("_")[2]), "updated_at": updated_at},
        }
        self.badges[badge_id] = made
        return made

    async def organization_list(self, request: web.Request) -> web.Response:
        """`GET /organizations`."""
        return _page(request, list(self.organizations.values()), name="organization_id")

    async def badge_list(self, request: web.Request) -> web.Response:
        """`GET /badges`."""
        return _page(request, list(self.badges.values()), name="badge_id")

    async def badges_of(self, request: web.Request) -> web.Response:
        """`GET /organizations/{id}/badges`."""
        below = request.match_info["id"]
        return _page(request, [b for b in self.badges.values() if b["organization_id"] == below], name="badge_id")


@asynccontextmanager
async def serve(clerk: Clerk) -> AsyncIterator[None]:
    """Listens on a free port of this machine."""

    async def instance(_request: web.Request) -> web.Response:
        return web.json_response({"object": "instance", "id": INSTANCE})

    async def nothing(_request: web.Request) -> web.Response:
        return web.json_response({"data": [], "total_count": 0})

    app = web.Application()
    app.router.add_get("/v1/instance", instance)
    app.router.add_get("/v1/organizations", clerk.organization_list)
    app.router.add_get("/v1/organizations/{id}/badges", clerk.badges_of)
    app.router.add_get("/v1/organizations/{id}/memberships", nothing)
    app.router.add_get("/v1/badges", clerk.badge_list)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        clerk.url = f"http://{host}:{port}"
        yield
    finally:
        await runner.cleanup()


def _page(request: web.Request, objects: list[Object], *, name: str) -> web.Response:
    asked = request.query.getall(name, [])
    found = sorted((o for o in objects if not asked or o["id"] in asked), key=lambda o: (o["created_at"], o["id"]))
    offset, limit = int(request.query.get("offset", "0")), int(request.query.get("limit", "10"))
    answer = {"data": found[offset : offset + limit], "total_count": len(found)}
    return web.Response(body=json.dumps(answer).encode(), content_type="application/json")
