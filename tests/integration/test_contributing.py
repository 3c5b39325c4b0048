"""The recipes of CONTRIBUTING.md work as they are written."""

import asyncio
import re
from pathlib import Path

import asyncpg

from devtools.postgres import Database
from tests.commandline import rows, store
from tests.events import event, user

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")


def migration(heading: str) -> str:
    """The SQL below a heading."""
    found = re.search(rf"^### {heading}$.*?^```sql\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


async def run(database: Database, sql: str) -> None:
    connection = await asyncpg.connect(database.admin_url)
    try:
        async with connection.transaction():
            await connection.execute(sql)
    finally:
        await connection.close()


def test_a_column_is_added_by_the_migration_alone(database: Database) -> None:
    old = event("user.created", user("user_old", legal_accepted_at=1_780_000_000_000))
    store(database, old)
    asyncio.run(run(database, migration("Add a column")))
    store(database, event("user.created", user("user_new", legal_accepted_at=1_780_000_000_000)))
    query = "select id, extract(epoch from legal_accepted_at)::bigint from clerk.users order by id"
    assert rows(database, query) == [("user_new", 1_780_000_000), ("user_old", None)]
    edited = "select id, problem from clerk_private.edited('user', '', 10) where problem is not null"
    assert rows(database, edited) == [("user_old", "projection")], "the next sweep makes it anew"
