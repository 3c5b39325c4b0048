"""What stands below the lines on a terminal: Clerk's counts and ours, and what happened last.

It only reads, every two seconds, on a connection of its own. Its own errors are not shown: the parts report theirs.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from devtools.postgres import Database
from devtools.run.clerk import ClerkFacts
from devtools.run.output import Output, Piece, clean

LOOK_SECONDS = 2.0
TROUBLE_SECONDS = 5.0
KINDS = ("users", "organizations", "memberships")

Line = tuple[Piece, ...]

NUMBERS = """
select
  now() as now,
  (select count(*) from clerk.users) as users,
  (select count(*) from clerk.organizations) as organizations,
  (select count(*) from clerk.organization_memberships) as memberships,
  (select count(*) from clerk_private.parked where resolved_at is null) as parked,
  (select count(*) from clerk_private.verify_queue) as doubts,
  (select count(*) from clerk_private.findings
   where action in ('repaired', 'tombstoned', 'revived', 'lowered')) as repairs
"""
LAST_EVENT = """
select received_at, type, object_id, outcome, extract(epoch from received_at) * 1000 - observed_at as lag
from clerk_private.inbox order by received_at desc limit 1
"""
LAST_FINDING = """
select found_at, kind, id, problem, action, cause from clerk_private.findings order by found_at desc limit 1
"""
LAST_RUN = "select mode, state, started_at from clerk_private.runs order by id desc limit 1"
SEEN = """
select counts -> 'user' ->> 'seen' as users, counts -> 'organization' ->> 'seen' as organizations,
  counts -> 'organization_membership' ->> 'seen' as memberships
from clerk_private.runs where mode in ('full', 'deep') and state = 'completed' order by id desc limit 1
"""
"""A real Clerk is not asked for every look of ours: what the last sweep listed must do."""


async def keep_live(output: Output, *, clerk: ClerkFacts, database: Database) -> None:
    """Keeps the panel up to date until it is cancelled; returns at once where there is none."""
    if not output.has_panel:
        return
    import aiohttp
    import asyncpg

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        while True:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, aiohttp.ClientError, OSError, TimeoutError):
                connection = await asyncpg.connect(database.admin_url, timeout=5, command_timeout=5)
                try:
                    while True:
                        theirs = await _clerks(session, clerk, connection)
                        rows = [await connection.fetchrow(query) for query in (LAST_EVENT, LAST_FINDING, LAST_RUN)]
                        output.panel(panel_lines(await connection.fetchrow(NUMBERS), theirs=theirs, last=rows))
                        await asyncio.sleep(LOOK_SECONDS)
                finally:
                    connection.terminate()
            await asyncio.sleep(TROUBLE_SECONDS)


async def _clerks(session: Any, clerk: ClerkFacts, connection: Any) -> Mapping[str, Any]:
    if clerk.page_url:
        async with session.get(f"{clerk.page_url}_emulator/") as answer:
            return dict(await answer.json())
    return dict(await connection.fetchrow(SEEN) or {})


def panel_lines(
    numbers: Mapping[str, Any], *, theirs: Mapping[str, Any], last: Sequence[Mapping[str, Any] | None]
) -> list[Line]:
    """The panel, from what was read."""
    event, finding, run = last
    now = numbers["now"]
    head: list[Piece] = [(f"{'':<10}", "")]
    clerks: list[Piece] = [("Clerk     ", "bold")]
    ours: list[Piece] = [("Postgres  ", "bold")]
    for kind in KINDS:
        there, here = int(theirs.get(kind) or 0), int(numbers[kind])
        head.append((f"{kind:>15}", "dim"))
        clerks.append((f"{there:>15,}", ""))
        ours.append((f"{here:>15,}", "green" if there == here else "yellow"))
    lines = [(("─" * 78, "dim"),), tuple(head), tuple(clerks), tuple(ours)]
    if event is not None:
        lag = f", {max(0, event['lag']):.0f} ms after Clerk's change" if event["lag"] < 86_400_000 else ""
        text = f"{event['type']} {event['outcome'] or ''} {event['object_id'] or ''}"
        lines.append((*_row("event", text, event["received_at"], now), (lag, "dim")))
    if finding is not None:
        text = (
            f"{finding['problem']} {finding['id']}: {finding['action']} ({finding['cause'] or 'cause not known yet'})"
        )
        lines.append(_row("finding", text, finding["found_at"], now))
    waiting = "".join(
        f", {numbers[name]} {words}"
        for name, words in (("parked", "events parked"), ("doubts", "doubts"))
        if numbers[name]
    )
    if run is not None:
        text = f"{run['mode']} {run['state']}; {numbers['repairs']:,} repairs so far{waiting}"
        lines.append(_row("run", text, run["started_at"], now))
    return lines


def _row(name: str, text: str, at: datetime, now: datetime) -> Line:
    seconds = max(0.0, (now - at).total_seconds())
    ago = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return ((f"{name:<10}", "bold"), (clean(text, width=110), ""), (f"  {ago} ago", "dim"))
