"""What stood there before, and whoever signs: neither costs a row."""

import asyncio
import json
import time

from devtools.demo.stage import Stage
from devtools.demo.story import Checks, Step

ORDERS = 900
FORGED = 120

# ---------------------------------------------------------------- adoption


async def _adoption(stage: Stage, checks: Checks, sabotaged: bool) -> None:
    users = await stage.ids("user") & {user.id for user in stage.clerk.state.users}
    await stage.admin.execute(
        "create table public.orders (id int primary key,"
        " user_id text not null references clerk.users on delete cascade)"
    )
    try:
        await stage.admin.execute(
            "insert into public.orders select n, ($1::text[])[1 + n % cardinality($1)] from generate_series(1, $2) n",
            sorted(users),
            ORDERS,
        )
        await stage.admin.execute("delete from clerk_private.objects where kind = 'user'")
        await stage.admin.execute(
            "insert into clerk.users (id, created_at, updated_at) values ('user_madebyhand00001', now(), now())"
        )
        if sabotaged:
            await stage.admin.execute("delete from clerk.users")
        run = await stage.reconcile()
        orders = await stage.admin.fetchval("select count(*) from public.orders")
        checks.equal(
            f"{len(users)} users are in the table, but a restore lost our notes of them; after a sweep the product's"
            f" {ORDERS} orders, which go with their users, stand",
            orders,
            expected=ORDERS,
        )
        adopted = {row["id"] for row in await stage.findings(run.sweep_id) if row["action"] == "adopted"}
        checks.that(
            "the sweep took every user over from what Clerk lists",
            adopted == users,
            expected=f"{len(users)} users adopted",
            seen=f"{len(adopted & users)}, and {len(adopted - users)} others",
        )
        checks.that(
            "a row that Clerk never knew still waits for a second read by name",
            await stage.row("user", "user_madebyhand00001") is not None,
            expected="a row",
            seen="none",
        )
        await stage.read_again()
        checks.equal("after it that row is gone, and no other", await stage.ids("user"), expected=users)
    finally:
        await stage.admin.execute("drop table public.orders")


# ---------------------------------------------------------------- a leaked signing secret


async def _leaked_secret(stage: Stage, checks: Checks, sabotaged: bool) -> None:
    users, memberships = await stage.ids("user"), await stage.ids("organization_membership")
    if sabotaged:
        await stage.admin.execute("update clerk_private.verifier set seen_at = null")
    await asyncio.gather(*(_forge(stage, user_id) for user_id in sorted(users)[:FORGED]))
    gone = users - await stage.ids("user")
    gone_below = memberships - await stage.ids("organization_membership")
    checks.that(
        f"somebody signs {FORGED} deletions with a leaked secret: no more rows go than the guard lets an hour take,"
        f" {len(gone)} users and {len(gone_below)} memberships",
        len(gone) <= 10 and len(gone_below) <= 10,
        expected="10 rows of a kind at most",
        seen=f"{len(gone)} users and {len(gone_below)} memberships",
    )

    async def refused() -> bool:
        held = "select count(*) filter (where state = 'held') from clerk_private.held_deletions"
        return bool(await stage.admin.fetchval(held) == 0)

    await stage.until(refused)
    states = await stage.admin.fetch("select state, count(*) from clerk_private.held_deletions group by state")
    checks.equal(
        "the others were held, Clerk was asked for each by name, twice, and has them: refused",
        {row["state"]: row["count"] for row in states},
        expected={"refused": FORGED - len(gone)},
    )
    checks.equal(
        "the secret deletes nothing any more, until a human clears it",
        await stage.admin.fetchval("select count(*) from clerk_private.distrusted_secrets where cleared_at is null"),
        expected=1,
    )
    await stage.reconcile()

    async def back() -> bool:
        await stage.read_again()
        return await stage.ids("user") == users and await stage.ids("organization_membership") == memberships

    checks.that(
        "the next sweep finds what went in vain, and brings it back after two reads by name",
        await stage.until(back),
        expected=f"{len(users)} users and {len(memberships)} memberships as before",
        seen=f"{len(await stage.ids('user'))} and {len(await stage.ids('organization_membership'))}",
    )
    await stage.admin.execute(
        "select clerk_private.clear_secret(secret, 'the demo') from clerk_private.distrusted_secrets"
    )


async def _forge(stage: Stage, user_id: str) -> None:
    event = {
        "data": {"id": user_id, "object": "user", "deleted": True},
        "object": "event",
        "type": "user.deleted",
        "timestamp": int(time.time() * 1000),
        "instance_id": stage.clerk.instance_id,
    }
    await stage.deliver(json.dumps(event))


ADOPTION = Step(
    "adoption",
    "Rows that stood there before are taken over, and what hangs on them stays",
    "the rows are deleted, to be inserted again",
    _adoption,
)
LEAKED_SECRET = Step(
    "leaked-secret",
    "A leaked signing secret cannot empty the mirror",
    "nobody is there who could verify held deletions",
    _leaked_secret,
)
