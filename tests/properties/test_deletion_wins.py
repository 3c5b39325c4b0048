"""Promise 4: no webhook and no list page makes a tombstoned id live again.

Looked at after every wave, and by a watcher while the waves are under way: in no snapshot is an object both dead and
visible, or a membership visible whose user or organization is dead.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import hypothesis
from hypothesis import strategies as st

from nexus_auth.clerk.version import API, Version
from tests.events import T0, Signed, deleted, event, membership, organization, user
from tests.model import Mirror, Told, expected, expected_of, read_mirror, told
from tests.properties.pair import PAGE_READ_AT, Answered, Delivery, Pair
from tests.properties.plans import Plan, Reached, as_found, describe, describe_wave, plans


def test_what_was_deleted_never_lives_again(pair: Pair) -> None:
    reached = Reached()

    @as_found
    @hypothesis.given(plan=plans(at_least_one_delete=True), listed=st.frozensets(st.integers(0, 3)))
    def check(plan: Plan, listed: frozenset[int]) -> None:
        reached.note(*pair.run(deliver_all(plan, pages_before=listed)))

    async def deliver_all(plan: Plan, *, pages_before: frozenset[int]) -> set[str]:
        await pair.forget()
        schedule = plan.schedules[0]
        found = describe(schedule)
        said: list[Told] = []
        dead: set[tuple[str, str]] = set()
        for number, wave in enumerate(schedule.waves):
            page = [one for one in plan.events if not told(one).deleted] if number in pages_before else []
            found |= {"list page"} if page else set()
            found |= {"list page of somebody deleted"} if dead & {(told(p).kind, told(p).id) for p in page} else set()
            found |= describe_wave(await watched(pair, wave, page=page))
            said += [told(delivery.signed) for delivery in wave] + [as_listed(told(one)) for one in page]
            if number in schedule.replays:
                await pair.replay()
            now = await pair.mirror()
            assert dead <= now.dead, f"lives again: {dead - now.dead}"
            assert not alive_and_dead(now)
            assert expected_of(said).differs_from(now) == []
            assert await pair.parked() == 0
            dead = now.dead
        return found

    check()
    reached.expect(
        *("deleted before created", "written after deleted", "member of somebody deleted", "repeated"),
        *("replayed in between", "two events at once", "list page", "list page of somebody deleted"),
    )


async def watched(pair: Pair, wave: Sequence[Delivery], *, page: Sequence[Signed]) -> list[Answered]:
    """Delivers a wave, and a page beside it, while snapshots are taken one after the other."""
    async with asyncio.TaskGroup() as group:
        delivering = group.create_task(pair.deliver(wave))
        listing = group.create_task(pair.list_page(page)) if page else delivering
        while not (delivering.done() and listing.done()):
            assert not alive_and_dead(await read_mirror(pair.watcher))
    return delivering.result()


def alive_and_dead(mirror: Mirror) -> set[Any]:
    """What no snapshot may hold."""
    orphans = {
        ("organization_membership", i)
        for i, row in mirror.organization_memberships.items()
        if {("user", row["user_id"]), ("organization", row["organization_id"])} & mirror.dead
    }
    return (mirror.visible & mirror.dead) | orphans


def as_listed(one: Told) -> Told:
    """The same object as a sweep reads it."""
    version = Version(one.version.updated_at, PAGE_READ_AT, API, "")
    return replace(one, svix_id="", version=version)


def test_a_deletion_wins_over_a_version_from_the_far_future(pair: Pair) -> None:
    later = T0 + 10**12
    first = [
        Signed(event("user.created", user("user_0"))),
        Signed(event("organization.created", organization("org_0"))),
        Signed(
            event("organizationMembership.created", membership("orgmem_0", user_id="user_0", organization_id="org_0"))
        ),
    ]
    deletion = Signed(event("user.deleted", deleted("user", "user_0"), timestamp=None))
    after = [
        Signed(event("user.updated", user("user_0", updated_at=later), timestamp=later)),
        Signed(
            event(
                "organizationMembership.updated",
                membership("orgmem_0", user_id="user_0", organization_id="org_0", updated_at=later),
                timestamp=later,
            )
        ),
    ]

    async def deliver() -> None:
        await pair.forget()
        for wave in (first, [deletion], after):
            await pair.deliver(Delivery(signed, process) for process in (0, 1) for signed in wave)
        await pair.list_page(after)
        mirror = await pair.mirror()
        assert mirror.visible == {("organization", "org_0")}
        assert expected([*first, deletion, *after]).differs_from(mirror) == []
        assert await pair.parked() == 0

    pair.run(deliver())
