"""Who may command: programs and pages of this machine only.

The address must be loopback, the Host header must name it (a foreign name that resolves here is refused), and a
browser must not be sent here by another site.
"""

import ipaddress

from aiohttp import web
from aiohttp.typedefs import Handler
from yarl import URL

from devtools.clerk_emulator import jsontext

_NAMES = ("localhost", "127.0.0.1", "::1")


def refusal(status: int, reason: str) -> web.Response:
    """Return an answer of the control API that says what is wrong."""
    return web.Response(body=jsontext.encode({"error": reason}), status=status, content_type="application/json")


@web.middleware
async def loopback_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what does not come from this machine; say what is wrong with a command in one line of JSON."""
    if not _is_loopback(request.remote):
        return refusal(403, "the control API answers on loopback only")
    if URL(f"http://{request.host}").host not in _NAMES:
        return refusal(403, "the Host header does not name this machine")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return refusal(403, "another site may not command the emulator")
    return await handler(request)


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False
