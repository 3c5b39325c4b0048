"""Writes a status where it differs from what the API server has, and never over what somebody else just wrote.

Read, changed, written under its resourceVersion: a 409 reads again. The status is ours alone, so what stands there
otherwise is replaced; the spec is not ours, and is read anew with it.
"""

import logging
from collections.abc import Callable

from services.reconciler.operator.cluster import INSTANCES, Changed, Cluster, Forbidden, Gone, Unreachable
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.standing import Book, Key, Standing, parse_moment
from services.reconciler.operator.status import Status
from services.reconciler.operator.watch import Seen

ATTEMPTS = 5

logger = logging.getLogger(__name__)


class Saver:
    """Knows the API server, and shows in metrics what it wrote."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        book: Book,
        metrics: OperatorMetrics,
        respecified: Callable[[Standing], None],
        put: Callable[[Seen], None],
    ) -> None:
        """Writes nothing yet. `respecified` is told where the spec turned out to be another; `put` gets what waited."""
        self._cluster = cluster
        self._book = book
        self._metrics = metrics
        self._respecified = respecified
        self._put = put
        self._unsaved: dict[Key, Standing] = {}
        self._waiting: list[Seen] = []

    def wait(self, seen: Seen) -> None:
        """Keeps what the watch told of an object that is being written: it may be that write."""
        self._waiting.append(seen)

    def mark(self, standing: Standing) -> None:
        """What the API server has is not what we want it to be."""
        self._unsaved[standing.key] = standing

    async def save(self, standing: Standing, status: Status) -> None:
        """Makes `status` the object's, here and there; what cannot be written now is tried again."""
        standing.status = status
        self.mark(standing)
        generation = standing.generation
        standing.saving = True
        try:
            await self._write(standing, status)
        finally:
            standing.saving = False
            while self._waiting:
                self._put(self._waiting.pop())
        self._book.sort(standing)
        if standing.generation != generation:
            self._respecified(standing)
        self._show(standing)

    async def save_unsaved(self) -> None:
        """Tries again what could not be written."""
        for key, standing in list(self._unsaved.items()):
            if self._book.get(key) is not standing:
                self._unsaved.pop(key)
            elif standing.task is None:
                await self.save(standing, standing.status)
                if key in self._unsaved:
                    return  # the API server is away; the next tick tries again

    async def _write(self, standing: Standing, status: Status) -> None:
        plural, namespace, name = standing.key
        try:
            for _ in range(ATTEMPTS):
                if standing.body.get("status") != status:
                    try:
                        standing.hold(await self._cluster.replace_status(plural, {**standing.body, "status": status}))
                        standing.written = standing.body.get("status")
                        if standing.written == status:
                            standing.status = standing.written  # one copy is enough for a thousand objects
                    except Changed:
                        found = await self._cluster.get(plural, namespace=namespace, name=name)
                        if found["metadata"]["uid"] != standing.uid:
                            return
                        standing.hold(found)
                        continue
                self._unsaved.pop(standing.key, None)
                return
        except Gone:
            pass
        except (Forbidden, Unreachable) as error:
            logger.warning("status not written", extra={"object": "/".join(standing.at), "why": str(error)})

    def _show(self, standing: Standing) -> None:
        if self._book.get(standing.key) is not standing:
            return
        if standing.key[0] == INSTANCES:
            self._metrics.instance(standing.at, standing.status)
        else:
            last = parse_moment(standing.status.get("lastSuccessTime"))
            self._metrics.sync(standing.at, standing.status, last_success=last.timestamp() if last else None)
