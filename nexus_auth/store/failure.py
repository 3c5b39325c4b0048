"""What an error of Postgres, or of the way to it, means: one word for machines, what is wrong, and what to do.

Shared by all services, so that the same trouble has the same words in a log, a condition and on a terminal. Nothing of
an event, a URL or a password is in a sentence: a server's own message is quoted only where it speaks of roles,
relations and settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

import asyncpg

from nexus_auth.store.address import AddressRefused
from nexus_auth.store.certificate import TlsRefused
from nexus_auth.store.pool import NotWritable, UnsafeDatabase
from nexus_auth.store.schema import SchemaOutdated

Kind = Literal[
    "address",
    "tls",
    "away",
    "timeout",
    "login",
    "no database",
    "rights",
    "unsafe",
    "read-only",
    "schema",
    "pooler",
    "full",
    "locked",
    "conflict",
    "data",
    "other",
]

LOCK_HOLDERS = files("nexus_auth.store").joinpath("lock_holders.sql").read_text("utf-8")

_POOLER = "let the pooler share by session, or set NEXUS_AUTH_POOLER=transaction"
_MIGRATE = "run nexus-auth migrate with the owner's URL"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed. A log says it once, and again when `kind` has changed."""

    kind: Kind
    sentence: str
    """What is wrong."""
    remedy: str
    """What to do; empty where the sentence says it."""

    def __str__(self) -> str:
        """Both, as one line."""
        return f"{self.sentence}; {self.remedy}" if self.remedy else self.sentence


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A session that holds a lock on our tables which keeps writers waiting."""

    pid: int
    role: str
    relation: str
    mode: str

    def __str__(self) -> str:
        """For a log line."""
        return f"process {self.pid} of {self.role} ({self.mode} on {self.relation})"


def explain(error: BaseException, *, role: str = "") -> Failure:
    """What an error means. `role` is the group that the service wants to be, for sentences."""
    match error:
        case AddressRefused():
            return Failure("address", str(error), "")
        case NotWritable():
            return Failure("read-only", str(error), "name the primary in the URL")
        case TlsRefused():
            return Failure("tls", str(error), "")
        case UnsafeDatabase():
            return Failure("unsafe", str(error), "")
        case SchemaOutdated():
            return Failure("schema", str(error), "")
        case asyncpg.PostgresError():
            return _of_state(error, role=role)
        case TimeoutError():
            return Failure(
                "timeout", "the database does not answer in time", "is it running, and is the way to it open?"
            )
        case ConnectionRefusedError():
            return Failure("away", "the database cannot be reached (connection refused)", "is it running?")
        case OSError():
            why = (error.strerror or type(error).__name__).lower()
            return Failure("away", f"the database cannot be reached ({why})", "is it running, and is its host right?")
        case asyncpg.InterfaceError():
            return Failure(
                "away", f"the connection to the database ended ({type(error).__name__})", "it is opened again"
            )
        case _:
            return Failure("other", type(error).__name__, "")


async def lock_holders(connection: Any) -> Sequence[LockHolder]:
    """Sessions that hold a lock on our tables which keeps writers waiting, the oldest first: who caused a 55P03."""
    return [LockHolder(**dict(row)) for row in await connection.fetch(LOCK_HOLDERS)]


def _of_state(error: asyncpg.PostgresError, *, role: str) -> Failure:
    """By SQLSTATE (appendix A of PostgreSQL's documentation)."""
    state = error.sqlstate or ""
    said = " ".join(str(error).split())
    named = role or "its group"
    match state:
        case "28P01" | "28000":
            return Failure("login", "the database refused the login or its password", "check both in the URL")
        case "3D000":
            return Failure("no database", "the database does not exist", "create it, then " + _MIGRATE)
        case "42501":
            remedy = f"it must be a member of {named} in this database, and the group must have its listed rights"
            return Failure("rights", f"the login may not do this: {said}", remedy)
        case "22023" if "role" in said:
            remedy = f"{_MIGRATE}, or set NEXUS_AUTH_ROLE_PREFIX"
            return Failure("schema", f"the database has no role {role or 'of this service'}", remedy)
        case "42704" if "configuration parameter" in said:
            return Failure("address", f"the server does not know a setting: {said}", "take it out of the URL's options")
        case "3F000" | "42P01" | "42703" | "42883" | "42704":
            return Failure(
                "schema", f"the schema of nexus-auth is missing, or older than this program: {said}", _MIGRATE
            )
        case "25006":
            remedy = "point the URL at the primary, or end default_transaction_read_only"
            return Failure("read-only", "the server is read-only: a standby, or set so", remedy)
        case "26000" | "42P05":
            return Failure(
                "pooler", "a pooler shares its connections by transaction: a prepared statement is gone", _POOLER
            )
        case "08P01" if "startup parameter" in said:
            return Failure("pooler", f"a pooler refuses the connection: {said}", "take `options` out of the URL")
        case "57014":
            return Failure("timeout", "a statement took too long and was ended", "the next try may do better")
        case "55P03":
            return Failure("locked", f"a lock was not had in time: {said}", "end the session that holds it")
        case "53300":
            return Failure("full", "the server has no connection left", "see nexus-auth status for who holds them")
        case "53200" | "53100" | "53400":
            return Failure("full", f"the server is out of resources ({said})", "look at its memory and its disk")
        case "40001" | "40P01":
            return Failure("conflict", "another transaction was in the way", "it is tried again")
    if state.startswith(("08", "57P")):
        return Failure("away", f"the database is away ({type(error).__name__})", "it is tried again")
    if state[:2] in ("21", "22", "23", "54"):
        return Failure("data", f"the database refuses what was written ({type(error).__name__}, {state})", "")
    return Failure("other", f"the database refuses ({type(error).__name__}, {state})", "")
