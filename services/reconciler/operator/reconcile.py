"""One reconcile of one object: read its Secrets, open its databases, do what is due.

Connections are held until the end of the reconcile and no longer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from nexus_auth.clerk.api import ClerkApi
from nexus_auth.clerk.api_hosts import ApiHostRefused
from nexus_auth.reconcile.engine import Engine
from nexus_auth.store.runs import Mode
from services.reconciler.leading import (
    INTERNAL_ERROR,
    Access,
    LeadLost,
    Led,
    Terms,
    Trouble,
    instance_of_key,
    opened,
    trouble_of,
)
from services.reconciler.manifests import InstanceManifest, SyncManifest
from services.reconciler.operator.cache import APPROVED_BY, Cache, TrackedObject, database_address
from services.reconciler.operator.conditions import find
from services.reconciler.operator.secrets import Secrets
from services.reconciler.operator.status import FinishedSweep, Outcome
from services.reconciler.schedule import Due, due, wait

SWEEPS = 4
"""At most, in one reconcile. A sync with more to do is due again at once, after others that wait."""

MODES: dict[str, Mode] = {"full": "full", "deep": "deep"}
"""What a request may name before its @; anything else means an incremental run."""

SETTLES = frozenset({"DeletionGuardTripped", "IncompleteWalk", INTERNAL_ERROR})
"""Reasons that an incremental run cannot clear."""

logger = logging.getLogger(__name__)


@dataclass
class Reconcile:
    """The result of a reconcile, filled step by step: what was done before a trouble remains in it."""

    request: str | None = None
    approval: str | None = None
    sweeps: list[FinishedSweep] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)
    refused: str | None = None
    """Why an approval was refused."""
    approved: str | None = None
    """Whose approval was taken, and of what."""


class SyncReconciler:
    """Reconciles ClerkSyncs. `run_begins` is called before each run."""

    def __init__(
        self,
        cache: Cache,
        *,
        secrets: Secrets,
        terms: Terms,
        run_begins: Callable[[TrackedObject, str], Awaitable[None]],
    ) -> None:
        """Keeps what it is given."""
        self._cache = cache
        self._secrets = secrets
        self._terms = terms
        self._run_begins = run_begins

    async def reconcile(self, tracked: TrackedObject) -> Reconcile:
        """Does what is due. Every error becomes a trouble in the outcome, but a lost Lease and a cancellation."""
        reconcile = Reconcile(request=tracked.request, approval=tracked.approval)
        reached = False
        trouble: Trouble | None = None
        facts, pause = None, None
        try:
            if tracked.invalid is not None:
                raise tracked.invalid
            sync, of, access = await self._gather(tracked)
            async with opened(sync, of, access=access, terms=self._terms) as (led, clerk):
                reached = True
                self._refuse_shared(tracked, access, led)
                async with led.pool.acquire() as connection:
                    # the Lease decides who leads; the lock only shows it to those who look into the database
                    await led.try_lead(connection)
                    await led.abort_abandoned(known=self._cache.names_on_same_database(tracked))
                    await self._approve(tracked, led, reconcile)
                    try:
                        trouble = await self._do(tracked, led, clerk, reconcile)
                    except asyncio.CancelledError:
                        if self._cache.get(tracked.key) is not tracked:
                            await _abort(led)
                        raise
                    facts = await led.facts()
                    pause = wait(led.sync, await led.history())
        except LeadLost:
            raise
        except Exception as error:
            trouble = trouble_of(error)
        reconcile.outcome = Outcome(
            sweeps=tuple(reconcile.sweeps),
            trouble=trouble,
            facts=facts,
            database_reached=reached,
            wait=pause,
            request=reconcile.request,
            approval=reconcile.approval,
        )
        return reconcile

    async def _gather(self, tracked: TrackedObject) -> tuple[SyncManifest, InstanceManifest, Access]:
        """Reads everything that a sync refers to. Raises `Trouble`."""
        sync = tracked.sync
        if sync is None:
            raise Trouble("InvalidSpec", "the spec cannot be read", about="spec")
        tracked.secrets.clear()
        holder = self._cache.instance_of(tracked)
        if holder is not None and holder.instance is not None:
            _refuse_host(holder.instance, self._terms)
        database_url = await self._secrets.value(sync.database, user=tracked, about="database")
        tracked.note_database(database_address(database_url))
        _refuse_conflict(self._cache, tracked)
        if holder is None:
            raise Trouble(
                "InstanceNotFound",
                f"there is no ClerkInstance {sync.instance} in namespace {tracked.namespace}: create it",
                about="connection",
            )
        of = holder.instance
        if of is None:
            raise Trouble("InstanceNotReady", f"ClerkInstance {sync.instance}: {holder.invalid}", about="connection")
        try:
            secret_key = await self._secrets.value(of.secret_key, user=tracked, about="connection")
            state_url = await self._secrets.value(of.state_database, user=tracked, about="connection")
        except Trouble as trouble:
            raise Trouble("InstanceNotReady", f"ClerkInstance {of.name}: {trouble}", about="connection") from None
        access = Access(database_url=database_url, state_database_url=state_url, secret_key=secret_key)
        return sync, of, access

    def _refuse_shared(self, tracked: TrackedObject, access: Access, led: Led) -> None:
        """Looks for conflicts again, now that the servers have identified themselves. Raises `Trouble`."""
        tracked.note_database(database_address(access.database_url), led.place)
        _refuse_conflict(self._cache, tracked)
        holder = self._cache.instance_of(tracked)
        if holder is not None:
            holder.note_database(database_address(access.state_database_url), led.state_place)
            _refuse_other_state(self._cache, holder)

    async def _approve(self, tracked: TrackedObject, led: Led, reconcile: Reconcile) -> None:
        if reconcile.approval is None:
            return
        who = tracked.annotation(APPROVED_BY) or f"annotation on {tracked.namespace}/{tracked.name}"
        try:
            if not reconcile.approval.isdecimal() or len(reconcile.approval) > 18:
                raise LookupError(f"{reconcile.approval!r} is no run: name the one in status.parkedRun")
            await led.approve(int(reconcile.approval), approved_by=who)
            reconcile.approved = f"the deletions of run {reconcile.approval} were approved by {who}"
        except LookupError as error:
            reconcile.refused = str(error)

    async def _do(self, tracked: TrackedObject, led: Led, clerk: ClerkApi, reconcile: Reconcile) -> Trouble | None:
        """Runs what was requested and what is due; returns the trouble that ended the last run, if any."""
        asked = _asked(led.sync, reconcile)
        engine: Engine | None = None
        while len(reconcile.sweeps) < SWEEPS:
            history = await led.history()
            todo = asked or due(led.sync, history)
            asked = None
            if todo is None and not reconcile.sweeps and _unproven(tracked):
                todo = Due("incremental", led.sync.policy, "SpecChanged")
            if todo is None:
                return None
            if engine is None:
                engine = await led.engine(clerk)
            await self._run_begins(tracked, todo.reason)
            sweep = await self._run(led, engine, todo)
            reconcile.sweeps.append(sweep)
            if sweep.trouble is not None and sweep.trouble.reason != "DeletionGuardTripped":
                return sweep.trouble
        return None

    async def _run(self, led: Led, engine: Engine, todo: Due) -> FinishedSweep:
        started = datetime.now(UTC)
        result = await led.run(engine, todo)
        return FinishedSweep(result, todo.reason, started, datetime.now(UTC))


async def _abort(led: Led) -> None:
    """Ends the run of a sync that is gone. Where that fails, a later reconcile on the database does it."""
    try:
        await led.abort("its ClerkSync was deleted, or is another operator's now")
    except Exception as error:
        logger.warning("run not ended", extra={"sync": led.sync.name, "why": f"{type(error).__name__}: {error}"})


class InstanceReconciler:
    """Reconciles ClerkInstances: the API key, the state database, and whether both belong to one instance."""

    def __init__(self, cache: Cache, *, secrets: Secrets, terms: Terms) -> None:
        """Keeps what it is given."""
        self._cache = cache
        self._secrets = secrets
        self._terms = terms

    async def reconcile(self, tracked: TrackedObject) -> tuple[str | None, Trouble | None]:
        """Returns the instance's id, where Clerk told it, and the trouble, if any."""
        try:
            of = tracked.instance
            if tracked.invalid is not None or of is None:
                raise tracked.invalid or Trouble("InvalidSpec", "the spec cannot be read", about="spec")
            tracked.secrets.clear()
            _refuse_host(of, self._terms)
            secret_key = await self._secrets.value(of.secret_key, user=tracked, about="connection")
            state_url = await self._secrets.value(of.state_database, user=tracked, about="database")
            tracked.note_database(database_address(state_url))
            access = Access(database_url=state_url, state_database_url=state_url, secret_key=secret_key)
            instance_id, place = await instance_of_key(of, access=access, terms=self._terms)
            tracked.note_database(database_address(state_url), place)
            tracked.status = {**tracked.status, "instanceId": instance_id}
            _refuse_other_state(self._cache, tracked)
        except LeadLost:
            raise
        except Exception as error:
            return None, trouble_of(error)
        return instance_id, None


