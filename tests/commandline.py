"""`nexus-auth` as a test calls it, and an inbox filled as the webhook fills it."""

import asyncio
import contextlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from devtools.postgres import Database, execute, fetch
from nexus_auth.clerk import envelope
from nexus_auth.clerk.signature import fingerprint
from nexus_auth.store import instance
from nexus_auth.store.ingest import Delivery, GroupCommit
from nexus_auth.store.pool import open_pool
from services.cli.__main__ import main
from tests.events import INSTANCE, SECRET, Signed

WITHHOLD_KEY = b"tests-only-withhold-key-0123456789abcdef"
SIGNED_AT = datetime(2026, 5, 28, 12, 0, tzinfo=UTC)
"""Long past the five minutes in which the library would verify."""


@dataclass(frozen=True)
class Ran:
    """What a command said and ended with."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output, read as JSON; the command must have succeeded or said on standard error why not."""
        return json.loads(self.out)


class CommandLine:
    """Calls `nexus-auth` in a folder of its own; the environment holds nothing but what is given here.

    It runs in this process, in whatever thread it is called: hundreds of interpreters would take minutes to start.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = environment

    @classmethod
    def of(cls, database: Database, folder: Path, **environment: str) -> "CommandLine":
        """For a test's database, with the secret that tests sign with."""
        known = {"CLI_DATABASE_URL": database.url("cli"), "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}
        return cls(folder, **{**known, **environment})

    def __call__(self, *arguments: str, **environment: str) -> Ran:
        """Runs one command to its end. Whatever it says, it says no secret and shows no traceback."""
        complete = {name: value for name, value in {**self.environment, **environment}.items() if value}
        with contextlib.chdir(self.folder):
            done = CliRunner().invoke(main, arguments, env=complete, prog_name="nexus-auth")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        ran = Ran(done.exit_code, done.stdout_bytes.decode("utf-8", "replace"), done.stderr)
        for secret in _secrets_of(complete):
            assert secret not in ran.out + ran.err
        return ran


def store(database: Database, *events: bytes | Signed, secret: str = SECRET) -> list[str]:
    """Puts events into the inbox as the webhook does, in this order, one transaction each; answers their svix-ids."""
    signed = [event if isinstance(event, Signed) else Signed(event) for event in events]
    asyncio.run(_store(database, signed, secret=secret))
    return [event.svix_id for event in signed]


async def _store(database: Database, events: Iterable[Signed], *, secret: str) -> None:
    async with await open_pool(database.url("webhook"), role="clerk_webhook", application="test", size=3) as pool:
        async with pool.acquire() as connection:
            await instance.claim(connection, INSTANCE)
        commit = GroupCommit(pool, lanes=1)
        commit.start()
        for signed in events:
            await commit.submit(delivery_of(signed, secret=secret))
        await commit.close()


def delivery_of(signed: Signed, *, secret: str = SECRET) -> Delivery:
    """The delivery that the webhook makes of it."""
    event = envelope.read(signed.body)
    headers = signed.headers(secret=secret, at=SIGNED_AT)
    return Delivery(
        svix_id=signed.svix_id,
        svix_timestamp=headers["svix-timestamp"],
        signature=headers["svix-signature"],
        secret=fingerprint(secret),
        event=event,
        body_hmac=hmac.digest(WITHHOLD_KEY, signed.body, "sha256") if event.withheld else None,
    )


def rows(database: Database, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    """A query's rows, read past all policies."""
    return [tuple(row) for row in fetch(database.admin_url, query, *arguments)]


def change(database: Database, *statements: str) -> None:
    """Statements of an administrator, one transaction each."""
    execute(database.admin_url, *statements)


def mirror(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All that applications read, and the versions behind it."""
    queries = {
        "users": "select u.* from clerk.users u order by 1",
        "emails": "select e.* from clerk.user_emails e order by 1, 2",
        "organizations": "select o.* from clerk.organizations o order by 1",
        "memberships": "select m.* from clerk.organization_memberships m order by 1",
        "objects": "select kind, id, updated_at, observed_at, source_rank, svix_id, deleted_at, buried_by, raw::text,"
        " digest from clerk_private.objects order by 1, 2",
    }
    return {name: rows(database, query) for name, query in queries.items()}


def _secrets_of(environment: Mapping[str, str]) -> Iterable[str]:
    for name, value in environment.items():
        if name.endswith("DATABASE_URL") and ":" in value.rpartition("@")[0]:
            yield value.rpartition("@")[0].rpartition(":")[2]
        elif name.endswith(("_SECRET", "_SECRETS", "_KEY")):
            yield from (secret.removeprefix("whsec_") for secret in value.split())
