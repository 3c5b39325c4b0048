"""Deletions: final where they are meant, and never by mistake."""

from dataclasses import replace

from devtools.clerk_emulator import Behaviour, Emulator, Fault, Settings
from devtools.demo.stage import Stage
from devtools.demo.story import Checks, Step
from nexus_auth.clerk.api import ClerkApi

NO_GUARD = """
create or replace function clerk_private.share(
  p_kind text, p_more bigint, p_window interval, p_causes text[], p_exact boolean,
  out deleted bigint, out live bigint, out allowed bigint, out fits boolean)
language sql stable as 'select 0::bigint, 0::bigint, 0::bigint, true'
"""
"""The database's own guard, made to let everything pass."""
MASS = 40
HIDDEN = 2


# ---------------------------------------------------------------- a deletion is final


async def _deletion(stage: Stage, checks: Checks, sabotaged: bool) -> None:
    clerk = stage.clerk
    user = stage.somebody()
    held_back = clerk.add_fault(Fault("lose", next=1, types="user.updated"))
    clerk.changes.users.update(user.id, {"first_name": "Late"})
    update = next(iter(clerk.dispatcher.log.newest_first()))
    await clerk.idle()
    clerk.faults.remove(held_back.id)
    memberships = [record.id for record in clerk.state.memberships_of(user.id)]
    clerk.changes.users.delete(user.id)

    async def gone() -> bool:
        return await stage.row("user", user.id) is None

    checks.that(
        "a user is changed, then deleted; the deletion arrives first and takes the row away",
        await stage.until(gone),
        expected="no row",
        seen="the row is still there",
    )
    left = [each for each in memberships if await stage.row("organization_membership", each)]
    checks.equal(f"with it go the memberships, {len(memberships)} of them", len(left), expected=0)
    if sabotaged:
        await stage.admin.execute("delete from clerk_private.objects where kind = 'user' and id = $1", user.id)
    clerk.dispatcher.resend(update)
    await clerk.idle()
    checks.equal("the update comes late, and Clerk hears that it was taken in", update.fate, expected="delivered")
    row = await stage.row("user", user.id)
    checks.that(
        "the user stays deleted",
        row is None,
        expected="no row",
        seen=f"the row is back: {user.id}, first name {row['first_name'] if row else ''}",
    )
    outcome = await stage.admin.fetchval("select outcome from clerk_private.inbox where svix_id = $1", update.id)
    checks.equal("the inbox says of the late event: buried", outcome, expected="buried")


# ---------------------------------------------------------------- a wrong key deletes nothing


async def _wrong_key(stage: Stage, checks: Checks, sabotaged: bool) -> None:
    async with ClerkApi(stage.clerk.api_url, secret_key="sk_test_of_nobody") as api:
        await _deletes_nothing(stage, checks, "a key that Clerk refuses", api=api, says="check CLERK_SECRET_KEY")
    other = Settings(
        users=0,
        organizations=0,
        memberships=0,
        seed=stage.clerk.settings.seed + 1,
        environment_type="production",
        behaviour=Behaviour(answered_instance_id=stage.clerk.instance_id if sabotaged else ""),
    )
    async with Emulator(other) as empty, ClerkApi(empty.api_url, secret_key=empty.secret_key) as api:
        await _deletes_nothing(
            stage,
            checks,
            "the key of another instance, which has no users at all",
            api=api,
            says=f"belongs to {empty.instance_id}",
            sabotaged=sabotaged,
        )


async def _deletes_nothing(
    stage: Stage, checks: Checks, key: str, *, api: ClerkApi, says: str, sabotaged: bool = False
) -> None:
    before, buried = await stage.held(), await stage.tombstones()
    if sabotaged:
        await stage.admin.execute(NO_GUARD)
    result = await stage.reconcile(clerk=api)
    if sabotaged:
        await stage.read_again(clerk=api)
    deleted = sum(before.values()) - sum((await stage.held()).values())
    checks.that(
        f"with {key}, nothing is deleted",
        deleted == 0 and await stage.tombstones() == buried,
        expected=f"{sum(before.values())} rows as before",
        seen=f"{deleted} rows deleted; the run {result.state}",
    )
    checks.that(
        f"the run is parked and says: {result.message}",
        result.state == "parked" and says in (result.message or ""),
        expected=f"parked, with a sentence that names the key: {says}",
        seen=f"{result.state}: {result.message}",
    )


