"""Why a row differed, as far as the inbox can tell; what comes later corrects it."""

import json
import time
from typing import Any

from tests import events
from tests.reconcile.world import World


async def causes(world: World) -> dict[str, str]:
    """By id, of all findings."""
    return {row[0]: row[1] for row in await world.admin.fetch("select id, cause from clerk_private.findings")}


async def lose(world: World, *, names: list[str]) -> list[str]:
    """Users change, and nobody tells of it; they differ in names."""
    users = (await world.ids())[: len(names)]
    with world.clerk.events.silence():
        for user, name in zip(users, names, strict=True):
            world.clerk.changes.users.update(user, {"first_name": name})
    return users


async def told(world: World, user: str, *, at: int) -> bytes:
    """The event of a user as Clerk has it now."""
    listed: Any = json.loads((await world.api.read(f"/users/{user}")).body)
    return events.event("user.updated", listed, timestamp=at)


def now() -> int:
    return int(time.time() * 1000)


async def test_an_event_that_comes_after_its_repair_came_late(world: World) -> None:
    late, lost, younger = await lose(world, names=["Late", "Lost", "Younger"])
    lately = now()
    await world.sweep()
    assert await causes(world) == dict.fromkeys((late, lost, younger), "never received")
    with world.clerk.events.silence():
        world.clerk.changes.users.update(younger, {"first_name": "Youngest"})
    await world.put(await told(world, late, at=lately), await told(world, younger, at=now() + 1))
    await world.sweep(mode="incremental")
    found = await causes(world)
    assert (found[late], found[lost], found[younger]) == ("received late", "never received", "never received")


async def test_what_came_long_ago_is_not_looked_at_again(world: World) -> None:
    """The cost of a look must not grow with the inbox."""
    (user,) = await lose(world, names=["Late"])
    lately = now()
    await world.sweep()
    await world.put(await told(world, user, at=lately))
    await world.admin.execute("update clerk_private.inbox set received_at = received_at - interval '10 minutes'")
    await world.admin.execute("update clerk_private.findings set found_at = found_at - interval '20 minutes'")
    await world.sweep(mode="incremental")
    assert (await causes(world))[user] == "never received"
