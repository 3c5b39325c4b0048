"""Conditions by Kubernetes' conventions: a list keyed by type; lastTransitionTime changes only with the status."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

State = Literal["True", "False", "Unknown"]
LONGEST = 1_000
"""Characters of a message."""


def moment(at: datetime) -> str:
    """A time as the API server writes it: whole seconds, UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def find(conditions: Sequence[dict[str, Any]], type_: str) -> dict[str, Any] | None:
    """The condition of a type; None where there is none."""
    return next((condition for condition in conditions if condition.get("type") == type_), None)


def put(
    conditions: list[dict[str, Any]],
    type_: str,
    state: State,
    *,
    reason: str,
    message: str,
    generation: int,
    now: datetime,
) -> None:
    """Sets a condition in the list."""
    said = " ".join(message.split())
    fresh = {
        "type": type_,
        "status": state,
        "observedGeneration": generation,
        "reason": reason,
        "message": said if len(said) <= LONGEST else said[: LONGEST - 1] + "…",
        "lastTransitionTime": moment(now),
    }
    former = find(conditions, type_)
    if former is None:
        conditions.append(fresh)
        return
    if former.get("status") == state:
        fresh["lastTransitionTime"] = former.get("lastTransitionTime") or fresh["lastTransitionTime"]
    former.clear()
    former.update(fresh)


def drop(conditions: list[dict[str, Any]], type_: str) -> None:
    """Removes a condition that exists only while something is wrong or going on."""
    conditions[:] = [condition for condition in conditions if condition.get("type") != type_]
