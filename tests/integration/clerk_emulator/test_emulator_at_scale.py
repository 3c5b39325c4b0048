"""A million users: they start at once, stay small, and pages come from prepared texts that say what records say."""

import time
from typing import Any

import pytest

from devtools.clerk_emulator import Emulator, Settings, jsontext, shapes
from devtools.clerk_emulator.rendering import RenderedUsers
from devtools.clerk_emulator.state.instance import InstanceState
from devtools.clerk_emulator.state.seeded_users import PROFILES


@pytest.fixture(scope="module")
def large() -> InstanceState:
    return InstanceState(Settings(users=1_000_000, organizations=10, memberships=1_000))


def test_prepared_texts_say_what_records_say() -> None:
    state = InstanceState(Settings(users=2 * PROFILES, organizations=0, memberships=0, seed=9))
    rendered = RenderedUsers(state, budget=0)
    slots = range(2 * PROFILES)
    assert len({state.seeded_users.values(slot)[0] for slot in slots}) > PROFILES * 0.8
    for slot in slots:
        assert rendered.page([slot]) == b"[" + jsontext.encode(shapes.user(state.users.at(slot))) + b"]"


def test_changed_users_are_rendered_as_they_are(clerk: Emulator) -> None:
    rendered = clerk.rendered_users

    def shown() -> bytes:
        return rendered.page(clerk.state.users.by_created.span().whole())

    def expected() -> bytes:
        return jsontext.encode([shapes.user(user) for user in clerk.state.users])

    assert shown() == shown() == expected()
    user = clerk.state.users.page(offset=3, limit=1)[0]
    for name in ("100 %s", "%d%%", "Ada"):
        clerk.changes.users.update(user.id, {"first_name": name})
        assert shown() == expected()
    clerk.changes.users.create({"username": "somebody"})
    clerk.changes.users.delete(user.id)
    assert shown() == shown() == expected()


def test_a_membership_follows_its_user_and_its_organization(clerk: Emulator) -> None:
    def shown() -> bytes:
        return clerk.rendered_memberships.page(clerk.state.memberships.by_created.span().whole())

    def expected() -> bytes:
        return jsontext.encode([clerk.changes.memberships.shape(one) for one in clerk.state.memberships])

    assert shown() == shown() == expected()
    membership = clerk.state.memberships.page(offset=7, limit=1)[0]
    place: dict[str, Any] = {"organization_id": membership.organization_id, "user_id": membership.user_id}
    clerk.changes.users.update(membership.user_id, {"first_name": "Other"})
    assert shown() == expected()
    clerk.changes.organizations.update(membership.organization_id, {"name": "Other"})
    assert shown() == expected()
    clerk.changes.memberships.update(**place, role="org:other")
    assert shown() == expected()
    clerk.changes.memberships.delete(**place)
    clerk.changes.memberships.create(**place, role="org:member")
    clerk.changes.users.delete(clerk.state.memberships.page(offset=20, limit=1)[0].user_id)
    assert shown() == shown() == expected()


def test_no_more_is_kept_than_the_budget_allows() -> None:
    state = InstanceState(Settings(users=100, organizations=0, memberships=0))
    rendered = RenderedUsers(state, budget=50_000)
    assert 10 < rendered.warm() < 35
    every = state.users.by_created.span().whole()
    assert rendered.page(every) == rendered.page(every) == RenderedUsers(state, budget=0).page(every)


def test_a_million_users_are_ordered_and_found_without_looking_at_them(large: InstanceState) -> None:
    users = large.users
    began = time.process_time()
    assert len(users) == 1_000_000
    order = users.by_created
    middle = users.at(500_000)
    assert len(order.span(least=middle.created_at)) == 500_000
    assert users.slot(middle.id) == 500_000
    assert large.user_with("email_address", middle.emails[0].address) == middle
    newest = order.span().page(offset=0, limit=500, newest_first=True)
    assert newest.tolist() == list(range(999_999, 999_499, -1))
    cursor = order.span().following(500_000, newest_first=False)
    assert cursor.page(offset=0, limit=2, newest_first=False).tolist() == [500_001, 500_002]
    assert time.process_time() - began < 1


def test_the_order_by_last_change_is_kept_through_removals() -> None:
    users = InstanceState(Settings(users=100_000, organizations=0, memberships=0)).users
    updated = users.by_updated
    page = updated.span().page(offset=0, limit=500, newest_first=True)
    moments = [users.at(slot).updated_at for slot in page]
    assert moments == sorted(moments, reverse=True)
    for slot in range(0, 100_000, 1_000):
        users.remove(users.identifier(slot))
    assert len(users) == len(updated) == 99_900
    keys = [updated.keys[slot] for slot in updated.span().whole()]
    assert keys == sorted(keys)


def test_pages_cost_little(large: InstanceState) -> None:
    rendered = RenderedUsers(large, budget=0)
    span = large.users.by_created.span()

    def cost(page: int) -> float:
        began = time.process_time()
        body = rendered.page(span.page(offset=page * 500, limit=500, newest_first=False))
        assert len(body) > 1_000_000
        return time.process_time() - began

    # Processor time of the quickest of several, so that a busy machine does not fail it; elsewhere it is a third.
    assert min(cost(page) for page in range(20)) < 0.015
