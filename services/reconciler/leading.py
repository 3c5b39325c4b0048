"""Leading one sync: its databases opened and judged, its instance claimed, its budget at hand, its runs made.

Shared by the operator and the standalone runner, which differ in who may lead and in whom they tell. Whatever goes
wrong becomes a `Trouble`: one word for machines and one sentence for people that says what to do. What nobody expected
is one too: `InternalError`, with the exception's type, and its trace in the log.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

import asyncpg

from nexus_auth.clerk.api import (
    Answer,
    ClerkApi,
    ClerkLimited,
    ClerkRefused,
    ClerkUnavailable,
    ClerkUnreachable,
    Params,
    instance_id_of,
)
from nexus_auth.clerk.api_hosts import ApiHostRefused, ApiHosts
from nexus_auth.failpoints import Failpoint, nowhere
from nexus_auth.reconcile.engine import DatabaseRefused, Engine, InternalError, Result, SweepResult
from nexus_auth.reconcile.requester import Requester
from nexus_auth.store import comparison, held, instance, leadership, overview, runs
from nexus_auth.store.address import AddressRefused
from nexus_auth.store.budget import Budget
from nexus_auth.store.certificate import TlsRefused
from nexus_auth.store.failure import explain
from nexus_auth.store.history import History, read_history, request_answered
from nexus_auth.store.pool import UnsafeDatabase, open_pool, refuse_unsafe
from nexus_auth.store.runs import Fenced, WaitingRun
from nexus_auth.store.schema import SchemaOutdated, schema_version
from services.reconciler.manifests import InstanceManifest, SyncManifest
from services.reconciler.schedule import Due

CONNECTIONS = 12
"""To one database: walkers, and one more for each of budget, lock and looks."""
STATE_CONNECTIONS = 2
"""To the database of an instance's budget, where that is another one."""
CLOSE_SECONDS = 2.0
DRIFT_SHOWN = 20
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0
"""Seconds between two tries of a sync that met trouble: the first, and the most that it grows to."""

logger = logging.getLogger(__name__)

About = Literal["connection", "database", "spec", "run"]
"""What a trouble is about: Clerk, Postgres, what the manifest says, or what the run met."""


class Trouble(Exception):
    """Why a sync is not in step: `reason` in CamelCase, and a sentence that says what to do.

    The sentence may be read by whoever reads a ClerkSync. `detail` is for the log alone: what a connection met, or
    what a server said. In a status it would let an editor of manifests explore the operator's network.
    """

    def __init__(self, reason: str, message: str, *, about: About, detail: str = "") -> None:
        """The sentence is the exception's text."""
        super().__init__(message)
        self.reason = reason
        self.detail = detail
        self.about: About = about


INTERNAL_ERROR = "InternalError"
"""Reason of a trouble that nobody expected."""


class LeadLost(Fenced):
    """This process no longer leads: it must begin nothing, and tell nothing."""


@dataclass(frozen=True, slots=True)
class Access:
    """What the Secrets hold; in no repr."""

    database_url: str = field(repr=False)
    state_database_url: str = field(repr=False)
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for every sync of a process."""

    holder: str
    """Names this process in its runs."""
    role_prefix: str = "clerk_"
    verify_after: float = 60.0
    keep_runs: timedelta = timedelta(days=90)
    """Runs and findings that ended longer ago are removed."""
    allow_fsync_off: bool = False
    api_hosts: ApiHosts = field(default_factory=ApiHosts)
    """Hosts that an API key may be sent to."""
    failpoint: Failpoint = nowhere
    may_go_on: Callable[[], None] = lambda: None
    """Raises `LeadLost` where this process no longer leads: called before every request and every use of a
    connection."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One object that is known to differ."""

    kind: str
    id: str
    problem: str
    cause: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """How a sync stands, read after its runs."""

    live: dict[str, int]
    """Live objects by kind."""
    drift_total: int
    drift: tuple[Drift, ...]
    waiting: tuple[WaitingRun, ...]
    """Runs whose deletions wait for an approval; one of each kind at most."""
    schema_version: str


