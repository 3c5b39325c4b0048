"""Changes by HTTP, at once or in the middle of a walk, with events or silently, one or a thousand.

A change is an object with one member that says what happens: ``{"users.delete": {"id": "user_…"}}``.
"""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from devtools.clerk_emulator.api.scripts import Script
from devtools.clerk_emulator.control.commands import answer, command, json_body, refuse
from devtools.clerk_emulator.control.instance import changed_behaviour
from devtools.clerk_emulator.control.parts import Parts

Action = Callable[[dict[str, Any]], object]


def actions(parts: Parts) -> dict[str, Action]:
    """Return what can be commanded, by name."""
    users, organizations = parts.changes.users, parts.changes.organizations
    memberships = parts.changes.memberships

    def with_id(change: Callable[[str, dict[str, Any]], object]) -> Action:
        return lambda fields: change(fields["id"], {name: fields[name] for name in fields if name != "id"})

    def behave(fields: dict[str, Any]) -> None:
        parts.events.behaviour = changed_behaviour(parts.events.behaviour, fields)

    return {
        "users.create": users.create,
        "users.create_many": lambda fields: users.create_many(**fields),
        "users.update": with_id(users.update),
        "users.delete": lambda fields: users.delete(fields["id"]),
        "users.sign_in": lambda fields: users.sign_in(fields["id"]),
        "organizations.create": organizations.create,
        "organizations.update": with_id(organizations.update),
        "organizations.delete": lambda fields: organizations.delete(fields["id"]),
        "memberships.create": lambda fields: memberships.create(**fields),
        "memberships.update": lambda fields: memberships.update(**fields),
        "memberships.delete": lambda fields: memberships.delete(**fields),
        "replica.hide": lambda fields: parts.state.hide(fields["id"]),
        "replica.catch_up": lambda _: parts.state.catch_up(),
        "behaviour": behave,
    }


def add_routes(app: web.Application, parts: Parts) -> None:
    """Add the routes."""
    known = actions(parts)

    def understood(wanted: Any) -> list[tuple[Action, dict[str, Any]]]:
        steps = []
        for change in wanted if isinstance(wanted, list) else [wanted]:
            if not isinstance(change, dict) or len(change) != 1:
                raise refuse(400, "a change is an object with one member")
            ((name, fields),) = change.items()
            if name not in known:
                raise refuse(400, f"unknown: {name}; known: {', '.join(known)}")
            if not isinstance(fields, dict):
                raise refuse(400, f"{name} takes an object")
            steps.append((known[name], fields))
        return steps

    def perform(steps: list[tuple[Action, dict[str, Any]]], *, silently: bool) -> list[Any]:
        def done() -> list[Any]:
            return [_identifiers(action(fields)) for action, fields in steps]

        if not silently:
            return done()
        with parts.events.silence():
            return done()

    async def change(request: web.Request) -> web.Response:
        steps = understood(await json_body(request))
        return answer({"data": perform(steps, silently=request.query.get("silently") == "1")})

    async def script(request: web.Request) -> web.Response:
        wanted = await command(request, allowed={"page", "method", "route", "query", "silently", "do"})
        steps, silently = understood(wanted.pop("do", [])), bool(wanted.pop("silently", False))
        added = parts.scripts.add(Script(lambda: perform(steps, silently=silently), **wanted))
        return answer(_shown(added), status=201)

    async def scripts(_: web.Request) -> web.Response:
        return answer({"data": [_shown(one) for one in parts.scripts]})

    async def clear(_: web.Request) -> web.Response:
        parts.scripts.clear()
        return answer({"deleted": True})

    app.router.add_post("/changes", change)
    app.router.add_get("/scripts", scripts)
    app.router.add_post("/scripts", script)
    app.router.add_delete("/scripts", clear)


def _shown(script: Script) -> dict[str, Any]:
    return {name: value for name, value in vars(script).items() if name != "do"}


def _identifiers(result: object) -> Any:
    """Return the id of what was changed, a list of them where it was many, or None."""
    if isinstance(result, list):
        return [_identifiers(one) for one in result]
    return result.get("id") if isinstance(result, dict) else getattr(result, "id", None)
