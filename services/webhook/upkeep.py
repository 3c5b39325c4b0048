"""What the webhook service does beside answering: changed secrets, partitions, unfinished deletions, backlog gauges.

Every replica does all of it; the SQL lets one at a time through. Each round stands alone: what fails is said and tried
again in the next.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import asyncpg

from nexus_auth.store import maintenance
from services.webhook.metrics import WebhookMetrics
from services.webhook.verification import Secrets

SECRETS_SECONDS = 1.0
BACKLOG_SECONDS = 15.0
MAINTAIN_SECONDS = 3_600.0

logger = logging.getLogger(__name__)


async def watch_secrets(secrets: Secrets, *, metrics: WebhookMetrics) -> None:
    """Takes changed secrets over within a second or so; runs until cancelled."""
    while True:
        for name in secrets.webhooks:
            metrics.secrets.labels(name).set(1)
        await asyncio.sleep(SECRETS_SECONDS)
        before = set(secrets.webhooks)
        if secrets.refresh():
            for gone in before - set(secrets.webhooks):
                metrics.secrets.remove(gone)
            logger.info("signing secrets changed", extra={"secrets": sorted(secrets.webhooks)})


async def follow_address(read: Callable[[], str], *, address: str, move: Callable[[str], Awaitable[None]]) -> None:
    """Takes the database's address over whenever its file holds another one than `address`; runs until cancelled.

    What cannot be used (a mistyped password, a login with too many rights, another instance's database) leaves the
    former in place, is said once, and is tried again: whoever rotates a password changes two places, one of them first.
    """
    said = ""
    while True:
        await asyncio.sleep(SECRETS_SECONDS)
        try:
            now = read()
            if now == address:
                continue
            await move(now)
        except Exception as error:  # the text may quote the address
            if type(error).__name__ != said:
                said = type(error).__name__
                logger.error("database address not taken over, the former stays", extra={"error": said})
            continue
        address, said = now, ""
        logger.info("database address changed")


async def keep_house(
    pool: "asyncpg.Pool[asyncpg.Record]", *, metrics: WebhookMetrics, database_answers: Callable[[], None]
) -> None:
    """Maintains the inbox hourly, finishes deletions, shows the backlog; runs until cancelled.

    `database_answers` is called after every round that succeeded.
    """
    maintained = -MAINTAIN_SECONDS
    while True:
        if time.monotonic() - maintained >= MAINTAIN_SECONDS and await _try(lambda: _maintain(pool)):
            maintained = time.monotonic()
        if await _try(lambda: _bury_and_count(pool, metrics=metrics)):
            database_answers()
        else:
            metrics.database_up.set(0)  # without an event that would say so
        await asyncio.sleep(BACKLOG_SECONDS)


async def _maintain(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    async with pool.acquire() as connection:
        done = await maintenance.maintain(connection)
    logger.info("inbox maintained", extra={"partitions_made": done.created, "partitions_dropped": done.dropped})


async def _bury_and_count(pool: "asyncpg.Pool[asyncpg.Record]", *, metrics: WebhookMetrics) -> None:
    async with pool.acquire() as connection:
        left = await maintenance.bury(connection)
        while left and (left_now := await maintenance.bury(connection)) < left:
            left = left_now
        metrics.show_backlog(await maintenance.backlog(connection))
        metrics.database_up.set(1)


async def _try(work: Callable[[], Awaitable[None]]) -> bool:
    try:
        await work()
    except Exception as error:  # whatever it was, a process that keeps its house no more would run on in silence
        logger.warning("upkeep failed, will try again", extra={"error": f"{type(error).__name__}: {error}"[:300]})
        return False
    return True