def _refuse_host(of: InstanceManifest, terms: Terms) -> None:
    """Before any Secret is read: an address that no API key is sent to. Raises `Trouble`."""
    try:
        terms.api_hosts.check(of.api_url)
    except ApiHostRefused as error:
        raise Trouble("ApiHostRefused", f"ClerkInstance {of.name}: {error}", about="connection") from None


def _refuse_conflict(cache: Cache, tracked: TrackedObject) -> None:
    other = cache.older_conflict(tracked)
    if other is not None:
        raise Trouble(
            "Conflict",
            f"{_shown('ClerkSync', other, to=tracked)} is older and writes the same rows of the same database: give the"
            " two disjoint resources and different names, or delete one",
            about="spec",
        )


def _refuse_other_state(cache: Cache, holder: TrackedObject) -> None:
    other = cache.older_with_other_state(holder)
    if other is not None:
        raise Trouble(
            "StateDatabaseMismatch",
            f"{_shown('ClerkInstance', other, to=holder)} keeps the budget of the same instance in another database:"
            " name the same stateDatabase in both, else they spend it twice",
            about="database",
        )


def _shown(kind: str, other: TrackedObject, *, to: TrackedObject) -> str:
    """Names an object to readers of another one, who may not know what other namespaces hold; the log has the name."""
    if other.namespace == to.namespace:
        return f"{kind} {other.name}"
    logger.info("conflict", extra={"object": "/".join(to.at), "with": "/".join(other.at)})
    return f"a {kind} of another namespace"


def _asked(sync: SyncManifest, reconcile: Reconcile) -> Due | None:
    """The run that a request asks for: full@… and deep@…, otherwise an incremental one."""
    if reconcile.request is None:
        return None
    mode, at, _ = reconcile.request.partition("@")
    return Due(MODES.get(mode, "incremental") if at else "incremental", sync.policy, "Requested")


def _unproven(tracked: TrackedObject) -> bool:
    """Whether Ready is about another spec, or says something that a run could clear."""
    ready = find(tracked.status.get("conditions", []), "Ready")
    if ready is None or ready["observedGeneration"] != tracked.generation or ready["status"] == "Unknown":
        return True
    return ready["status"] == "False" and ready["reason"] not in SETTLES
