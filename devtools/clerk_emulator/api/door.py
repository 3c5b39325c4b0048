"""What every API request passes: log, scripts, key, version, rate limit, faults, Clerk's form for errors."""

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from devtools.clerk_emulator import jsontext
from devtools.clerk_emulator.api.faults import ApiFault, ApiFaults, refusal
from devtools.clerk_emulator.api.rate_limit import RateLimit
from devtools.clerk_emulator.api.requests import RequestEntry, RequestLog
from devtools.clerk_emulator.api.scripts import Scripts
from devtools.clerk_emulator.behaviour import RATE_LIMITS, Behaviour
from devtools.clerk_emulator.clerk_errors import ClerkError

#: Is shown every whole answer: method, route, status, body.
Observer = Callable[[str, str, int, bytes], None]

VERSION_HEADER = "Clerk-API-Version"
VERSION_QUERY = "__clerk_api_version"
VERSIONS = ("2021-02-05", "2024-10-01", "2025-03-12", "2025-04-10", "2025-11-10", "2026-05-12")
#: From this version on, metadata is no member of a user's or an organization's PATCH any more.
METADATA_APART = "2026-05-12"
#: Where Clerk limits nothing.
UNLIMITED = "/v1/jwks"
_LISTS = frozenset(
    {
        "/users",
        "/organizations",
        "/organization_memberships",
        "/organizations/{organization_id}/memberships",
        "/users/{user_id}/organization_memberships",
    }
)
_VERSION = web.RequestKey("clerk_version", str)
#: How often a request that is not answered looks whether its client has left.
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Conditions:
    """What the door consults."""

    secret_key: str
    environment_type: str
    behaviour: Callable[[], Behaviour]
    log: RequestLog
    limit: RateLimit
    faults: ApiFaults
    scripts: Scripts
    observe: Observer | None = None


def version(request: web.Request) -> str | None:
    """Return the API version that a request asked for."""
    return request.get(_VERSION)


def json_answer(value: object, *, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return web.Response(body=jsontext.encode(value), status=status, content_type="application/json")


def door(conditions: Conditions) -> Middleware:
    """Return the middleware."""

    @web.middleware
    async def pass_through(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        entry = conditions.log.begin(
            method=request.method,
            route=resource.canonical if resource else "",
            path=request.path,
            query=request.query_string,
            version=request.headers.get(VERSION_HEADER, request.query.get(VERSION_QUERY)),
        )
        conditions.scripts.before(
            method=request.method, route=entry.route.removeprefix("/v1"), query=request.query_string
        )
        trace_id = secrets.token_hex(16)
        fault: ApiFault | None = None
        answer: web.StreamResponse
        try:
            fault = _admitted(request, entry, conditions)
            if fault and fault.kind == "timeout" and not await _stay_silent(request, seconds=fault.seconds):
                return web.Response()
            answer = await handler(request)
        except ClerkError as error:
            answer = json_answer(error.body(trace_id=trace_id), status=error.status)
            answer.headers.update(error.headers)
        except web.HTTPException as error:
            answer = json_answer(_of_http(error, request).body(trace_id=trace_id), status=error.status)
        answer.headers["X-Clerk-Trace-Id"] = trace_id
        _date(answer, minutes=conditions.behaviour().date_minutes)
        if isinstance(answer, web.Response) and isinstance(answer.body, bytes):
            whole = await _finished(request, answer, entry, conditions, fault=fault)
            if not whole:
                return answer
        conditions.log.end(entry, status=answer.status)
        return answer

    return pass_through


def _admitted(request: web.Request, entry: RequestEntry, conditions: Conditions) -> ApiFault | None:
    """Let a request in with the fault that is put on it; raise ClerkError where it is refused."""
    route, behaviour = entry.route.removeprefix("/v1"), conditions.behaviour()
    _check_key(request, conditions.secret_key)
    _check_version(request)
    if entry.route != UNLIMITED:
        limit = behaviour.rate_limit
        seconds = conditions.limit.refuses(
            limit=RATE_LIMITS[conditions.environment_type] if limit is None else limit,
            window=behaviour.rate_window_seconds,
            counts_refused=behaviour.rate_counts_refused,
        )
        if seconds is not None:
            raise refusal(429, retry_after=seconds)
    fault = conditions.faults.take(
        method=request.method,
        route=route,
        query=request.query_string,
        is_list=request.method == "GET" and route in _LISTS,
    )
    if fault:
        entry.fault = fault.kind
        if fault.kind == "status":
            raise refusal(fault.status, retry_after=fault.retry_after or (1 if fault.status == 429 else None))
    return fault


async def _finished(
    request: web.Request,
    answer: web.Response,
    entry: RequestEntry,
    conditions: Conditions,
    *,
    fault: ApiFault | None,
) -> bool:
    """Put the fault on an answer that is ready; tell whether it is still to be sent as a whole."""
    body, route = answer.body, entry.route.removeprefix("/v1")
    assert isinstance(body, bytes)
    is_page = request.method == "GET" and route in _LISTS and answer.status == 200
    match fault.kind if fault else "":
        case "short_page" | "empty_page" | "repeat_page" if is_page and fault:
            answer.body = body = conditions.faults.page(fault, route=route, body=body)
        case "date" if fault:
            _date(answer, minutes=fault.minutes)
        case "invalid_json":
            answer.body = body[: len(body) // 2]
            return True
        case "cut":
            await _cut(request, answer, body)
            return False
    if is_page:
        conditions.faults.remember(route, body)
    if conditions.observe:
        conditions.observe(request.method, entry.route, answer.status, body)
    return True


async def _cut(request: web.Request, answer: web.Response, body: bytes) -> None:
    """Send the headers and half of the body, then close the connection."""
    transport = request.transport
    head = [f"HTTP/1.1 {answer.status} {answer.reason}", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in answer.headers.items() if name != "Content-Length"]
    if transport is not None and not transport.is_closing():
        transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + body[: len(body) // 2])
        transport.close()


async def _stay_silent(request: web.Request, *, seconds: float | None) -> bool:
    """Wait so long, or until the client leaves; tell whether it is still there."""
    end = None if seconds is None else time.monotonic() + seconds
    while (transport := request.transport) is not None and not transport.is_closing():
        if end is not None and time.monotonic() >= end:
            return True
        await asyncio.sleep(_LOOK_SECONDS)
    return False


def _date(answer: web.StreamResponse, *, minutes: float) -> None:
    if minutes:
        answer.headers["Date"] = formatdate(time.time() + minutes * 60, usegmt=True)


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
