"""The HTTP client of the sender: keep-alive, no redirects, and what went wrong told apart.

A *broken* connection (the endpoint accepted it and closed it without an answer) is not a refused one: Svix repeats
the former at once and unchanged.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

USER_AGENT = "Svix-Webhooks/1.100.0"
#: A connection that breaks within this time is tried again at once.
AT_ONCE_SECONDS = 1.0
_ANSWER_BYTES = 2_048


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request."""

    seconds: float
    status: int | None = None
    error: str | None = None
    broken: bool = False
    timed_out: bool = False
    retry_after: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the endpoint took the event: 2xx and nothing else."""
        return self.status is not None and 200 <= self.status < 300


class Transport:
    """Posts bodies; an async context manager."""

    async def __aenter__(self) -> Self:
        """Open the client."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self._session.close()

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes, timeout: float) -> Outcome:
        """Send one request and wait for its status, ``timeout`` seconds at most."""
        began = time.perf_counter()
        fields = {"content-type": "application/json", "user-agent": USER_AGENT, **headers}
        try:
            async with asyncio.timeout(timeout):
                answer = await self._session.post(url, data=body, headers=fields, allow_redirects=False)
                async with answer:
                    await answer.content.read(_ANSWER_BYTES)
        except TimeoutError:
            return Outcome(time.perf_counter() - began, error="timeout", timed_out=True)
        except aiohttp.ClientConnectorError as error:
            return Outcome(time.perf_counter() - began, error=f"no connection: {error}")
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError) as error:
            return Outcome(time.perf_counter() - began, error=f"connection broken: {error}", broken=True)
        except (aiohttp.ClientError, ValueError) as error:
            return Outcome(time.perf_counter() - began, error=f"{type(error).__name__}: {error}")
        return Outcome(time.perf_counter() - began, status=answer.status, retry_after=answer.headers.get("Retry-After"))

    async def post_and_break(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Send a whole request and close the connection without reading the answer (plain HTTP only)."""
        began = time.perf_counter()
        target = URL(url)
        fields = {
            "host": target.raw_authority,
            "content-type": "application/json",
            "content-length": str(len(body)),
            "user-agent": USER_AGENT,
            **headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        try:
            _, writer = await asyncio.open_connection(target.host, target.port)
            writer.write(f"POST {target.raw_path_qs} HTTP/1.1\r\n{head}\r\n".encode() + body)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except OSError as error:
            return Outcome(time.perf_counter() - began, error=f"no connection: {error}")
        return Outcome(time.perf_counter() - began, error="connection broken on command", broken=True)
