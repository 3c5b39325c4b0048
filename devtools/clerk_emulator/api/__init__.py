"""Clerk's Backend API under ``/v1``: one module per kind of object, the door in :mod:`.door`."""

from aiohttp import web

from devtools.clerk_emulator.api import instance, memberships, organizations, users
from devtools.clerk_emulator.api.door import Conditions, door
from devtools.clerk_emulator.api.instance import InstanceView
from devtools.clerk_emulator.changes import Changes
from devtools.clerk_emulator.rendering import RenderedMemberships, RenderedUsers
from devtools.clerk_emulator.state.instance import InstanceState


def api_app(
    *,
    state: InstanceState,
    changes: Changes,
    rendered_users: RenderedUsers,
    rendered_memberships: RenderedMemberships,
    view: InstanceView,
    conditions: Conditions,
) -> web.Application:
    """Return the application that answers under ``/v1``."""
    app = web.Application(middlewares=[door(conditions)], client_max_size=4 << 20)
    behaviour = conditions.behaviour
    users.add_routes(app, state=state, changes=changes, rendered=rendered_users, behaviour=behaviour)
    organizations.add_routes(app, state=state, changes=changes, behaviour=behaviour)
    memberships.add_routes(app, state=state, changes=changes, rendered=rendered_memberships, behaviour=behaviour)
    instance.add_routes(app, view=view, behaviour=behaviour)
    return app
