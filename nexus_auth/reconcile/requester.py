"""Every request of the engine goes through here: within the budget, tried again where that can help."""

import asyncio

from nexus_auth.clerk.api import Answer, ClerkApi, ClerkLimited, ClerkUnavailable, Params
from nexus_auth.store.budget import Budget

ATTEMPTS = 5
FIRST_PAUSE = 0.25
"""Seconds before the second attempt; each further pause is twice as long."""


class Requester:
    """Reads Clerk's API at the pace that the budget allows."""

    def __init__(self, clerk: ClerkApi, *, budget: Budget, first_pause: float = FIRST_PAUSE) -> None:
        """Both are the caller's to close."""
        self._clerk = clerk
        self._budget = budget
        self._first_pause = first_pause

    async def read(self, path: str, params: Params = ()) -> Answer:
        """One answer of 200. Raises `ClerkUnavailable` after the last attempt, `ClerkRefused` at once."""
        pause = self._first_pause
        for attempt in range(1, ATTEMPTS + 1):
            await self._budget.take()
            try:
                return await self._clerk.read(path, params)
            except ClerkLimited as limited:
                await self._budget.pause(limited.retry_after)
                if attempt == ATTEMPTS:
                    raise
            except ClerkUnavailable:
                if attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(pause)
                pause *= 2
        raise AssertionError("unreachable")
