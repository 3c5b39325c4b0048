"""The share of Clerk's rate limit that is ours, kept in one row for all processes of all replicas.

A bucket of `burst` requests that refills steadily. Clerk counts arrivals in any 10 s; between a grant and its arrival
lie up to `LAPSE` seconds here and some on the way, hence a window of `WINDOW` seconds is what must fit:
burst + WINDOW x rate <= share. Retries are requests like any other.
"""

import asyncio
import math
import time
from dataclasses import dataclass

import asyncpg

LIMITS = {"Production": 1_000, "Development": 100}
"""Clerk's requests per 10 s, by environment."""

LAPSE = 0.4
"""Seconds after which a grant that was not used is gone."""

WINDOW = 10.9
"""Seconds: Clerk's ten, a grant's life, and half a second on the way."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a budget allows, in requests."""

    per_second: float
    burst: int

    @staticmethod
    def of(environment: str, *, percent: int) -> "Share":
        """`percent` of the environment's limit. Raises KeyError for an environment that Clerk does not have."""
        share = LIMITS[environment] * percent / 100
        burst = max(1, int(share * 0.04))
        return Share(per_second=max((share - burst) / WINDOW, 0.05), burst=burst)


class Budget:
    """Grants requests, a few at a time; `requests` counts those that were taken."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", *, instance_id: str, share: Share) -> None:
        """The row must be there before the first request: `open`."""
        self._pool = pool
        self._instance_id = instance_id
        self._share = share
        self._granted = 0
        self._until = 0.0
        self._lock = asyncio.Lock()
        self.requests = 0

    async def open(self, *, keep: bool = False) -> None:
        """Makes the instance's row, or gives it this share; with `keep` a row that is there keeps its own."""
        await self._pool.execute(
            "select clerk_private.open_budget($1, $2, $3, $4)",
            self._instance_id,
            self._share.per_second,
            float(self._share.burst),
            not keep,
        )

    async def take(self) -> None:
        """Returns when one request may be made, at once where a grant is at hand."""
        async with self._lock:
            while self._granted < 1 or time.monotonic() > self._until:
                wanted = max(1, math.ceil(min(self._share.per_second * LAPSE / 2, self._share.burst)))
                asked = time.monotonic()
                self._granted, wait_ms = await self._grant(wanted)
                self._until = asked + LAPSE
                if not self._granted:
                    await asyncio.sleep(min(wait_ms, 5_000) / 1000)
            self._granted -= 1
            self.requests += 1

    async def _grant(self, wanted: int) -> tuple[int, float]:
        """Requests that may be made now; if none, in how many ms to ask again."""
        row = await self._pool.fetchrow(
            "select granted, wait_ms from clerk_private.take_budget($1, $2)", self._instance_id, wanted
        )
        return row["granted"], row["wait_ms"]

    async def pause(self, seconds: float) -> None:
        """After a 429: nobody asks for so long, in any process."""
        self._granted = 0
        await self._pool.execute("select clerk_private.pause_budget($1, $2)", self._instance_id, seconds)


class UnwrittenBudget(Budget):
    """Of a command that must write nothing, where the instance has no row yet: the same bucket, in this process.

    As soon as somebody opens the row, that one counts. Two such commands at once know nothing of each other.
    """

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", *, instance_id: str, share: Share) -> None:
        """It is not to be opened."""
        super().__init__(pool, instance_id=instance_id, share=share)
        self._tokens = float(share.burst)
        self._refilled = time.monotonic()
        self._paused_until = 0.0

    async def open(self, *, keep: bool = False) -> None:  # noqa: ARG002 - the signature is its parent's
        """Refuses: whoever opens a budget writes."""
        raise TypeError("an unwritten budget is not opened")

    async def pause(self, seconds: float) -> None:
        """After a 429: nobody of this process asks for so long."""
        self._tokens, self._refilled = 0.0, time.monotonic()
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)
        await super().pause(seconds)

    async def _grant(self, wanted: int) -> tuple[int, float]:
        if await self._pool.fetchval(
            "select exists (select from clerk_private.budget where instance_id = $1)", self._instance_id
        ):
            return await super()._grant(wanted)
        now = time.monotonic()
        if now < self._paused_until:
            return 0, (self._paused_until - now) * 1000
        self._tokens = min(self._share.burst, self._tokens + self._share.per_second * (now - self._refilled))
        self._refilled = now
        granted = min(wanted, int(self._tokens))
        self._tokens -= granted
        return granted, 0 if granted else (1 - self._tokens) / self._share.per_second * 1000
