"""Clerk's Backend API, as little of it as we use: one pinned version, one key, errors that say what to do next.

Traded: no SDK. Clerk's own validates whole pages and follows its newest version; we read few members, and a new version
of the API is a decision. Redirects are not followed: the key would go along.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

API_VERSION = "2026-05-12"
"""The dated version whose specification this client was written by; sent with every request."""

PAGE_BYTES = 64 * 2**20
"""A page of 500 users has about 1 MB, of the largest metadata about 20."""

SKEW = 2.0
"""Seconds by which our clock and Clerk's `Date` header may differ before theirs counts."""

LONGEST_SKEW = 2 * 86_400.0
"""Seconds: an answer whose `Date` is farther from our clock is not used. Its time would decide between versions."""

DEFAULT_WAIT = 10.0
LONGEST_WAIT = 120.0
"""Seconds to wait after a 429 without, and at most with, a Retry-After."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not the JSON that was expected."""

Params = Sequence[tuple[str, str]]

_CODE = re.compile(r"[a-z][a-z0-9_]{2,60}")


class ClerkUnavailable(Exception):
    """No usable answer: unreachable, too slow, overloaded or broken. The same request may succeed later."""


class ClerkUnreachable(ClerkUnavailable):
    """Nothing answered: no connection, a broken one, or none in time."""


class ClerkLimited(ClerkUnavailable):
    """Too many requests: everybody who shares the key must wait."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        """`retry_after` in seconds."""
        super().__init__(message)
        self.retry_after = retry_after


class ClerkRefused(Exception):
    """Clerk understood and said no; the same request will meet the same answer."""

    def __init__(self, message: str, *, status: int) -> None:
        """Remembers the HTTP status beside the sentence."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request brought."""

    body: bytes
    asked_at: int
    """When the request began, ms, by Clerk's clock where ours is more than `SKEW` off: what was read is not older."""


class ClerkApi:
    """A client of one instance's API; usable as an asynchronous context manager, closed at its end.

    `api_url` is the root without /v1, `timeout` bounds a whole request in seconds. The key is in no text or repr.
    Raises ValueError for an address or a key that cannot be one.
    """

    def __init__(self, api_url: str, *, secret_key: str, timeout: float = 10.0) -> None:
        """Opens nothing yet."""
        if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", api_url):
            raise ValueError("CLERK_API_URL is no http(s) address without credentials")
        if not re.fullmatch(r"[!-~]+", secret_key):
            raise ValueError("CLERK_SECRET_KEY is empty or holds characters that no key has")
        self.url = api_url.rstrip("/")
        self._headers = {
            "Authorization": f"Bearer {secret_key}",
            "Clerk-API-Version": API_VERSION,
            "Accept": "application/json",
        }
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        """The address, and nothing that opens it."""
        return f"ClerkApi({self.url!r})"

    async def __aenter__(self) -> Self:
        """Nothing happens before the first request."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Closes its connections."""
        await self.close()

    async def close(self) -> None:
        """Closes its connections; another request opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def instance_id(self) -> str:
        """The instance that the key belongs to (`ins_…`). Raises `ClerkUnavailable` or `ClerkRefused`."""
        return instance_id_of(await self.read("/instance"))

    async def read(self, path: str, params: Params = ()) -> Answer:
        """GETs one path below /v1. Raises `ClerkUnavailable` (of which `ClerkLimited`) or `ClerkRefused`."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=64),
            )
            # aiohttp repeats a GET by itself when a kept connection breaks: a request that no budget has counted
            self._session._retry_connection = False
        url = self.url + "/v1" + path
        began = time.time()
        try:
            async with self._session.get(
                url, params=list(params), headers=self._headers, allow_redirects=False
            ) as response:
                status, headers = response.status, response.headers
                body = await _at_most(PAGE_BYTES, response.content)
        except TimeoutError:
            raise ClerkUnreachable(f"no answer from {self.url} within {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise ClerkUnreachable(f"{self.url} cannot be reached ({type(error).__name__})") from None
        if status == 429:
            raise ClerkLimited(f"{url} answered 429", retry_after=_seconds(headers.get("Retry-After")))
        if status >= 500:
            raise ClerkUnavailable(f"{url} answered {status}")
        if status != 200:
            raise ClerkRefused(_refusal(url, status=status, body=body), status=status)
        asked = asked_at(began, answered=time.time(), date=headers.get("Date"))
        if abs(asked / 1000 - began) > LONGEST_SKEW:
            days = (asked / 1000 - began) / 86_400
            raise ClerkUnavailable(f"{url} answered with a Date that is {days:+.0f} days from this machine's clock")
        return Answer(body=body, asked_at=asked)


def asked_at(began: float, *, answered: float, date: str | None) -> int:
    """When a request began by Clerk's clock, ms, where that differs from ours by more than `SKEW`; else by ours.

    `began` and `answered` are ours, seconds since 1970; `date` is the answer's header.
    """
    try:
        theirs = parsedate_to_datetime(date or "").timestamp() + 0.5  # the header knows whole seconds
    except (TypeError, ValueError):
        return int(began * 1000)
    # their clock was read between our two readings: a slow answer is no skew
    skew = theirs - min(max(theirs, began), answered)
    return int((began + (skew if abs(skew) > SKEW else 0.0)) * 1000)


def instance_id_of(answer: Answer) -> str:
    """The id (`ins_…`) in an answer of `/instance`. Raises `ClerkUnavailable`."""
    try:
        instance = msgspec.json.decode(answer.body)
    except UNREADABLE:
        raise ClerkUnavailable("/instance answered no JSON; is CLERK_API_URL right?") from None
    instance_id = instance.get("id") if isinstance(instance, dict) else None
    if not isinstance(instance_id, str) or not re.fullmatch(r"ins_\w{1,100}", instance_id):
        raise ClerkUnavailable("/instance answered something that is no instance; is CLERK_API_URL right?")
    return instance_id


def _seconds(retry_after: str | None) -> float:
    try:
        return min(max(float(retry_after or ""), 0.0), LONGEST_WAIT)
    except ValueError:
        return DEFAULT_WAIT


async def _at_most(size: int, content: aiohttp.StreamReader) -> bytes:
    pieces: list[bytes] = []
    total = 0
    async for piece in content.iter_any():
        pieces.append(piece)
        total += len(piece)
        if total > size:
            raise ClerkUnavailable(f"Clerk's API answered with more than {size // 2**20} MiB; is the address right?")
    return b"".join(pieces)


def _refusal(url: str, *, status: int, body: bytes) -> str:
    """Status and Clerk's code for it; its prose is left out, as it may quote what was sent."""
    try:
        code = msgspec.json.decode(body)["errors"][0]["code"]
    except (*UNREADABLE, LookupError, TypeError):
        code = None
    why = f"{status}" + (f" ({code})" if isinstance(code, str) and _CODE.fullmatch(code) else "")
    if status == 401:
        return f"{url} refused the key with {why}; check CLERK_SECRET_KEY"
    return f"{url} refused with {why}"
