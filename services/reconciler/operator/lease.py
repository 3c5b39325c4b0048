"""Leader election by a Lease, on the official client. The client's own elector cannot be ended without the process.

A leader trusts its own monotonic clock alone. It leads until two thirds of the Lease's duration have passed since its
last renewal began. A candidate waits until the record has not changed for a whole duration by its own clock. So the
former leader has stopped before the next one begins. A leader that was frozen in between is fenced by the epoch of
its run.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from kubernetes.aio.client import V1Lease, V1LeaseSpec, V1ObjectMeta

from nexus_auth.tasks import Supervisor
from services.reconciler.leading import LeadLost
from services.reconciler.manifests import GROUP
from services.reconciler.operator.cluster import Changed, Cluster, Forbidden, Gone, Unreachable

LABEL = f"{GROUP}/operator"
CLASS = f"{GROUP}/controller-class"
WATCHES = f"{GROUP}/watch-namespaces"
RELEASE_SECONDS = 1.5
RENEWAL = "lease renewal"
"""Name of the task that renews it."""

logger = logging.getLogger(__name__)


class AnotherRelease(Exception):
    """Another release reconciles the same objects."""


class Lease:
    """One candidate. `identity` is unique to it."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str,
        name: str,
        identity: str,
        seconds: float,
        controller_class: str,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Asks nothing yet."""
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._seconds = seconds
        self._class = controller_class
        self._now = now
        self._until = 0.0
        self._record: Any = None
        self._record_since = 0.0

    @property
    def leads(self) -> bool:
        """Whether this process leads at this very moment."""
        return self._now() < self._until

    def check(self) -> None:
        """Raises `LeadLost` where it does not."""
        if not self.leads:
            raise LeadLost("the Lease is lost")

    @asynccontextmanager
    async def held(self, supervisor: Supervisor) -> AsyncIterator[asyncio.Event]:
        """Waits until this process leads. The event is set when it no longer does. Gives the Lease up at the end.

        `supervisor` keeps the task that renews it. Raises `AnotherRelease` where another release reconciles the same
        objects.
        """
        while True:
            if await self.attempt():
                break
            await asyncio.sleep(self._seconds / 5)
        await self._refuse_another_release()
        lost = asyncio.Event()
        supervisor.keep(RENEWAL, lambda: self._renew(lost), first_pause=self._seconds / 10)
        try:
            yield lost
        finally:
            await supervisor.end(RENEWAL)
            await self._release()

    async def _renew(self, lost: asyncio.Event) -> None:
        """Renews until the Lease is lost, and says so once; then waits for its end."""
        while self.leads:
            await asyncio.sleep(min(self._seconds / 5, max(0.0, self._until - self._now())))
            if not self.leads:
                break
            try:
                async with asyncio.timeout(self._until - self._now()):
                    await self.attempt()
            except TimeoutError:
                break
        logger.error("lease lost", extra={"lease": f"{self._namespace}/{self._name}"})
        lost.set()
        await asyncio.Event().wait()

    async def attempt(self) -> bool:
        """Tries once to take or renew the Lease; returns whether this process leads now."""
        began = self._now()
        try:
            if await self._write():
                self._until = began + self._seconds * 2 / 3
        except Changed:
            pass  # another candidate wrote first; the next attempt reads its record
        except (Unreachable, Forbidden, Gone) as error:
            logger.warning("lease not renewed", extra={"why": f"{type(error).__name__}: {error}"})
        return self.leads

    async def _write(self) -> bool:
        try:
            found = await self._cluster.lease(self._namespace, self._name)
        except Gone:
            await self._cluster.create_lease(self._namespace, self._fresh())
            return True
        spec = found.spec
        mine = spec is not None and spec.holder_identity == self._identity
        if not mine and spec is not None and spec.holder_identity and not self._stood_still(found):
            self._until = 0.0
            return False
        fresh = self._fresh()
        fresh.metadata.resource_version = found.metadata.resource_version
        if mine:
            fresh.spec.acquire_time = spec.acquire_time
        fresh.spec.lease_transitions = ((spec.lease_transitions or 0) if spec is not None else 0) + (not mine)
        await self._cluster.replace_lease(self._namespace, self._name, fresh)
        return True

    def _stood_still(self, found: Any) -> bool:
        """Whether the record has not changed for its whole duration, by our own clock."""
        if self._record is None or self._record.metadata.resource_version != found.metadata.resource_version:
            self._record, self._record_since = found, self._now()
        return self._now() - self._record_since > (found.spec.lease_duration_seconds or self._seconds)

    def _fresh(self) -> Any:
        moment = datetime.now(UTC)
        return V1Lease(
            metadata=V1ObjectMeta(
                name=self._name,
                namespace=self._namespace,
                labels={LABEL: "true", "app.kubernetes.io/part-of": "nexus-auth"},
                annotations={CLASS: self._class, WATCHES: ",".join(self._cluster.namespaces)},
            ),
            spec=V1LeaseSpec(
                holder_identity=self._identity,
                lease_duration_seconds=int(self._seconds),
                acquire_time=moment,
                renew_time=moment,
                lease_transitions=0,
            ),
        )

    async def _release(self) -> None:
        """Empties the holder, so that the next leader need not wait."""
        if not self.leads:
            return
        self._until = 0.0
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                found = await self._cluster.lease(self._namespace, self._name)
                if found.spec.holder_identity == self._identity:
                    found.spec.holder_identity = ""
                    found.spec.renew_time = datetime.now(UTC)
                    await self._cluster.replace_lease(self._namespace, self._name, found)
        except (Changed, Gone, Forbidden, Unreachable, TimeoutError) as error:
            logger.warning("lease not given up", extra={"why": type(error).__name__})

    async def _refuse_another_release(self) -> None:
        namespaces = self._cluster.namespaces
        try:
            others = await self._cluster.leases(namespace=None if not namespaces else self._namespace, label=LABEL)
        except (Forbidden, Unreachable) as error:
            logger.warning("other releases not looked for", extra={"why": f"{type(error).__name__}: {error}"})
            return
        mine = next((o for o in others if self._is_mine(o)), None)
        for other in others:
            if not self._is_mine(other) and self._conflicts(other) and (mine is None or _age(other) < _age(mine)):
                await self._release()
                at = other.metadata
                raise AnotherRelease(
                    f"the operator that holds Lease {at.namespace}/{at.name} reconciles ClerkSyncs of controllerClass"
                    f" {self._class!r} in the same namespaces: give this release another operator.controllerClass, or"
                    " other watch.namespaces, or uninstall one of the two"
                )

    def _is_mine(self, other: Any) -> bool:
        return (other.metadata.namespace, other.metadata.name) == (self._namespace, self._name)

    def _conflicts(self, other: Any) -> bool:
        """Whether its holder is alive and reconciles the same objects."""
        spec, notes = other.spec, other.metadata.annotations or {}
        if spec is None or not spec.holder_identity or spec.renew_time is None:
            return False
        age = (datetime.now(UTC) - spec.renew_time).total_seconds()
        if age > 4 * (spec.lease_duration_seconds or self._seconds) or notes.get(CLASS, "") != self._class:
            return False
        theirs = {name for name in notes.get(WATCHES, "").split(",") if name}
        ours = set(self._cluster.namespaces)
        return not theirs or not ours or bool(theirs & ours)


def _age(lease: Any) -> tuple[Any, str]:
    return lease.metadata.creation_timestamp, str(lease.metadata.uid)
