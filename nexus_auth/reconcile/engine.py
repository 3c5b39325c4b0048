"""A run from its first request to its last word: instance checked, led, swept, attributed, ended with a sentence."""

import logging
from dataclasses import dataclass, field

import asyncpg

from nexus_auth.clerk.api import ClerkApi, ClerkRefused, ClerkUnavailable, instance_id_of
from nexus_auth.failpoints import Failpoint, nowhere
from nexus_auth.reconcile.attribution import attribute
from nexus_auth.reconcile.counts import check_counts
from nexus_auth.reconcile.deletion import verify
from nexus_auth.reconcile.incremental import set_watermark, sweep_changed
from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.reconcile.requester import Requester
from nexus_auth.reconcile.revival import settle_doubts
from nexus_auth.reconcile.sweep import Sweep, bury
from nexus_auth.reconcile.walk import IncompleteWalk
from nexus_auth.store import instance, runs
from nexus_auth.store.budget import Budget
from nexus_auth.store.runs import Fenced, Finding, Mode, Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """How a run ended. `state`: completed, parked or failed; `message` says what to do, where it is not completed."""

    run_id: int
    state: str
    message: str | None
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    requests: int = 0
    error: Exception | None = None
    """What ended it early: Clerk could not be reached, refused, or is another instance's."""
    deletions_parked: bool = False
    """Deletions wait for an approval of this run."""

    @property
    def clerk_failed(self) -> bool:
        """Clerk is why it was not completed."""
        return self.error is not None


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

    async def run(self, policy: SyncPolicy, *, mode: Mode) -> Result:
        """One run, as its leader. Raises `Fenced` when another process took it over, and what the database raises."""
        before = self._budget.requests
        run = await runs.lead(
            self._pool, sync=policy.name, mode=mode, policy=policy.drift, kinds=policy.kinds, holder=self._holder
        )
        await self._failpoint("run.led")
        ended_by: Exception | None = None
        try:
            state, message = await self._execute(run, policy)
        except (ClerkRefused, ClerkUnavailable, instance.WrongInstance) as error:
            ended_by = error
            state, message = _ending(error)
        requests = self._budget.requests - before
        await runs.finish(self._pool, run, state=state, message=message, requests=requests)
        parked = state == "parked" and ended_by is None
        return Result(run.id, state, message, run.counts, requests, ended_by, parked)

    async def plan(self, policy: SyncPolicy, *, mode: Mode = "full") -> Result:
        """What a run would do: counts and requests, with nothing written, not even a run."""
        before = self._budget.requests
        run = Run(id=0, sync=policy.name, mode=mode, policy=policy.drift, kinds=policy.kinds, epoch=0)
        await self._check_instance()
        sweep = Sweep(
            self._pool,
            requester=self._requester,
            run=run,
            policy=policy,
            requests=lambda: self._budget.requests - before,
            dry=True,
        )
        problems = await sweep.execute()
        message = "; ".join(problems) or None
        return Result(0, "completed", message, run.counts, self._budget.requests - before)

    async def _execute(self, run: Run, policy: SyncPolicy) -> tuple[str, str | None]:
        before = self._budget.requests
        await self._check_instance()
        if policy.drift == "Fix":
            await self._do_approved(run)
            await settle_doubts(self._pool, requester=self._requester, run=run, policy=policy)
        problems: list[str] = []
        if run.mode == "incremental":
            if "user" in policy.kinds:
                try:
                    await sweep_changed(self._pool, requester=self._requester, run=run, policy=policy)
                except IncompleteWalk as incomplete:
                    problems.append(f"user: {incomplete}; the next run looks again")
            await check_counts(self._pool, requester=self._requester, run=run, policy=policy)
        else:
            sweep = Sweep(
                self._pool,
                requester=self._requester,
                run=run,
                policy=policy,
                requests=lambda: self._budget.requests - before,
                failpoint=self._failpoint,
            )
            problems = await sweep.execute()
            if run.progress.get("user") == "done":
                await set_watermark(self._pool, run, sweep.highest_updated_at)
            await check_counts(self._pool, requester=self._requester, run=run, policy=policy)
        await attribute(self._pool, run)
        async with self._pool.acquire() as connection:
            parked = await runs.has_parked(connection, run.id)
        if parked and not any("guard allows" in problem for problem in problems):
            problems.append("deletions wait since before it was resumed")
        if not problems:
            return "completed", None
        if not parked:
            return "failed", "; ".join(problems)
        return "parked", f"{'; '.join(problems)}. If the deletions are right: nexus-auth approve {run.id}"

    async def _check_instance(self) -> None:
        """Before anything else is asked: the key must belong to the instance that the database belongs to."""
        answered = instance_id_of(await self._requester.read("/instance"))
        if answered != self._instance_id:
            raise instance.WrongInstance(f"the API key belongs to {answered}, this database to {self._instance_id}")

    async def _do_approved(self, run: Run) -> None:
        """Buries what a human approved: exactly these ids, each asked for once more."""
        async with self._pool.acquire() as connection:
            approval = await runs.approved(connection, sync=run.sync)
            if approval is None:
                return
            parked_run, ids = approval
            for kind in dict.fromkeys(kind for kind, _ in ids):
                of_kind = [object_id for k, object_id in ids if k == kind]
                verdict = await verify(self._requester, kind, of_kind, connection=connection)
                await bury(self._pool, run, kind, verdict.gone, failpoint=self._failpoint)
                async with runs.writing(self._pool, run) as writer:
                    refuted = [Finding(kind, object_id, "extra", "refuted") for object_id in verdict.there]
                    await runs.note(writer, run, refuted)
        async with runs.writing(self._pool, run) as writer:
            await writer.execute(
                "update clerk_private.runs set state = 'completed', message = 'approved, done by run ' || $2::text"
                " where id = $1",
                parked_run,
                str(run.id),
            )


def _ending(error: Exception) -> tuple[str, str]:
    """What a failure means for the run."""
    if isinstance(error, ClerkUnavailable):
        return "failed", f"{error}; nothing more was deleted, the next run tries again"
    return "parked", f"{error}; nothing more was deleted"


__all__ = ["Engine", "Fenced", "Result"]
