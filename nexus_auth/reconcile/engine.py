"""A sweep from its first request to its last word: for each kind a run that is led, executed, explained and ended.

This is the one error boundary of the library. What is expected has classes of its own (`ClerkRefused`,
`ClerkUnavailable`, `WrongInstance`, `IncompleteWalk`, the database's errors); everything else becomes `InternalError`.
Either way the run ends with a sentence, and the kinds behind it have their turn.
"""

import logging
from dataclasses import dataclass, field

import asyncpg

from nexus_auth.clerk.api import ClerkApi, ClerkRefused, ClerkUnavailable, instance_id_of
from nexus_auth.clerk.catalogue import BY_KIND, children_of
from nexus_auth.failpoints import Failpoint, nowhere
from nexus_auth.reconcile.attribution import tell_causes
from nexus_auth.reconcile.context import Context
from nexus_auth.reconcile.counts import check_counts
from nexus_auth.reconcile.deletion import do_approved
from nexus_auth.reconcile.held import verify_held
from nexus_auth.reconcile.incremental import sweep_changed
from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.reconcile.requester import Requester
from nexus_auth.reconcile.settling import settle_doubts
from nexus_auth.reconcile.sweep import Sweep
from nexus_auth.reconcile.walk import IncompleteWalk
from nexus_auth.reconcile.writer import PageWriter
from nexus_auth.store import instance, repair, runs
from nexus_auth.store.budget import Budget
from nexus_auth.store.ingest import describe
from nexus_auth.store.runs import Fenced, Mode, Run

logger = logging.getLogger(__name__)

GRAVITY = ("completed", "parked", "failed")
"""States of a run that ended, the worst last."""


class InternalError(Exception):
    """Something that nobody expected: a mistake of ours, or an answer that we do not understand."""

    def __init__(self, error: BaseException) -> None:
        """Names the type of the error; its own text may hold anything, and stays in the log."""
        self.type = type(error).__name__
        super().__init__(
            f"an unexpected {self.type}: the log of the reconciler has its trace; it is tried again, please report it"
        )


class DatabaseRefused(Exception):
    """The database answered, and refused a statement of the run."""


@dataclass(frozen=True)
class Result:
    """How the run of one kind ended. `state`: completed, parked or failed."""

    run_id: int
    sweep_id: int
    kind: str
    mode: Mode
    state: str
    message: str | None
    """What to do, where it is not completed; else what is still to come, if anything."""
    counts: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    error: Exception | None = None
    """What ended it early: Clerk, the database, or an `InternalError`."""
    waits_for: int | None = None
    """The run whose approval its deletions wait for."""

    @property
    def clerk_failed(self) -> bool:
        """Clerk is why it was not completed."""
        return isinstance(self.error, ClerkRefused | ClerkUnavailable | instance.WrongInstance)

    @property
    def deletions_parked(self) -> bool:
        """Deletions wait for an approval."""
        return self.waits_for is not None


@dataclass(frozen=True)
class SweepResult:
    """How the runs of one sweep ended, parents before children."""

    sweep_id: int
    mode: Mode
    runs: tuple[Result, ...]

    @property
    def decisive(self) -> Result:
        """The run that decides what is said of the sweep: the first of those that ended worst."""
        return max(self.runs, key=lambda run: GRAVITY.index(run.state))

    @property
    def run_id(self) -> int:
        """Of the run that decides; one that waits for an approval is the one to approve."""
        return self.decisive.waits_for or self.decisive.run_id

    @property
    def state(self) -> str:
        """The worst."""
        return self.decisive.state

    @property
    def message(self) -> str | None:
        """Every run's sentence, each said once, with the kinds that it is about."""
        kinds: dict[str, list[str]] = {}
        for run in self.runs:
            if run.message:
                kinds.setdefault(run.message, []).append(BY_KIND[run.kind].nouns[1])
        return "; ".join(f"{', '.join(of)}: {said}" for said, of in kinds.items()) or None

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """By kind; kinds of which nothing was counted are left out."""
        return {run.kind: run.counts for run in self.runs if run.counts}

    @property
    def requests(self) -> int:
        """Requests to Clerk, together."""
        return sum(run.requests for run in self.runs)

    @property
    def error(self) -> Exception | None:
        """What ended the first of the runs that ended early."""
        return next((run.error for run in self.runs if run.error is not None), None)

    @property
    def waits_for(self) -> tuple[int, ...]:
        """The runs that wait for an approval."""
        return tuple(run.waits_for for run in self.runs if run.waits_for is not None)

    @property
    def clerk_failed(self) -> bool:
        """Clerk is why a run was not completed."""
        return any(run.clerk_failed for run in self.runs)

    @property
    def deletions_parked(self) -> bool:
        """Deletions wait for an approval."""
        return bool(self.waits_for)


