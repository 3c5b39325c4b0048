"""Waiting until the operator has answered: it echoes what it handled, so nothing has to be guessed from times."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from services.cli.database import Failed
from services.cli.kubernetes.cluster import Cluster
from services.cli.kubernetes.objects import condition, status_of
from services.cli.output import tell

LOOK_SECONDS = 0.5
LINE_SECONDS = 15.0


def wait_until(
    cluster: Cluster, name: str, true: Callable[[Mapping[str, Any]], bool], *, seconds: float, what: str
) -> dict[str, Any]:
    """Looks at a ClerkSync until something is true of its status; answers the object. Raises `Failed` in time."""
    deadline = time.monotonic() + seconds
    line = time.monotonic() + LINE_SECONDS
    while True:
        of = cluster.sync(name)
        if true(status_of(of)):
            return of
        ready = condition(of, "Ready")
        said = f"{ready['reason']}: {ready['message']}"
        if time.monotonic() >= deadline:
            raise Failed(f"{what} was not answered in {seconds:.0f} s ({said}); see kubectl nexus logs")
        if time.monotonic() >= line:
            going = condition(of, "Reconciling")["status"] == "True"
            tell(f"{what}: {'a run is in progress' if going else said}")
            line = time.monotonic() + LINE_SECONDS
        time.sleep(LOOK_SECONDS)
