"""Reading commands and answering them."""

from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from devtools.clerk_emulator import jsontext
from devtools.clerk_emulator.clerk_errors import ClerkError


def answer(value: object, *, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return web.Response(body=jsontext.encode(value), status=status, content_type="application/json")


def refuse(status: int, reason: str) -> web.HTTPException:
    """Return an exception whose answer says in JSON what is wrong."""
    kinds = {400: web.HTTPBadRequest, 404: web.HTTPNotFound}
    return kinds[status](text=jsontext.encode({"error": reason}).decode(), content_type="application/json")


@web.middleware
async def say_why(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a command's values cannot mean into an HTTP 400 with the reason."""
    try:
        return await handler(request)
    except ClerkError as error:
        raise refuse(400, error.long_message) from None
    except KeyError as error:
        raise refuse(400, f"unknown or missing: {error.args[0]}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise refuse(400, str(error)) from None


async def command(request: web.Request, *, allowed: frozenset[str] | set[str]) -> dict[str, Any]:
    """Return the members of a command; raise an HTTP 400 that names what is unknown or malformed."""
    value = await json_body(request)
    if not isinstance(value, dict):
        raise refuse(400, "a JSON object is expected")
    return known(value, allowed=allowed)


def known(value: dict[str, Any], *, allowed: frozenset[str] | set[str]) -> dict[str, Any]:
    """Return the command; raise an HTTP 400 that names a member that is not allowed."""
    unknown = sorted(set(value) - allowed)
    if unknown:
        raise refuse(400, f"unknown: {', '.join(unknown)}; allowed: {', '.join(sorted(allowed))}")
    return value


async def json_body(request: web.Request) -> Any:
    """Return the body as JSON; raise an HTTP 400."""
    try:
        return jsontext.decode(await request.read() or b"{}")
    except ValueError as error:
        raise refuse(400, f"not JSON: {error}") from None


def number(request: web.Request, name: str, default: float) -> float:
    """Return a number of the query; raise an HTTP 400."""
    try:
        return float(request.query.get(name, default))
    except ValueError:
        raise refuse(400, f"{name} is a number") from None
