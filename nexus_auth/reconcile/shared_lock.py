"""A lock that many hold together or one holds alone, for tasks of one process.

Walkers' transactions share a lock on the run's row (the fence); saving the run's progress needs that row alone. Left to
Postgres, walkers that overlap never let go of it between them, and the save waits until its statement is cancelled. So
whoever asks for this lock exclusively is let in before those who ask for it later.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SharedLock:
    """Any number of shared holders, or one exclusive holder; behind one that waits to be exclusive all others wait."""

    def __init__(self) -> None:
        """Nobody holds it."""
        self._entrance = asyncio.Lock()
        self._holders = 0
        self._free = asyncio.Event()
        self._free.set()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Held together with others."""
        async with self._entrance:
            self._holders += 1
            self._free.clear()
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                self._free.set()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Held by nobody else."""
        async with self._entrance:
            await self._free.wait()
            yield
