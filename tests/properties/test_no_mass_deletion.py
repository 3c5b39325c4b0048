"""Promise 5 as the database holds it: rows gone ≤ what events, guard and approvals allow.

Whatever was in the tables before, whoever calls which function, in whatever order, and whatever is rolled back: after
every step the rows that are missing are accounted for.
"""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from devtools.postgres import Database, ForeignServer, Server, create_database, drop_database
from nexus_auth.store.ingest import Change
from tests.events import T0, membership, organization, user
from tests.model import forget_everything

KINDS = {"user": "users", "organization": "organizations", "organization_membership": "organization_memberships"}
PREFIX = {"user": "user", "organization": "org", "organization_membership": "orgmem"}
HOURS = (0, 0, 0, 1, 7, 25)


@dataclass(frozen=True)
class Step:
    """One thing that somebody does."""

    what: str
    kind: str
    numbers: tuple[int, ...]
    hours: int
    """How much later it is."""
    taken_back: bool
    """Its transaction ends in a rollback."""


@dataclass
class Ledger:
    """Rows that went, as the test saw it: (hour, kind, how many)."""

    hour: int = 0
    gone: dict[str, list[tuple[int, str, int]]] = field(default_factory=dict)

    def within(self, cause: str, kind: str, hours: int) -> int:
        return sum(n for at, of, n in self.gone.get(cause, []) if of == kind and self.hour - at < hours)

    def note(self, cause: str, kind: str, number: int) -> None:
        self.gone.setdefault(cause, []).append((self.hour, kind, number))


def quarter(rows: int) -> int:
    return 1 if rows <= 4 else rows // 4


steps = st.lists(
    st.builds(
        Step,
        what=st.sampled_from(
            ("event", "event", "bury", "bury", "approve", "repair", "undo", "forget objects", "adopt")
        ),
        kind=st.sampled_from(sorted(KINDS)),
        numbers=st.lists(st.integers(0, 29), min_size=1, max_size=30, unique=True).map(tuple),
        hours=st.sampled_from(HOURS),
        taken_back=st.sampled_from((False, False, False, True)),
    ),
    max_size=8,
)


class World:
    """One database, as its administrator and as the services' logins."""

    def __init__(self, admin: asyncpg.Connection, webhook: asyncpg.Connection, reconciler: asyncpg.Connection) -> None:
        self.admin, self.webhook, self.reconciler = admin, webhook, reconciler
        self.svix = 0

    async def fill(self, counts: dict[str, int], *, arbitrated: frozenset[int]) -> None:
        """Rows that stand there, of which only some have an arbiter."""
        await forget_everything(admin=self.admin)
        await self.admin.execute("delete from clerk_private.runs")
        await self.admin.execute("update clerk_private.guard_limits set floor = 10, percent = 1")
        for kind, table in KINDS.items():
            ids = [f"{PREFIX[kind]}_{n}" for n in range(counts[kind])]
            columns = "organization_id, user_id, role," if kind == "organization_membership" else ""
            values = (
                f"'org_' || (n % {counts['organization'] or 1}), 'user_' || (n % {counts['user'] or 1}), 'r',"
                if columns
                else ""
            )
            if kind == "organization":
                columns, values = "name,", "'x',"
            await self.admin.execute(
                f"insert into clerk.{table} (id, {columns} created_at, updated_at)"
                f" select x, {values} now(), now() from unnest($1::text[]) with ordinality u (x, n)",
                ids,
            )
            await self.admin.execute(
                "insert into clerk_private.objects (kind, id, updated_at, observed_at, source_rank, svix_id, source)"
                " select $1, x, 1, 1, 0, '', 'webhook' from unnest($2::text[]) x",
                kind,
                [object_id for number, object_id in enumerate(ids) if number in arbitrated],
            )

    async def rows(self) -> dict[str, set[str]]:
        return {
            kind: {row["id"] for row in await self.admin.fetch(f"select id from clerk.{table}")}
            for kind, table in KINDS.items()
        }

    async def run(self, kind: str) -> int:
        """A run that is led, and whose epoch is 1."""
        await self.admin.execute("update clerk_private.runs set state = 'failed' where state = 'running'")
        run_id: int = await self.admin.fetchval(
            "insert into clerk_private.runs (sweep_id, sync, kind, mode, policy, holder)"
            " values (1, 's', $1, 'full', 'Fix', 'h') returning id",
            kind,
        )
        return run_id

    async def do(self, step: Step) -> str:
        """Does it as the login that may; answers what the database said."""
        ids = [f"{PREFIX[step.kind]}_{number}" for number in step.numbers]
        connection = self.webhook if step.what == "event" else self.reconciler
        if step.what == "forget objects":
            await self.admin.execute("delete from clerk_private.objects where kind = $1", step.kind)
            return "done"
        run_id = await self.run(step.kind)
        transaction = connection.transaction()
        await transaction.start()
        try:
            await getattr(self, f"_{step.what}")(step.kind, ids, run_id)
        except asyncpg.PostgresError as error:
            await transaction.rollback()
            return error.sqlstate or ""
        await (transaction.rollback() if step.taken_back else transaction.commit())
        return "done"

    async def _event(self, kind: str, ids: Sequence[str], _run: int) -> None:
        deliveries: list[tuple[object, ...]] = []
        changes: list[Change] = []
        for object_id in ids:
            self.svix += 1
            name = f"msg_{self.svix}"
            deliveries.append(
                (name, "1", "s", "secret", f"{kind}.deleted", None, T0, kind, object_id, [], "applied", None, b"", None)
            )
            changes.append((kind, object_id, "event", 0, T0 + self.svix, 0, name, "webhook", None))
        await self.webhook.fetchval(
            "select clerk_private.ingest($1::clerk_private.delivery[], $2::clerk_private.change[])", deliveries, changes
        )

    async def _bury(self, kind: str, ids: Sequence[str], run: int, *, approved: int | None = None) -> None:
        await self.reconciler.fetchval(
            "select clerk_private.bury_verified($1, 1, $2, $3, $4, $5)",
            run,
            kind,
            ids,
            [T0 + 9**9] * len(ids),
            approved,
        )

    async def _approve(self, kind: str, ids: Sequence[str], run: int) -> None:
        """A run parked exactly these, and a human approved it."""
        parked: int = await self.reconciler.fetchval(
            "insert into clerk_private.runs (sweep_id, sync, kind, mode, policy, holder, state, approved_at)"
            " values (1, 's', $1, 'full', 'Fix', 'h', 'parked', now()) returning id",
            kind,
        )
        await self.reconciler.execute(
            "insert into clerk_private.parked_deletions select $1, $2, x from unnest($3::text[]) x", parked, kind, ids
        )
        await self._bury(kind, ids, run, approved=parked)

    async def _repair(self, kind: str, ids: Sequence[str], run: int) -> None:
        changes: list[Change] = []
        for object_id in ids:
            made: dict[str, Any] = (
                user(object_id)
                if kind == "user"
                else organization(object_id)
                if kind == "organization"
                else membership(object_id, organization_id="org_0", user_id="user_0")
            )
            changes.append((kind, object_id, None, T0, T0, 1, "", "sweep", json.dumps(made)))
        await self.reconciler.fetchval("select clerk_private.repair($1, 1, $2::clerk_private.change[])", run, changes)

    async def _adopt(self, kind: str, ids: Sequence[str], run: int) -> None:
        found = await self.reconciler.fetch("select clerk_private.unadopted($1, $2) as id", kind, ids)
        await self._repair(kind, [row["id"] for row in found], run)

    async def _undo(self, kind: str, ids: Sequence[str], run: int) -> None:
        await self.reconciler.fetchval("select clerk_private.undo_edits($1, 1, $2, $3)", run, kind, ids)


