"""Lists against a plain model: whatever changes, every page, window, cursor and count is what sorting a list gives."""

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from devtools.clerk_emulator import Settings
from devtools.clerk_emulator.api.filters import UserFilter, Window
from devtools.clerk_emulator.api.parameters import Page, Signed
from devtools.clerk_emulator.api.users_listed import UsersListed
from devtools.clerk_emulator.behaviour import Behaviour
from devtools.clerk_emulator.state.instance import InstanceState
from devtools.clerk_emulator.state.records import UserRecord

ANY = Signed(wanted=None, unwanted=frozenset())


class Model:
    """Users in a dictionary by slot, and which of them a replica shows."""

    def __init__(self, state: InstanceState) -> None:
        self.users = dict(enumerate(state.users))
        self.lingering: dict[int, UserRecord] = {}
        self.hidden: set[int] = set()

    def listed(self) -> dict[int, UserRecord]:
        shown = {slot: user for slot, user in self.users.items() if slot not in self.hidden}
        return shown | {slot: user for slot, user in self.lingering.items() if slot not in self.hidden}


def step(draw: random.Random, state: InstanceState, model: Model) -> None:
    """Change the instance and the model in one of the ways there are."""
    table, slot = state.users, draw.choice(sorted(model.users))
    user = model.users[slot]
    match draw.choice(
        ("create", "create", "create", "update", "update", "move", "delete", "linger", "hide", "catch_up")
    ):
        case "create":
            moment = draw.choice([one.created_at for one in model.users.values()])
            new = UserRecord(id=table.next_identifier(now_ms=moment), created_at=moment, updated_at=moment)
            model.users[table.insert(new)] = new
        case "update":
            model.users[slot] = replace(user, updated_at=user.updated_at + draw.randrange(-(10**8), 10**9))
            table.replace(model.users[slot])
        case "move":
            moment = draw.choice([one.created_at for one in model.users.values()])
            model.users[slot] = replace(user, created_at=moment)
            table.replace(model.users[slot])
        case "delete":
            table.remove(user.id)
            model.hidden.discard(slot)
            del model.users[slot]
        case "linger":
            table.remove(user.id, linger_seconds=None)
            model.lingering[slot] = model.users.pop(slot)
        case "hide":
            table.hide(user.id)
            model.hidden.add(slot)
        case "catch_up" if draw.random() < 0.2:
            table.catch_up()
            model.lingering.clear()
            model.hidden.clear()


def ordered(users: dict[int, UserRecord], page: Page) -> list[int]:
    key = (lambda slot: (users[slot].created_at, slot)) if page.order_by == "created_at" else None
    by = key or (lambda slot: (users[slot].updated_at, slot))
    return sorted(users, key=by, reverse=page.descending)


def asked(draw: random.Random, users: Iterable[UserRecord]) -> UserFilter:
    """Return a window, ids or exclusions, or any of them together."""
    known = list(users)
    moments = sorted(draw.choice(known).created_at + draw.randrange(-1, 2) for _ in range(2))
    some = frozenset(one.id for one in draw.sample(known, min(len(known), 5)))
    blank: dict[str, Any] = {"organizations": ANY, "external_ids": ANY, "identities": (), "tests": ()}
    ids = draw.choice((ANY, ANY, Signed(some, frozenset()), Signed(None, some)))
    window = draw.choice((Window(None, None), Window(*moments), Window(None, moments[0]), Window(moments[1], None)))
    return UserFilter(ids=ids, created=window, **blank)


@pytest.mark.parametrize("seed", range(6))
def test_lists_are_what_sorting_gives(seed: int) -> None:
    draw = random.Random(seed)
    settings = Settings(users=40, users_of_one_moment=12, organizations=0, memberships=0, seed=seed)
    state = InstanceState(settings)
    model, lists = Model(state), UsersListed(state)
    for _ in range(250):
        step(draw, state, model)
        wanted = asked(draw, model.users.values())
        page = Page(
            limit=draw.randrange(1, 12),
            offset=draw.choice((0, 0, 3, 30)),
            order_by=draw.choice(("created_at", "created_at", "updated_at")),
            descending=draw.random() < 0.5,
        )
        listed = {
            slot: user
            for slot, user in model.listed().items()
            if wanted.ids.accepts(user.id) and wanted.created.holds(user.created_at)
        }
        expected = ordered(listed, page)
        found = lists.page(wanted, page, starting_after=None, behaviour=Behaviour())
        assert found == expected[page.offset : page.offset + page.limit]
        if page.order_by == "created_at" and (everyone := model.listed()):
            cursor = draw.choice(sorted(everyone))
            walk = ordered(everyone, page)
            rest = [slot for slot in walk[walk.index(cursor) + 1 :] if slot in listed]
            first = replace(page, offset=0)
            after = lists.page(wanted, first, starting_after=everyone[cursor].id, behaviour=Behaviour())
            assert after == rest[: page.limit]
        living = {slot for slot, user in model.users.items() if wanted.ids.accepts(user.id)}
        counted = sum(wanted.created.holds(model.users[slot].created_at) for slot in living)
        assert lists.count(wanted, Behaviour()) == counted
        assert lists.count(wanted, Behaviour(stale_counts=True)) == len(listed)
    assert {user.id for user in state.users} == {user.id for user in model.users.values()}
