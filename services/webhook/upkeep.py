"""What the webhook service does beside answering: changed secrets, partitions, unfinished deletions, backlog gauges.

Every replica does all of it; the SQL lets one at a time through. Each chore is a task of its own: what fails in one is
said, tried again in its next round, and holds no other up. To add one, add it to the list of `chores`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg

from nexus_auth.clerk.api import ClerkRefused, ClerkUnavailable
from nexus_auth.store import maintenance
from nexus_auth.store.borrowing import borrowed
from nexus_auth.store.failure import explain
from nexus_auth.store.instance import WrongInstance
from nexus_auth.telemetry.logs import OnChange
from services.webhook.metrics import WebhookMetrics
from services.webhook.verification import Secrets

SECRETS_SECONDS = 1.0
BACKLOG_SECONDS = 15.0
MAINTAIN_SECONDS = 3_600.0
LONGEST_SECONDS = 600.0
"""A round that takes longer is ended: a chore of a frozen database must not stand still for ever."""

EXPECTED = (asyncpg.PostgresError, ClerkUnavailable, ClerkRefused, WrongInstance)
"""Troubles of others: said without a trace."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chore:
    """Something that is done again and again."""

    name: str
    work: Callable[[], Awaitable[None]]
    seconds: float
    """Pause after a round that succeeded."""
    again_after: float = BACKLOG_SECONDS
    """Pause after one that failed, where that is less."""


async def repeat(chore: Chore) -> None:
    """Does a chore until cancelled. A failure is logged once, again when it changes, and when it is over."""
    state = OnChange(logger, over="upkeep works again")
    while True:
        try:
            await chore.work()
        except Exception as error:  # whatever it was, the next round may succeed
            failure = explain(error)
            known = failure.kind != "other"
            text = str(failure) if known else f"{type(error).__name__}: {error}"[:300]
            kind = failure.kind if known else type(error).__name__
            said = state.trouble(f"upkeep failed, will try again: {text}", kind=kind, task=chore.name)
            if said and not known and not isinstance(error, EXPECTED):
                logger.error("upkeep met an error of its own", exc_info=error, extra={"task": chore.name})
            await asyncio.sleep(min(chore.seconds, chore.again_after))
        else:
            state.fine()
            await asyncio.sleep(chore.seconds)


def chores(
    pool: "asyncpg.Pool[asyncpg.Record]", *, metrics: WebhookMetrics, database_answers: Callable[[], None]
) -> Sequence[Chore]:
    """Everything that is done with the database. `database_answers` is called after a round that succeeded."""

    async def maintain() -> None:
        async with borrowed(pool, seconds=LONGEST_SECONDS) as connection:
            done = await maintenance.maintain(connection)
        logger.info("inbox maintained", extra={"partitions_made": done.created, "partitions_dropped": done.dropped})

    async def finish_deletions_and_count() -> None:
        try:
            async with borrowed(pool, seconds=LONGEST_SECONDS) as connection:
                left = await maintenance.bury(connection)
                while left and (left_now := await maintenance.bury(connection)) < left:
                    left = left_now
                metrics.show_backlog(await maintenance.backlog(connection))
        except Exception:
            metrics.database_up.set(0)  # without an event that would say so
            raise
        metrics.database_up.set(1)
        database_answers()

    return (
        Chore("maintain the inbox", maintain, MAINTAIN_SECONDS),
        Chore("finish deletions and count", finish_deletions_and_count, BACKLOG_SECONDS),
    )


def watch_secrets(secrets: Secrets, *, metrics: WebhookMetrics) -> Chore:
    """Takes changed secrets over within a second or so."""

    async def look() -> None:
        before = set(secrets.webhooks)
        if secrets.refresh():
            for gone in before - set(secrets.webhooks):
                metrics.secrets.remove(gone)
            logger.info("signing secrets changed", extra={"secrets": sorted(secrets.webhooks)})
        metrics.show_secrets(secrets.webhooks)

    return Chore("watch the signing secrets", look, SECRETS_SECONDS)


def follow_address(read: Callable[[], str], *, address: str, move: Callable[[str], Awaitable[None]]) -> Chore:
    """Takes the database's address over whenever its file holds another one than `address`.

    What cannot be used (a mistyped password, a login with too many rights, another instance's database) leaves the
    former in place, is logged once, and is tried again: whoever rotates a password changes two places, one of them
    first.
    """
    used = address
    state = OnChange(logger, over="the database address is usable again")

    async def look() -> None:
        nonlocal used
        try:
            now = read()
            if now == used:
                state.fine()
                return
            await move(now)
        except Exception as error:  # its text may quote the address
            state.trouble("database address not taken over, the former stays", error=type(error).__name__)
            return
        used = now
        state.fine()
        logger.info("database address changed")

    return Chore("follow the database address", look, SECRETS_SECONDS)
