"""Worlds for the tests of the engine."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from devtools.clerk_emulator import Behaviour, Emulator, Settings
from devtools.postgres import Database
from tests.reconcile.world import World, close_world, open_world

MakeWorld = Callable[..., Awaitable[World]]


@pytest.fixture
async def make_world(database: Database) -> AsyncIterator[MakeWorld]:
    """Opens a world: `await make_world(users=20, organizations=2, memberships=10, after_inclusive=True)`."""
    async with AsyncExitStack() as stack:

        async def make(
            *, users: int = 20, organizations: int = 3, memberships: int = 12, one_moment: int = 0, **behaviour: Any
        ) -> World:
            settings = Settings(
                users=users,
                organizations=organizations,
                memberships=memberships,
                users_of_one_moment=one_moment,
                seed=7,
                behaviour=Behaviour(**({"rate_limit": 0} | behaviour)),
            )
            clerk = await stack.enter_async_context(Emulator(settings))
            world = await open_world(clerk, database)
            stack.push_async_callback(close_world, world)
            return world

        yield make


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    """Twenty users, three organizations, twelve memberships, all of them in the mirror."""
    opened = await make_world()
    result = await opened.sweep()
    assert result.state == "completed", result
    return opened
