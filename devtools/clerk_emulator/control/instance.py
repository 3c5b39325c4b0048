"""The emulator as a whole: what it is, its behaviour, its users, its request log, and waiting until it is idle."""

from dataclasses import fields, replace
from typing import Any

from aiohttp import web

from devtools.clerk_emulator import shapes
from devtools.clerk_emulator.behaviour import Behaviour
from devtools.clerk_emulator.control.commands import answer, command, number
from devtools.clerk_emulator.control.parts import Parts

_BEHAVIOUR = frozenset(one.name for one in fields(Behaviour))


def summary(parts: Parts) -> dict[str, Any]:
    """Return sizes, keys and state in one object."""
    settings = parts.settings
    return {
        "instance_id": settings.instance_id,
        "secret_key": settings.secret_key,
        "seed": settings.seed,
        "users": len(parts.state.users),
        "organizations": len(parts.state.organizations),
        "memberships": len(parts.state.memberships),
        "messages": parts.dispatcher.log.total,
        "outstanding": parts.dispatcher.outstanding.count,
        "paused": parts.dispatcher.paused,
        "requests": parts.requests.total,
    }


def changed_behaviour(behaviour: Behaviour, change: dict[str, Any]) -> Behaviour:
    """Return the behaviour with some members replaced; raise ValueError or TypeError."""
    lists = {name: tuple(value) for name, value in change.items() if isinstance(value, list)}
    return replace(behaviour, **change | lists)


def add_routes(app: web.Application, parts: Parts) -> None:
    """Add the routes."""

    async def show(_: web.Request) -> web.Response:
        return answer(summary(parts))

    async def show_behaviour(_: web.Request) -> web.Response:
        return answer(vars(parts.events.behaviour))

    async def change_behaviour(request: web.Request) -> web.Response:
        change = await command(request, allowed=_BEHAVIOUR)
        parts.events.behaviour = changed_behaviour(parts.events.behaviour, change)
        return await show_behaviour(request)

    async def idle(request: web.Request) -> web.Response:
        reached = await parts.dispatcher.outstanding.idle(timeout=number(request, "timeout", 10))
        left = parts.dispatcher.outstanding.count
        return answer({"idle": reached, "outstanding": left}, status=200 if reached else 504)

    async def pause(_: web.Request) -> web.Response:
        parts.dispatcher.pause()
        return answer({"paused": True})

    async def resume(_: web.Request) -> web.Response:
        parts.dispatcher.resume()
        return answer({"paused": False})

    async def users(request: web.Request) -> web.Response:
        limit, offset = int(number(request, "limit", 100)), int(number(request, "offset", 0))
        page = parts.state.users.page(offset=offset, limit=limit)
        return answer({"data": [shapes.user(user) for user in page], "total_count": len(parts.state.users)})

    async def replica(request: web.Request) -> web.Response:
        wanted = await command(request, allowed={"catch_up", "hide"})
        if wanted.get("catch_up"):
            parts.state.catch_up()
        for identifier in wanted.get("hide", ()):
            parts.state.hide(identifier)
        return answer(parts.state.replica())

    async def warm(_: web.Request) -> web.Response:
        return answer({"users": parts.rendered_users.warm(), "memberships": parts.rendered_memberships.warm()})

    async def requests(request: web.Request) -> web.Response:
        found = list(parts.requests.since(number(request, "since", 0)))
        limit = int(number(request, "limit", 1_000))
        data = [entry.as_json() for entry in found[-limit:]]
        return answer({"data": data, "total_count": len(found)})

    async def window(request: web.Request) -> web.Response:
        seconds = number(request, "seconds", 10)
        return answer({"seconds": seconds, "most": parts.requests.most_in_window(seconds=seconds)})

    async def forget_requests(_: web.Request) -> web.Response:
        parts.requests.clear()
        return answer({"cleared": True})

    async def sign_in(request: web.Request) -> web.Response:
        return answer(shapes.user(parts.changes.users.sign_in(request.match_info["user_id"])))

    app.router.add_get("", show)
    app.router.add_get("/", show)
    app.router.add_get("/behaviour", show_behaviour)
    app.router.add_patch("/behaviour", change_behaviour)
    app.router.add_get("/idle", idle)
    app.router.add_post("/pause", pause)
    app.router.add_post("/resume", resume)
    app.router.add_get("/users", users)
    app.router.add_post("/users/{user_id}/sign_in", sign_in)
    app.router.add_post("/warm", warm)
    app.router.add_post("/replica", replica)
    app.router.add_get("/requests", requests)
    app.router.add_get("/requests/window", window)
    app.router.add_delete("/requests", forget_requests)
