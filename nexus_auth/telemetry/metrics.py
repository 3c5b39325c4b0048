"""What the metrics of all services share: the process, the version, and series that exist from the start.

Prometheus' conventions: a series that appears only with its first event hides that event from `rate()`, and the
`_created` series double what is stored and tell nothing that a scrape does not.
"""

from collections.abc import Iterable
from importlib.metadata import version
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.gc_collector import GCCollector


def new_registry(*, service: str) -> CollectorRegistry:
    """A registry of one process: `process_*`, `python_*` and `nexus_auth_build_info` with the service's name.

    Turns the `_created` series off for the whole process: the library knows no other way.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    build = Info("nexus_auth_build", "Version of this process", registry=registry)
    build.info({"service": service, "version": version("nexus-auth")})
    return registry


def initialise(metric: Counter | Gauge | Histogram, *values: Iterable[str]) -> None:
    """Makes a series for every combination of label values, one iterable for each label in the metric's order."""
    for labels in product(*values):
        metric.labels(*labels)
