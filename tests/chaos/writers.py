"""Group commits of our own in one test process, each with a pool of its own, as two service processes have."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from devtools.postgres import Database
from nexus_auth.clerk import envelope
from nexus_auth.store.ingest import Delivery, GroupCommit
from nexus_auth.store.pool import open_pool
from tests.events import Signed


@asynccontextmanager
async def group_commit(database: Database, *, name: str) -> AsyncIterator[GroupCommit]:
    """One lane, as role webhook, on connections of this application name."""
    role = f"{database.role_prefix}webhook"
    async with await open_pool(database.url("webhook"), role=role, application=name, size=2) as pool:
        commit = GroupCommit(pool, lanes=1)
        commit.start()
        yield commit
        await commit.close()


def delivery(signed: Signed) -> Delivery:
    """A delivery as the service makes it of a verified request."""
    headers = signed.headers()
    return Delivery(
        svix_id=signed.svix_id,
        svix_timestamp=headers["svix-timestamp"],
        signature=headers["svix-signature"],
        secret="whsec_tests",
        event=envelope.read(signed.body),
        body_hmac=None,
    )


def deliveries(those: Iterable[Signed]) -> list[Delivery]:
    """Several."""
    return list(map(delivery, those))
