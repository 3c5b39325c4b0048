"""HTTP as bytes, for requests that no client library would send, and waiting for a thing by asking for it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


async def until(true: Callable[[], Awaitable[bool]], *, seconds: float = 20) -> None:
    """Returns as soon as `true` says so; AssertionError when it never did."""
    deadline = time.monotonic() + seconds
    while not await true():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s"
        await asyncio.sleep(0.01)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    text: str


class Wire:
    """One connection to where a URL points; an async context manager."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)

    async def __aenter__(self) -> "Wire":
        self.reader, self.writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.writer.close()

    def head(self, headers: Mapping[str, str] | Iterable[tuple[str, str]], *, method: str = "POST") -> bytes:
        """The bytes before a body."""
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        lines = [f"{method} {self._parts.path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in pairs)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")

    async def send(self, data: bytes) -> None:
        """Sends these bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, seconds: float = 20) -> Answer:
        """Reads one answer."""
        async with asyncio.timeout(seconds):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(status.split()[1]), headers, body.decode())

    async def exchange(
        self, body: bytes, headers: Mapping[str, str] | Iterable[tuple[str, str]], *, method: str = "POST"
    ) -> Answer:
        """One whole request and its answer."""
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        await self.send(self.head([*pairs, ("Content-Length", str(len(body)))], method=method) + body)
        return await self.answer()