class Led:
    """One sync with its databases open."""

    def __init__(self, sync: SyncManifest, of: InstanceManifest, *, access: Access, terms: Terms) -> None:
        """Made by `opened`."""
        self.sync = replace(sync, policy=replace(sync.policy, verify_after=terms.verify_after))
        self.schema_version = ""
        self._of = of
        self._access = access
        self._terms = terms
        self.pool: Any = None
        self.state_pool: Any = None
        self.place: str | None = None
        """Which database it is by the server's own words; see `nexus_auth.store.leadership.place`."""
        self.state_place: str | None = None

    async def try_lead(self, connection: Any) -> bool:
        """Takes the sync's lock for as long as the connection lives: others see that somebody leads."""
        return await leadership.take_lead(connection, self.sync.name)

    async def led_by(self, connection: Any) -> leadership.Leader | None:
        """The session that holds the sync's lock."""
        return await leadership.led_by(connection, self.sync.name)

    async def engine(self, clerk: ClerkApi) -> Engine:
        """Makes the database this instance's, if it is nobody's; answers the engine that runs within its budget."""
        async with self.pool.acquire() as connection:
            holder_id = await instance.holder_id(connection)
            instance_id = self._of.instance_id or holder_id or await clerk.instance_id()
            await instance.claim(connection, instance_id)
        budget = Budget(self.state_pool, instance_id=instance_id, share=self._of.share)
        await budget.open()
        return Engine(
            self.pool,
            clerk=clerk,
            budget=budget,
            instance_id=instance_id,
            holder=self._terms.holder,
            failpoint=self._terms.failpoint,
        )

    async def history(self) -> History:
        """What happened so far, to the kinds of the sync."""
        async with self.pool.acquire() as connection:
            return await read_history(connection, sync=self.sync.name, kinds=self.sync.policy.kinds)

    async def run(self, engine: Engine, todo: Due) -> SweepResult:
        """One sweep; then the webhook service's mark is taken away, if it was answered, and what is old is removed."""
        async with self.pool.acquire() as connection:
            asked = await read_history(connection, sync=self.sync.name, kinds=todo.policy.kinds)
        result = await engine.run(todo.policy, mode=todo.mode)
        async with self.pool.acquire() as connection:
            if not result.clerk_failed:
                await held.beat(connection, ahead=self.sync.interval)
            if asked.requested_at is not None:
                await request_answered(connection, requested_at=asked.requested_at)
            if todo.mode != "incremental":
                await runs.prune(connection, keep=self._terms.keep_runs)
        return result

    async def waiting(self) -> tuple[WaitingRun, ...]:
        """The runs whose deletions wait for an approval, or for the run that does what was approved."""
        async with self.pool.acquire() as connection:
            return await runs.waiting(connection, sync=self.sync.name)

    async def abort(self, why: str) -> None:
        """Ends the runs that were broken off: nobody will resume them."""
        async with asyncio.timeout(CLOSE_SECONDS), self.pool.acquire() as connection:
            await runs.abort(connection, sync=self.sync.name, holder=self._terms.holder, why=why)

    async def abort_abandoned(self, *, known: Sequence[str]) -> None:
        """Ends runs that deleted syncs left in this database; `known`: names of those that may still be resumed."""
        async with self.pool.acquire() as connection:
            await runs.abort_abandoned(connection, known=known)

    async def approve(self, run_id: int, *, approved_by: str) -> None:
        """Approves a parked run of this sync. Raises LookupError, which says why not."""
        if self.sync.policy.drift != "Fix":
            raise LookupError("drift.policy is Report, which deletes nothing: set it to Fix first")
        async with self.pool.acquire() as connection, connection.transaction():
            of = await overview.run_of(connection, run_id)
            if of is None or of["sync"] != self.sync.name:
                raise LookupError(f"there is no run {run_id} of {self.sync.name}")
            await runs.approve(connection, run_id, approved_by=approved_by)

    async def facts(self) -> Facts:
        """How the sync stands now."""
        async with self.pool.acquire() as connection:
            total, rows = await overview.drift(connection, sync=self.sync.name, limit=DRIFT_SHOWN)
            return Facts(
                live={kind: await comparison.live(connection, kind) for kind in self.sync.policy.kinds},
                drift_total=total,
                drift=tuple(Drift(row["kind"], row["id"], row["problem"], row["cause"]) for row in rows),
                waiting=await runs.waiting(connection, sync=self.sync.name),
                schema_version=self.schema_version,
            )


