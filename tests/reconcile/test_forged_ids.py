"""Ids that only a forger makes: a read by name must not be turned into a proof that somebody else is gone."""

from nexus_auth.clerk.catalogue import BY_KIND
from nexus_auth.reconcile.verification import verify
from tests.reconcile.world import World


async def test_an_id_with_a_minus_does_not_hide_the_user_that_it_names(world: World) -> None:
    """Clerk reads `-user_a` as "without user_a"."""
    there = (await world.ids())[:3]
    forged = [f"{sign}{of}" for of in there for sign in "-+"]
    verdict = await verify(world.requester, BY_KIND["user"], {i: () for i in (*forged, *there)})
    assert set(verdict.there) == set(there)
    assert verdict.gone == {}
    assert verdict.unknown == set(forged)


async def test_forged_names_do_not_keep_honest_ones_from_being_read(world: World) -> None:
    there = (await world.ids())[:3]
    forged = ["user_" + "x" * 507, "+" + there[0], "a b", "user_a,user_b", "user_a\x00", "ü", "user/../x"]
    verdict = await verify(world.requester, BY_KIND["user"], {i: () for i in (*forged, *there, "user_nobody")})
    assert set(verdict.there) == set(there)
    assert set(verdict.gone) == {"user_nobody"}


async def test_a_membership_is_not_asked_for_along_a_forged_path(world: World) -> None:
    rows = await world.admin.fetch("select id, organization_id, user_id from clerk.organization_memberships limit 3")
    asked = {row[0]: (f"{row[1]}/nowhere?x=", row[2]) for row in rows}
    asked |= {f"{row[0]}x": (row[1], f"-{row[2]}") for row in rows}
    verdict = await verify(world.requester, BY_KIND["organization_membership"], asked)
    assert (verdict.there, verdict.gone) == ({}, {})
    assert verdict.unknown == set(asked)
