"""Why rows differed: which events of them came, when, and what became of them. Apart from the repair, and bounded."""

import logging
from typing import Any

import asyncpg

from nexus_auth.reconcile.context import Context
from nexus_auth.store import runs

ATTEMPTS = 3
MILLISECONDS = 3_000
"""Of each attempt's statements; the repair is done and must not wait for its reasons."""

logger = logging.getLogger(__name__)


async def tell_causes(context: Context) -> str | None:
    """Corrects the causes of findings by what the inbox has; answers a sentence where that was left out.

    A sweep may be there before the event is: what came since the kind's former run corrects what was said of it then.
    """
    run = context.run
    said = ""
    for _ in range(ATTEMPTS):

        async def work(connection: Any) -> None:
            await runs.tell_causes(connection, run, milliseconds=MILLISECONDS)

        try:
            await runs.write(context.pool, run, work)
        except asyncpg.PostgresError as error:
            if runs.is_away(error):
                raise
            said = type(error).__name__
        else:
            return None
    extra = {"sync": run.sync, "run": run.id, "kind": run.kind, "why": said}
    logger.warning("the reasons of findings were left out", extra=extra)
    return f"the reasons of its findings were left out: three attempts ended with {said}"