# ---------------------------------------------------------------- a mass deletion waits for a human


async def _mass_deletion(stage: Stage, checks: Checks, sabotaged: bool) -> None:
    clerk = stage.clerk
    leavers = [stage.somebody().id for _ in range(MASS)]
    hidden = [stage.somebody().id for _ in range(HIDDEN)]
    after_approval = stage.somebody().id
    with clerk.events.silence():
        for user_id in leavers:
            clerk.changes.users.delete(user_id)
    for user_id in hidden:
        clerk.state.hide(user_id)
    behaviour = clerk.events.behaviour
    clerk.events.behaviour = replace(behaviour, stale_counts=True)
    users, memberships = await stage.ids("user"), await _memberships(stage)

    if sabotaged:
        await stage.admin.execute(NO_GUARD)
    first = await stage.reconcile()
    checks.that(
        "a first read by name finds them gone, and nothing is deleted before a second one says so too",
        await stage.ids("user") == users and "await their second read" in (first.message or ""),
        expected="the rows as before, and a sentence about the second read",
        seen=f"{len(users) - len(await stage.ids('user'))} users deleted; the sweep says {first.message}",
    )
    run = await stage.read_again()
    checks.that(
        f"{MASS} users are gone from Clerk, {HIDDEN} more are not listed for a moment: the second read deletes no row",
        await stage.ids("user") == users and await _memberships(stage) == memberships,
        expected=f"{len(users)} users as before",
        seen=f"{len(users) - len(await stage.ids('user'))} users deleted; the run {run.state}",
    )
    checks.that(
        f"the run is parked and says: {run.message}",
        run.state == "parked" and f"nexus-auth approve {run.run_id}" in (run.message or ""),
        expected="parked, with the command that approves it",
        seen=f"{run.state}: {run.message}",
    )

    clerk.events.behaviour = behaviour
    clerk.state.catch_up()
    with clerk.events.silence():
        clerk.changes.users.delete(after_approval)
    await stage.approve(run.run_id)
    approved = await stage.reconcile(mode="incremental")
    checks.that(
        "somebody approves, and the next run does it",
        approved.state == "completed",
        expected="completed",
        seen=f"{approved.state}: {approved.message}",
    )
    gone = users - await stage.ids("user")
    checks.that(
        f"the {MASS} are deleted, exactly; the {HIDDEN} that Clerk lists again are kept, and so is one who left later",
        gone == set(leavers),
        expected=f"{MASS} users deleted, those of the approval",
        seen=f"{len(gone)}, of which {len(gone - set(leavers))} should not be",
    )
    left = {each for each, user_id in memberships.items() if user_id in leavers}
    gone_memberships = set(memberships) - set(await _memberships(stage))
    checks.that(
        f"with them {len(left)} memberships, and no other",
        gone_memberships == left,
        expected=f"{len(left)} memberships deleted",
        seen=f"{len(gone_memberships)}, of which {len(gone_memberships - left)} should not be",
    )


async def _memberships(stage: Stage) -> dict[str, str]:
    rows = await stage.admin.fetch("select id, user_id from clerk.organization_memberships")
    return {row["id"]: row["user_id"] for row in rows}


DELETION = Step(
    "deletion",
    "A deletion that a late update cannot undo",
    "the tombstone is deleted by hand before the late update arrives",
    _deletion,
)
WRONG_KEY = Step(
    "wrong-key",
    "A wrong API key deletes nothing",
    "the empty instance claims to be ours, and the guard lets everything pass",
    _wrong_key,
)
MASS_DELETION = Step(
    "mass-deletion",
    "A mass deletion waits until a human approves it",
    "the guard lets everything pass",
    _mass_deletion,
)
