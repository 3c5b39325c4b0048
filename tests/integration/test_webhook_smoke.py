"""The thinnest path: a signed event becomes a row."""

from pathlib import Path

import asyncpg

from devtools.postgres import Database
from tests.events import T0, Signed, event, user
from tests.service import WebhookService


async def test_a_signed_event_becomes_a_row_that_only_its_user_sees(database: Database, tmp_path: Path) -> None:
    async with WebhookService(database, folder=tmp_path) as service:
        answer = await service.post(Signed(event("user.created", user("user_ada", updated_at=T0))))
        assert answer == (204, "")
        assert await service.stop() == 0
    connection = await asyncpg.connect(database.url("app"))
    seen = {}
    for who in ("user_ada", "user_eve"):
        async with connection.transaction():
            await connection.execute("set local role authenticated")
            await connection.execute("select set_config('request.jwt.claims', $1, true)", f'{{"sub":"{who}"}}')
            seen[who] = await connection.fetch("select id, primary_email from clerk.users")
    await connection.close()
    assert [tuple(row) for row in seen["user_ada"]] == [("user_ada", "user_ada@example.com")]
    assert seen["user_eve"] == []
