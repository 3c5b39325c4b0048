"""One visit to one object: its Secrets read, its databases opened, what is due done, what was met turned into a status.

Connections are held from here to the end of the visit and no longer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from nexus_auth.clerk.api import ClerkApi
from nexus_auth.reconcile.engine import Engine
from nexus_auth.store.history import History
from nexus_auth.store.runs import Fenced, Mode
from services.reconciler.leading import Access, Led, Terms, Trouble, instance_of_key, opened
from services.reconciler.manifests import InstanceManifest, SyncManifest
from services.reconciler.operator.conditions import find
from services.reconciler.operator.secrets import Secrets
from services.reconciler.operator.standing import APPROVED_BY, Book, Standing, named
from services.reconciler.operator.status import Outcome, Ran
from services.reconciler.schedule import Due, due, wait

RUNS = 4
"""Of one visit; a sync that has more to do comes again, after others."""

MODES: dict[str, Mode] = {"full": "full", "deep": "deep"}
"""What a request may ask for before its @; anything else is an incremental run."""

SETTLES = frozenset({"DeletionGuardTripped", "IncompleteWalk"})
"""Reasons that another cheap run cannot take away."""

logger = logging.getLogger(__name__)


@dataclass
class Visit:
    """What a visit has come to; filled as it goes on, so that a trouble leaves what was done before it."""

    request: str | None = None
    approval: str | None = None
    runs: list[Ran] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)
    refused: str | None = None
    """Why an approval was refused."""
    approved: str | None = None
    """Whose approval was taken, and of what."""


class SyncVisits:
    """Visits ClerkSyncs. `begins` is told of every run before it begins."""

    def __init__(
        self,
        book: Book,
        *,
        secrets: Secrets,
        terms: Terms,
        begins: Callable[[Standing, str], Awaitable[None]],
    ) -> None:
        """Everything is the caller's."""
        self._book = book
        self._secrets = secrets
        self._terms = terms
        self._begins = begins

    async def visit(self, standing: Standing) -> Visit:
        """Does what is due. Raises nothing that is expected to happen."""
        visit = Visit(request=standing.request, approval=standing.approval)
        reached = False
        trouble: Trouble | None = None
        facts, pause = None, None
        try:
            if standing.invalid is not None:
                raise standing.invalid
            sync, of, access = await self._gather(standing)
            async with opened(sync, of, access=access, terms=self._terms) as (led, clerk):
                reached = True
                self._refuse_shared(standing, access, led)
                async with led.pool.acquire() as connection:
                    # the Lease says who leads; the lock only shows it to those who look into the database
                    await led.try_lead(connection)
                    await led.abort_abandoned(known=self._book.names_beside(standing))
                    await self._approve(standing, led, visit)
                    try:
                        trouble = await self._do(standing, led, clerk, visit)
                    except asyncio.CancelledError:
                        if self._book.get(standing.key) is not standing:
                            await _abort(led)
                        raise
                    facts = await led.facts()
                    pause = wait(led.sync, await led.history())
        except Trouble as error:
            trouble = error
        except Fenced as error:
            trouble = Trouble("Conflict", f"{error}: another process ran this sync; it is tried again", about="run")
        visit.outcome = Outcome(
            runs=tuple(visit.runs),
            trouble=trouble,
            facts=facts,
            database_reached=reached,
            wait=pause,
            request=visit.request,
            approval=visit.approval,
        )
        return visit

    async def _gather(self, standing: Standing) -> tuple[SyncManifest, InstanceManifest, Access]:
        """Everything that a sync refers to. Raises `Trouble`."""
        sync = standing.sync
        if sync is None:
            raise Trouble("InvalidSpec", "the spec cannot be read", about="spec")
        standing.secrets.clear()
        database_url = await self._secrets.value(sync.database, user=standing, about="database")
        standing.keeps(named(database_url))
        _refuse_rival(self._book, standing)
        holder = self._book.instance_of(standing)
        if holder is None:
            raise Trouble(
                "InstanceNotFound",
                f"there is no ClerkInstance {sync.instance} in namespace {standing.namespace}: create it",
                about="connection",
            )
        of = holder.instance
        if of is None:
            raise Trouble("InstanceNotReady", f"ClerkInstance {sync.instance}: {holder.invalid}", about="connection")
        try:
            secret_key = await self._secrets.value(of.secret_key, user=standing, about="connection")
            state_url = await self._secrets.value(of.state_database, user=standing, about="connection")
        except Trouble as trouble:
            raise Trouble("InstanceNotReady", f"ClerkInstance {of.name}: {trouble}", about="connection") from None
        access = Access(database_url=database_url, state_database_url=state_url, secret_key=secret_key)
        return sync, of, access

    def _refuse_shared(self, standing: Standing, access: Access, led: Led) -> None:
        """Now that the servers have said who they are. Raises `Trouble`."""
        standing.keeps(named(access.database_url), led.place)
        _refuse_rival(self._book, standing)
        holder = self._book.instance_of(standing)
        if holder is not None:
            holder.keeps(named(access.state_database_url), led.state_place)
            _refuse_other_state(self._book, holder)

    async def _approve(self, standing: Standing, led: Led, visit: Visit) -> None:
        if visit.approval is None:
            return
        who = standing.annotation(APPROVED_BY) or f"annotation on {standing.namespace}/{standing.name}"
        try:
            if not visit.approval.isdecimal() or len(visit.approval) > 18:
                raise LookupError(f"{visit.approval!r} is no run: name the one in status.parkedRun")
            await led.approve(int(visit.approval), approved_by=who)
            visit.approved = f"the deletions of run {visit.approval} were approved by {who}"
        except LookupError as error:
            visit.refused = str(error)

    async def _do(self, standing: Standing, led: Led, clerk: ClerkApi, visit: Visit) -> Trouble | None:
        """Runs what is asked for and what is due; answers what ended the last one early."""
        asked = _asked(led.sync, visit)
        engine: Engine | None = None
        while len(visit.runs) < RUNS:
            history = await led.history()
            todo = asked or due(led.sync, history)
            asked = None
            if todo is None and not visit.runs and _unproven(standing):
                todo = Due("incremental", led.sync.policy, "SpecChanged")
            if todo is None:
                return None
            if engine is None:
                engine = await led.engine(clerk)
            await self._begins(standing, todo.reason)
            ran = await self._run(led, engine, todo, history)
            visit.runs.append(ran)
            if ran.trouble is not None and ran.trouble.reason != "DeletionGuardTripped":
                return ran.trouble
        return None

    async def _run(self, led: Led, engine: Engine, todo: Due, history: History) -> Ran:
        started = datetime.now(UTC)
        result = await led.run(engine, todo, history)
        return Ran(result, todo.mode, todo.reason, todo.policy.kinds, started, datetime.now(UTC))


