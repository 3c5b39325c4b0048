"""Control by HTTP under ``/_emulator/``: endpoints, faults, messages, waiting. Loopback only, no key."""

from aiohttp import web

from devtools.clerk_emulator.control import changes, endpoints, events, faults, instance
from devtools.clerk_emulator.control.commands import say_why
from devtools.clerk_emulator.control.loopback import loopback_only
from devtools.clerk_emulator.control.parts import Parts

__all__ = ["Parts", "control_app", "loopback_only"]


def control_app(parts: Parts) -> web.Application:
    """Return the application that answers under ``/_emulator``."""
    app = web.Application(middlewares=[loopback_only, say_why], client_max_size=32 << 20)
    instance.add_routes(app, parts)
    endpoints.add_routes(app, parts)
    events.add_routes(app, parts)
    faults.add_routes(app, parts)
    changes.add_routes(app, parts)
    return app
