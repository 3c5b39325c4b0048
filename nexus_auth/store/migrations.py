"""Migrations by dbmate: our one place that knows how it is called, and what it does not do by itself.

The connection is tried first, as every service's is: what is wrong with the URL, the login or the server is said in the
same words, and dbmate gets one host that answered. `migrate`, never `up`: `up` would create a database whose name
somebody mistyped. dbmate's lock is off unless asked for, and without it two starting services fail in each other's way.
Its table has a schema of its own, which no migration of ours drops.

Traded: dbmate knows no placeholders, so for another role prefix the files are copied with the roles' names replaced;
and it keeps no checksums, so that an edited file is noticed by `sql/CHECKSUMS` (`make lint`), not by the database.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg

from nexus_auth.store.address import Address, AddressRefused, read_address
from nexus_auth.store.failure import Failure, explain
from nexus_auth.store.pool import connect, pooler_of

SQL_DIR = Path(__file__).resolve().parents[2] / "sql" / "migrations"
"""The migrations of this checkout."""

MIGRATIONS_TABLE = "clerk_migrations.schema_migrations"

DEFAULT_PREFIX = "clerk_"

ROLE_NAMES = re.compile(r"\bclerk_(owner|definer|migrator|writer|webhook|reconciler|worker|cli)\b")
"""The roles as the files write them. Schemas (`clerk`, `clerk_private`, `clerk_migrations`) and functions keep
their names."""

STARTING = ("away", "timeout", "full")
"""Kinds of failure that a server which is starting shows: tried again until the deadline."""

NOT_READY = re.compile(
    r"connection (?:refused|reset)|no such (?:file or directory|host)|i/o timeout|\bEOF\b|\((?:57P03|53300)\)"
)
"""The same in dbmate's words."""

RACED = re.compile(r"\((?:42710|23505)\)|tuple concurrently updated")
"""Another installation created the same role at the same moment. A file is one transaction: nothing is left of it."""

RACES = 5
"""How often that is believed before it is an error: a real duplicate looks the same."""

POLL_SECONDS = 0.2


class MigrationFailed(Exception):
    """The database cannot be migrated; the text says why, without the password."""

    def __init__(self, message: str, *, failure: Failure | None = None) -> None:
        """`failure`: what the database had against it before dbmate began."""
        super().__init__(message)
        self.failure = failure


def migrate(
    database_url: str, *, role_prefix: str = DEFAULT_PREFIX, sql_dir: Path = SQL_DIR, timeout: float = 60.0
) -> list[str]:
    """Applies what is missing and answers the files' names, in order; the database must exist.

    Waits up to `timeout` seconds for a server that is starting; any number of callers at once do the work once.
    Raises `MigrationFailed`; files applied before the failing one stay applied.
    """
    said = _dbmate(database_url, ["migrate", "--strict"], role_prefix=role_prefix, sql_dir=sql_dir, timeout=timeout)
    return re.findall(r"^Applied: (\S+)", said, flags=re.MULTILINE)


def rollback(
    database_url: str, *, role_prefix: str = DEFAULT_PREFIX, sql_dir: Path = SQL_DIR, timeout: float = 60.0
) -> list[str]:
    """Takes back the newest applied migration and answers its file's name; raises `MigrationFailed` if there is
    none."""
    said = _dbmate(database_url, ["rollback"], role_prefix=role_prefix, sql_dir=sql_dir, timeout=timeout)
    return re.findall(r"^Rolled back: (\S+)", said, flags=re.MULTILINE)


def status(database_url: str, *, sql_dir: Path = SQL_DIR, timeout: float = 60.0) -> dict[str, bool]:
    """Every migration's file name, and whether it is applied."""
    said = _dbmate(database_url, ["status"], role_prefix=DEFAULT_PREFIX, sql_dir=sql_dir, timeout=timeout)
    return {name: mark == "X" for mark, name in re.findall(r"^\[([ X])\] (\S+)", said, flags=re.MULTILINE)}


