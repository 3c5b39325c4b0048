"""Looking into the inbox: what came, what became of it, and the bytes that it came with.

Reading goes by the time of arrival, which partitions and their keys follow. Traded: a search by the id of an object
looks at every delivery of the time span, because an index over all ids would cost the webhook more than it saves here.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

LIST = files("nexus_auth.store").joinpath("inbox_list.sql").read_text("utf-8")
COUNT = files("nexus_auth.store").joinpath("inbox_count.sql").read_text("utf-8")
UNKNOWN = files("nexus_auth.store").joinpath("inbox_unknown.sql").read_text("utf-8")
PAGE = files("nexus_auth.store").joinpath("inbox_page.sql").read_text("utf-8")
SHOW = files("nexus_auth.store").joinpath("inbox_show.sql").read_text("utf-8")

STATES = ("applied", "waiting", "parked", "kept", "held")

FIRST = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 1, 1, tzinfo=UTC)

PAGE_ROWS = 200
PAGE_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Selection:
    """Which deliveries; what is left empty does not restrict."""

    since: datetime | None = None
    """Received at or after."""
    until: datetime | None = None
    """Received before."""
    types: tuple[str, ...] = ()
    """Types; `*` stands for anything (`user.*`)."""
    ids: tuple[str, ...] = ()
    """svix-ids, or ids that the event speaks of."""
    states: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether nothing restricts it."""
        return not (self.since or self.until or self.types or self.ids or self.states)


@dataclass(frozen=True, slots=True)
class Listed:
    """One delivery without its body."""

    svix_id: str
    received_at: datetime
    type: str
    state: str
    outcome: str | None
    kind: str | None
    object_id: str | None
    subjects: tuple[str, ...]
    observed_at: int
    """The envelope's timestamp, ms; 0 where it has none."""
    instance_id: str | None
    secret: str
    """Fingerprint of the secret that verified it."""
    withheld: bool
    """Parts of the body are not stored."""
    size: int
    """Of the stored body, bytes."""
    error: str | None
    """Why it is parked."""
    attempts: int | None
    """How often it was tried and parked."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One delivery as it is stored: what verifying or applying it again takes."""

    svix_id: str
    received_at: datetime
    type: str
    state: str
    observed_at: int
    svix_timestamp: str
    signature: str
    secret: str
    body: bytes
    """The signed bytes, unless `withheld`."""
    withheld: bool


async def newest(connection: Any, *, selection: Selection, limit: int) -> list[Listed]:
    """The newest `limit` deliveries, newest first."""
    rows = await connection.fetch(LIST, *_arguments(selection), limit)
    return [Listed(**{**row, "type": row["type"] or "", "subjects": tuple(row["subjects"])}) for row in map(dict, rows)]


async def count(connection: Any, *, selection: Selection) -> int:
    """How many deliveries match. Reads all of the time span."""
    matching: int = await connection.fetchval(COUNT, *_arguments(selection))
    return matching


async def unknown(connection: Any, *, selection: Selection) -> list[str]:
    """Of the selection's ids those that no matching delivery is, or speaks of. Reads all of the time span."""
    return [row["id"] for row in await connection.fetch(UNKNOWN, *_arguments(selection))] if selection.ids else []


async def pages(
    connection: Any, *, selection: Selection, rows: int = PAGE_ROWS, size: int = PAGE_BYTES
) -> AsyncIterator[list[Stored]]:
    """All deliveries in the order of their arrival, up to `rows` and about `size` bytes at a time.

    No transaction is held between pages. What arrives meanwhile is read too, unless `selection.until` is set.
    """
    after = (FIRST, "")
    while True:
        found = await connection.fetch(PAGE, *_arguments(selection), *after, rows, size)
        if not found:
            return
        yield [Stored(**{**row, "type": row["type"] or ""}) for row in map(dict, found)]
        after = (found[-1]["received_at"], found[-1]["svix_id"])


async def show(connection: Any, svix_id: str) -> Mapping[str, Any] | None:
    """All that is known of one delivery, by column of `inbox_show.sql`; None where it never came or is forgotten."""
    row = await connection.fetchrow(SHOW, svix_id)
    return dict(row) if row is not None else None


def _arguments(selection: Selection) -> tuple[Any, ...]:
    return (
        selection.since or FIRST,
        selection.until or LAST,
        [_pattern(event_type) for event_type in selection.types] or None,
        list(selection.ids) or None,
        list(selection.states) or None,
    )


def _pattern(event_type: str) -> str:
    """A LIKE pattern in which only `*` is special."""
    for special in ("\\", "%", "_"):
        event_type = event_type.replace(special, "\\" + special)
    return event_type.replace("*", "%")
