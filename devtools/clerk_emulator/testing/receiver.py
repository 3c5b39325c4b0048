"""An endpoint that remembers every request and answers as it is told."""

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web
from svix.webhooks import Webhook

#: A status, ``"break"`` (close the connection without an answer) or ``"hold"`` (204, but not before the release).
Answer = int | Literal["break", "hold"]


@dataclass(frozen=True)
class Arrival:
    """A request that arrived."""

    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    answered: Answer

    @property
    def id(self) -> str:
        """The message's id."""
        return self.headers["svix-id"]

    @property
    def timestamp(self) -> int:
        """The signed timestamp."""
        return int(self.headers["svix-timestamp"])

    @property
    def signature(self) -> str:
        """All signatures of the request."""
        return self.headers["svix-signature"]

    @property
    def event(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)

    def verify(self, secret: str) -> None:
        """Raise where the svix library does not accept the request."""
        Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """Listens on loopback while open; 204 unless scripted otherwise."""

    def __init__(self) -> None:
        """Begin with an empty script."""
        self.arrivals: list[Arrival] = []
        self.most_at_once = 0
        self._script: deque[tuple[Answer, dict[str, str]]] = deque()
        self._at_once = 0
        self._changed = asyncio.Event()
        self._released = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/webhooks/clerk", self._receive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/webhooks/clerk"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening."""
        self.release()
        await self._runner.cleanup()

    def answer(self, *answers: Answer, headers: dict[str, str] | None = None) -> None:
        """Give these answers to the next requests, one each."""
        self._script.extend((answer, headers or {}) for answer in answers)

    def release(self) -> None:
        """Answer every request that is held, and hold none from now on."""
        self._released.set()

    async def arrived(self, count: int, *, timeout: float = 10.0) -> list[Arrival]:
        """Wait until so many requests were seen, and return them; raise TimeoutError."""
        async with asyncio.timeout(timeout):
            while len(self.arrivals) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.arrivals

    async def _receive(self, request: web.Request) -> web.Response:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            body = await request.read()
            answer, headers = self._script.popleft() if self._script else (204, {})
            fields = {name.lower(): value for name, value in request.headers.items()}
            self.arrivals.append(Arrival(headers=fields, body=body, answered=answer))
            self._changed.set()
            if answer == "hold":
                await self._released.wait()
                return web.Response(status=204)
            if isinstance(answer, int):
                return web.Response(status=answer, headers=headers)
            if request.transport:
                request.transport.abort()
            return web.Response()
        finally:
            self._at_once -= 1