def render(sql: str, *, role_prefix: str) -> str:
    """A migration's text for another role prefix: exactly the roles' names change."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", role_prefix):
        raise ValueError(f"role prefix {role_prefix!r}: up to 40 of a-z, 0-9 and _, beginning with a letter")
    return ROLE_NAMES.sub(lambda role: role_prefix + role[1], sql)


def _dbmate(database_url: str, command: list[str], *, role_prefix: str, sql_dir: Path, timeout: float) -> str:
    try:
        address = read_address(database_url)
    except AddressRefused as error:
        raise MigrationFailed(str(error), failure=explain(error)) from None
    deadline = time.monotonic() + timeout
    races = 0
    with _rendered(sql_dir, role_prefix=role_prefix) as folder:
        while True:
            reached = _in_a_thread(_reached(address))
            if isinstance(reached, Failure):
                if reached.kind in STARTING and time.monotonic() < deadline:
                    time.sleep(POLL_SECONDS)
                    continue
                raise MigrationFailed(str(reached), failure=reached)
            done = _run(reached, command, folder=folder, passfile=address.passfile)
            if done.returncode == 0:
                return done.stdout
            reason = _without_password(done.stderr.strip() or f"dbmate ended with {done.returncode}", address)
            races += bool(RACED.search(reason))
            waits = bool(NOT_READY.search(reason)) and time.monotonic() < deadline
            if not waits and not (RACED.search(reason) and races < RACES):
                raise MigrationFailed(reason.removeprefix("Error: "))
            time.sleep(POLL_SECONDS)


async def _reached(address: Address) -> str | Failure:
    """dbmate's URL for the first host that answers as it should, or why none does."""
    failure = None
    candidates: Sequence[Address] = [address.at(place) for place in address.hosts] or [address]
    for at in candidates:
        try:
            connection = await connect(at)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            failure = failure or explain(error)
            continue
        try:
            pooled = await connection.fetchval("select pg_catalog.pg_backend_pid()") != connection.get_server_pid()
            if pooled and await pooler_of(at) == "transaction":
                return Failure(
                    "pooler",
                    "a pooler on the way shares its connections by transaction, where a migration's lock is lost",
                    "give migrate a direct URL",
                )
            return at.for_dbmate(pooled=pooled)
        finally:
            connection.terminate()
    return failure or Failure("other", "no host of the URL answers", "")


def _in_a_thread(work: Coroutine[Any, Any, str | Failure]) -> str | Failure:
    """The caller's thread may be running an event loop already, and asyncio allows one a thread."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


def _run(url: str, command: list[str], *, folder: Path, passfile: str | None) -> subprocess.CompletedProcess[str]:
    """The URL goes by the environment: argv is for everybody on the machine to see."""
    kept = {name: value for name, value in os.environ.items() if name == "HOME" or name.startswith("SSL_")}
    if passfile is not None:
        kept["PGPASSFILE"] = passfile
    options = ["--migration-lock", "--no-dump-schema", "--env-file", os.devnull]
    return subprocess.run(
        [_binary(), "--migrations-dir", str(folder), "--migrations-table", MIGRATIONS_TABLE, *options, *command],
        env={**kept, "PATH": os.defpath, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def _rendered(sql_dir: Path, *, role_prefix: str) -> Iterator[Path]:
    if not any(sql_dir.glob("*.sql")):
        raise MigrationFailed(f"no migrations in {sql_dir}")
    if role_prefix == DEFAULT_PREFIX:
        yield sql_dir
        return
    with tempfile.TemporaryDirectory(prefix="nexus-auth-sql-") as folder:
        for file in sorted(sql_dir.glob("*.sql")):
            (Path(folder) / file.name).write_text(render(file.read_text(), role_prefix=role_prefix))
        yield Path(folder)


def _binary() -> str:
    """Beside the running Python first: a service is started by its path, and its venv is not on PATH."""
    beside = Path(sys.executable).with_name("dbmate")
    found = str(beside) if beside.exists() else shutil.which("dbmate")
    if found is None:
        raise MigrationFailed("dbmate is not installed (extra: cli)")
    return found


def _without_password(text: str, address: Address) -> str:
    for form in {address.password, quote(address.password, safe="")} if address.password else set():
        text = text.replace(form, "***")
    return text
