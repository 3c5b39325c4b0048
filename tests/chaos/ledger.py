"""The sender's side of a crash: what was sent, what was acknowledged, what was under way; and what of it is lost."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import aiohttp

from tests.events import T0, Signed, deleted, event, membership, organization, user
from tests.model import Mirror, expected, read_mirror, told
from tests.service import WebhookService

SENDERS = 8
"""Requests under way at once."""


def history(*, seed: int) -> Iterator[Signed]:
    """An endless life of forty users and five organizations; every event has a version of its own."""
    chance = random.Random(seed)
    at = T0
    while True:
        at += 1
        user_id, organization_id = f"user_{chance.randrange(40)}", f"org_{chance.randrange(5)}"
        membership_id = f"orgmem_{user_id}_{organization_id}"
        what = chance.random()
        if what < 0.5:
            kind, data = "user", user(user_id, updated_at=at, first_name=f"at {at}")
        elif what < 0.6:
            kind, data = "organization", organization(organization_id, updated_at=at, name=f"at {at}")
        elif what < 0.9:
            kind = "organizationMembership"
            data = membership(membership_id, organization_id=organization_id, user_id=user_id, updated_at=at)
        elif what < 0.97:
            kind, data = "user", deleted("user", user_id)
        elif what < 0.98:
            kind, data = "organization", deleted("organization", organization_id)
        else:
            kind, data = "organizationMembership", deleted("organization_membership", membership_id)
        yield Signed(event(f"{kind}.{'deleted' if data.get('deleted') else 'updated'}", data, timestamp=at))


class Ledger:
    """Every event of a run by its svix-id, and how it stands."""

    def __init__(self, *, seed: int) -> None:
        self._history = history(seed=seed)
        self.sent: dict[str, Signed] = {}
        self.acknowledged: set[str] = set()
        self.under_way: set[str] = set()
        self.statuses: Counter[int | str] = Counter()
        self._milestone: tuple[int, asyncio.Event] | None = None

    @property
    def unacknowledged(self) -> list[Signed]:
        """What the sender has to deliver again."""
        return [signed for svix_id, signed in self.sent.items() if svix_id not in self.acknowledged]

    def take(self, count: int) -> Iterator[Signed]:
        """The next events."""
        return itertools.islice(self._history, count)

    async def send(self, service: WebhookService, signed: Signed) -> bool:
        """Delivers once; True if it was acknowledged, False on any other answer or none."""
        self.sent[signed.svix_id] = signed
        self.under_way.add(signed.svix_id)
        try:
            status, _ = await service.post(signed)
        except (aiohttp.ClientError, OSError) as error:
            self.statuses[type(error).__name__] += 1
            return False
        finally:
            self.under_way.discard(signed.svix_id)
        self.statuses[status] += 1
        if status != 204:
            return False
        self.acknowledged.add(signed.svix_id)
        if self._milestone is not None and len(self.acknowledged) >= self._milestone[0]:
            self._milestone[1].set()
        return True

    async def load(self, service: WebhookService, those: Iterable[Signed], *, until_refused: bool = False) -> None:
        """Delivers all, `SENDERS` at once; with `until_refused` each of them ends with its first refusal."""
        rest = iter(those)

        async def sender() -> None:
            for signed in rest:
                if not await self.send(service, signed) and until_refused:
                    return

        await asyncio.gather(*(sender() for _ in range(SENDERS)))

    async def after(self, more: int) -> None:
        """Returns at the moment at which `more` events have been acknowledged than now."""
        reached = asyncio.Event()
        self._milestone = (len(self.acknowledged) + more, reached)
        await asyncio.wait_for(reached.wait(), 60)
        self._milestone = None

    async def redeliver(self, service: WebhookService, *, seconds: float = 60) -> None:
        """Delivers again what was not acknowledged, until all is."""
        async with asyncio.timeout(seconds):
            while self.unacknowledged:
                await self.load(service, self.unacknowledged)

    async def lost(self, reader: Any) -> list[str]:
        """Acknowledged events that the database does not have: by their svix-id, and as rows."""
        seen = {row["svix_id"] for row in await reader.fetch("select svix_id from clerk_private.inbox_seen")}
        kept = {row["svix_id"] for row in await reader.fetch("select svix_id from clerk_private.inbox")}
        mirror = await read_mirror(reader)
        return [
            f"{svix_id}: {why}"
            for svix_id in sorted(self.acknowledged)
            for why in _missing(self.sent[svix_id], seen=seen, kept=kept, mirror=mirror)
        ]

    async def differences(self, reader: Any) -> list[str]:
        """How the mirror and the inbox differ from what all that was sent makes of them."""
        kept = [row["svix_id"] for row in await reader.fetch("select svix_id from clerk_private.inbox")]
        twice = [f"{svix_id} is kept {n} times" for svix_id, n in Counter(kept).items() if n > 1]
        absent = [f"{svix_id} is not kept" for svix_id in set(self.sent) - set(kept)]
        return twice + absent + expected(self.sent.values()).differs_from(await read_mirror(reader))


def _missing(signed: Signed, *, seen: set[str], kept: set[str], mirror: Mirror) -> Iterator[str]:
    if signed.svix_id not in seen:
        yield "not in inbox_seen"
    if signed.svix_id not in kept:
        yield "not in inbox"
    one = told(signed)
    arbiter = mirror.objects.get((one.kind, one.id))
    if arbiter is None:
        yield "no such object"
    elif one.deleted and arbiter.buried_by is None:
        yield "not deleted"
    elif arbiter.version is not None and arbiter.version < one.version:
        yield "an older version is there"
    elif arbiter.buried_by is None and (one.kind, one.id) not in mirror.visible:
        yield "no row"