class _LeadersClerk(ClerkApi):
    """A client that asks nothing once its process leads no more."""

    may_go_on: Callable[[], None]

    async def read(self, path: str, params: Params = ()) -> Answer:
        self.may_go_on()
        return await super().read(path, params)


@asynccontextmanager
async def opened(
    sync: SyncManifest, of: InstanceManifest, *, access: Access, terms: Terms
) -> "AsyncIterator[tuple[Led, ClerkApi]]":
    """Opens the sync's database and its instance's state database, and a client of Clerk that asked nothing yet.

    Raises `Trouble`, also for what is raised inside the context.
    """
    try:
        terms.api_hosts.check(of.api_url)
        async with AsyncExitStack() as stack:
            led = Led(sync, of, access=access, terms=terms)
            led.pool = await _pool(stack, access.database_url, name=sync.name, terms=terms, size=CONNECTIONS)
            async with led.pool.acquire() as connection:
                led.schema_version = await _judge(connection, terms=terms)
                led.place = led.state_place = await leadership.place(connection)
            led.state_pool = led.pool
            if access.state_database_url != access.database_url:
                led.state_pool = await _state_pool(stack, access.state_database_url, name=of.name, terms=terms)
                async with led.state_pool.acquire() as connection:
                    led.state_place = await leadership.place(connection)
            yield led, await stack.enter_async_context(_clerk(of, access.secret_key, terms=terms))
    except Exception as error:
        if isinstance(error, Trouble | LeadLost):
            raise
        raise trouble_of(error) from None


async def instance_of_key(of: InstanceManifest, *, access: Access, terms: Terms) -> tuple[str, str | None]:
    """Which instance the key belongs to, asked within the budget of the state database, and which database that is.

    Raises `Trouble`.
    """
    try:
        terms.api_hosts.check(of.api_url)
        async with AsyncExitStack() as stack:
            pool = await _state_pool(stack, access.state_database_url, name=of.name, terms=terms)
            async with pool.acquire() as connection:
                place = await leadership.place(connection)
            clerk = await stack.enter_async_context(_clerk(of, access.secret_key, terms=terms))
            expected = of.instance_id
            if expected is None:
                expected = await clerk.instance_id()
                await Budget(pool, instance_id=expected, share=of.share).open()
                return expected, place
            budget = Budget(pool, instance_id=expected, share=of.share)
            await budget.open()
            found = instance_id_of(await Requester(clerk, budget=budget).read("/instance"))
            if found != expected:
                raise instance.WrongInstance(
                    f"the API key belongs to {found}, spec.instanceId says {expected}: correct one of them"
                )
            return found, place
    except Exception as error:
        if isinstance(error, Trouble | LeadLost):
            raise
        raise trouble_of(error) from None


def trouble_of(error: Exception) -> Trouble:
    """The trouble that an error means. One that nobody expected is logged here, with its trace."""
    if isinstance(error, Trouble):
        return error
    if isinstance(error, ClerkLimited):
        return Trouble("UpstreamRateLimited", f"{error}; the next try waits for it", about="connection")
    if isinstance(error, ClerkUnreachable):
        what = "Clerk cannot be reached at apiUrl: it is tried again (the log has the details)"
        return Trouble("UpstreamUnavailable", what, about="connection", detail=str(error))
    if isinstance(error, ApiHostRefused):
        return Trouble("ApiHostRefused", str(error), about="connection")
    if isinstance(error, ClerkUnavailable):
        return Trouble("UpstreamUnavailable", str(error), about="connection")
    if isinstance(error, ClerkRefused):
        if error.status == 401:
            what = f"{str(error).partition(';')[0]}: put a valid API key into the Secret of the ClerkInstance"
            return Trouble("UpstreamUnauthorized", what, about="connection")
        return Trouble("UpstreamUnavailable", f"{error}; is apiUrl right?", about="connection")
    if isinstance(error, instance.WrongInstance):
        return Trouble("WrongInstance", str(error), about="connection")
    if isinstance(error, UnsafeDatabase):
        return Trouble("DatabaseRefused", str(error), about="database")
    if isinstance(error, DatabaseRefused):
        return Trouble("DatabaseRefused", f"{error}; the log has its trace", about="run")
    if isinstance(error, SchemaOutdated):
        return Trouble("SchemaOutdated", str(error), about="database")
    if isinstance(error, Fenced):
        return Trouble("Conflict", f"{error}: another process ran this sync; it is tried again", about="run")
    if isinstance(error, asyncpg.PostgresError):
        return _of_postgres(error)
    if isinstance(error, AddressRefused):
        return Trouble("DatabaseUnavailable", f"the URL in the Secret cannot be used: {error}", about="database")
    if isinstance(error, TlsRefused) or runs.is_away(error):
        return _unreachable(error)
    if not isinstance(error, InternalError):  # the engine has logged its own
        logger.error("unexpected error", exc_info=error)
        error = InternalError(error)
    return Trouble(INTERNAL_ERROR, str(error), about="run")


