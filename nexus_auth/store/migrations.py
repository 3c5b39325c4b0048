"""Migrations by dbmate: our one place that knows how it is called, and what it does not do by itself.

`migrate`, never `up`: `up` would create a database whose name somebody mistyped. dbmate's lock is off unless asked for,
and without it two starting services fail in each other's way. Its table has a schema of its own, which no migration of
ours drops.

Traded: dbmate knows no placeholders, so for another role prefix the files are copied with the roles' names replaced;
and it keeps no checksums, so that an edited file is noticed by `sql/CHECKSUMS` (`make lint`), not by the database.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

SQL_DIR = Path(__file__).resolve().parents[2] / "sql" / "migrations"
"""The migrations of this checkout."""

MIGRATIONS_TABLE = "clerk_migrations.schema_migrations"

DEFAULT_PREFIX = "clerk_"

ROLE_NAMES = re.compile(r"\bclerk_(owner|definer|writer|webhook|reconciler|worker|cli)\b")
"""The roles as the files write them. Schemas (`clerk`, `clerk_private`, `clerk_migrations`) and functions keep
their names."""

NOT_READY = re.compile(
    r"connection (?:refused|reset)|no such (?:file or directory|host)|i/o timeout|\bEOF\b|\((?:57P03|53300)\)"
)
"""What a server that is starting looks like from outside: tried again until the deadline."""

RACED = re.compile(r"\((?:42710|23505)\)|tuple concurrently updated")
"""Another installation created the same role at the same moment. A file is one transaction: nothing is left of it."""

RACES = 5
"""How often that is believed before it is an error: a real duplicate looks the same."""

POLL_SECONDS = 0.2


class MigrationFailed(Exception):
    """dbmate refused or failed; the text is its message, without the password."""


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
    deadline = time.monotonic() + timeout
    races = 0
    with _rendered(sql_dir, role_prefix=role_prefix) as folder:
        while True:
            done = _run(database_url, command, folder=folder)
            if done.returncode == 0:
                return done.stdout
            reason = _without_password(done.stderr.strip() or f"dbmate ended with {done.returncode}", database_url)
            races += bool(RACED.search(reason))
            waits = bool(NOT_READY.search(reason)) and time.monotonic() < deadline
            if not waits and not (RACED.search(reason) and races < RACES):
                raise MigrationFailed(reason.removeprefix("Error: "))
            time.sleep(POLL_SECONDS)


def _run(database_url: str, command: list[str], *, folder: Path) -> subprocess.CompletedProcess[str]:
    """The URL goes by the environment: argv is for everybody on the machine to see."""
    trust = {name: value for name, value in os.environ.items() if name == "HOME" or name.startswith(("PGSSL", "SSL_"))}
    options = ["--migration-lock", "--no-dump-schema", "--env-file", os.devnull]
    return subprocess.run(
        [_binary(), "--migrations-dir", str(folder), "--migrations-table", MIGRATIONS_TABLE, *options, *command],
        env={**trust, "PATH": os.defpath, "DATABASE_URL": _with_defaults(database_url)},
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


def _with_defaults(url: str) -> str:
    """dbmate's driver insists on TLS where the URL says nothing; libpq and asyncpg prefer it, and so do we."""
    parts = urlsplit(url)
    query = {"sslmode": "prefer", "connect_timeout": "10", **dict(parse_qsl(parts.query, keep_blank_values=True))}
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))


def _without_password(text: str, url: str) -> str:
    secret = urlsplit(url).password
    for form in {secret, unquote(secret)} if secret else set():
        text = text.replace(form, "***")
    return text
