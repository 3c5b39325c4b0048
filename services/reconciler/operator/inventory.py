"""What there is: objects listed, read, taken over and let go of, and who looks again because of it.

The watch names keys, a listing of everything every few minutes is the backstop. Nothing here remembers an edge: a key
that is lost costs time until the next listing, no more.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from services.reconciler.manifests import ManifestReader, SyncManifest
from services.reconciler.operator.agenda import Agenda
from services.reconciler.operator.cluster import INSTANCES, SYNCS, Cluster, Forbidden, Gone, Object, Unreachable
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.saving import Saver
from services.reconciler.operator.standing import Book, Key, Standing
from services.reconciler.operator.watch import SECRETS, Seen

logger = logging.getLogger(__name__)


class Inventory:
    """Keeps the book."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        book: Book,
        agenda: Agenda,
        saver: Saver,
        metrics: OperatorMetrics,
        controller_class: str,
        watch_is_deaf: Callable[[], None],
    ) -> None:
        """`watch_is_deaf` is called where a listing brought what the watch had not told."""
        self._cluster = cluster
        self._book = book
        self._agenda = agenda
        self._saver = saver
        self._metrics = metrics
        self._class = controller_class
        self._watch_is_deaf = watch_is_deaf
        self._reader = ManifestReader(closed=False)
        self._listed = False
        self.complaint: str | None = None
        """Why nothing could be listed."""

    async def list(self) -> bool:
        """Reads everything: the start, and the backstop afterwards. Answers whether that could be done."""
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
            return False
        first, was_away, news = not self._listed, self.complaint is not None, False
        self.complaint = None
        for standing in self._book:
            if standing.key not in found:
                self._remove(standing)
                news = True
        for key, body in found.items():
            news = self._consider(key, body) or news
        if was_away or (news and not first):  # what could not be listed could not be watched either
            logger.warning("the watch had missed something")
            self._watch_is_deaf()
        self._listed = True
        return True

    async def take(self, seen: Seen) -> bool:
        """Looks into what the watch told; answers whether that could be done."""
        if seen.plural == SECRETS:
            self._secret(seen)
            return True
        key = (seen.plural, seen.namespace, seen.name)
        standing = self._book.get(key)
        if seen.gone:
            if standing is not None and standing.uid == seen.uid:
                self._remove(standing)
            return True
        if standing is not None and standing.uid == seen.uid and seen.resource_version in standing.versions:
            return True
        if standing is not None and standing.saving:
            self._saver.wait(seen)
            return True
        try:
            body = await self._cluster.get(seen.plural, namespace=seen.namespace, name=seen.name)
        except Gone:
            if standing is not None:
                self._remove(standing)
            return True
        except (Unreachable, Forbidden) as error:
            logger.warning("object not read", extra={"object": f"{seen.namespace}/{seen.name}", "why": str(error)})
            return False
        self._consider(key, body)
        return True

    def respecified(self, standing: Standing) -> None:
        """The body that we hold turned out to have another spec."""
        standing.read(standing.body, self._reader)
        self._changed(standing)
        self._agenda.soon(standing)

    def forget(self, standing: Standing) -> None:
        """Takes its metrics away."""
        if standing.key[0] == INSTANCES:
            self._metrics.forget_instance(standing.at)
        else:
            self._metrics.forget(standing.at)

    def _secret(self, seen: Seen) -> None:
        """A Secret changed, came or went: whoever read another version of it looks again."""
        for standing in self._book.users_of_secret(seen.namespace, seen.name):
            if standing.secrets[seen.name] != (None if seen.gone else seen.resource_version):
                self._agenda.soon(standing)

    def _consider(self, key: Key, body: Object) -> bool:
        """Takes a body over; answers whether it was news."""
        standing = self._book.get(key)
        if standing is not None and standing.uid != body["metadata"]["uid"]:
            self._remove(standing)
            standing = None
        if standing is None:
            return self._add(key, body)
        if standing.resource_version == body["metadata"]["resourceVersion"]:
            return False
        former, generation = standing.manifest, standing.generation
        standing.read(body, self._reader)
        if not self._is_ours(standing):
            self._remove(standing)
            return True
        if body.get("status") not in (standing.status, standing.written):
            self._saver.mark(standing)  # somebody else wrote it
        if standing.generation != generation:
            self._changed(standing)
            if standing.task is not None and _means_another_run(former, standing.manifest):
                standing.task.cancel()
            self._agenda.soon(standing)
        elif standing.request is not None or standing.approval is not None:
            self._agenda.soon(standing)
        return True

    def _add(self, key: Key, body: Object) -> bool:
        standing = Standing(key, body, dict(body.get("status") or {}))
        standing.read(body, self._reader)
        if not self._is_ours(standing):
            return False
        self._book.put(standing)
        self._changed(standing)
        self._agenda.again(standing)
        return True

    def _is_ours(self, standing: Standing) -> bool:
        if standing.key[0] == INSTANCES:
            return True
        return str((standing.body.get("spec") or {}).get("controllerClass", "")) == self._class

    def _changed(self, standing: Standing) -> None:
        """A new object or a new spec: whoever refers to it, or stood in its shadow, looks again."""
        if standing.key[0] == INSTANCES:
            for user in self._book.syncs_of(standing):
                self._agenda.soon(user)
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
        if holder is not None and self._listed:
            self._agenda.soon(holder)
        self._free_rivals()

    def _free_rivals(self) -> None:
        """Whoever waits for another to give way looks whether it has."""
        for other in self._book.in_shadow():
            self._agenda.soon(other)

    def _remove(self, standing: Standing) -> None:
        self._book.remove(standing.key)
        if standing.task is not None:
            standing.task.cancel()
        self.forget(standing)
        logger.info("object gone", extra={"object": "/".join(standing.at)})
        if standing.key[0] == INSTANCES:
            for sync in self._book.syncs_of(standing):
                self._agenda.soon(sync)
        else:
            holder = self._book.instance_of(standing)
            if holder is not None:
                self._agenda.soon(holder)
        self._free_rivals()


def _means_another_run(former: object, now: object) -> bool:
    """Whether a run by the former manifest should not go on: anything but its being suspended."""
    if isinstance(former, SyncManifest) and isinstance(now, SyncManifest):
        return replace(former, suspend=False) != replace(now, suspend=False)
    return True
