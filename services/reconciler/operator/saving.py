"""Writes a status where it differs from what the API server has, and never over what somebody else just wrote.

Read, changed, written under its resourceVersion: a 409 reads again. The status is ours alone, so what stands there
otherwise is replaced; the spec is not ours, and is read anew with it.
"""

import logging

from services.reconciler.operator.cluster import Changed, Cluster, Forbidden, Gone, Unreachable
from services.reconciler.operator.standing import Standing
from services.reconciler.operator.status import Status

ATTEMPTS = 5

logger = logging.getLogger(__name__)


class Saver:
    """Knows the API server."""

    def __init__(self, cluster: Cluster) -> None:
        """Writes nothing yet."""
        self._cluster = cluster

    async def save(self, standing: Standing, status: Status) -> bool:
        """Makes `status` the object's, here and there; answers whether the spec turned out to be another meanwhile.

        What cannot be written now is remembered as unsaved.
        """
        standing.status = status
        standing.unsaved = True
        generation = standing.generation
        plural, namespace, name = standing.key
        for _ in range(ATTEMPTS):
            if standing.body.get("status") == status:
                standing.unsaved = False
                break
            try:
                standing.body = await self._cluster.replace_status(plural, {**standing.body, "status": status})
                standing.written = standing.body.get("status")
                standing.unsaved = False
                break
            except Changed:
                pass
            except (Gone, Forbidden, Unreachable) as error:
                self._not_saved(standing, error)
                break
            try:
                found = await self._cluster.get(plural, namespace=namespace, name=name)
            except (Gone, Forbidden, Unreachable) as error:
                self._not_saved(standing, error)
                break
            if found["metadata"]["uid"] != standing.uid:
                break
            standing.body = found
        return standing.generation != generation

    def _not_saved(self, standing: Standing, error: Exception) -> None:
        if not isinstance(error, Gone):
            logger.warning("status not written", extra={"object": "/".join(standing.at), "why": str(error)})
