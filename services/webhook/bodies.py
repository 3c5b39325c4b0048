"""Reads bodies of which nobody knows yet whom they come from, in a bounded part of the memory.

When that part is full, the body that has been read for the longest is given up: a sender like Svix is done within
milliseconds, so that whoever fills the memory slowly cuts off themselves and not the others. What counts is what has
come, not what was announced.
"""

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus

from aiohttp import web

RETRY_AFTER = "5"
"""Seconds; Svix waits at least as long as its own schedule says."""


class Unread(Exception):
    """A body that was not read to its end; the connection cannot be used again."""

    def __init__(self, reason: str, *, status: int) -> None:
        """`reason` is a word for the metric, `status` that of the answer."""
        super().__init__(reason)
        self.reason = reason
        self.status = status

    def answer(self) -> web.Response:
        """One line, and the end of the connection."""
        headers = {"Retry-After": RETRY_AFTER} if self.status == 503 else {}
        response = web.Response(status=self.status, text=f"{HTTPStatus(self.status).phrase.lower()}\n", headers=headers)
        response.force_close()
        return response


@dataclass(eq=False)
class _Reading:
    deadline: asyncio.Timeout
    body: bytearray = field(default_factory=bytearray)
    given_up: bool = False


class BodyReader:
    """Reads the bodies of one port."""

    def __init__(self, *, most: int, most_together: int, seconds: float) -> None:
        """A body may have `most` bytes and take `seconds`; all unfinished bodies together `most_together` bytes."""
        self._most = most
        self._most_together = most_together
        self._seconds = seconds
        self._together = 0
        self._readings: dict[_Reading, None] = {}
        """In the order in which they began."""

    async def read(self, request: web.Request) -> bytes:
        """The whole body. Raises `Unread`."""
        if (request.content_length or 0) > self._most:
            raise Unread("too_large", status=413)
        reading = _Reading(asyncio.timeout(self._seconds))
        self._readings[reading] = None
        try:
            async with reading.deadline:
                async for piece in request.content.iter_any():
                    self._take(reading, piece)
        except TimeoutError:
            if not reading.given_up:
                raise Unread("slow_body", status=408) from None
        except (web.RequestPayloadError, ConnectionError):
            raise Unread("broken_body", status=400) from None
        finally:
            self._forget(reading)
        if reading.given_up:
            raise Unread("overloaded", status=503)
        return bytes(reading.body)

    def _take(self, reading: _Reading, piece: bytes) -> None:
        if reading.given_up:
            return
        if len(reading.body) + len(piece) > self._most:
            raise Unread("too_large", status=413)
        reading.body += piece
        self._together += len(piece)
        while self._together > self._most_together:
            self._give_up(next(iter(self._readings)))

    def _give_up(self, reading: _Reading) -> None:
        reading.given_up = True
        self._forget(reading)
        reading.body.clear()
        reading.deadline.reschedule(asyncio.get_running_loop().time())

    def _forget(self, reading: _Reading) -> None:
        if reading in self._readings:
            del self._readings[reading]
            self._together -= len(reading.body)
