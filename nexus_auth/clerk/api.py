"""Clerk's Backend API, as little of it as we use: one pinned version, one key, errors that say what to do next.

Traded: no SDK. Clerk's own validates whole pages and follows its newest version; we read few members, and a new version
of the API is a decision. Redirects are not followed: the key would go along.
"""

import asyncio
import re
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

API_VERSION = "2026-05-12"
"""The dated version whose specification this client was written by; sent with every request."""

ANSWER_BYTES = 2**20
"""Of an answer that should be small; what is larger comes from somebody else (a proxy's page)."""

_CODE = re.compile(r"[a-z][a-z0-9_]{2,60}")


class ClerkUnavailable(Exception):
    """No usable answer: unreachable, too slow, overloaded or broken. The same request may succeed later."""


class ClerkRefused(Exception):
    """Clerk understood and said no; the same request will meet the same answer."""

    def __init__(self, message: str, *, status: int) -> None:
        """Remembers the HTTP status beside the sentence."""
        super().__init__(message)
        self.status = status


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
        answer = await self._get("/v1/instance")
        instance_id = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(instance_id, str) or not re.fullmatch(r"ins_\w{1,100}", instance_id):
            raise ClerkUnavailable(f"{self.url} answered something that is no instance; is CLERK_API_URL right?")
        return instance_id

    async def _get(self, path: str) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout), cookie_jar=aiohttp.DummyCookieJar()
            )
        try:
            async with self._session.get(self.url + path, headers=self._headers, allow_redirects=False) as response:
                status, body = response.status, await _at_most(ANSWER_BYTES, response.content)
        except TimeoutError:
            raise ClerkUnavailable(f"no answer from {self.url} within {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise ClerkUnavailable(f"{self.url} cannot be reached ({type(error).__name__})") from None
        if status == 429 or status >= 500:
            raise ClerkUnavailable(f"{self.url}{path} answered {status}")
        if status != 200:
            raise ClerkRefused(_refusal(self.url + path, status=status, body=body), status=status)
        try:
            return msgspec.json.decode(body)
        except msgspec.DecodeError:
            raise ClerkUnavailable(f"{self.url}{path} answered no JSON; is CLERK_API_URL right?") from None


async def _at_most(size: int, content: aiohttp.StreamReader) -> bytes:
    body = b""
    async for piece in content.iter_any():
        body += piece
        if len(body) > size:
            raise aiohttp.ClientPayloadError("the answer is too large")
    return body


def _refusal(url: str, *, status: int, body: bytes) -> str:
    """Status and Clerk's code for it; its prose is left out, as it may quote what was sent."""
    try:
        code = msgspec.json.decode(body)["errors"][0]["code"]
    except (msgspec.DecodeError, LookupError, TypeError):
        code = None
    why = f"{status}" + (f" ({code})" if isinstance(code, str) and _CODE.fullmatch(code) else "")
    if status == 401:
        return f"{url} refused the key with {why}; check CLERK_SECRET_KEY"
    return f"{url} refused with {why}"
