"""Clerk as a sender under load: delivers, and delivers again whatever was not acknowledged, as Svix does."""

import asyncio
import errno
import itertools
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp

from tests.e2e.world import World
from tests.events import Signed, event, user

AGAIN_SECONDS = 0.2
"""Svix waits at least 5 s; a test that delivers again sooner asks more of the service."""
GIVE_UP_SECONDS = 60.0
PORTS = itertools.count(10_000)
"""Of clients, none twice: for two minutes a node leads a port that it has seen to the same pod again, be it dead."""
SETTLED = 100
"""Answers in a row: with one dead endpoint of three, a chance of one in 10^17 to see none."""


def own_port(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket on a port that no connection of this session had."""
    made = socket.socket(address[0], socket.SOCK_STREAM)
    for port in PORTS:
        try:
            made.bind(("", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                made.close()
                raise
        else:
            break
    return made


def each_alone() -> aiohttp.TCPConnector:
    """A connection for each delivery: what a load balancer with many clients sees."""
    return aiohttp.TCPConnector(force_close=True, socket_factory=own_port)


@dataclass
class Load:
    """What was sent and what came back."""

    url: str
    secret: str
    instance: str
    prefix: str
    pause: float = 0.02
    again: bool = True
    """Deliver again what was not acknowledged; a sender that does not shows what would be lost."""
    answers: Counter[str] = field(default_factory=Counter)
    """By status, or by the name of the error where there was no answer."""
    acknowledged: set[str] = field(default_factory=set)
    """svix-ids that were answered with 204."""
    lost: set[str] = field(default_factory=set)
    """svix-ids that were never acknowledged."""
    errors: list[str] = field(default_factory=list)
    """When and why there was no answer, and after how long."""
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, senders: int) -> None:
        """Sends until `stop`; every event until it is acknowledged."""
        async with aiohttp.ClientSession(connector=each_alone(), timeout=aiohttp.ClientTimeout(total=15)) as session:
            await asyncio.gather(*(self._one_sender(session, number) for number in range(senders)))

    def stop(self) -> None:
        """No new event from now on."""
        self._stop.set()

    async def settle(self) -> None:
        """Returns once no dead endpoint is left of what happened before: so many connections in a row have an answer.

        A node forgets an endpoint up to a second after its pod is gone. Raises TimeoutError.
        """
        async with (
            asyncio.timeout(GIVE_UP_SECONDS),
            aiohttp.ClientSession(connector=each_alone()) as session,
        ):
            in_a_row = 0
            while in_a_row < SETTLED:
                try:
                    async with session.get(self.url):
                        in_a_row += 1
                except (aiohttp.ClientError, OSError):
                    in_a_row = 0

    async def _one_sender(self, session: aiohttp.ClientSession, sender: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            body = event("user.created", user(f"user_{self.prefix}{sender}x{number}"), instance_id=self.instance)
            await self._deliver(session, Signed(body))
            await asyncio.sleep(self.pause)

    async def _deliver(self, session: aiohttp.ClientSession, signed: Signed) -> None:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            answer = await self._try(session, signed)
            self.answers[answer] += 1
            if answer == "204":
                self.acknowledged.add(signed.svix_id)
                return
            if not self.again:
                break
            await asyncio.sleep(AGAIN_SECONDS)
        self.lost.add(signed.svix_id)

    async def _try(self, session: aiohttp.ClientSession, signed: Signed) -> str:
        began = time.monotonic()
        try:
            async with session.post(self.url, data=signed.body, headers=signed.headers(secret=self.secret)) as answer:
                await answer.read()
                return str(answer.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.errors.append(f"{datetime.now(UTC):%H:%M:%S.%f} {error!r} after {time.monotonic() - began:.3f} s")
            return type(error).__name__

    @property
    def events(self) -> int:
        """Events whose delivery is over."""
        return len(self.acknowledged) + len(self.lost)

    @property
    def sent(self) -> int:
        """Deliveries of them, with every one that was made again."""
        return sum(self.answers.values())

    @property
    def failures(self) -> int:
        """Deliveries that had no answer at all: to Svix, an endpoint that is down."""
        return sum(count for answer, count in self.answers.items() if not answer.isdigit())

    def others(self) -> str:
        """Every answer that is neither 204 nor 503, with the errors' own words; nothing where there was none."""
        strange = [f"{count} x {answer}" for answer, count in self.answers.items() if answer not in ("204", "503")]
        return "\n".join([*strange, *self.errors]) if strange else ""


@asynccontextmanager
async def under_load(load: Load, *, senders: int = 4) -> AsyncIterator[Load]:
    """Sends while the block runs, and ends what is under way."""
    await load.settle()
    sending = asyncio.create_task(load.send(senders))
    try:
        while len(load.acknowledged) < 20:
            assert not sending.done()
            await asyncio.sleep(0.05)
        yield load
    finally:
        load.stop()
        await sending


async def nothing_lost(load: Load, world: World) -> int:
    """Every acknowledged event is in the inbox and became a row, and every event was acknowledged; answers the rows."""
    stored = await world.value(
        "select count(*) from clerk_private.inbox_seen where svix_id = any ($1::text[])", sorted(load.acknowledged)
    )
    assert stored == len(load.acknowledged) > 50
    rows = await world.value("select count(*) from clerk.users where starts_with(id, 'user_' || $1)", load.prefix)
    assert rows == len(load.acknowledged)
    assert load.lost == set()
    return int(rows)