async def _abort(led: Led) -> None:
    """The sync is gone in the midst of its run; what cannot be ended now, a later visit to the database ends."""
    try:
        await led.abort("its ClerkSync was deleted, or is another operator's now")
    except Exception as error:
        logger.warning("run not ended", extra={"sync": led.sync.name, "why": f"{type(error).__name__}: {error}"})


class InstanceVisits:
    """Visits ClerkInstances: the key, the state database, and whether the two belong together."""

    def __init__(self, book: Book, *, secrets: Secrets, terms: Terms) -> None:
        """Everything is the caller's."""
        self._book = book
        self._secrets = secrets
        self._terms = terms

    async def visit(self, standing: Standing) -> tuple[str | None, Trouble | None]:
        """The instance's id, where Clerk said it, and what is wrong."""
        try:
            of = standing.instance
            if standing.invalid is not None or of is None:
                raise standing.invalid or Trouble("InvalidSpec", "the spec cannot be read", about="spec")
            standing.secrets.clear()
            secret_key = await self._secrets.value(of.secret_key, user=standing, about="connection")
            state_url = await self._secrets.value(of.state_database, user=standing, about="database")
            standing.keeps(named(state_url))
            access = Access(database_url=state_url, state_database_url=state_url, secret_key=secret_key)
            instance_id, place = await instance_of_key(of, access=access, terms=self._terms)
            standing.keeps(named(state_url), place)
            standing.status = {**standing.status, "instanceId": instance_id}
            _refuse_other_state(self._book, standing)
        except Trouble as trouble:
            return None, trouble
        return instance_id, None


def _refuse_rival(book: Book, standing: Standing) -> None:
    rival = book.elder_rival(standing)
    if rival is not None:
        raise Trouble(
            "Conflict",
            f"ClerkSync {rival.namespace}/{rival.name} is older and keeps the same database: give the two disjoint"
            " resources and different names, or delete one",
            about="spec",
        )


def _refuse_other_state(book: Book, holder: Standing) -> None:
    other = book.elder_with_other_state(holder)
    if other is not None:
        raise Trouble(
            "StateDatabaseMismatch",
            f"ClerkInstance {other.namespace}/{other.name} keeps the budget of the same instance in another database:"
            " name the same stateDatabase in both, else they spend it twice",
            about="database",
        )


def _asked(sync: SyncManifest, visit: Visit) -> Due | None:
    """The run that a request names: full@… and deep@…, else an incremental one."""
    if visit.request is None:
        return None
    mode, at, _ = visit.request.partition("@")
    return Due(MODES.get(mode, "incremental") if at else "incremental", sync.policy, "Requested")


def _unproven(standing: Standing) -> bool:
    """Whether Ready says nothing of this spec, or something that a run may have made untrue."""
    ready = find(standing.status.get("conditions", []), "Ready")
    if ready is None or ready["observedGeneration"] != standing.generation or ready["status"] == "Unknown":
        return True
    return ready["status"] == "False" and ready["reason"] not in SETTLES