@pytest.fixture(scope="module")
def deletions_database(postgres: Server | ForeignServer, template: Database) -> Any:
    """A database for all examples."""
    name = "nexus_auth_no_mass_deletion"
    create_database(postgres.admin_url(), name, template=template.name)
    yield template.of(name)
    drop_database(postgres.admin_url(), name)


async def _world(database: Database) -> AsyncIterator[World]:
    connections = [await asyncpg.connect(database.admin_url)]
    try:
        for service in ("webhook", "reconciler"):
            connections.append(await asyncpg.connect(database.url(service)))
            await connections[-1].execute(f"set role clerk_{service}")
        yield World(*connections)
    finally:
        for connection in connections:
            await connection.close()


def twice(what: str, *numbers: range) -> dict[str, Any]:
    """Users that are gone in several steps of one hour, as far as the database lets them."""
    story = [Step(what, "user", tuple(some), hours=0, taken_back=False) for some in numbers]
    counts = {"users": max(map(max, numbers)) + 1, "organizations": 0, "memberships": 0}
    return {**counts, "arbitrated": frozenset(range(30)), "verified": True, "story": story}


@example(**twice("bury", range(7), range(7, 14), range(14, 30)))
@example(**twice("event", range(7), range(7, 14), range(14, 30)))
@example(**twice("bury", range(4), range(1, 3), range(1)))
@example(**twice("event", range(4), range(1, 3), range(1)))
@pytest.mark.timeout(900)  # many examples, on a machine that may be busy
@given(
    users=st.integers(0, 30),
    organizations=st.integers(0, 8),
    memberships=st.integers(0, 30),
    arbitrated=st.frozensets(st.integers(0, 29)),
    verified=st.booleans(),
    story=steps,
)
async def test_rows_that_are_gone_are_accounted_for(
    deletions_database: Database,
    users: int,
    organizations: int,
    memberships: int,
    arbitrated: frozenset[int],
    verified: bool,
    story: list[Step],
) -> None:
    async for world in _world(deletions_database):
        counts = {"user": users, "organization": organizations, "organization_membership": memberships}
        await world.fill(counts, arbitrated=arbitrated)
        ledger = Ledger()
        for step in story:
            if step.hours:
                ledger.hour += step.hours
                await world.admin.execute(
                    "update clerk_private.deletions set at = at - make_interval(hours => $1)", step.hours
                )
            seen = "clock_timestamp()" if verified else "null"
            await world.admin.execute(
                f"insert into clerk_private.verifier (seen_at) values ({seen})"
                f" on conflict (singleton) do update set seen_at = {seen}"
            )
            before = await world.rows()
            said = await world.do(step)
            after = await world.rows()
            for kind in KINDS:
                gone = len(before[kind] - after[kind])
                if step.taken_back or said != "done" or step.what in ("undo", "adopt", "forget objects"):
                    assert gone == 0, (step, kind)
                if step.what == "repair":  # of a membership below a tombstone: the cascade of its deletion
                    assert gone == 0 or kind == "organization_membership", (step, kind)
                if gone:
                    ledger.note(step.what, kind, gone)
                spent = ledger.within("bury", kind, 24) + ledger.within("repair", kind, 24)
                if step.what == "bury" and gone:
                    assert spent <= max(10, 1), (step, kind)
                    assert spent <= quarter(len(after[kind]) + spent), (step, kind)
                if step.what == "event" and gone and verified:
                    spent = ledger.within("event", kind, 1)
                    assert spent <= min(10, quarter(len(after[kind]) + spent)), (step, kind)