def result_trouble(result: Result) -> Trouble | None:
    """Why a run that ended is not all right; None for one that completed."""
    if result.state == "completed":
        return None
    if result.error is not None:
        return trouble_of(result.error)
    if result.deletions_parked:
        return Trouble("DeletionGuardTripped", result.message or "deletions wait for an approval", about="run")
    return Trouble("IncompleteWalk", result.message or "a listing was not complete", about="run")


def pause_after(failures: int) -> float:
    """Seconds to wait after so many failures in a row: each twice as long as the one before, and a little at random."""
    pause = min(FIRST_PAUSE * 2.0 ** min(max(failures, 1) - 1, 20), LONGEST_PAUSE)
    return pause * random.uniform(1.0, 1.1)  # noqa: S311 - spreads load, hides nothing


def _unreachable(error: Exception) -> Trouble:
    """One sentence for every way in which a connection fails: refused, timed out, no such host, no Postgres."""
    what = "the database cannot be reached: check the URL in the Secret and the network (the log has the details)"
    return Trouble("DatabaseUnavailable", what, about="database", detail=f"{type(error).__name__}: {error}")


def _of_postgres(error: asyncpg.PostgresError) -> Trouble:
    state = error.sqlstate or ""
    said = " ".join(str(error).split())
    if state.startswith("28") or state == "42501":
        what = "the database refuses the login: check user and password in the Secret, and that it is a member of the"
        return Trouble("DatabaseRefused", f"{what} reconciler's group", about="database", detail=said)
    if state.startswith(("08", "3D", "53", "57P")):  # no connection, no such database, full, shutting down
        return _unreachable(error)
    failure = explain(error)
    reason = "SchemaOutdated" if failure.kind == "schema" else "DatabaseUnavailable"
    return Trouble(reason, str(failure), about="database", detail=said)


def _clerk(of: InstanceManifest, secret_key: str, *, terms: Terms) -> ClerkApi:
    if not secret_key.startswith("sk_"):
        what = f"key {of.secret_key.key} of Secret {of.secret_key.name} holds no API key (sk_…)"
        raise Trouble("UpstreamUnauthorized", what, about="connection")
    try:
        clerk = _LeadersClerk(of.api_url, secret_key=secret_key, timeout=of.request_timeout)
    except ValueError:
        what = f"key {of.secret_key.key} of Secret {of.secret_key.name} holds no API key (sk_…)"
        raise Trouble("UpstreamUnauthorized", what, about="connection") from None
    clerk.may_go_on = terms.may_go_on
    return clerk


async def _state_pool(stack: AsyncExitStack, url: str, *, name: str, terms: Terms) -> Any:
    pool = await _pool(stack, url, name=name, terms=terms, size=STATE_CONNECTIONS)
    async with pool.acquire() as connection:
        await _judge(connection, terms=terms)
    return pool


async def _pool(stack: AsyncExitStack, url: str, *, name: str, terms: Terms, size: int) -> Any:
    pool = await open_pool(
        url,
        role=terms.role_prefix + "reconciler",
        application=f"nexus-auth reconciler {name}",
        size=size,
        before_use=terms.may_go_on,
    )
    stack.push_async_callback(_close, pool)
    return pool


async def _close(pool: Any) -> None:
    """Waits a little for connections that are in use; what hangs is cut."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def _judge(connection: Any, *, terms: Terms) -> str:
    """Refuses a login that may do too much, and an old schema; answers the schema's version."""
    await refuse_unsafe(
        connection, role_prefix=terms.role_prefix, service="reconciler", allow_fsync_off=terms.allow_fsync_off
    )
    return await schema_version(connection)
