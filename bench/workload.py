"""The events of a measurement: users as the emulator draws them, signed before any clock starts.

Order does not matter to what must be in the database afterwards (promise 2), so what is expected follows from the set
of events that were acknowledged, whatever the connections did.
"""

import random
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from svix.webhooks import Webhook

from devtools.clerk_emulator import shapes
from devtools.clerk_emulator.events import DEFAULT_ATTRIBUTES
from devtools.clerk_emulator.state.population import Population
from devtools.clerk_emulator.state.records import UserRecord

NEW, STALE, DUPLICATE = 0.25, 0.03, 0.02
"""Shares of events: a user nobody saw before, a version that came too late, a delivery made twice. The rest updates."""

AHEAD = timedelta(seconds=200)
"""Requests are signed for a moment in the future, and so are good for 300 + 200 s: many rounds send the same bytes."""

TOLERANCE = timedelta(seconds=300)
"""Svix's, in both directions."""

BEHIND = 500
"""A duplicate repeats a delivery at least so many events old: it meets a committed row, as Svix's duplicates do."""

PATH = "/webhooks/clerk"
LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Planned:
    """One request of the file: what it says, in so far as the database must show it."""

    svix_id: str
    user_id: str
    updated_at: int
    observed_at: int
    first_name: str
    email: str | None

    @property
    def version(self) -> tuple[int, int, str]:
        """What decides between two events of one user."""
        return self.updated_at, self.observed_at, self.svix_id


@dataclass(frozen=True, slots=True)
class Workload:
    """A file of raw HTTP requests, each behind its length, and the plan of each."""

    file: Path
    plan: Sequence[Planned]
    warm: int
    """So many at the beginning create the users that the rest updates; no clock runs while they are sent."""
    mean_bytes: float
    """Of a body."""
    good_until: datetime
    """From then on the signatures are stale."""

    def is_good_for(self, lasting: timedelta) -> bool:
        """Whether requests that are sent up to then are still accepted."""
        return datetime.now(UTC) + lasting < self.good_until


def prepare(
    file: Path,
    *,
    warm: int,
    timed: int,
    secret: str,
    instance_id: str,
    seed: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Workload:
    """Writes `warm` + `timed` signed requests. `progress` hears how many are done."""
    rng = random.Random(seed)
    at = datetime.now(UTC) + AHEAD
    signer = Webhook(secret)
    bodies = 0
    plan: list[Planned] = []
    requests: list[bytes] = []
    drawn = _draw(rng, warm=warm, timed=timed, now_ms=int(at.timestamp() * 1000), instance_id=instance_id)
    with file.open("wb", buffering=2**20) as out:
        for planned, body in drawn:
            if body is None:
                index = rng.randrange(len(plan) - BEHIND) if len(plan) > BEHIND else 0
                plan.append(plan[index])
                request = requests[index]
            else:
                plan.append(planned)
                request = _request(planned.svix_id, at, body, signer=signer)
                bodies += len(body)
            requests.append(request)
            out.write(LENGTH.pack(len(request)) + request)
            if len(plan) % 1000 == 0:
                progress(len(plan))
    progress(len(plan))
    return Workload(
        file=file,
        plan=plan,
        warm=warm,
        mean_bytes=bodies / len({one.svix_id for one in plan}),
        good_until=at + TOLERANCE,
    )


def requests_of(file: Path) -> Iterator[bytes]:
    """The requests of such a file, in order."""
    content = file.read_bytes()
    position = 0
    while position < len(content):
        (length,) = LENGTH.unpack_from(content, position)
        position += LENGTH.size + length
        yield content[position - length : position]


def expected(acknowledged: Iterable[Planned]) -> dict[str, Planned]:
    """The event that each user's row must show once exactly these were acknowledged."""
    latest: dict[str, Planned] = {}
    for planned in acknowledged:
        held = latest.get(planned.user_id)
        if held is None or planned.version >= held.version:
            latest[planned.user_id] = planned
    return latest


def _draw(
    rng: random.Random, *, warm: int, timed: int, now_ms: int, instance_id: str
) -> Iterator[tuple[Planned, bytes | None]]:
    """Plans with bodies; None instead of a body: repeat an earlier delivery."""
    population = Population(seed=1, users=warm + timed, organizations=0, memberships=0)
    seeded: list[UserRecord] = []
    changes: list[int] = []
    repeated = Planned("", "", 0, 0, "", None)
    for number in range(warm + timed):
        kind = rng.random() if number >= warm else 0.0
        if kind >= 1 - DUPLICATE:
            yield repeated, None
            continue
        created = kind < NEW
        if created:
            seeded.append(population.user(len(seeded)))
            changes.append(0)
        slot = len(changes) - 1 if created else rng.randrange(len(changes))
        stale = not created and kind < NEW + STALE
        changes[slot] += 0 if created or stale else 1
        # Changes are whole seconds apart; half a second before the newest is older than it.
        updated_at = seeded[slot].updated_at + 1000 * changes[slot] - (500 if stale else 0)
        first_name = f"Bench {number}"
        record = replace(seeded[slot], first_name=first_name, updated_at=updated_at)
        planned = Planned(
            svix_id=f"msg_bench{number:016d}",
            user_id=record.id,
            updated_at=record.updated_at,
            observed_at=now_ms + number,
            first_name=first_name,
            email=next((mail.address for mail in record.emails if mail.id == record.primary_email_id), None),
        )
        yield (
            planned,
            _body(shapes.user(record), created=created, observed_at=planned.observed_at, instance_id=instance_id),
        )


def _body(data: dict[str, Any], *, created: bool, observed_at: int, instance_id: str) -> bytes:
    return msgspec.json.encode(
        {
            "data": data,
            "object": "event",
            "type": "user.created" if created else "user.updated",
            "timestamp": observed_at,
            "instance_id": instance_id,
            "event_attributes": DEFAULT_ATTRIBUTES,
        }
    )


def _request(svix_id: str, at: datetime, body: bytes, *, signer: Webhook) -> bytes:
    signature = signer.sign(svix_id, at, body.decode())
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Svix-Webhooks/1.100.0\r\nAccept: */*\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"svix-id: {svix_id}\r\nsvix-timestamp: {int(at.timestamp())}\r\nsvix-signature: {signature}\r\n\r\n"
    )
    return head.encode() + body
