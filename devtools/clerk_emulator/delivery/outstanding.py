"""Counts what was promised and not finished yet, so that a test can wait until nothing is on its way."""

import asyncio


class Outstanding:
    """A counter that can be waited for."""

    def __init__(self) -> None:
        """Begin with nothing outstanding."""
        self.count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def opened(self) -> None:
        """Count one more."""
        self.count += 1
        self._idle.clear()

    def finished(self) -> None:
        """Count one less."""
        self.count -= 1
        if not self.count:
            self._idle.set()

    async def idle(self, *, timeout: float) -> bool:
        """Wait until nothing is outstanding; False when ``timeout`` seconds were not enough."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
