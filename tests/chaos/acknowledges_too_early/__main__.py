"""The webhook service, sabotaged: it answers 204 before anything is stored. Run by the controls of test_kills.

A test that finds no loss proves something only if it finds the loss in this one.
"""

import asyncio
import sys

from nexus_auth.store.ingest import Delivery, GroupCommit
from services.webhook.__main__ import main as serve

store = GroupCommit.submit
stored_later: set[asyncio.Task[str]] = set()


async def submit(self: GroupCommit, delivery: Delivery) -> str:
    """Promises, then begins."""
    task = asyncio.create_task(store(self, delivery))
    stored_later.add(task)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return "created"


def main() -> int:
    """Serves, sabotaged."""
    GroupCommit.submit = submit  # type: ignore[method-assign]
    return serve()


if __name__ == "__main__":
    sys.exit(main())
