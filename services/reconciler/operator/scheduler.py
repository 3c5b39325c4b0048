"""Level-based: what an object asks for, what was handled, and when it is due, looked at anew whenever a key comes in.

Keys come from the watch, from a listing of everything every few minutes should the watch have missed something, and
from visits that end. Nothing here remembers an edge: a key that is lost costs time until the next listing, no more.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.reconciler.leading import Terms
from services.reconciler.manifests import ManifestReader, SyncManifest
from services.reconciler.operator import instance_status, status
from services.reconciler.operator.cluster import (
    INSTANCES,
    SYNCS,
    Cluster,
    Forbidden,
    Gone,
    Object,
    Unreachable,
)
from services.reconciler.operator.conditions import find
from services.reconciler.operator.events import Events
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.saving import Saver
from services.reconciler.operator.secrets import Secrets
from services.reconciler.operator.standing import Book, Key, Standing, parse_moment
from services.reconciler.operator.status import Status
from services.reconciler.operator.visits import InstanceVisits, SyncVisits, Visit
from services.reconciler.operator.watch import SECRETS, Seen

SPREAD_SECONDS = 8.0
"""First visits after a start are spread over so long at most."""
LOOKS_A_SECOND = 1.0
"""Of all syncs together: with many of them, each is looked at less often."""
TELL_AFTER = 10.0
"""A periodic run that is over sooner leaves no trace of its beginning."""
AWAITED = frozenset({"Requested", "SpecChanged", "first sweep", "an approval"})
"""Reasons of runs that somebody waits for: their beginning is told at once."""
TICK_SECONDS = 5.0
INSTANCE_SECONDS = 600.0
STOP_SECONDS = 3.0

logger = logging.getLogger(__name__)


class Scheduler:
    """Lives for as long as this process leads, and begins with an empty book each time."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        terms: Terms,
        metrics: OperatorMetrics,
        identity: str,
        controller_class: str,
        concurrency: int,
        look_seconds: float,
        relist_seconds: float,
        watch_is_deaf: Callable[[], None],
    ) -> None:
        """`watch_is_deaf` is called where a listing brought what the watch had not told."""
        self._cluster = cluster
        self._metrics = metrics
        self._class = controller_class
        self._concurrency = concurrency
        self._look_seconds = look_seconds
        self._relist_seconds = relist_seconds
        self._watch_is_deaf = watch_is_deaf
        self._book = Book()
        self._reader = ManifestReader(closed=False)
        self._saver = Saver(cluster)
        self._events = Events(cluster, identity=identity)
        secrets = Secrets(cluster)
        self._syncs = SyncVisits(self._book, secrets=secrets, terms=terms, begins=self._begins)
        self._instances = InstanceVisits(self._book, secrets=secrets, terms=terms)
        self._incoming: asyncio.Queue[Seen] = asyncio.Queue()
        self._after_saving: list[Seen] = []
        self._wake = asyncio.Event()
        self._relist_at = 0.0
        self._tellers: dict[Key, asyncio.Task[None]] = {}
        self.listed = False
        """Whether everything was seen once."""
        self.complaint: str | None = None
        """Why nothing could be listed."""

    def put(self, seen: Seen) -> None:
        """A key from the watch; called in this loop."""
        self._incoming.put_nowait(seen)
        self._wake.set()

    def relist(self) -> None:
        """Everything is listed at once: the watch is down."""
        self._relist_at = 0.0
        self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                if time.monotonic() >= self._relist_at:
                    await self._list()
                while not self._incoming.empty():
                    await self._take(self._incoming.get_nowait())
                await self._save_unsaved()
                self._start_due()
                await self._rest()
        finally:
            await self._stop()

    async def _stop(self) -> None:
        tasks = [standing.task for standing in self._book if standing.task is not None]
        tasks += list(self._tellers.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for standing in self._book:
            self._forget(standing)

    async def _rest(self) -> None:
        """Until a key comes, something is due, or a moment has passed."""
        busy = sum(standing.task is not None for standing in self._book)
        due = min((s.due_at for s in self._book if s.task is None), default=math.inf)
        until = min(due if busy < self._concurrency else math.inf, self._relist_at)
        pause = min(TICK_SECONDS, max(0.0, until - time.monotonic()))
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    # ------------------------------------------------------------ what there is

    async def _list(self) -> None:
        """Reads everything: the start, and the backstop afterwards."""
        try:
            found = {
                (plural, item["metadata"]["namespace"], item["metadata"]["name"]): item
                for plural in (INSTANCES, SYNCS)
                for item in await self._cluster.objects(plural)
            }
        except (Unreachable, Forbidden, Gone) as error:
            self.complaint = {
                "Gone": "the custom resources are not installed: apply crds/",
                "Forbidden": "the operator's role does not allow it to list its custom resources",
            }.get(type(error).__name__, str(error))
            logger.error("nothing listed", extra={"why": self.complaint})
            self._relist_at = time.monotonic() + min(2.0, self._relist_seconds)
            return
        first, was_away, news = not self.listed, self.complaint is not None, False
        self.complaint = None
        self._relist_at = time.monotonic() + self._relist_seconds
        for standing in self._book:
            if standing.key not in found:
                self._remove(standing)
                news = True
        for key, body in found.items():
            news = self._consider(key, body) or news
        if first:
            self._spread()
        if was_away or (news and not first):  # what could not be listed could not be watched either
            logger.warning("the watch had missed something")
            self._watch_is_deaf()
        self.listed = True

    def _spread(self) -> None:
        """First visits after a start do not all come at once."""
        waiting = [s for s in self._book if s.due_at < math.inf]
        over = min(SPREAD_SECONDS, 0.02 * len(waiting))
        for standing in waiting:
            standing.due_at += random.uniform(0.0, over)  # noqa: S311 - spreads load, hides nothing

    async def _take(self, seen: Seen) -> None:
        if seen.plural == SECRETS:
            self._secret(seen)
            return
        key = (seen.plural, seen.namespace, seen.name)
        standing = self._book.get(key)
        if seen.gone:
            if standing is not None and standing.uid == seen.uid:
                self._remove(standing)
            return
        if standing is not None and (standing.uid, standing.resource_version) == (seen.uid, seen.resource_version):
            return
        if standing is not None and standing.saving:
            self._after_saving.append(seen)
            return
        try:
            body = await self._cluster.get(seen.plural, namespace=seen.namespace, name=seen.name)
        except Gone:
            if standing is not None:
                self._remove(standing)
            return
        except (Unreachable, Forbidden) as error:
            logger.warning("object not read", extra={"object": f"{seen.namespace}/{seen.name}", "why": str(error)})
            self._relist_at = min(self._relist_at, time.monotonic() + 1.0)
            return
        self._consider(key, body)

    def _secret(self, seen: Seen) -> None:
        """A Secret changed, came or went: whoever read another version of it looks again."""
        for standing in self._book.users_of_secret(seen.namespace, seen.name):
            if standing.secrets[seen.name] != (None if seen.gone else seen.resource_version):
                self._due_now(standing)

    def _consider(self, key: Key, body: Object) -> bool:
        """Takes a body over; answers whether it was news."""
        standing = self._book.get(key)
        if standing is not None and standing.uid != body["metadata"]["uid"]:
            self._remove(standing)
            standing = None
        if standing is None:
            standing = Standing(key, body, dict(body.get("status") or {}))
            standing.read(body, self._reader)
            if not self._is_ours(standing):
                return False
            self._book.put(standing)
            self._changed(standing)
            self._due_again(standing)
            return True
        if standing.resource_version == body["metadata"]["resourceVersion"]:
            return False
        former, generation = standing.manifest, standing.generation
        standing.read(body, self._reader)
        if not self._is_ours(standing):
            self._remove(standing)
            return True
        if body.get("status") not in (standing.status, standing.written):
            standing.unsaved = True  # somebody else wrote it
        if standing.generation != generation:
            self._changed(standing)
            if standing.task is not None and _means_another_run(former, standing.manifest):
                standing.task.cancel()
            self._due_now(standing)
        elif standing.request is not None or standing.approval is not None:
            self._due_now(standing)
        return True

    def _is_ours(self, standing: Standing) -> bool:
        if standing.key[0] == INSTANCES:
            return True
        return str((standing.body.get("spec") or {}).get("controllerClass", "")) == self._class

    def _changed(self, standing: Standing) -> None:
        """A new object or a new spec: whoever refers to it, or stood in its shadow, looks again."""
        if standing.key[0] == INSTANCES:
            for user in self._book.syncs_of(standing):
                self._due_now(user)
            return
        sync = standing.sync
        if sync is not None:
            self._metrics.spec(
                standing.at,
                instance=sync.instance,
                policy=sync.policy.drift,
                suspend=sync.suspend,
                interval=sync.interval,
            )
        holder = self._book.instance_of(standing)
        if holder is not None and self.listed:
            self._due_now(holder)
        self._free_rivals()

    def _free_rivals(self) -> None:
        """Whoever waits for another to give way looks whether it has."""
        for other in self._book:
            ready = find(other.status.get("conditions", []), "Ready")
            if ready is not None and ready["reason"] in ("Conflict", "StateDatabaseMismatch"):
                self._due_now(other)

    def _remove(self, standing: Standing) -> None:
        self._book.remove(standing.key)
        if standing.task is not None:
            standing.task.cancel()
        self._forget(standing)
        logger.info("object gone", extra={"object": "/".join(standing.at)})
        if standing.key[0] == INSTANCES:
            for sync in self._book.syncs():
                if sync.sync is not None and (sync.namespace, sync.sync.instance) == standing.at:
                    self._due_now(sync)
        else:
            holder = self._book.instance_of(standing)
            if holder is not None:
                self._due_now(holder)
        self._free_rivals()

    def _forget(self, standing: Standing) -> None:
        if standing.key[0] == INSTANCES:
            self._metrics.forget_instance(standing.at)
        else:
            self._metrics.forget(standing.at)

    # ------------------------------------------------------------ when it is due

    def _due_now(self, standing: Standing) -> None:
        standing.due_at = min(standing.due_at, time.monotonic())
        self._wake.set()

    def _due_again(self, standing: Standing) -> None:
        """Sets when an object is due, from what it says and from what was said of it."""
        now = time.monotonic()
        if standing.key[0] == INSTANCES:
            standing.due_at = now if not standing.visited else now + _jittered(INSTANCE_SECONDS)
            return
        ready = find(standing.status.get("conditions", []), "Ready")
        handled = ready is not None and ready["observedGeneration"] == standing.generation
        if standing.sync is not None and standing.sync.suspend:
            standing.due_at = math.inf if standing.visited else now
            return
        if not handled or standing.request is not None or standing.approval is not None:
            standing.due_at = now
            return
        next_at = parse_moment(standing.status.get("nextSyncTime"))
        left = (next_at - datetime.now(UTC)).total_seconds() if next_at is not None else 0.0
        look = max(self._look_seconds, len(self._book) / LOOKS_A_SECOND)
        standing.due_at = now + max(0.0, min(left, _jittered(look)))

    def _retry_after(self, failures: int) -> float:
        """Seconds: the more in a row, the longer."""
        first = min(5.0, self._look_seconds / 12)
        return _jittered(min(first * 2.0 ** min(failures - 1, 20), 5 * self._look_seconds))

    def _start_due(self) -> None:
        now = time.monotonic()
        due = sorted((s for s in self._book if s.task is None and s.due_at <= now), key=lambda s: s.due_at)
        free = self._concurrency - sum(standing.task is not None for standing in self._book)
        for standing in due[: max(0, free)]:
            self._metrics.delay.observe(max(0.0, now - standing.due_at))
            standing.due_at = math.inf
            standing.task = asyncio.create_task(self._visit(standing), name="/".join(standing.key))
        self._metrics.queue_depth.set(max(0, len(due) - max(0, free)))

    # ------------------------------------------------------------ visits

    async def _visit(self, standing: Standing) -> None:
        controller = standing.key[0]
        began = time.monotonic()
        result, mode = "error", "none"
        try:
            if controller == INSTANCES:
                result = await self._visit_instance(standing)
            else:
                result, mode = await self._visit_sync(standing)
        except asyncio.CancelledError:
            result = "cancelled"
            if self._book.get(standing.key) is standing:
                self._due_now(standing)
            raise
        except Exception:
            logger.exception("visit failed", extra={"object": "/".join(standing.at)})
            standing.due_at = min(standing.due_at, time.monotonic() + self._retry_after(5))
        finally:
            standing.task = None
            self._stop_telling(standing)
            self._metrics.reconciles.labels(controller, result).inc()
            self._metrics.duration.labels(controller, mode).observe(time.monotonic() - began)
            self._wake.set()

    async def _visit_sync(self, standing: Standing) -> tuple[str, str]:
        sync, generation = standing.sync, standing.generation
        suspended = sync is not None and sync.suspend
        first = status.initial(standing.status, generation=generation, suspended=suspended, now=datetime.now(UTC))
        if first != standing.status:
            await self._save(standing, first)
        standing.visited = True
        if suspended:
            self._settle(standing)
            return "suspended", "none"
        known = standing.database
        visit = await self._syncs.visit(standing)
        before = standing.status
        fresh = status.after(before, visit.outcome, sync=sync, generation=generation, now=datetime.now(UTC))
        trouble = visit.outcome.trouble
        pause = self._retry_after(fresh["consecutiveFailures"]) if trouble is not None else None
        if pause is not None:
            fresh = status.retrying(fresh, at=datetime.now(UTC) + timedelta(seconds=pause))
        self._count(standing, visit)
        await self._save(standing, fresh)
        await self._tell(standing, before, visit)
        if standing.database != known:
            for rival in self._book.younger_rivals(standing):
                self._due_now(rival)
        self._settle(standing, pause=pause)
        return ("error" if trouble is not None else "success"), (visit.runs[-1].mode if visit.runs else "none")

    async def _visit_instance(self, standing: Standing) -> str:
        generation = standing.generation
        syncs = self._book.syncs_of(standing)
        if not syncs and self._class:
            self._settle(standing)  # another class's operator looks after it
            return "skipped"
        instance_id, trouble = await self._instances.visit(standing)
        before = standing.status
        fresh = instance_status.after(
            before,
            of=standing.instance,
            instance_id=instance_id,
            trouble=trouble,
            syncs=len(syncs),
            generation=generation,
            now=datetime.now(UTC),
        )
        was_visited, standing.visited = standing.visited, True
        ready, former = (find(of.get("conditions", []), "Ready") or {} for of in (fresh, before))
        await self._save(standing, fresh)
        if trouble is not None and (ready.get("reason"), ready.get("message")) != (
            former.get("reason"),
            former.get("message"),
        ):
            await self._events.post(standing, "Warning", reason=trouble.reason, message=str(trouble))
        if ready.get("status") != former.get("status") and was_visited:
            for sync in syncs:
                self._due_now(sync)
        self._settle(standing, pause=self._retry_after(5) if trouble is not None else None)
        return "error" if trouble is not None else "success"

    def _settle(self, standing: Standing, *, pause: float | None = None) -> None:
        """Sets the next visit, unless something came in meanwhile that makes it due at once."""
        came_in = standing.due_at
        if pause is not None and standing.request is None and standing.approval is None:
            standing.due_at = time.monotonic() + pause
        else:
            self._due_again(standing)
        standing.due_at = min(standing.due_at, came_in)

    async def _save(self, standing: Standing, fresh: Status) -> None:
        standing.saving = True
        try:
            changed = await self._saver.save(standing, fresh)
        finally:
            standing.saving = False
            while self._after_saving:
                self.put(self._after_saving.pop())
        if changed:
            standing.read(standing.body, self._reader)
            self._changed(standing)
            self._due_now(standing)
        self._show(standing)

    async def _save_unsaved(self) -> None:
        for standing in self._book:
            if standing.unsaved and standing.task is None:
                await self._save(standing, standing.status)
                if standing.unsaved:
                    return  # the API server is away; the next tick tries again

    def _show(self, standing: Standing) -> None:
        if self._book.get(standing.key) is not standing:
            return
        if standing.key[0] == INSTANCES:
            self._metrics.instance(standing.at, standing.status)
        else:
            last = parse_moment(standing.status.get("lastSuccessTime"))
            self._metrics.sync(standing.at, standing.status, last_success=last.timestamp() if last else None)

    # ------------------------------------------------------------ telling

    async def _begins(self, standing: Standing, reason: str) -> None:
        """A run begins: told at once where somebody waits for it, else when it has lasted."""

        async def tell(pause: float) -> None:
            await asyncio.sleep(pause)
            fresh = status.reconciling(
                standing.status, reason=reason, generation=standing.generation, now=datetime.now(UTC)
            )
            await self._save(standing, fresh)

        self._stop_telling(standing)
        if reason in AWAITED:
            await tell(0.0)
        else:
            self._tellers[standing.key] = asyncio.create_task(tell(TELL_AFTER))

    def _stop_telling(self, standing: Standing) -> None:
        teller = self._tellers.pop(standing.key, None)
        if teller is not None:
            teller.cancel()

    def _count(self, standing: Standing, visit: Visit) -> None:
        if self._book.get(standing.key) is not standing or standing.sync is None:
            return
        for ran in visit.runs:
            result = ran.result
            self._metrics.ran(
                standing.at,
                instance=standing.sync.instance,
                mode=ran.mode,
                state=result.state,
                requests=result.requests,
            )
            self._metrics.repaired(standing.at, result.counts)
            if result.deletions_parked:
                self._metrics.blocked.labels(*standing.at).inc()
            extra = {"object": "/".join(standing.at), "run": result.run_id, "mode": ran.mode, "reason": ran.reason}
            logger.info(
                "run",
                extra={**extra, "state": result.state, "why": result.message, "requests": result.requests},
            )

    async def _tell(self, standing: Standing, before: Status, visit: Visit) -> None:
        """Events for what changed."""
        if self._book.get(standing.key) is not standing:
            return
        if visit.refused is not None:
            await self._events.post(standing, "Warning", reason="ApprovalRefused", message=visit.refused)
        for type_ in ("Ready", "DriftDetected"):
            new = find(standing.status.get("conditions", []), type_)
            old = find(before.get("conditions", []), type_)
            if new is None or (old is not None and (old["status"], old["reason"]) == (new["status"], new["reason"])):
                continue
            if type_ == "DriftDetected" and new["status"] != "True":
                continue
            bad = new["status"] == ("False" if type_ == "Ready" else "True")
            reason = "DriftDetected" if type_ == "DriftDetected" else new["reason"]
            await self._events.post(standing, "Warning" if bad else "Normal", reason=reason, message=new["message"])
        for ran in visit.runs:
            repaired = sum(
                counts.get(what, 0)
                for counts in ran.result.counts.values()
                for what in ("repaired", "tombstoned", "revived", "lowered")
            )
            if repaired and ran.result.state == "completed":
                words = f"run {ran.result.run_id} ({ran.mode}) put {repaired:,} objects right"
                await self._events.post(standing, "Normal", reason="Repaired", message=words)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1.0, 1.1)  # noqa: S311 - spreads load, hides nothing


def _means_another_run(former: object, now: object) -> bool:
    """Whether a run by the former manifest should not go on: anything but its being suspended."""
    if isinstance(former, SyncManifest) and isinstance(now, SyncManifest):
        return replace(former, suspend=False) != replace(now, suspend=False)
    return True
