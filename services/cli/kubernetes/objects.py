"""Reads ClerkSyncs and ClerkInstances. Their status may be missing, old, or written by somebody else."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Object = Mapping[str, Any]


def name_of(of: Object) -> str:
    """namespace/name."""
    return f"{of['metadata']['namespace']}/{of['metadata']['name']}"


def status_of(of: Object) -> Mapping[str, Any]:
    """Its status, empty where no operator has seen it."""
    status = of.get("status")
    return status if isinstance(status, Mapping) else {}


def condition(of: Object, type_: str) -> Mapping[str, Any]:
    """One condition. Where it is missing or about an older spec: Unknown, with a reason that says so."""
    for found in status_of(of).get("conditions") or ():
        if found.get("type") == type_:
            if found.get("observedGeneration", 0) < of["metadata"].get("generation", 0):
                return {**found, "status": "Unknown", "reason": "Changed", "message": "the spec changed since"}
            return dict(found)
    return {"type": type_, "status": "Unknown", "reason": "NotSeen", "message": "no operator has looked at it yet"}


def moment(text: Any) -> datetime | None:
    """A time of a status; None for what is none."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
