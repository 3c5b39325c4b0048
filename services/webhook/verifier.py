"""Asks Clerk about held deletions, where this service has an API key; without one the reconciler does.

Every replica looks; what one has settled, another finds settled. Requests come out of the instance's budget, and the
key is read and its instance checked anew before anything is asked: a key of another instance knows none of our users.
"""

import time
from collections.abc import Callable

import asyncpg

from nexus_auth.clerk.api import ClerkApi, instance_id_of
from nexus_auth.reconcile.held import verify_held
from nexus_auth.reconcile.requester import Requester
from nexus_auth.store import held
from nexus_auth.store.borrowing import borrowed
from nexus_auth.store.budget import Budget, Share
from nexus_auth.store.instance import WrongInstance
from services.webhook.settings import WebhookSettings

LOOK_SECONDS = 5.0
"""Between two looks whether something is held."""

IDLE_SECONDS = 120.0
"""Longest time between two checks of the key: ingest holds nothing when no verifier was seen for five minutes."""

BUDGET_PERCENT = 10
"""Of Clerk's limit, where no reconciler has opened the instance's budget."""

QUERY_SECONDS = 10.0


class HeldVerifier:
    """One look after the other; `look` is a chore of the service."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        *,
        settings: WebhookSettings,
        instance_id: str,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """The pool is the service's; `now` in seconds."""
        self._pool = pool
        self._settings = settings
        self._instance_id = instance_id
        self._now = now
        self._proved_at = -IDLE_SECONDS

    async def look(self) -> None:
        """Verifies what is held and due. Raises what Clerk and the database raise; the next look tries again."""
        key = self._settings.read_clerk_secret_key()
        if key is None:
            return
        async with borrowed(self._pool, seconds=QUERY_SECONDS) as connection:
            waiting = await held.due(connection, limit=1)
        if not waiting and self._now() - self._proved_at < IDLE_SECONDS:
            return
        environment = "Production" if key.startswith("sk_live_") else "Development"
        share = Share.of(environment, percent=BUDGET_PERCENT)
        budget = Budget(self._pool, instance_id=self._instance_id, share=share)
        await budget.open(keep=True)
        async with ClerkApi(self._settings.clerk_api_url, secret_key=key) as clerk:
            requester = Requester(clerk, budget=budget)
            answered = instance_id_of(await requester.read("/instance"))
            if answered != self._instance_id:
                raise WrongInstance(f"CLERK_SECRET_KEY belongs to {answered}, this database to {self._instance_id}")
            await verify_held(self._pool, requester=requester, spacing=self._settings.verify_after)
        self._proved_at = self._now()
