"""A pooled connection for a bounded time, whatever becomes of the server meanwhile.

asyncpg waits for the server when a statement is cancelled and when a connection is given back. A server that is frozen,
or behind a proxy that dropped the connection, never answers; so the connection is ended instead.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg


@asynccontextmanager
async def borrowed(pool: "asyncpg.Pool[asyncpg.Record]", *, seconds: float) -> AsyncIterator[Any]:
    """A connection for `seconds` at most, waiting for it included. Raises TimeoutError after that.

    Then, and where the task is cancelled, the connection is ended without a word, and after a timeout the pool's idle
    connections are replaced before they are used again: what dropped this one may have dropped them too. What the
    statement did on the server is unknown.
    """
    async with asyncio.timeout(seconds) as deadline:
        async with pool.acquire() as connection:
            try:
                yield connection
            except (asyncio.CancelledError, TimeoutError):
                connection.terminate()
                if deadline.expired():
                    await pool.expire_connections()
                raise
