"""One id's whole story, for whoever is on call: what arbitrates it now, and everything that happened to it.

The search for its events looks at every delivery of the last two weeks, as `nexus_auth.store.inbox` does.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

from nexus_auth.clerk.catalogue import BY_KIND

STORY = files("nexus_auth.store").joinpath("explain.sql").read_text("utf-8")
OBJECT = files("nexus_auth.store").joinpath("explain_object.sql").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened to an object, or to one that names it."""

    at: datetime
    what: str
    """event, event parked, finding, deletion parked, deletion held, verification queued, burial open,
    refused by Postgres, last applied."""
    kind: str | None
    id: str | None
    detail: Mapping[str, Any]
    """Depends on `what`; moments of Clerk's are ms, ours ISO 8601."""


async def objects(connection: Any, object_id: str) -> list[Mapping[str, Any]]:
    """What stands of an id now: `arbitrated` and `typed` say whether the arbiter, and applications, have a row."""
    return [dict(row) for row in await connection.fetch(OBJECT, object_id, list(BY_KIND))]


async def story(connection: Any, object_id: str) -> list[Step]:
    """Everything that is known of an id, in the order of time; the newest thousand steps."""
    return [
        Step(row["at"], row["what"], row["kind"], row["id"], json.loads(row["detail"]))
        for row in await connection.fetch(STORY, object_id, list(BY_KIND))
    ]
