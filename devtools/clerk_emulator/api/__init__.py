"""Clerk's Backend API under ``/v1``: one module per kind of object, the door in :mod:`.door`."""

from collections.abc import Callable

from aiohttp import web

from devtools.clerk_emulator.api import instance, memberships, organizations, users
from devtools.clerk_emulator.api.door import Observer, door
from devtools.clerk_emulator.api.instance import InstanceView
from devtools.clerk_emulator.api.requests import RequestLog
from devtools.clerk_emulator.behaviour import Behaviour
from devtools.clerk_emulator.changes import Changes
from devtools.clerk_emulator.state.instance import InstanceState


def api_app(
    *,
    state: InstanceState,
    changes: Changes,
    view: InstanceView,
    log: RequestLog,
    secret_key: str,
    behaviour: Callable[[], Behaviour],
    observe: Observer | None = None,
) -> web.Application:
    """Return the application that answers under ``/v1``."""
    app = web.Application(middlewares=[door(log=log, secret_key=secret_key, observe=observe)], client_max_size=4 << 20)
    users.add_routes(app, state=state, changes=changes, behaviour=behaviour)
    organizations.add_routes(app, state=state, changes=changes, behaviour=behaviour)
    memberships.add_routes(app, state=state, changes=changes, behaviour=behaviour)
    instance.add_routes(app, view=view, behaviour=behaviour)
    return app