class Engine:
    """Reconciles one database with one Clerk instance. Everything it uses is the caller's to open and close."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        *,
        clerk: ClerkApi,
        budget: Budget,
        instance_id: str,
        holder: str,
        failpoint: Failpoint = nowhere,
        first_pause: float = 0.25,
    ) -> None:
        """`holder` names this process in its runs; `first_pause`: seconds before a failed request's second try."""
        self._pool = pool
        self._budget = budget
        self._requester = Requester(clerk, budget=budget, first_pause=first_pause)
        self._instance_id = instance_id
        self._holder = holder
        self._failpoint = failpoint

    async def run(self, policy: SyncPolicy, *, mode: Mode) -> SweepResult:
        """One sweep, as its leader: a run for each kind of the policy, in its order (parents first).

        Raises `Fenced` when another process took it over, and what a database raises that cannot be reached: such a run
        stays unfinished, and is resumed.
        """
        sweep_id = await runs.new_sweep(
            self._pool, sync=policy.name, kinds=policy.kinds, mode=mode, policy=policy.drift
        )
        ended: list[Result] = []
        checked = False
        for kind in policy.kinds:
            result = await self._run_kind(policy, kind, mode=mode, sweep_id=sweep_id, checked=checked)
            checked = checked or not result.clerk_failed
            ended.append(result)
        return SweepResult(sweep_id, mode, tuple(ended))

    async def plan(self, policy: SyncPolicy, *, mode: Mode = "full") -> SweepResult:
        """What a sweep would do: counts and requests, with nothing written, not even a run.

        Raises `ClerkRefused`, `ClerkUnavailable`, `WrongInstance`.
        """
        before = self._budget.requests
        await self._check_instance()
        planned: list[Result] = []
        for kind in policy.kinds:
            run = Run(id=0, sweep_id=0, sync=policy.name, kind=kind, mode=mode, policy=policy.drift, epoch=0)
            context = self._context(run, policy, dry=True)
            problems = await Sweep(context, requests=lambda: 0).execute()
            requests = self._budget.requests - before
            before += requests
            message = "; ".join(problems) or None
            planned.append(Result(0, 0, kind, mode, "completed", message, run.counts, requests))
        return SweepResult(0, mode, tuple(planned))

    def _context(self, run: Run, policy: SyncPolicy, *, dry: bool = False) -> Context:
        return Context(self._pool, self._requester, run, policy, self._failpoint, dry)

    async def _run_kind(self, policy: SyncPolicy, kind: str, *, mode: Mode, sweep_id: int, checked: bool) -> Result:
        before = self._budget.requests
        run = await runs.lead(
            self._pool,
            sync=policy.name,
            kind=kind,
            mode=mode,
            policy=policy.drift,
            sweep_id=sweep_id,
            holder=self._holder,
        )
        await self._failpoint("run.led")
        error: Exception | None = None
        try:
            if not checked:
                await self._check_instance()
            unverified = await self._verify_held(run, policy)
            state, message = await self._execute(self._context(run, policy), before=before)
            message = "; ".join(said for said in (unverified, message) if said) or None
        except Fenced:
            raise
        except Exception as met:
            if runs.is_away(met):
                raise
            error = _named(met, run)
            state, message = _ending(error)
        requests = self._budget.requests - before
        await runs.finish(
            self._pool,
            run,
            state=state,
            message=message,
            requests=requests,
            error=_type_of(error),
            clears=state == "completed" and run.listed and run.policy == "Fix" and not run.counts.get("awaiting"),
        )
        waits_for = run.waits_for if state == "parked" else None
        return Result(run.id, run.sweep_id, kind, mode, state, message, run.counts, requests, error, waits_for)

    async def _execute(self, context: Context, *, before: int) -> tuple[str, str | None]:
        run = context.run
        writer = PageWriter(context)
        waits: list[str] = []
        failed: list[str] = []
        if context.fixes:
            await self._set_guard(context)
            await do_approved(context, writer)
            waits += _sentences(await settle_doubts(context, writer))
        if run.mode != "incremental":
            sweep = Sweep(context, requests=lambda: self._budget.requests - before)
            problems = await sweep.execute()
            (waits if run.listed else failed).extend(problems)
            listing = context.entity.listing
            if run.listed and listing is not None and listing.by_update:
                await self._move_watermark(context, sweep.highest_updated_at)
        elif context.entity.listing is not None and context.entity.listing.by_update:
            try:
                await sweep_changed(context, writer)
            except IncompleteWalk as incomplete:
                failed.append(f"{incomplete}; the next run looks again")
        await check_counts(context)
        later = _sentences(await tell_causes(context)) + _sentences(_awaited(run))
        if run.waits_for is not None:
            said = waits or ["deletions wait since before it was resumed"]
            approve = f"If the deletions are right: nexus-auth approve {run.waits_for}"
            return "parked", f"{'; '.join([*said, *failed, *later])}. {approve}"
        if failed:
            return "failed", "; ".join([*failed, *later])
        return "completed", "; ".join(later) or None

    async def _verify_held(self, run: Run, policy: SyncPolicy) -> str | None:
        """Deletions by event that are held are asked about first, under `Report` too; a sentence where that failed.

        What is wrong with them must not keep a sync from its work, unless Clerk or the database is away.
        """
        try:
            await verify_held(self._pool, requester=self._requester, spacing=policy.verify_after)
        except (ClerkRefused, ClerkUnavailable):
            raise
        except Exception as error:
            if runs.is_away(error):
                raise
            return f"held deletions were not verified: {_named(error, run)}"
        return None

    async def _set_guard(self, context: Context) -> None:
        guard = context.policy.guard
        kinds = dict.fromkeys([context.kind, *(entity.kind for entity, _ in children_of(context.kind))])
        async with self._pool.acquire() as connection:
            for kind in kinds:
                await repair.set_guard(connection, kind, floor=guard.floor, percent=guard.percent)

    async def _move_watermark(self, context: Context, updated_at: int) -> None:
        async def work(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
            await runs.move_watermark(connection, context.run, updated_at)

        await runs.write(self._pool, context.run, work)

    async def _check_instance(self) -> None:
        """Before anything else is asked: the key must belong to the instance that the database belongs to."""
        answered = instance_id_of(await self._requester.read("/instance"))
        if answered != self._instance_id:
            raise instance.WrongInstance(f"the API key belongs to {answered}, this database to {self._instance_id}")


def _named(error: Exception, run: Run) -> Exception:
    """The error as it is told; one that nobody expected is logged with its trace."""
    if isinstance(error, ClerkRefused | ClerkUnavailable | instance.WrongInstance):
        return error
    extra = {"sync": run.sync, "run": run.id, "kind": run.kind, "mode": run.mode}
    if isinstance(error, asyncpg.PostgresError):
        logger.error("run failed", exc_info=error, extra=extra)
        return DatabaseRefused(f"the database refused a statement: {describe(error)}")
    logger.error("run failed unexpectedly", exc_info=error, extra=extra)
    return InternalError(error)


def _type_of(error: Exception | None) -> str | None:
    if error is None:
        return None
    return error.type if isinstance(error, InternalError) else type(error).__name__


def _ending(error: Exception) -> tuple[str, str]:
    """What a failure means for the run."""
    if isinstance(error, ClerkRefused | instance.WrongInstance):
        return "parked", f"{error}; nothing more was deleted"
    return "failed", f"{error}; nothing more was deleted, the next run tries again"


def _awaited(run: Run) -> str | None:
    """What a completed run leaves to the second read of the queue."""
    number = run.counts.get("awaiting", 0)
    one, several = BY_KIND[run.kind].nouns
    if not number:
        return None
    return f"1 {one} awaits its second read" if number == 1 else f"{number} {several} await their second read"


def _sentences(sentence: str | None) -> list[str]:
    return [sentence] if sentence else []


__all__ = ["DatabaseRefused", "Engine", "Fenced", "InternalError", "Result", "SweepResult"]
