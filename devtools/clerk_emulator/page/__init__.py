"""The page."""

from aiohttp import web

from devtools.clerk_emulator.control.parts import Parts


def page_app(_: Parts) -> web.Application:
    """Return the application of the page."""
    return web.Application()
