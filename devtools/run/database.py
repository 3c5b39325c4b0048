"""Postgres for the run: the embedded server with its data of last time, or the database of `DATABASE_URL`."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from devtools.postgres import (
    BinariesMissing,
    Database,
    ForeignServer,
    Server,
    ServerFailed,
    create_database,
    create_logins,
    drop_database,
    fetch,
)
from devtools.run.parts import PartFailed
from nexus_auth.store.migrations import MigrationFailed, migrate

NAME = "postgres"
LOOK_SECONDS = 0.25
MIGRATE_SECONDS = 15.0

T = TypeVar("T")


class RunDatabase:
    """The server of a run and its one database. The work is synchronous and done in a thread of its own."""

    def __init__(self, server: Server | ForeignServer, *, fresh: bool = False) -> None:
        """Starts nothing. `fresh`: a database of earlier runs on the embedded server is dropped first."""
        self._server = server
        self._fresh = fresh
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=NAME)

    @property
    def is_embedded(self) -> bool:
        """Whether the server is ours."""
        return isinstance(self._server, Server)

    async def start(self) -> None:
        """Starts the server, unless somebody else runs it. Raises `PartFailed`."""
        if isinstance(self._server, Server):
            await self._in_thread(self._server.start)

    async def prepare(self, name: str) -> Database:
        """Creates the embedded server's database of that name if need be, migrates, lets the logins in."""
        return await self._in_thread(lambda: self._prepare(name))

    async def watch(self, heard: Callable[[str], None]) -> None:
        """Hands over each line of the server's log from now on; raises `PartFailed` when the server is gone.

        It is not started again: a postmaster that dies had a reason (memory, disk, somebody's kill), and a restart
        would hide it. The data is safe, and the next run recovers it.
        """
        if isinstance(self._server, ForeignServer):
            return
        with self._server.log.open("rb") as log:
            log.seek(0, 2)
            rest = b""
            while self._server.alive:
                *lines, rest = (rest + log.read()).split(b"\n")
                for line in lines:
                    heard(line.decode("utf-8", "replace"))
                await asyncio.sleep(LOOK_SECONDS)
        raise PartFailed(NAME, what="is gone", last_lines=self._server.last_log_lines(12))

    async def stop(self) -> None:
        """Stops a server of ours in good order and leaves its data."""
        await asyncio.to_thread(self._thread.shutdown)  # a start that goes on must end before it can be undone
        if isinstance(self._server, Server):
            await asyncio.to_thread(self._server.release)

    def _prepare(self, name: str) -> Database:
        url = self._server.admin_url()
        if self.is_embedded:
            exists = fetch(url, "select from pg_database where datname = $1", name)
            if exists and self._fresh:
                drop_database(url, name)
                exists = []
            url = self._server.admin_url(name) if exists else create_database(url, name)
        migrate(url, timeout=MIGRATE_SECONDS)
        return create_logins(url)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        import asyncpg

        answer: Awaitable[T] = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await answer
        except (ServerFailed, BinariesMissing, MigrationFailed, asyncpg.PostgresError, OSError) as error:
            first, *more = str(error).strip().splitlines() or [type(error).__name__]
            raise PartFailed(NAME, what=f"cannot be used: {first}", last_lines=more) from error
