"""How objects come into Postgres: all of them at once at the beginning, later one by one as Clerk tells of them."""

import time
from collections.abc import Mapping

from devtools.demo.stage import Stage
from devtools.demo.story import Checks, Step

LOSING_ROWS = """
create function public.demo_lose() returns trigger language plpgsql as
$$ begin return case when hashtext(new.id) % 10 = 0 then null else new end; end $$;
create trigger demo_lose before insert on clerk.users for each row execute function public.demo_lose();
"""


async def _backfill(stage: Stage, checks: Checks, sabotaged: bool) -> None:
    if sabotaged:
        await stage.admin.execute(LOSING_ROWS)
    checks.equal("Postgres holds no row before", sum((await stage.held()).values()), expected=0)
    began = time.monotonic()
    result = await stage.reconcile()
    seconds = time.monotonic() - began
    checks.that(
        "one run reads all of Clerk and completes",
        result.state == "completed",
        expected="completed",
        seen=f"{result.state}: {result.message}",
    )
    listed, held = await stage.listed(), await stage.held()
    checks.that(
        f"{_counted(held)}: as many as Clerk counts", held == listed, expected=_counted(listed), seen=_counted(held)
    )
    rows = sum(held.values())
    checks.that(
        f"{rows} rows with {result.requests} requests in {seconds:.1f} s",
        result.requests < rows / 10,
        expected="pages, not a request for each row",
        seen=f"{result.requests} requests",
    )


async def _sign_up(stage: Stage, checks: Checks, sabotaged: bool) -> None:
    if sabotaged:
        await stage.admin.execute("alter table clerk.users disable row level security")
    other = stage.somebody()
    began = time.monotonic()
    ada = stage.clerk.changes.users.create({"email_address": ["ada@example.com"], "first_name": "Ada"})

    async def arrived() -> bool:
        return await stage.row("user", ada.id) is not None

    there = await stage.until(arrived)
    checks.that(
        f"her row is in Postgres {(time.monotonic() - began) * 1000:.0f} ms after she signed up",
        there,
        expected="a row, by a signed event",
        seen="none in time",
    )
    hers = await stage.seen_by(ada.id)
    checks.that(
        "she reads her own row, and no other",
        hers == {ada.id: "ada@example.com"},
        expected="1 row, hers",
        seen=f"{len(hers)} rows",
    )
    others = await stage.seen_by(other.id)
    checks.that(
        "another user reads his own row, and not hers",
        set(others) == {other.id},
        expected="1 row, his own",
        seen=f"{len(others)} rows" + (", hers among them" if ada.id in others else ""),
    )


def _counted(counts: Mapping[str, int]) -> str:
    members = counts["organization_membership"]
    return f"{counts['user']} users, {counts['organization']} organizations, {members} memberships"


BACKFILL = Step(
    "backfill",
    "An empty database is filled from what Clerk lists",
    "a trigger drops every tenth user on its way into the table, and tells nobody",
    _backfill,
)
SIGN_UP = Step(
    "signup",
    "Somebody signs up, and a webhook tells of it",
    "row level security is turned off on clerk.users",
    _sign_up,
)
