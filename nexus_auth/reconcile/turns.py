"""Who writes when, within one process: walkers beside each other, the keeper of the run's progress alone.

Walkers' transactions share a lock on the run's row (the fence), the keeper needs it alone. Left to Postgres, walkers
that overlap never let go of it between them, and the keeper waits until its statement is cancelled.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Lets any number in beside each other, or one alone; who comes after one that wants to be alone waits."""

    def __init__(self) -> None:
        """Nobody is in."""
        self._door = asyncio.Lock()
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def beside_others(self) -> AsyncIterator[None]:
        """For as long as it is held nobody is alone."""
        async with self._door:
            self._inside += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """For as long as it is held nobody else is in."""
        async with self._door:
            await self._empty.wait()
            yield
