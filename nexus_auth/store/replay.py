"""Applies stored events again: after a fix, or whenever in doubt; the version that each event had decides as before.

The stored bytes are read anew, so that what could not be read or applied then can be now; what still cannot is parked
with today's reason. Traded: a batch is one transaction, as in `ingest`, and one that fails on somebody's data is halved
until the poison stands alone.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import asyncpg

from nexus_auth.clerk import envelope
from nexus_auth.clerk.envelope import Event
from nexus_auth.store.inbox import Selection, Stored, pages
from nexus_auth.store.ingest import Change, change_of, describe, is_poison, retried

REPLAY = "select clerk_private.replay($1, $2, $3::clerk_private.change[])"
PARK = files("nexus_auth.store").joinpath("replay_park.sql").read_text("utf-8")
SETTLE = files("nexus_auth.store").joinpath("replay_settle.sql").read_text("utf-8")

SOURCE = "replay"
FOREIGN = "other instance"
"""Outcome of an event that another Clerk instance sent, before the database was claimed for this one: left alone."""

STILL_PARKED = frozenset({"parked", "incomplete"})
INCOMPLETE = "names no user or no organization, and we hold no such membership; or others than its row has"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one event this time."""

    svix_id: str
    type: str
    outcome: str
    """As of `GroupCommit.submit`, or `FOREIGN`."""
    error: str | None = None
    """Why it is still parked; never a value out of the event."""

    @property
    def parked(self) -> bool:
        """Whether it still waits for a fix."""
        return self.outcome in STILL_PARKED


@dataclass(frozen=True, slots=True)
class _Reading:
    stored: Stored
    event: Event
    change: Change | None

    def came_to(self, outcome: str, *, error: str | None = None) -> Replayed:
        return Replayed(self.stored.svix_id, self.event.type or self.stored.type, outcome, error)


async def replay(
    connection: Any, *, selection: Selection, instance_id: str, dry_run: bool = False
) -> AsyncIterator[list[Replayed]]:
    """Applies what matches in the order of its arrival; yields a batch's outcomes once it has committed.

    Events of another instance than `instance_id` are left alone. `dry_run` does the same work and takes each batch
    back: events that depend on one of an earlier batch may then come to something else. Set `selection.until`, or what
    arrives meanwhile is replayed too. Raises what asyncpg raises when the database goes away; what was yielded stays.
    """
    async for page in pages(connection, selection=selection):
        foreign: list[_Reading] = []
        applied: list[_Reading] = []
        others: list[_Reading] = []
        for reading in map(_read, page):
            if reading.event.instance_id not in (None, instance_id):
                foreign.append(reading)
            else:
                (others if reading.change is None else applied).append(reading)
        yield [
            *(reading.came_to(FOREIGN) for reading in foreign),
            *await _apply(connection, applied, dry_run=dry_run),
            *await _settle(connection, others, dry_run=dry_run),
        ]


def _read(stored: Stored) -> _Reading:
    event = envelope.read(stored.body, keep_event_attributes=True)
    event = replace(event, observed_at=stored.observed_at or event.observed_at)
    return _Reading(stored, event, change_of(event, svix_id=stored.svix_id, source=SOURCE))


async def _apply(connection: Any, part: Sequence[_Reading], *, dry_run: bool) -> list[Replayed]:
    if not part:
        return []
    try:
        return await retried(lambda: _apply_at_once(connection, part, dry_run=dry_run))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, OverflowError) as error:
        if not is_poison(error):
            raise
        if len(part) > 1:
            middle = len(part) // 2
            first = await _apply(connection, part[:middle], dry_run=dry_run)
            return first + await _apply(connection, part[middle:], dry_run=dry_run)
        poisoned = replace(part[0], event=replace(part[0].event, state="parked", error=describe(error)))
        return await _settle(connection, [poisoned], dry_run=dry_run)


async def _apply_at_once(connection: Any, part: Sequence[_Reading], *, dry_run: bool) -> list[Replayed]:
    ids = [reading.stored.svix_id for reading in part]
    received = [reading.stored.received_at for reading in part]
    async with _Transaction(connection, undo=dry_run):
        outcomes = await connection.fetchval(REPLAY, ids, received, [reading.change for reading in part])
        incomplete = [svix_id for svix_id, outcome in zip(ids, outcomes, strict=True) if outcome == "incomplete"]
        if incomplete:
            await connection.execute(PARK, incomplete, [INCOMPLETE] * len(incomplete), True)
    return [
        reading.came_to(outcome, error=INCOMPLETE if outcome == "incomplete" else None)
        for reading, outcome in zip(part, outcomes, strict=True)
    ]


async def _settle(connection: Any, part: Sequence[_Reading], *, dry_run: bool) -> list[Replayed]:
    """Notes the state of what changes nothing; an applied event stays one, unless it can no longer be applied."""
    settled = [r for r in part if r.event.state == "parked" or r.stored.state != "applied"]
    parked = [r for r in settled if r.event.state == "parked"]

    async def write() -> None:
        async with connection.transaction():
            await connection.execute(
                SETTLE,
                [r.stored.svix_id for r in settled],
                [r.stored.received_at for r in settled],
                [r.event.state for r in settled],
            )
            if parked:
                await connection.execute(
                    PARK, [r.stored.svix_id for r in parked], [r.event.error for r in parked], False
                )

    if settled and not dry_run:
        await retried(write)
    return [reading.came_to(reading.event.state, error=reading.event.error) for reading in part]


class _Transaction:
    """A transaction that ends with a rollback where it is only tried."""

    def __init__(self, connection: Any, *, undo: bool) -> None:
        self._transaction = connection.transaction()
        self._undo = undo

    async def __aenter__(self) -> None:
        await self._transaction.start()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await (self._transaction.rollback() if self._undo or kind is not None else self._transaction.commit())
