"""Kubernetes Events: one for each change that `kubectl describe` should show. A repeated one raises its count."""

import hashlib
import logging
from datetime import UTC, datetime
from typing import Literal

from services.reconciler.manifests import GROUP
from services.reconciler.operator.cache import TrackedObject
from services.reconciler.operator.cluster import KINDS, VERSION, Changed, Cluster, Forbidden, Gone, Unreachable
from services.reconciler.operator.conditions import moment

COMPONENT = "nexus-auth-operator"
LONGEST = 1_000

logger = logging.getLogger(__name__)


class Events:
    """Posts Events. One that cannot be posted is logged and dropped."""

    def __init__(self, cluster: Cluster, *, identity: str) -> None:
        """`identity` names this process."""
        self._cluster = cluster
        self._identity = identity

    async def post(self, of: TrackedObject, kind: Literal["Normal", "Warning"], *, reason: str, message: str) -> None:
        """Posts an Event. The same reason and sentence about the same object raise the count of the Event that
        exists."""
        said = " ".join(message.split())[:LONGEST]
        now = moment(datetime.now(UTC))
        mark = hashlib.sha256(f"{of.uid} {kind} {reason} {said}".encode()).hexdigest()[:16]
        name = f"{of.name[:200]}.{mark}"
        body = {
            "metadata": {"name": name, "namespace": of.namespace},
            "involvedObject": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KINDS[of.key[0]],
                "namespace": of.namespace,
                "name": of.name,
                "uid": of.uid,
                "resourceVersion": of.resource_version,
            },
            "type": kind,
            "reason": reason,
            "message": said,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._identity[:128],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            try:
                await self._cluster.create_event(of.namespace, body)
            except Changed:
                count = await self._cluster.patch_event(of.namespace, name, {"lastTimestamp": now})
                await self._cluster.patch_event(of.namespace, name, {"count": count + 1})
        except (Changed, Gone, Forbidden, Unreachable) as error:
            logger.warning("event not posted", extra={"object": "/".join(of.at), "reason": reason, "why": str(error)})
