"""The client of Clerk's Backend API, against the emulator and against servers that misbehave."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate

import pytest
from aiohttp import web

from devtools.clerk_emulator import Emulator, Settings
from nexus_auth.clerk.api import API_VERSION, ClerkApi, ClerkRefused, ClerkUnavailable, asked_at

KEY = "sk_test_the_very_secret_key"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def failure(url: str, *, timeout: float = 5.0) -> Exception:
    async with ClerkApi(url, secret_key=KEY, timeout=timeout) as api:
        with pytest.raises((ClerkRefused, ClerkUnavailable)) as failed:
            await api.instance_id()
    assert KEY not in "".join(traceback.format_exception(failed.value)) + repr(failed.value)
    return failed.value


async def test_the_emulator_tells_its_instance() -> None:
    settings = Settings(users=0, organizations=0, memberships=0, secret_key=KEY)
    async with Emulator(settings) as emulator, ClerkApi(emulator.api_url, secret_key=KEY) as api:
        assert await api.instance_id() == settings.instance_id
        assert await api.instance_id() == settings.instance_id


async def test_a_wrong_key_is_refused_with_its_reason() -> None:
    async with Emulator(Settings(users=0, organizations=0, memberships=0)) as emulator:
        error = await failure(emulator.api_url)
    assert isinstance(error, ClerkRefused)
    assert error.status == 401
    assert "401 (clerk_key_invalid); check CLERK_SECRET_KEY" in str(error)


async def test_key_and_version_go_with_the_request_to_the_path_below_the_root() -> None:
    seen: list[tuple[str, str, str]] = []

    async def instance(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers["Authorization"], request.headers["Clerk-API-Version"]))
        return web.json_response({"object": "instance", "id": "ins_1"})

    async with answering(instance) as url, ClerkApi(f"{url}/below/", secret_key=KEY) as api:
        assert await api.instance_id() == "ins_1"
    assert seen == [("/below/v1/instance", f"Bearer {KEY}", API_VERSION)]
    assert API_VERSION == "2026-05-12"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_overload_and_breakdown_are_worth_another_try(status: int) -> None:
    async def broken(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=f"<html>{KEY}</html>")

    async with answering(broken) as url:
        error = await failure(url)
    assert isinstance(error, ClerkUnavailable)
    assert str(status) in str(error)


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"id": 5}', b'{"id": "user_1"}', b'{"id": "ins_' + b"x" * 2**21 + b'"}', b"\xff"]
)
async def test_an_answer_that_is_no_instance_is_no_answer(body: bytes) -> None:
    async def odd(_request: web.Request) -> web.Response:
        return web.Response(body=body)

    async with answering(odd) as url:
        assert isinstance(await failure(url), ClerkUnavailable)


async def test_the_key_follows_no_redirect() -> None:
    paths: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async with answering(elsewhere) as url:
        error = await failure(url)
    assert isinstance(error, ClerkRefused)
    assert paths == ["/v1/instance"]


async def test_silence_ends_with_the_timeout() -> None:
    released = asyncio.Event()

    async def silent(_request: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    async with answering(silent) as url:
        error = await failure(url, timeout=0.2)
        released.set()
    assert "within 0.2 s" in str(error)


async def test_nobody_there_is_said_without_the_key() -> None:
    async def unused(_request: web.Request) -> web.Response:
        return web.Response()

    async with answering(unused) as url:
        pass
    assert "cannot be reached" in str(await failure(url))


@pytest.mark.parametrize(
    "url", ["", "api.clerk.com", "ftp://api.clerk.com", "https://key@api.clerk.com", "https://a b"]
)
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="CLERK_API_URL"):
        ClerkApi(url, secret_key=KEY)


@pytest.mark.parametrize("key", ["", " ", "sk_test_a\nb", "sk_test_é"])
def test_a_key_that_is_none_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="CLERK_SECRET_KEY") as refused:
        ClerkApi("https://api.clerk.com", secret_key=key)
    assert not key.strip() or key not in str(refused.value)


def test_a_client_shows_its_address_only() -> None:
    assert KEY not in repr(ClerkApi("https://api.clerk.com", secret_key=KEY))


@pytest.mark.parametrize(
    ("header_at", "answered", "expected"),
    [
        (1_000, 1_000.3, 1_000_000),
        (1_001, 1_000.3, 1_000_000),  # 1.2 s ahead at most: less than headers of whole seconds can tell
        (1_300, 1_000.3, 1_300_200),  # their clock is five minutes ahead
        (700, 1_000.3, 700_500),  # and behind
        (1_000, 1_020.0, 1_000_000),  # a page that took twenty seconds
        (1_019, 1_020.0, 1_000_000),
        (1_320, 1_020.0, 1_300_500),  # slow, and ahead of ours
    ],
)
def test_a_request_began_by_clerks_clock_where_ours_is_off(header_at: int, answered: float, expected: int) -> None:
    assert asked_at(1_000.0, answered=answered, date=formatdate(header_at, usegmt=True)) == expected


@pytest.mark.parametrize("date", [None, "", "yesterday", "Thu, 99 Jan 1970 00:00:00 GMT"])
def test_without_a_readable_date_our_clock_counts(date: str | None) -> None:
    assert asked_at(1_000.25, answered=1_000.3, date=date) == 1_000_250
