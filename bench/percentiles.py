"""Percentiles that were measured: no value between two values."""

from collections.abc import Iterable, Mapping

PERCENTS = (50, 95, 99)


def percentiles(values: Iterable[float]) -> Mapping[int, float]:
    """p50, p95 and p99. Raises ValueError where there is nothing."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return {percent: ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] for percent in PERCENTS}
