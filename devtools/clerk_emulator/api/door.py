"""What every API request passes: key, version, Clerk's form for errors, the request log."""

import hmac
import secrets
import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from devtools.clerk_emulator import jsontext
from devtools.clerk_emulator.api.requests import RequestEntry, RequestLog
from devtools.clerk_emulator.clerk_errors import ClerkError

#: Is shown every answer: method, route, status, body.
Observer = Callable[[str, str, int, bytes], None]

VERSION_HEADER = "Clerk-API-Version"
VERSION_QUERY = "__clerk_api_version"
VERSIONS = ("2021-02-05", "2024-10-01", "2025-03-12", "2025-04-10", "2025-11-10", "2026-05-12")
#: From this version on, metadata is no member of a user's or an organization's PATCH any more.
METADATA_APART = "2026-05-12"
_VERSION = web.RequestKey("clerk_version", str)


def version(request: web.Request) -> str | None:
    """Return the API version that a request asked for."""
    return request.get(_VERSION)


def json_answer(value: object, *, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return web.Response(body=jsontext.encode(value), status=status, content_type="application/json")


def door(*, log: RequestLog, secret_key: str, observe: Observer | None) -> Middleware:
    """Return the middleware."""

    @web.middleware
    async def pass_through(request: web.Request, handler: Handler) -> web.StreamResponse:
        at_ms, began = time.time() * 1000, time.perf_counter()
        trace_id = secrets.token_hex(16)
        try:
            _check_key(request, secret_key)
            _check_version(request)
            answer = await handler(request)
        except ClerkError as error:
            answer = json_answer(error.body(trace_id=trace_id), status=error.status)
        except web.HTTPException as error:
            answer = json_answer(_of_http(error, request).body(trace_id=trace_id), status=error.status)
        answer.headers["X-Clerk-Trace-Id"] = trace_id
        resource = request.match_info.route.resource
        route = resource.canonical if resource else ""
        log.add(
            RequestEntry(
                at_ms=at_ms,
                method=request.method,
                route=route,
                path=request.path,
                query=request.query_string,
                status=answer.status,
                duration_ms=(time.perf_counter() - began) * 1000,
                version=request.headers.get(VERSION_HEADER, request.query.get(VERSION_QUERY)),
            )
        )
        if observe and isinstance(answer, web.Response) and isinstance(answer.body, bytes):
            observe(request.method, route, answer.status, answer.body)
        return answer

    return pass_through


def _check_key(request: web.Request, secret_key: str) -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not key:
        raise ClerkError(
            401,
            code="authorization_header_format_invalid",
            message="Invalid Authorization header format",
            long_message='Invalid Authorization header format. Must be "Bearer <YOUR_API_KEY>"',
        )
    if not hmac.compare_digest(key.encode(), secret_key.encode()):
        raise ClerkError(
            401,
            code="clerk_key_invalid",
            message="The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.",
        )


def _check_version(request: web.Request) -> None:
    header, query = request.headers.get(VERSION_HEADER), request.query.get(VERSION_QUERY)
    if header is not None and query is not None:
        raise ClerkError(
            400,
            code="api_version_ambiguous",
            message="ambiguous API version",
            long_message=f"Give the API version by {VERSION_HEADER} or by {VERSION_QUERY}, not by both.",
        )
    wanted = header if header is not None else query
    if wanted is None:
        return
    if wanted not in VERSIONS:
        raise ClerkError(
            400,
            code="api_version_invalid",
            message="invalid API version",
            long_message=f"{wanted} is not a version of the API.",
        )
    request[_VERSION] = wanted


def _of_http(error: web.HTTPException, request: web.Request) -> ClerkError:
    if error.status == 404:
        return ClerkError(
            404, code="not_found", message="not found", long_message=f"{request.method} {request.path} does not exist."
        )
    reason = error.reason
    return ClerkError(error.status, code=reason.lower().replace(" ", "_"), message=reason)
