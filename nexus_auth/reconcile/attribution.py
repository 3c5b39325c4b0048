"""Why a row differed: which events of it came, when, and what became of them."""

from importlib.resources import files

import asyncpg

from nexus_auth.store import runs
from nexus_auth.store.runs import Run

ATTRIBUTE = files("nexus_auth.reconcile").joinpath("attribution.sql").read_text("utf-8")
CORRECT = files("nexus_auth.reconcile").joinpath("attribution_late.sql").read_text("utf-8")


async def attribute(pool: "asyncpg.Pool[asyncpg.Record]", run: Run) -> None:
    """Gives every finding of the run its cause; `clerk_private.findings.cause` lists them.

    A sweep may be there before the event is. What came since the sync's last run corrects what was said of it then.
    """
    async with runs.writing(pool, run) as connection:
        await connection.execute(CORRECT, run.id, run.sync)
        await connection.execute(ATTRIBUTE, run.id)
